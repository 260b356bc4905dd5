"""`rlexp completion`: what the Tab key offers, asked as the shells ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rlexp
from rlexp.cli.completion import SCRIPTS, candidates, main
from rlexp.cli.help import TOOLS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two studies; the name of one would be a command to a shell that expanded it."""
    for study in ("ladder", "lakes", "$(touch fuse)"):
        for job in ("dqn-cartpole-1", "ddqn-cartpole-2"):
            folder = tmp_path / "outputs" / study / job
            folder.mkdir(parents=True)
            (folder / "job.json").write_text(json.dumps({"study": study, "name": job}))
    (tmp_path / "outputs" / "no_study").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rlexp rep", ["report"]),
        ("rlexp help ", sorted(["run", *TOOLS])),
        ("rlexp completion ", ["bash", "fish", "zsh"]),
        ("rlexp report ", ["ladder", "lakes"]),
        ("rlexp best lad", ["ladder"]),
        ("rlexp ls --output-dir outputs lak", ["lakes"]),
        ("rlexp ls --output-dir nowhere ", []),
        ("rlexp ls --output-dir ", []),
        ("rlexp report ladder ", ["lakes"]),
        ("rlexp best ladder ", []),
        ("rlexp play ", ["outputs/ladder/", "outputs/lakes/"]),
        ("rlexp play outputs/lakes/", ["outputs/lakes/ddqn-cartpole-2", "outputs/lakes/dqn-cartpole-1"]),
        ("rlexp sync --to ", ["mlflow", "tensorboard"]),
        ("rlexp sync --to tensorboard outputs/lad", ["outputs/ladder/"]),
        ("rlexp ui ", ["ladder", "lakes"]),
        ("rlexp ui --port ", []),
        ("rlexp nonsense ", []),
        ("rlexp algo=dueling_", ["algo=dueling_ddqn", "algo=dueling_dqn"]),
        ("rlexp run  algo=dueling_", ["algo=dueling_ddqn", "algo=dueling_dqn"]),
        ("rlexp -m algo=dqn env=car", ["env=cartpole"]),
        ("rlexp algo=dqn algo.optimizer.na", ["algo.optimizer.name="]),
        ("rlexp algo=dqn +exp", ["+experiment="]),
        ("rlexp +experiment=book/q_l", ["+experiment=book/q_log_alpha"]),
        ("rlexp algo=nonsense env=carpet", []),
    ],
)
def test_candidates(line: str, expected: list[str], place: Path) -> None:
    assert candidates(line) == expected


def test_the_first_word_is_a_tool_or_an_override(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "rlexp "]) == 0
    found = capsys.readouterr().out.split()
    assert {"run", "ls", "report", "algo=", "algo.", "budget.", "+sweep=", "hydra/"} <= {*found}
    assert "experiment" not in found  # it takes a plus


def test_bash_completes(place: Path) -> None:
    """The printed script in a real bash, on words that it breaks at `=` and, as Hydra's script wants it, not."""
    command = place / "bin" / "rlexp"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom rlexp.cli.main import main\nsys.exit(main())\n")
    command.chmod(0o755)
    lines = [
        "rlexp rep",
        "rlexp report la",
        "rlexp play outputs/lad",
        "rlexp algo=dueling_",
        "rlexp report $(touch fuse)",
    ]
    ask = (
        "ask() { COMP_LINE=$1 COMP_POINT=${#1}; read -ra COMP_WORDS <<< \"$1\"; COMP_CWORD=${#COMP_WORDS[@]}; "
        "_rlexp 2> /dev/null; echo \"${COMPREPLY[*]}\"; }\n"
    )  # fmt: skip
    asked = "".join(f"ask '{line}'\n" for line in lines)
    code = f'eval "$(rlexp completion bash)"\ncomplete -p rlexp\n{ask}{asked}COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}\n'
    env = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}",
           "PYTHONPATH": str(Path(rlexp.__file__).parents[1])}  # fmt: skip
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{code}ask 'rlexp algo=dueling_'"], capture_output=True, text=True, env=env
    )
    assert done.stderr == "" and done.stdout.splitlines() == [
        "complete -o default -F _rlexp rlexp",
        "report",
        "ladder lakes",
        "outputs/ladder/",
        "dueling_ddqn dueling_dqn",
        "",
        "algo=dueling_ddqn algo=dueling_dqn",
    ]
    assert not (place / "fuse").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_printed_and_can_be_read_by_their_shells(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([shell]) == 0
    script = capsys.readouterr().out
    assert script == SCRIPTS[shell] and "rlexp completion query" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tcsh"]) == 2
    assert capsys.readouterr().err.startswith("refused: argument shell: invalid choice: 'tcsh'")
