"""The commands and the Python in README.md and docs/ are right: commands compose, Python runs.

Code that cannot run stands below `<!-- not run: why -->` (in MyST: `% not run: why`). Python blocks of a page share
their names, in order. A command with `...` or `<...>` in it is an outline, and is not looked at.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import rlexp
from rlexp.cli.help import TOOLS
from rlexp.config import keywords
from rlexp.config.arguments import options_first, rewrite
from rlexp.jobs.runner import compose
from rlexp.sweeps import plugins

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?P<before>[^\n]*)\n(?P<indent> *)(?P<fence>`{3,})(?P<kind>[^\n`]*)\n(?P<text>.*?)^ *(?P=fence) *$", re.M | re.S
)
SHELL, PYTHON = ("", "bash", "sh", "shell", "console"), ("python", "py", "{code-block} python")
TINY = {
    "trials": 2, "budget": {"steps": 200}, "tracking": "files", "animation.enabled": False, "log.points": 5,
    "evaluation": {"period": 100, "num_episodes": 2, "candidate_episodes": 2, "final_episodes": 4}, "checkpoint.every": 600,
}  # fmt: skip


def blocks(page: Path, kinds: tuple[str, ...]) -> Iterator[str]:
    """The code blocks of a page that are of a kind and are meant to run."""
    for found in BLOCK.finditer("\n" + page.read_text()):
        lines_before = found["before"].splitlines() or [""]
        if found["kind"].strip() in kinds and not re.match(r" *(<!-- not run: .+ -->|% not run: .+)", lines_before[-1]):
            yield re.sub(rf"^{found['indent']}", "", found["text"], flags=re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command `rlexp ...` of a page, comments and further commands of its line left out."""
    for block in blocks(page, SHELL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            for part in re.split(r"\s(?:&&|;|\|)\s", line):
                if re.match(r"rlexp(\s|$)", part) and not re.search(r"\.\.\.|<\w[\w ]*>|…", part):
                    yield shlex.split(part, comments=True)[1:]


def first_choices(words: list[str]) -> list[str]:
    """The overrides of the first job of a command; raises `Refusal` for an unknown option."""
    from rlexp.config.command_line import check_arguments

    check_arguments(words)
    overrides = [word for word in options_first(words) if not word.startswith("-") and word != "job"]
    found = []
    for override in OverridesParser.create().parse_overrides(rewrite(overrides)):
        line = override.input_line or ""
        if override.is_choice_sweep() or override.is_range_sweep():
            first = next(override.sweep_string_iterator())
            line = f"{line.partition('=')[0]}={first}"
        elif override.is_interval_sweep():
            line = f"{line.partition('=')[0]}={override.value().start}"
        found.append(line)
    return found


def options(tool: str) -> set[str]:
    """The options in the help of a tool."""
    from rlexp.cli.main import _main_of

    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        _main_of(tool)(["--help"])
    return set(re.findall(r"--[a-z][a-z-]*", said.getvalue())) | {"--help"}


def check(words: list[str]) -> None:
    """Raise `Refusal` or fail for a command that cannot run."""
    words = words[1:] if words[:1] == ["run"] else words
    if words[:1] and words[0] in TOOLS:
        if words[0] not in ("help", "completion"):
            unknown = {word.partition("=")[0] for word in words[1:] if word.startswith("--")} - options(words[0])
            assert not unknown, f"rlexp {words[0]} has no {unknown}"
    elif words and words[0] not in ("--help", "--version", "-sc"):
        assert "=" in words[0] or words[0].startswith("-"), f"no tool and no override: {words[0]}"
        compose(*first_choices(words))


def pages(kinds: Callable[[Path], Any]) -> list[Any]:
    """The pages that have something to check; those of the documentation take longer than all others."""
    found = [page for page in PAGES if any(kinds(page))]
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=() if page.name == "README.md" else pytest.mark.slow)
        for page in found
    ]


@pytest.mark.parametrize("page", pages(commands))
def test_commands_compose(page: Path) -> None:
    """A renamed key, choice or option is found on the page that still has its old name."""
    plugins.register()
    for words in dict.fromkeys(map(tuple, commands(page))):
        try:
            check(list(words))
        except (rlexp.Refusal, AssertionError) as error:
            pytest.fail(f"{page.name}: rlexp {shlex.join(words)}\n{error}")


def calls(code: str) -> Iterator[tuple[str, list[Any], dict[str, Any]]]:
    """The calls of `rlexp.run` and `rlexp.sweep` whose arguments are literals."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("rlexp.run", "rlexp.sweep"):
            with contextlib.suppress(ValueError):  # it is run, if not composed
                named: dict[str, Any] = {}
                for word in node.keywords:
                    value = ast.literal_eval(word.value)
                    named.update(value if word.arg is None else {word.arg: value})
                yield ast.unparse(node.func), [ast.literal_eval(arg) for arg in node.args], named


@pytest.mark.parametrize("page", pages(lambda page: blocks(page, PYTHON)))
def test_python_composes(page: Path) -> None:
    for code in blocks(page, PYTHON):
        for name, overrides, settings in calls(code):
            settings.pop("quiet", None)
            several = name == "rlexp.sweep"
            compose(*first_choices([*overrides, *keywords.overrides(settings, several)]))


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(lambda page: blocks(page, PYTHON)))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny budgets, in an empty folder."""
    run, sweep = rlexp.run, rlexp.sweep
    tiny = keywords.overrides(TINY)
    monkeypatch.setattr(rlexp, "run", lambda *o, quiet=True, **s: run(*o, *keywords.overrides(s), *tiny, quiet=True))
    monkeypatch.setattr(rlexp, "sweep", lambda *o, **s: sweep(*o, *keywords.overrides(s, several=True), *tiny))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "snippet"}
    for number, code in enumerate(blocks(page, PYTHON), start=1):
        exec(compile(code, f"{page.name}, Python block {number}", "exec"), names)


def test_the_checks_find_mistakes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nrlexp algo=ddqn \\\n  trials=3 # comment\nls && rlexp ls x --output-dir y\nrlexp ... algo=nothing\n```\n"
        "<!-- not run: an outline -->\n```\nrlexp algo=nothing\n```\n"
        "- item\n\n  ```python\n  import rlexp\n  rlexp.run(algo='dqn', **{'algo.n_step': 3})\n  ```\n"
    )  # fmt: skip
    assert list(commands(page)) == [["algo=ddqn", "trials=3"], ["ls", "x", "--output-dir", "y"]]
    (code,) = blocks(page, PYTHON)
    assert list(calls(code)) == [("rlexp.run", [], {"algo": "dqn", "algo.n_step": 3})]
    assert first_choices(["-m", "algo=dqn,ddqn", "algo.n_step=range(2,5)", "trials=3"]) == [
        "algo=dqn",
        "algo.n_step=2",
        "trials=3",
    ]
    for wrong in (
        ["algo=ddqn", "algo.gama=1"],
        ["algo=dqm"],
        ["ls", "--output-dri", "x"],
        ["reprot", "x"],
        ["--confg", "job"],
    ):
        with pytest.raises((rlexp.Refusal, AssertionError)):
            check(wrong)
