"""Every algorithm, environment, network, key, metric, command and preset has its entry in the documentation.

The names come from the registry, the schema and the commands, and the pages from `docs/_ext/`, as the site has them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from rlexp.cli.help import TOOLS
from rlexp.config import paths, registry
from rlexp.config.messages import known_keys
from rlexp.config.schema.job import Settings
from rlexp.data.metrics import METRICS

EXTENSION = Path(__file__).resolve().parents[2] / "docs" / "_ext"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Path below docs/generated -> Markdown."""
    sys.path.insert(0, str(EXTENSION))
    try:
        import generated

        return generated.pages()
    finally:
        sys.path.remove(str(EXTENSION))


def rows(page: str) -> dict[str, list[str]]:
    """The cells of each table row whose first cell is code, by this code."""
    lines = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in page.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in lines}


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_algorithms(pages: dict[str, str]) -> None:
    for name, entry in registry.ALGOS.items():
        page = pages[f"algorithms/{name}.md"]
        assert (
            page.startswith(f"# {name}\n")
            and f"`rlexp algo={name}`" in page
            and f"({name}.md)" in pages["algorithms/index.md"]
        )
        assert len(section(page, "The update")) > 40, name
        assert set(rows(section(page, "Settings"))) == set(_leaves(entry.schema, "algo.")), name
    assert "(Watkins 1989; Sutton and Barto 2018" in pages["algorithms/q_learning.md"]
    for name in registry.ALGOS:  # one that has not been measured says so
        assert f"`rlexp algo={name}" in section(pages[f"algorithms/{name}.md"], "Results")
    assert rows(pages["algorithms/ppo.md"])["algo.clip_ratio"][0] == "`0.2`"


def test_environments(pages: dict[str, str]) -> None:
    page = pages["environments.md"]
    for name in paths.configured("env"):
        assert f"`env={name}`" in section(page, name)
    assert "- **time limit**: 500 steps\n" in section(page, "cartpole")


def test_networks(pages: dict[str, str]) -> None:
    for name, entry in registry.NETWORKS.items():
        assert set(rows(section(pages["networks.md"], name))) == {f"network.options.{o}" for o in entry.options or {}}


def test_configuration_keys(pages: dict[str, str]) -> None:
    found = rows(pages["configuration.md"])
    keys = {key for key in _leaves(Settings, "") if not key.startswith("algo")}
    keys |= {key for entry in registry.ALGOS.values() for key in _leaves(entry.schema, "algo.")}
    assert keys <= set(found)
    assert [key for key in keys if not found[key][0 if key.startswith("algo.") else 1].strip()] == []  # the meaning
    assert (
        found["algo.gae_lambda"][2]
        == "[pg_baseline](algorithms/pg_baseline.md), [a2c](algorithms/a2c.md), [ppo](algorithms/ppo.md)"
    )
    assert found["evaluation.period"][:2] == ["`2000`", "env steps of a trial between evaluations"]


def test_metrics(pages: dict[str, str]) -> None:
    assert {name: cells[0] for name, cells in rows(pages["metrics.md"]).items()} == METRICS


def test_commands(pages: dict[str, str]) -> None:
    page = pages["commands.md"]
    for tool in ("run", *TOOLS):
        assert "usage: rlexp" in section(page, f"`rlexp {tool}`"), tool


def test_presets_sweeps_and_schedules(pages: dict[str, str]) -> None:
    for group in ("experiment", "sweep", "discretizer"):
        for name in paths.configured(group):
            assert f"### `+{group}={name}`\n" in pages["presets.md"]
    named = {name for name in paths.configured("schedule") if "/" not in name}
    assert {f"schedule@<key>={name}" for name in named} <= set(rows(pages["schedules.md"]))


def _leaves(schema: type, prefix: str) -> list[str]:
    keys = list(known_keys(schema, prefix))
    return [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
