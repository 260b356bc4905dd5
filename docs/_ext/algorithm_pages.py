"""The pages of algorithms: the paper's box, engines, settings, presets and results."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml_files
from markdown import code, facts, page, table
from omegaconf import OmegaConf
from settings_pages import HEAD, algo_comments, keys, rows

from rlexp.config import paths, registry

RESULTS = Path(__file__).resolve().parents[1] / "results.json"
FAMILIES = {  # key of registry.FAMILIES -> the chapter of the index
    "fixed": "Fixed policies",
    "replay": "From a replay: deep Q-networks, and actor-critics for float actions",
    "rollout": "From the latest steps: policy gradients, and PQN",
    "planning": "Planning",
    "tabular": "Tables",
}


def docstring(target: str) -> str:
    """The docstring of the module of a "module:attribute", read without importing it."""
    spec = importlib.util.find_spec(target.partition(":")[0])
    assert spec is not None and spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""


def as_markdown(text: str) -> str:
    """A docstring in Markdown: indented lines as blocks of code, everything else as text."""
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        if all(line.startswith("    ") for line in block.splitlines()):
            blocks.append(code(textwrap.dedent(block), "text"))
        else:
            blocks.append(re.sub(r"(?<!`)([*<])(?!`)", r"\\\1", block))
    return page(*blocks)


def results() -> list[dict[str, Any]]:
    """The measured results, one entry for each job; none if they have not been measured."""
    return json.loads(RESULTS.read_text())["jobs"] if RESULTS.is_file() else []


def _facts(name: str, entry: registry.Algo) -> str:
    fused = registry.fused_loop(name) is not None
    network = yaml_files.choices(yaml_files.path_of("algo", name)).get("network@_global_.network")
    said = [
        ("command", f"`rlexp algo={name}`"),
        ("family", f"`{entry.family}`"),
        ("actions", " or ".join(entry.actions)),
        ("engines", "`host` and `fused`" if fused else "`host`"),
        ("class", f"`{entry.target.replace(':', '.')}`"),
    ]
    if registry.FAMILIES[entry.family].keras:
        said.append(
            (
                "network",
                f"`network={network}`, unless another one is chosen" if network else "`network=mlp`, or any other",
            )
        )
    return facts(said)


def _settings(name: str, entry: registry.Algo) -> str:
    """Every key, with the value of the algorithm's YAML."""
    values = OmegaConf.merge(*(OmegaConf.load(path) for path in reversed(yaml_files.inherited("algo", name))))
    plain = OmegaConf.to_container(values)
    assert isinstance(plain, dict)
    found = [key._replace(default=_value(plain, key.name)) for key in keys(entry.schema, "algo.")]
    return table(HEAD, rows(found, algo_comments(name), "algo."))


def _value(values: dict[Any, Any], key: str) -> Any:
    for part in key.split(".")[1:]:
        values = values[part]
    return values


def _presets(name: str) -> str:
    found = []
    for preset in paths.configured("experiment"):
        path = yaml_files.path_of("experiment", preset)
        if yaml_files.choices(path).get("algo") == name:
            found.append([f"[`+experiment={preset}`](../presets.md)", yaml_files.sentence(path)])
    return page("## Presets", table(("preset", "what it is"), found)) if found else ""


def _results(name: str) -> str:
    lines = [
        [
            job["environment"],
            f"{job['steps']:,}",
            f"{job['iqm']:.4g} ({job['low']:.4g} to {job['high']:.4g})",
            f"`{job['command']}`",
        ]
        for job in results()
        if job["algo"] == name
    ]
    if not lines:
        told = f"Its defaults have not been measured yet. This command does, and prints them: `rlexp algo={name}`."
        return page("## Results", told)
    head = ("environment", "env steps per trial", "final return, IQM (95 % interval)", "command")
    return page(
        "## Results", table(head, lines), "Measured by `python scripts/docs_pictures.py`. [All](index.md#results)."
    )


def algorithm(name: str) -> str:
    """The page of one algorithm."""
    entry = registry.ALGOS[name]
    return page(
        f"# {name}",
        yaml_files.sentence(yaml_files.path_of("algo", name)),
        _facts(name, entry),
        "## The update",
        as_markdown(docstring(entry.target)),
        "## Settings",
        _settings(name, entry),
        _results(name),
        _presets(name),
        "A number that may be a schedule is one of the kinds on the page [Schedules](../schedules.md).",
    )


def index() -> str:
    """The list of all algorithms, by family, and their results side by side."""
    blocks = [
        "# Algorithms",
        "Each page has the update, the paper, the settings with their defaults, the presets and the results.",
    ]
    for family, title in FAMILIES.items():
        own = [name for name, entry in registry.ALGOS.items() if entry.family == family]
        lines = [[f"[`{name}`]({name}.md)", yaml_files.sentence(yaml_files.path_of("algo", name))] for name in own]
        blocks += [f"## {title}", table(("`algo=`", "what it is"), lines)]
    if measured := results():
        lines = [
            [f"[{job['algo']}]({job['algo']}.md)", job["environment"], f"{job['trials']}", f"{job['steps']:,}",
             f"{job['iqm']:.4g} ({job['low']:.4g} to {job['high']:.4g})"]
            for job in measured
        ]  # fmt: skip
        head = ("algorithm", "environment", "trials", "env steps per trial", "final return, IQM (95 % interval)")
        text = (
            "The defaults of each algorithm, measured by `python scripts/docs_pictures.py`. They show what to expect, "
            "and do not rank algorithms: [How to compare](../../researchers/comparing.md) says what a ranking needs."
        )
        without = [f"`{name}`" for name in registry.ALGOS if all(job["algo"] != name for job in measured)]
        blocks += ["## Results", text, table(head, lines)]
        blocks += [f"Not measured yet: {', '.join(without)}."] if without else []
    names = "\n".join(registry.ALGOS)
    return page(*blocks, f"```{{toctree}}\n:hidden:\n\n{names}\n```")


def schedules() -> str:
    """The page of schedules: the module's own table, and the named ones of conf/schedule."""
    lines = [
        [f"`schedule@<key>={name}`", yaml_files.sentence(yaml_files.path_of("schedule", name))]
        for name in paths.configured("schedule")
        if "/" not in name
    ]
    return page(
        "# Schedules",
        as_markdown(docstring("rlexp.config.schedules:parse")),
        "## By name",
        "`rlexp algo=ddqn schedule@algo.optimizer.lr=linear` takes a schedule of `conf/schedule/`. Those of "
        "`schedule@algo.epsilon=` and `schedule@algo.alpha=` have the same names.",
        table(("choice", "what it is"), lines),
    )
