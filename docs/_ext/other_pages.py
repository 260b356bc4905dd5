"""The pages of environments, networks, metrics, commands and presets."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re

import yaml_files
from algorithm_pages import as_markdown, docstring
from markdown import code, facts, page, table
from settings_pages import plain

from rlexp.cli.help import TOOLS, overview, training
from rlexp.config import paths, registry
from rlexp.data.metrics import METRICS
from rlexp.envs.inspection import inspect
from rlexp.envs.spec import Discrete
from rlexp.jobs.runner import compose
from rlexp.system import packages
from rlexp.system.errors import Refusal

GROUPS = {"train": "While it trains", "eval": "Evaluations", "final": "At the end", "time": "Speed"}
COLUMNS = "100"  # of the commands' help


def _environment(name: str) -> str:
    path = yaml_files.path_of("env", name)
    env = compose("algo=random", f"env={name}").env
    entries = [
        ("choice", f"`env={name}`"),
        ("id", f"`{env.id}`"),
        ("default budget", f"{env.default_steps:,} env steps per trial"),
    ]
    try:
        info = inspect(env)
    except Refusal:  # an extra that is not installed here
        entries.append(("needs", f"`pip install {packages.for_id(env.id) or 'an extra'}`"))
    else:
        limit = f"{info.max_episode_steps:,} steps" if info.max_episode_steps else "none"
        states = f", {info.num_states} states" if info.num_states else ""
        fused = registry.dynamics(env.id) is not None or info.is_table
        entries += [
            ("observation", f"shape `{info.observation_shape}`, `{info.observation_dtype}`{states}"),
            ("actions", f"{info.num_actions}, numbered" if isinstance(info.action, Discrete) else str(info.action)),
            ("time limit", limit),
            ("transition table", "yes: `eval/regret` and `final/value` are exact" if info.table else "no"),
            ("fused engine", "yes" if fused else "no"),
        ]
    if env.discretizer.dimensions:
        bins = " x ".join(map(str, env.discretizer.num_bins))
        entries.append(("bins for tables", f"{bins}, of dimensions {env.discretizer.dimensions}"))
    return page(f"## {name}", yaml_files.sentence(path), facts(entries), code(path.read_text(), "yaml"))


def environments() -> str:
    """Every environment of conf/env."""
    return page(
        "# Environments",
        "These have a name, `env=cartpole`. Every other Gymnasium environment with discrete actions is given by its "
        "id, `env.id=Blackjack-v1`: see [Your own environments](../researchers/environments.md).",
        *(_environment(name) for name in paths.configured("env")),
    )


def _network(name: str) -> str:
    entry, path = registry.NETWORKS[name], yaml_files.path_of("network", name)
    said: dict[str, str] = {}
    for file in reversed(yaml_files.inherited("network", name)):
        said |= yaml_files.comments(file)
    lines = []
    for option, values in (entry.options or {}).items():
        allowed = (
            values.expected
            if isinstance(values, registry.Rule)
            else " or ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in values)
        )
        lines.append([f"`network.options.{option}`", plain(said.get(f"options.{option}", "")), allowed])
    return page(
        f"## {name}",
        " ".join(yaml_files.header(path)),
        as_markdown(docstring(entry.target)),
        table(("option", "meaning", "values"), lines) if lines else "It has no options.",
        code(path.read_text(), "yaml"),
    )


def networks() -> str:
    """Every network of conf/network."""
    return page(
        "# Networks",
        "`network.hidden_units` and `network.activation` belong to all of them. One of your own: "
        "[Your own algorithms and networks](../researchers/extending.md).",
        *(_network(name) for name in registry.NETWORKS),
    )


def metrics() -> str:
    """Every metric."""
    blocks = []
    for group, title in GROUPS.items():
        own = [[f"`{name}`", text] for name, text in METRICS.items() if name.startswith(f"{group}/")]
        blocks += [f"## {title}", table(("name", "meaning"), own)]
    return page(
        "# Metrics",
        "Each metric has one value per trial; nothing is averaged over trials before the report. A step is one env "
        "step of one trial. `metrics.jsonl` in a job's folder holds every record. "
        "[Results](../researchers/results.md) says where they go from there.",
        *blocks,
    )


def help_of(tool: str) -> str:
    """What `rlexp <tool> --help` prints."""
    text, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            importlib.import_module(f"rlexp.cli.{tool}").main(["--help"])
    finally:
        del os.environ["COLUMNS"]
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue())


def commands() -> str:
    """Every command."""
    tools = [block for name, line in TOOLS.items() if name != "help" for block in
             (f"## `rlexp {name}`", f"{line[0].upper()}{line[1:]}.", code(help_of(name), "text"))]  # fmt: skip
    return page(
        "# Commands",
        "`rlexp <tool> --help` prints these pages. [The command line](../researchers/command-line.md) says how they "
        "belong together.",
        "## `rlexp help`",
        code(overview(), "text"),
        "## `rlexp run`",
        code(training(), "text"),
        *tools,
    )


def presets() -> str:
    """Every preset and every named sweep, as its file."""
    blocks = ["# Presets and named sweeps", "Each file opens with the command that uses it."]
    for group, title in (("experiment", "Presets"), ("sweep", "Named sweeps"), ("discretizer", "Bins")):
        blocks.append(f"## {title}")
        for name in paths.configured(group):
            text = yaml_files.path_of(group, name).read_text().removeprefix("# @package _global_\n")
            blocks += [f"### `+{group}={name}`", code(text, "yaml")]
    return page(*blocks)
