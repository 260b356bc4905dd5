"""The command `rlexp`: which words start what, what is said to others, and whose modules are imported."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rlexp
from rlexp.cli import main as command
from rlexp.cli.help import TOOLS, overview, training
from rlexp.jobs.origin import command_line
from rlexp.system import search_path, stopping, supervisor

SUBCOMMANDS = [name for name in TOOLS if name != "help"]
EVIL = "open({!r}, 'w').close()\nraise SystemExit(66)\n"
SHORT = ["algo=random", "trials=1", "budget.steps=30", "tracking=files", "animation.enabled=false",
         "evaluation.num_episodes=1", "evaluation.final_episodes=1"]  # fmt: skip


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Type a command in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("left_out", "_was_first"):
        monkeypatch.setattr(search_path, name, getattr(search_path, name))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(supervisor, "enable", lambda: None)  # this process is the tests'
    monkeypatch.setattr(stopping, "install", lambda: None)

    def typed(*words: str, **options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/bin/rlexp", *words])
        try:
            status = command.main(**options)
        except SystemExit as ended:
            status = ended.code  # type: ignore[assignment]
        return status, *capsys.readouterr()

    return typed


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What training was started with, instead of training."""
    from rlexp.cli import run

    started: list[list[str]] = []

    def note() -> None:
        started.append(sys.argv[1:])
        raise SystemExit(0)

    monkeypatch.setattr(run, "main", note)
    return started


@pytest.mark.parametrize(
    "words",
    [
        ["algo=dqn"], ["-m", "algo=dqn,ddqn"], ["--cfg", "job"], ["+experiment=book/dqn"], ["++env.kwargs.x=1"], ["~x"],
        ["schedule@algo.epsilon=linear"], ["schedule@algo.epsilon"], ["-sc", "install=bash"], ["algo=dqn", "--version"],
        ["study=ls"], ["--hydra-help"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_trains(words: list[str], answer: Any, trained: list[list[str]]) -> None:
    for folder in ("ls", "report", "run", "algo=dqn"):
        Path(folder).mkdir()
    assert answer(*words)[0] == 0
    assert answer("run", *words)[0] == 0
    assert trained == [words, words]


def test_no_words(answer: Any, trained: list[list[str]]) -> None:
    """`rlexp` alone prints help, `python -m rlexp` alone trains."""
    assert answer() == (0, overview(), "") and trained == []
    assert answer(alone="run")[0] == 0 and trained == [[]]
    assert answer("run")[0] == 0 and trained == [[], []]


def test_the_version_is_ours(answer: Any) -> None:
    for words in (["--version"], ["run", "--version"], ["algo=dqn", "--version"]):
        assert answer(*words)[:2] == (0, f"rlexp {rlexp.__version__}\n")


def test_pages_of_help(answer: Any) -> None:
    for words in (["help"], ["--help"], ["-h"], ["help", "help"], ["help", "--help"]):
        assert answer(*words) == (0, overview(), "")
    for words in (["help", "run"], ["run", "--help"], ["algo=dqn", "--help"], ["help", "algo=dqn"]):
        assert answer(*words) == (0, training(), "")
    assert answer("help", "reprot")[::2] == (
        2, "refused: help: expected run or one of env, ls, best, report, play, ui, sync, chain, completion, help, received "
        "'reprot'.\nDid you mean report?\n")  # fmt: skip


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_tool_has_a_page_with_examples(name: str, answer: Any) -> None:
    status, page, error = answer(name, "--help")
    assert (status, error) == (0, "") and page.startswith(f"usage: rlexp {name} ")
    examples = page.split("\nexamples:\n")[1].splitlines()
    assert examples and all(f"rlexp {name}" in line for line in examples) and "python -m" not in page
    assert answer("help", name) == (0, page, "") == answer("--help", name)


@pytest.mark.parametrize("name", [name for name in SUBCOMMANDS if name != "completion"])
def test_every_tool_is_a_module_of_three_lines(name: str) -> None:
    module = importlib.import_module(f"rlexp.{name}" if name != "report" else "rlexp.report.__main__")
    assert module.main is importlib.import_module(f"rlexp.cli.{name}").main
    code = [line for line in Path(str(module.__file__)).read_text().splitlines() if line]
    assert len(code) == 4 and code[-1] == "    sys.exit(main())"


def study(name: str) -> Path:
    folder = Path("outputs") / name / "dqn-cartpole-1"
    folder.mkdir(parents=True)
    job = {"study": name, "name": folder.name, "seeds": [0], "started": 1.0}
    (folder / "job.json").write_text(json.dumps(job))
    return folder


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("reprot ladder", "Did you mean report?"),
        ("Sync", "Did you mean sync?"),
        ("train algo=dqn", "Did you mean rlexp run?"),
        ("version", "Did you mean rlexp --version?"),
        ("ladder", "It is a study: rlexp report ladder   rlexp ls ladder   rlexp best ladder"),
        ("laddr", "Did you mean ladder? It is a study: rlexp report <study>   rlexp ls <study>   rlexp best <study>"),
        ("outputs/ladder/dqn-cartpole-1", "It is a job's folder: rlexp play outputs/ladder/dqn-cartpole-1"),
        ("outputs/ladder", "It is a study's folder: rlexp report outputs/ladder"),
        ("outputs", "It is an output folder: rlexp ls --output-dir outputs"),
        ("algo dqn", "Did you mean algo=dqn?"),
        ("budget.steps 3000", "Did you mean budget.steps=3000?"),
        ("dueling_ddqn", "Did you mean algo=dueling_ddqn?"),
        ("book/dqn", "Did you mean +experiment=book/dqn?"),
        ("zzz", "Tools: env, ls, best, report, play, ui, sync, chain, completion, help   Training: rlexp algo=dueling_ddqn   "
         "See: rlexp --help"),
    ],
)  # fmt: skip
def test_other_words_are_refused_in_two_lines_with_what_was_meant(words: str, hint: str, answer: Any) -> None:
    study("ladder")
    status, out, error = answer(*words.split())
    assert (status, out) == (2, "")
    assert error == (f"refused: command line: expected a tool or key=value, received {words.split()[0]!r}.\n{hint}\n")


@pytest.mark.parametrize("word", ["", "x" * 5000, "a\nb", "\x1b[31m", "$(touch x)", "a/../..", "/"])
def test_strange_words_are_refused_in_two_lines(word: str, answer: Any) -> None:
    status, out, error = answer(word)
    assert (status, out) == (2, "") and error.startswith("refused: command line: expected a tool or key=value, ")
    assert len(error.splitlines()) == 2 and "\x1b" not in error


def test_folders_named_like_tools_do_no_harm(answer: Any) -> None:
    study("ls")
    for name in ("ls", "report", "rlexp.ls"):
        Path(name).mkdir()
    status, out, _ = answer("ls")
    assert status == 0 and out.splitlines()[1].split()[:2] == ["ls", "1"]
    assert answer("ls", "ls")[1].splitlines()[1].startswith("dqn-cartpole-1  killed")


def test_the_command_is_written_as_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    for started in ("/x/rlexp/__main__.py", "/x/bin/rlexp"):
        monkeypatch.setattr(sys, "argv", [started, "algo=dqn", "trials=3"])
        assert command_line() == "rlexp algo=dqn trials=3"


# Whose modules are imported.


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with files that pass for modules, if it is searched."""
    for name in ("numpy", "yaml", "omegaconf", "typing", "argparse", "mlflow", "hydra", "filelock"):
        (tmp_path / f"{name}.py").write_text(EVIL.format(str(tmp_path / "fuse")))
    return tmp_path


@pytest.fixture
def script(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The console script, as pip writes it."""
    path = tmp_path_factory.mktemp("bin") / "rlexp"
    path.write_text("import sys\nfrom rlexp.cli.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    return [sys.executable, str(path)]


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(rlexp.__file__).parents[1]), **environment}
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, env=env)


@pytest.mark.parametrize(
    "words",
    ["play .", "ls", "report ladder", "best ladder", "sync .", "ui --no-browser", "chain", "help", "reprot", "completion bash"],
)  # fmt: skip
def test_tools_do_not_import_from_the_working_directory(words: str, hostile: Path) -> None:
    done = run(sys.executable, "-m", "rlexp", *words.split(), cwd=hostile)
    assert done.returncode == (0 if words.split()[0] in ("chain", "help", "completion") else 2), done.stderr
    assert "Traceback" not in done.stderr and not (hostile / "fuse").exists()


def test_neither_does_a_console_script_nor_the_tab_key(hostile: Path, script: list[str]) -> None:
    (hostile / "hydra_plugins").mkdir()
    (hostile / "hydra_plugins" / "evil.py").write_text(EVIL.format(str(hostile / "fuse")))
    for words in (["play", "."], ["completion", "query", "rlexp algo=dq"], ["-sc", "query=bash"]):
        run(*script, *words, cwd=hostile, COMP_LINE="rlexp algo=dq")
        assert not (hostile / "fuse").exists()


def test_training_still_imports_from_there(hostile: Path) -> None:
    """As any `python -m` does: who starts training in a folder trusts it."""
    assert run(sys.executable, "-m", "rlexp", *SHORT, cwd=hostile).returncode == 66
    assert (hostile / "fuse").exists()


def test_a_console_script_finds_modules_of_the_working_directory_after_all_others(
    hostile: Path, script: list[str]
) -> None:
    (hostile / "mine.py").write_text(
        "import gymnasium as gym\ngym.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv', "
        "max_episode_steps=20)\n"
    )
    words = [*SHORT, "env.id=Mine-v0", "env.imports=[mine]"]
    done = run(*script, *words, cwd=hostile, PYTHONSAFEPATH="1")
    assert done.returncode == 2 and "received 'mine'" in done.stderr
    done = run(*script, *words, cwd=hostile)
    assert done.returncode == 0, done.stderr
    (folder,) = (hostile / "outputs" / "default").iterdir()
    assert json.loads((folder / "job.json").read_text())["command"] == " ".join(["rlexp", *words])
    assert not (hostile / "fuse").exists()
    # Another's job may name such a module: its reader is told where it would come from, and may allow it.
    played = run(*script, "play", str(folder), cwd=hostile)
    assert played.returncode == 2 and str(hostile / "mine.py") in played.stderr
    played = run(*script, "play", str(folder), "--allow-imports", "--max-steps", "3", cwd=hostile)
    assert played.returncode == 0, played.stderr
    assert not (hostile / "fuse").exists()


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        ("python -m rlexp.play x", True),
        ("python -m rlexp play x", True),
        ("python -mrlexp play", True),
        ("python -Bmrlexp.ls", True),
        ("python -W ignore -X dev -m rlexp reprot", True),
        ("python -m rlexp --version", True),
        ("python -m rlexp", False),
        ("python -m rlexp run", False),
        ("python -m rlexp run play", False),
        ("python -m rlexp algo=dqn play", False),
        ("python -m rlexp -m algo=dqn,ddqn", False),
        ("python -m rlexp.book.literal_loops --seed 3", False),
        ("python -m pytest play", False),
        ("python -m mine rlexp.play", False),
    ],
)
def test_when_the_working_directory_is_left_out(
    words: str, left_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = words.split()
    at = next(i for i, word in enumerate(typed) if word.startswith("-") and "m" in word)
    after = typed[at + (2 if typed[at] == "-m" else 1) :]
    monkeypatch.setattr(sys, "orig_argv", typed)
    monkeypatch.setattr(sys, "argv", ["-m", *after])
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/x"])
    for name in ("left_out", "_was_first"):
        monkeypatch.setattr(search_path, name, None)
    search_path.leave_out_working_directory()
    assert sys.path == (["/x"] if left_out else [str(tmp_path), "/x"])
    search_path.put_back_working_directory()
    assert sys.path == [str(tmp_path), "/x"]


@pytest.mark.parametrize("words", [[], ["--help"], ["help", "run"], ["--version"], ["reprot"], ["completion", "bash"]])
def test_what_is_answered_at_once_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['rlexp', *{words!r}]\nfrom rlexp.cli.main import main\nstatus = main()\n"
        "heavy = ('tensorflow', 'keras', 'mlflow', 'hydra', 'gymnasium', 'matplotlib', 'pandas', 'rich')\n"
        "quick = (*heavy, 'omegaconf', 'numpy') if sys.argv[1:] != ['reprot'] else heavy\n"
        "print('IMPORTED', status, [name for name in quick if name in sys.modules])"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"IMPORTED {2 if words == ['reprot'] else 0} []", done.stderr
