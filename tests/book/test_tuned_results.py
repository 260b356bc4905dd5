"""The tuned presets' table: what is run, what stays in it, and what is written to the documentation."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlexp.book import tuned_results, tuned_rows
from rlexp.book.processes import Absent
from rlexp.book.tuned_page import BEGIN, END
from rlexp.book.tuned_rows import Row
from rlexp.config.schema.job import Settings
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.math.two_way import summarize_final
from rlexp.system.errors import Refusal

PRESETS = ["ppo_cartpole", "q_learning_frozen_lake", "q_learning_taxi"]


@functools.cache
def _composed(preset: str) -> Settings:
    return compose(preset)


def quick(*words: str) -> Settings:
    """As `compose`, for overrides of this script; each preset is composed once for all tests."""
    values = dict(word.split("=", 1) for word in words[1:])
    numbers = {key: int(values[key]) for key in ("trials", "seed")}
    return replace(_composed(words[0]), study=values["study"], output_dir=values["output_dir"], **numbers)


def finish(*words: str, returns: Sequence[float] = (), exact: Sequence[float] = ()) -> Path:
    """Write the folder of a finished job."""
    settings = resolve(quick(*words))[0]
    folder, seeds = settings.folder, settings.seeds
    played = np.array(returns or np.arange(len(seeds)), float)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps({"seeds": seeds, "name": folder.name}))
    summary: dict[str, Any] = {
        "status": "done", "seeds": seeds, "steps": 5_000, "wall_seconds": 90.0,
        "final/return": summarize_final(played, None),
        "trials": [{"seed": seed, "status": "done", "final_return": float(x)} for seed, x in zip(seeds, played, strict=True)],
    }  # fmt: skip
    if exact:
        summary |= {"final/value": summarize_final(np.array(exact), None), "optimum": 0.7442}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


class Runs:
    """What stands in for the processes of jobs: each preset ends as `ends` says, by default with results."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.ends: dict[str, Absent | type[BaseException]] = {}

    def __call__(self, command: Sequence[str], environment: dict[str, str], output_dir: Path) -> Absent | None:
        self.commands.append(list(command[3:]))
        end = self.ends.get(self.presets[-1])
        if isinstance(end, type):
            raise end
        if end is None:
            finish(*command[3:], exact=[0.25, 0.5] if "frozen_lake" in command[3] else ())
        return end

    @property
    def presets(self) -> list[str]:
        return [words[0].removeprefix("+experiment=tuned/") for words in self.commands]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(tuned_results, "run", made)
    monkeypatch.setattr(tuned_rows, "presets", lambda: list(PRESETS))
    monkeypatch.setattr(tuned_rows, "compose", quick)
    return made


@pytest.fixture
def main(runs: Runs, tmp_path: Path) -> Callable[..., tuple[int, str, list[Row]]]:
    """Exit status, Markdown and rows of the command with two trials."""

    def command(*words: str, root: Path | None = None) -> tuple[int, str, list[Row]]:
        status = tuned_results.main([*words, "--trials", "2", "--output-dir", str(tmp_path)], root)
        folder = tmp_path / "reproduce_results"
        if not (folder / "page.md").is_file():
            return status, "", []
        return status, (folder / "page.md").read_text(), tuned_rows.read(folder / "results.json")

    return command


def test_every_preset_is_run_by_environment_and_has_its_line(
    main: Any, runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, markdown, rows = main()
    assert status == 0 and runs.presets == PRESETS
    assert runs.commands[0] == [
        "+experiment=tuned/ppo_cartpole", "trials=2", "seed=20000", "study=reproduce_results", f"output_dir={tmp_path}",
    ]  # fmt: skip
    assert [row.preset for row in rows] == PRESETS and all(row.measured for row in rows)
    assert (
        "| ppo | 5,000 | 2, seeds from 20000 | 0.5 \\[0, 1\\] | 0, 1 | PPO 500 (rl-baselines3-zoo: 100k steps, one run, greedy "
        "evaluation; not comparable); 2 others below | 1.5 | `rlexp +experiment=tuned/ppo_cartpole trials=2 seed=20000` |"
    ) in markdown
    assert (
        "| q_learning | 5,000 | 2, seeds from 20000 | 0.375 \\[0.25, 0.5\\], exact | 0.25, 0.5 | best of all policies: 0.7442, "
        "exact | 1.5 |"
    ) in markdown
    titles = [line for line in markdown.splitlines() if line.startswith("## ")]
    assert titles == ["## CartPole-v1", "## FrozenLake-v1", "## Taxi-v4"]
    out = capsys.readouterr().out
    watch = f"rlexp ls reproduce_results --watch --output-dir {tmp_path}"
    assert f"0 jobs are done, 3 to run; {watch} shows them\n" in out
    assert "[1/3] ppo_cartpole, seeds 20000 to 20001: running, 50,000 env steps per trial\n" in out
    assert "[1/3] ppo_cartpole, seeds 20000 to 20001: IQM 0.5 [0, 1], min and max 0, 1, 1.5 minutes\n" in out


def test_a_failure_and_a_missing_package_stay_in_the_table(
    main: Any, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.ends = {
        "ppo_cartpole": Absent("failed: killed by signal 9"),
        "q_learning_frozen_lake": Absent("not run: needs pip install 'rlexp[box2d]'", failed=False),
    }
    status, markdown, rows = main()
    assert status == 1 and runs.presets == PRESETS  # the others go on
    assert [row.missing for row in rows] == ["failed: killed by signal 9", runs.ends["q_learning_frozen_lake"].why, ""]
    assert "| missing: failed: killed by signal 9 | - | PPO 500 (" in markdown
    assert "| missing: not run: needs pip install 'rlexp\\[box2d\\]' | - |" in markdown
    assert "`rlexp +experiment=tuned/q_learning_frozen_lake trials=2 seed=20000` |" in markdown
    assert "failed: ppo_cartpole; the same command tries them again" in capsys.readouterr().err

    runs.ends.pop("ppo_cartpole")
    status, markdown, rows = main()  # what is finished is not run again; a missing package is no failure
    assert status == 0 and runs.presets[3:] == PRESETS[:2]
    assert [row.measured for row in rows] == [True, False, True]


def test_a_preset_that_is_refused_is_not_started(
    main: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(settings: Settings) -> Any:
        if settings.env.name == "cartpole":
            raise Refusal("env.id: expected an installed package.\npip install 'rlexp[box2d]' brings it.")
        return resolve(settings)

    monkeypatch.setattr(tuned_rows, "resolve", refused)
    status, markdown, _ = main("--only", "cartpole", "--only", "taxi")
    assert status == 0 and runs.presets == ["q_learning_taxi"]
    assert "| missing: not run: needs pip install 'rlexp\\[box2d\\]' | - |" in markdown
    assert "ppo_cartpole, seeds 20000 to 20001: missing: not run: needs pip" in capsys.readouterr().out


def test_the_table_is_written_after_every_job(main: Any, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.ends = {"q_learning_frozen_lake": KeyboardInterrupt}
    status, markdown, rows = main()
    assert status == 130 and "interrupted; the same command continues" in capsys.readouterr().err
    assert [row.measured for row in rows] == [True, False, False] and rows[1].missing == "not run yet"
    assert "1 of 3 lines have figures." in markdown


def test_one_row_at_a_time_and_several_ranges_of_seeds(main: Any, runs: Runs) -> None:
    main("--only", "taxi", "--seed", "30000")
    status, _, rows = main("--only", "q_learning_taxi")
    assert status == 0 and runs.presets == ["q_learning_taxi"] * 2
    taxi = [row for row in rows if row.preset == "q_learning_taxi"]
    assert [(row.seed, row.measured) for row in taxi] == [(20_000, True), (30_000, True)]  # one line per range
    assert [row.missing for row in rows if row not in taxi] == ["not run yet"] * 2
    main("--only", "taxi", "--seed", "20000", "--seed", "30000")
    assert len(runs.presets) == 2  # both are done


def test_the_list_runs_and_writes_nothing(main: Any, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    status, markdown, _ = main("--list", "--only", "q_learning")
    assert status == 0 and runs.commands == [] and markdown == ""
    assert capsys.readouterr().out == (
        "q_learning_frozen_lake  FrozenLake-v1  300,000 steps  seeds 20000 to 20001  not run yet\n"
        "q_learning_taxi         Taxi-v4        200,000 steps  seeds 20000 to 20001  not run yet\n"
    )


def test_a_damaged_table_is_made_again(
    main: Any, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main("--only", "taxi")
    path = tmp_path / "reproduce_results" / "results.json"
    path.write_text(path.read_text()[:40])
    status, _, rows = main("--no-run")
    assert status == 0 and runs.presets == ["q_learning_taxi"] and rows[-1].measured
    assert "warning: " in (err := capsys.readouterr().err) and "the jobs' folders tell its rows again" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trials", "0"], "expected 1 or more, received 0"),
        (["--seed", "20000", "--seed", "20001"], "--seed: expected ranges of 2 seeds that are apart, received 20000 and 20001"),
        (["--seed", "-1"], "--seed: expected seeds from 0 to 4294967295, received -1 with 2 trials"),
        (["--seed", "4294967295"], "--seed: expected seeds from 0 to 4294967295, received 4294967295 with 2 trials"),
        (["trials=3"], "KEY=VALUE: expected an override other than trials, seed, study, output_dir, received 'trials=3'"),
        (["taxi"], "A preset: --only NAME."),
        (["--write-docs"], "--write-docs: expected a checkout of the repository, received none"),
        (["--write-docs", "algo.gamma=1"], "--write-docs: expected presets without overrides, received algo.gamma=1"),
        (["--only", "taxy"], "--only: expected a tuned preset, or a part of its name, received 'taxy'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    words: list[str], said: str, main: Any, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--trials" in words:
        assert tuned_results.main(words) == 2
    else:
        assert main(*words)[0] == 2
    assert said in capsys.readouterr().err and runs.commands == []


def test_help_has_examples_and_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tuned_results.main(["--help"])
    out = capsys.readouterr().out
    assert "examples:\n  python scripts/reproduce_results.py --only" in out and "'rlexp[box2d]'" in out


def test_a_damaged_summary_is_in_its_row(main: Any, runs: Runs, tmp_path: Path) -> None:
    main("--only", "taxi")
    (path,) = tmp_path.glob("reproduce_results/q_learning-taxi-*/summary.json")
    summary = json.loads(path.read_text())
    summary["final/return"]["ci95"] = ["<b>", None]
    path.write_text(json.dumps(summary))
    status, markdown, rows = main("--no-run")
    assert status == 0 and rows[-1].missing.startswith("failed: its results cannot be read (ValueError: ")
    assert "could not convert string to float: '\\<b\\>'" in markdown


def test_write_docs(main: Any, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    (root / "docs" / "researchers").mkdir(parents=True)
    (root / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    (root / "docs" / "researchers" / "tuned.md").write_text(f"# T\n\n{BEGIN}{END}\n")
    status, *_ = main("--only", "taxi", "--write-docs", root=root)
    readme, page = (root / "README.md").read_text(), (root / "docs" / "researchers" / "tuned.md").read_text()
    assert (
        status == 0 and readme.startswith(f"before\n{BEGIN}\n\nThe best presets, 2 trials on") and "old" not in readme
    )
    assert "|Taxi-v4|`q_learning`, 5k|0.5 [0, 1]|-|" in readme and readme.endswith(f"{END}\nafter\n")
    assert "| ppo | 50,000 | 2, seeds from 20000 | missing: not run yet |" in page
    text = (root / "docs" / "tuned.json").read_text()
    assert str(tmp_path) not in text + page + readme  # no path of this machine
    assert [row.measured for row in tuned_rows.read(root / "docs" / "tuned.json")] == [False, False, True]
    (root / "README.md").write_text("nothing")
    assert main("--no-run", "--write-docs", root=root)[0] == 2
    assert f"README.md: expected a part between {BEGIN} and {END}, received none" in capsys.readouterr().err
    assert (root / "docs" / "tuned.json").read_text() == text


def test_a_signal_is_passed_on_to_the_job(tmp_path: Path) -> None:
    ready, stopped = tmp_path / "ready", tmp_path / "stopped"
    child = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(stopped)!r}).touch(), sys.exit(143)))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )

    def interrupt() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        tuned_results.run([sys.executable, "-c", child], dict(os.environ), tmp_path)
    assert stopped.exists()


def test_the_reason_of_a_failed_process_tells_no_path_of_this_machine(tmp_path: Path) -> None:
    failing = f"import sys; print('failed: 1 of 2 diverged: {tmp_path}/s/job', file=sys.stderr); sys.exit(1)"
    why = tuned_results.run([sys.executable, "-c", failing], dict(os.environ), tmp_path)
    assert why == Absent("failed: 1 of 2 diverged: outputs/s/job")
    assert tuned_results.run([sys.executable, "-c", ""], dict(os.environ), tmp_path) is None


@pytest.mark.slow
def test_two_presets_are_run_and_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "--only", "taxi", "--only", "q_learning_mountain_car", "--trials", "2", "--output-dir", str(tmp_path), "budget.steps=600",
        "evaluation.period=300", "evaluation.final_episodes=4", "tracking=files", "animation.enabled=false",
    ]  # fmt: skip
    assert tuned_results.main(command) == 0
    folder = tmp_path / "reproduce_results_changed"
    rows = {row.preset: row for row in tuned_rows.read(folder / "results.json") if row.measured}
    assert set(rows) == {"q_learning_taxi", "q_learning_mountain_car"}
    assert rows["q_learning_taxi"].exact and not rows["q_learning_mountain_car"].exact
    for row in rows.values():
        (summary,) = (json.loads(path.read_text()) for path in folder.glob(f"*-{row.environment}-*/summary.json"))
        figures = summary["final/value" if row.exact else "final/return"]
        assert (row.iqm, row.smallest, row.largest) == (figures["iqm"], figures["min"], figures["max"])
        assert row.steps == 600 and summary["seeds"] == [20_000, 20_001]
    assert "these are not the results of the presets" in (folder / "page.md").read_text()
    capsys.readouterr()
    assert tuned_results.main(command) == 0
    assert "2 jobs are done, 0 to run" in capsys.readouterr().out
