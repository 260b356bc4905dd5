"""The command line as a user meets it: help, exit statuses, and nothing left behind by what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlexp.cli.help import TOOLS, overview, training
from rlexp.config import paths, registry
from tests.conftest import TINY, TINY_DQN


def rlexp(*args: str, cwd: Path, module: str = "rlexp") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *args], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_help_lists_tools_algorithms_environments_and_examples(tmp_path: Path) -> None:
    result = rlexp("--help", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "") and result.stdout == overview()
    for name, line in TOOLS.items():
        assert f"\n  rlexp {name:<12} {line}\n" in result.stdout
    words = " ".join(result.stdout.split())
    assert f"algo= {', '.join(sorted(registry.ALGOS))} env= " in words
    for label, group in (
        ("env=", "env"),
        ("network=", "network"),
        ("+experiment=", "experiment"),
        ("+sweep=", "sweep"),
    ):
        assert f"{label} {', '.join(paths.configured(group))} " in words
    for page, number in ((result.stdout, 3), (training(), 9)):
        assert max(map(len, page.splitlines())) <= 110
        examples = page.split("examples:\n")[1].split("\n\n")[0].splitlines()
        assert len(examples) == number and all(line.startswith("  rlexp ") for line in examples)


def test_help_and_refusals_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv[1:] = {args!r}\n"
        "import rlexp.cli.run as m\n"
        "status = m._status()\n"
        "heavy = [n for n in ('tensorflow', 'mlflow', 'keras', 'matplotlib', 'pandas', 'rich') if n in sys.modules]\n"
        "print('HEAVY', status, heavy)"
    )
    for args, status in (
        (["--help"], 0),
        (["algo.gamma=2"], 2),
        (["env.id=Pendulum-v1"], 2),
        (["algo=nope"], 2),
    ):
        result = subprocess.run(
            [sys.executable, "-c", code.format(args=args)], cwd=tmp_path, capture_output=True, text=True
        )
        assert f"HEAVY {status} []" in result.stdout, result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


def test_importing_rlexp_is_light() -> None:
    code = "import sys, rlexp; print([n for n in ('tensorflow', 'mlflow', 'hydra', 'gymnasium', 'numpy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["algo.gamma=2"], "refused: algo.gamma: expected a number >= 0 and <= 1, received 2.\n"),
        (["algo=dqqn"], "refused: algo: expected one of a2c, angle_policy, "),
        (
            ["engine=fused", "algo=random"],
            "refused: engine: expected auto or host, received 'fused', but algo random has no fused loop.\n",
        ),
        (["nonsense"], "refused: command line: expected a tool or key=value, received 'nonsense'.\n"),
        (["algo=dqn", "nonsense"], "refused: command line: expected key=value, received 'nonsense'.\n"),
        (["algo=null"], "refused: "),
    ],
)
def test_a_refusal_is_two_lines_at_most_status_2_and_no_file(args: list[str], message: str, tmp_path: Path) -> None:
    result = rlexp(*args, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) <= 2 and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_whole_job_then_again_then_play(tmp_path: Path) -> None:
    """Everything the contract names lies in the folder; a finished job is not run again; play renders it."""
    job = [*(o for o in (*TINY, *TINY_DQN) if not o.startswith("animation")), "animation.max_steps=50"]
    result = rlexp("algo=dueling_ddqn", "trials=2", *job, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "dueling_ddqn on cartpole: done" in result.stdout
    (folder,) = (tmp_path / "outputs" / "default").iterdir()
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names >= {"config.yaml", "metrics.jsonl", "summary.json", "learning_curve.png", "animation.gif", "evaluation.csv",
                     "episodes.npz", "trials/0/best.keras", "trials/1/best.keras"}  # fmt: skip
    assert len(list((folder / "checkpoint").glob("*.npz"))) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"outputs"}

    summary = json.loads((folder / "summary.json").read_text())
    assert folder.name == f"dueling_ddqn-cartpole-{summary['config_id']}"
    assert (summary["seeds"], summary["steps"], summary["status"]) == ([0, 1], 300, "done")
    assert set(summary["final/return"]) == {"per_trial", "mean", "std", "iqm", "min", "max", "ci95"}
    assert summary["steps_per_second"] > 0 and summary["wall_seconds"] > 0

    before = (folder / "metrics.jsonl").read_bytes()
    again = rlexp("algo=dueling_ddqn", "trials=2", *job, cwd=tmp_path)
    assert again.returncode == 0 and "already done, nothing was run" in again.stdout
    assert (folder / "metrics.jsonl").read_bytes() == before

    played = rlexp(
        str(folder),
        "--seed",
        "1",
        "--max-steps",
        "30",
        "--output",
        "one.gif",
        cwd=tmp_path,
        module="rlexp.play",
    )
    assert played.returncode == 0 and played.stdout.startswith("episode seed 200000: return ")
    assert (tmp_path / "one.gif").read_bytes()[:6] == b"GIF89a"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["nowhere"],
            "source: expected a job folder, a .keras file in one, or an MLflow run, received nowhere.\n",
        ),
        (["nowhere", "--output", "a.png"], "--output: expected a .gif or .mp4 file, received a.png.\n"),
        (
            ["nowhere", "--episodes", "0"],
            "--episodes, --max-steps: expected numbers >= 1, received 0, 1000.\n",
        ),
        (["nowhere", "--screen"], "--screen: expected a display, received none (DISPLAY is not set).\n"),
    ],
)
def test_play_refuses_in_a_sentence(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlexp.cli.play import main

    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *a, **k: lines.append(str(a[0])))
    assert main(args) == 2
    assert lines[0].startswith("refused: " + message.rstrip("\n"))


def test_a_failure_keeps_its_traceback_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "broken_env.py").write_text(
        "import gymnasium as gym, numpy as np\n"
        "class Broken(gym.Env):\n"
        "    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)\n"
        "    action_space = gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        super().reset(seed=seed); self.t = 0\n"
        "        return np.zeros(2, np.float32), {}\n"
        "    def step(self, action):\n"
        "        self.t += 1\n"
        "        if self.t == 7: raise ValueError('the sensor fell off')\n"
        "        return np.zeros(2, np.float32), 0.0, False, False, {}\n"
        "gym.register('Broken-v0', Broken)\n"
    )
    result = rlexp(
        "algo=random",
        "env.id=Broken-v0",
        "env.imports=[broken_env]",
        "trials=1",
        "tracking=files",
        cwd=tmp_path,
    )
    (folder,) = (tmp_path / "outputs" / "default").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    (note,) = (trial["note"] for trial in summary["trials"])
    assert note.startswith("Broken-v0, trial seed 0, episode seed ")
    assert note.endswith(", step 7: step raised ValueError: the sensor fell off (broken_env.py, line 10)")
    assert summary["status"] == summary["trials"][0]["status"] == "failed"
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr == f"failed: 1 of 1 trials failed (seeds 0): {note}; none finished: {folder}\n"
    assert (folder / "error.txt").read_text().endswith("ValueError: the sensor fell off\n")


@pytest.mark.slow
def test_one_job_of_a_multirun_may_be_refused_and_the_others_run(tmp_path: Path) -> None:
    result = rlexp("-m", "algo=random,angle_policy", "env=mountain_car", "trials=1", "budget.steps=50", "tracking=files",
                   "evaluation.num_episodes=1", "evaluation.final_episodes=1", cwd=tmp_path)  # fmt: skip
    assert result.returncode == 2
    assert "[1/2] random: done, final return -" in result.stdout
    assert result.stderr.splitlines()[0].startswith("refused: algo: expected an environment with two actions")
