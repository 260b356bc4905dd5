"""40 kinds of misbehaviour: each ends in a sentence and the right exit status, and healthy jobs are done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlexp.envs import repeatability
from rlexp.system.errors import Diverged, Refusal
from tests.probes.faulty import KINDS
from tests.sweeps.test_sweeps import swept

ENV = ["env.id=probes/Faulty-v0", "env.imports=[tests.probes.faulty]", "env.name=faulty"]
QUICK = ["trials=1", "budget.steps=20", "evaluation.period=10", "evaluation.num_episodes=1", "evaluation.final_episodes=1",
         "evaluation.candidates=1", "animation.enabled=false", "tracking=files"]  # fmt: skip
SURVIVED = [kind for kind, (end, _) in KINDS.items() if end != "lost"]
DEADLY = [kind for kind, (end, _) in KINDS.items() if end == "lost"]
EXIT_STATUS = {"failed": 1, "lost": 1, "refused": 2, "warned": 0}


def learner(kind: str) -> list[str]:
    return ["algo=q_learning"] if kind == "state beyond" else ["algo=random"]


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "rlexp", *ENV, *QUICK, "env.step_timeout=2", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_there_are_40_kinds() -> None:
    assert len(KINDS) == 40 and len(DEADLY) == 6


@pytest.mark.parametrize("kind", SURVIVED)
def test_what_the_process_survives(
    kind: str, tiny: Callable[..., Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which has no supervisor."""
    import rlexp

    monkeypatch.setattr(repeatability, "_checked", set())
    end, said = KINDS[kind]
    quick = [o for o in QUICK if o != "tracking=files"]
    args = [learner(kind)[0].removeprefix("algo="), *ENV, f"+env.kwargs.kind='{kind}'", *quick, "env.step_timeout=0.3"]
    if end == "warned":
        monkeypatch.setattr(rlexp, "run", lambda *o, quiet: rlexp.jobs.runner.run(*o))  # warnings are not for the quiet
        assert tiny(*args)["status"] == "done"
        assert said in capfd.readouterr().err
        return
    with pytest.raises(Refusal if end == "refused" else Diverged) as error:
        tiny(*args)
    text = str(error.value)
    assert said in text and len(text) < 700 and len(text.splitlines()) <= 2
    if end == "failed":
        assert text.startswith("1 of 1 trials failed (seeds 0): probes/Faulty-v0, trial seed 0, episode seed ")
        (note,) = {
            t["note"] for t in json.loads((Path(text.rsplit(": ", 1)[1]) / "summary.json").read_text())["trials"]
        }
        assert note in text


def test_the_others_of_a_job_are_done(tiny: Callable[..., Any]) -> None:
    """The second of three environments cannot be made."""
    from tests.probes import faulty

    calls = []

    class Third(faulty.Faulty):
        def __init__(self) -> None:
            super().__init__()
            if faulty.is_training():
                calls.append(1)
                if len(calls) == 2:
                    sys.exit(0)

    import gymnasium as gym

    gym.register("probes/Third-v0", entry_point=Third, disable_env_checker=True)
    try:
        with pytest.raises(
            Diverged, match=r"1 of 3 trials failed \(seeds 1\): .*, step 0: __init__ raised SystemExit: 0 "
        ):
            tiny("random", "env.id=probes/Third-v0", "env.name=third", *QUICK[1:], "trials=3")
    finally:
        del gym.registry["probes/Third-v0"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_single_job(kind: str, tmp_path: Path) -> None:
    end, said = KINDS[kind]
    result = command(*learner(kind), f"+env.kwargs.kind='{kind}'", cwd=tmp_path)
    assert result.returncode == EXIT_STATUS[end], result.stderr
    assert said in result.stderr and "Traceback" not in result.stderr
    if end == "lost":
        (line,) = (line for line in result.stderr.splitlines() if line.startswith("failed: "))
        (folder,) = tmp_path.glob("outputs/default/random-*")
        assert str(folder) in line
        assert (folder / "crash.txt").is_file() == ("crash.txt" in line) == (kind not in ("os._exit(0)", "SIGKILL"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_job_in_worker_processes(kind: str, tmp_path: Path) -> None:
    """The same sentence and exit status, whichever process the environment is in."""
    end, said = KINDS[kind]
    done = command(*learner(kind), f"+env.kwargs.kind='{kind}'", "workers=2", "trials=4", cwd=tmp_path)
    assert done.returncode == EXIT_STATUS[end], done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) < 8


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep(launcher: str, tmp_path: Path) -> None:
    """All 40 and two healthy jobs, the first and the last."""
    kinds = ["none", *(kind for kind in KINDS if kind != "state beyond"), "last none"]
    choice = ",".join(f"'{kind}'" for kind in kinds).replace("'last none'", "'none '")
    workers = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    args = ["-m", "algo=random", f"hydra/launcher={launcher}", *workers, f"+env.kwargs.kind={choice}"]
    result = command(*args, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    jobs = swept(tmp_path)["jobs"]
    assert len(jobs) == len(kinds)
    for kind, job in zip(kinds, jobs, strict=True):
        end, said = KINDS.get(kind, ("warned", ""))
        status = {"warned": "done", "refused": "refused"}.get(end, end)
        assert job["status"] == status, (kind, job)
        if end in ("failed", "refused"):  # in every launcher
            assert said in job["error"], (kind, job)
        elif end == "lost":
            assert job["error"].startswith("its process died 3 times") and (
                launcher == "joblib" or said in job["error"]
            )
    assert "Traceback" not in result.stderr or launcher == "joblib"  # joblib shows how its workers died
