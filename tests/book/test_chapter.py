"""The reproduction report: the exact rows come out, the verdicts are right, every preset is run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import rlexp
from rlexp.book import agreement, literal_loops, printed_figures, reproduction
from rlexp.book.printed_figures import EXACT, ONE_TRIAL, STATISTICAL, JobFolder, Statistical
from rlexp.book.processes import Absent, explain, run_all
from rlexp.config import paths


@pytest.fixture(scope="module")
def exact_jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobFolder]:
    """The jobs that the exact rows are computed from."""
    output_dir = tmp_path_factory.mktemp("outputs")
    quick = ["tracking=files", "animation.enabled=false"]
    return {
        name: JobFolder(rlexp.run(*reproduction.overrides(name, 10, 0, output_dir), *quick, quiet=True).folder)
        for name in ONE_TRIAL
    }


@pytest.mark.parametrize("row", EXACT, ids=[row.what for row in EXACT])
def test_exact_rows_are_equal_to_all_printed_digits(
    row: printed_figures.Exact, exact_jobs: dict[str, JobFolder]
) -> None:
    assert row.ours(exact_jobs) == row.printed
    assert row.literal is None or row.literal() == row.printed


def test_every_preset_is_run_and_every_row_has_one() -> None:
    presets = reproduction.presets()
    books = {f"book/{name}" for name in paths.configured("experiment/book")}
    assert set(presets) == books | {ONE_TRIAL[2], printed_figures.NOTEBOOK_WAY}
    assert {row.job for row in STATISTICAL} | {row.job for row in EXACT if row.job} == set(presets)
    assert set(reproduction.LONGEST_FIRST) <= set(presets)


def test_every_figure_of_the_notebook_has_a_row() -> None:
    assert [row.figure for row in STATISTICAL if row.figure is not None] == [
        18.77621289, 22.291, 11.874818693352752, 8.0, 206.0, 83.2468, 75.87192425238733, 8.0, 747.0,
        137017.28518629508, 73124.97786538936, 12.0, 262570.0, 26.257, 26.257,
        177.8, 135.0, 42.26345939461179, 73.0, 200.0, 146, 200, 200, 200, 115,
    ]  # fmt: skip


def test_overrides_of_a_job() -> None:
    assert reproduction.overrides("book/dqn", 10, 7, Path("o")) == [
        "+experiment=book/dqn", "trials=10", "seed=7", "study=chapter18", "output_dir=o",
    ]  # fmt: skip
    assert reproduction.overrides("book/mdp_q_value_iteration algo.gamma=0.95", 10, 0, Path("o")) == [
        "+experiment=book/mdp_q_value_iteration", "algo.gamma=0.95", "seed=0", "study=chapter18", "output_dir=o",
    ]  # fmt: skip
    assert reproduction.overrides("book/pg", 2, 0, Path("o"), engine="host")[1:3] == ["trials=2", "engine=host"]


LITERAL_TRIALS = [
    # figure, ours, literal, text, good, whether the literal runs give the figure
    (3.0, [1.0, 5.0], None, "within the spread of our trials", True, None),
    (6.0, [1.0, 5.0], None, "outside all our trials. The reason is not known: the notebook shows one seed, and its loop is "
     "not run literally here", False, None),
    (3.0, [np.nan, 5.0], None, "outside all our trials. The reason is not known: the notebook shows one seed, and its loop is "
     "not run literally here", False, None),
    (3.0, [1.0, 5.0], [2.0, 4.0], "within the spread of our trials, and of literal runs", True, True),
    (6.0, [1.0, 5.0], [5.5, 7.0], "outside all our trials. Literal runs give the figure, and none of ours lies among "
     "them: the reason is what ours does differently (below)", False, True),
    (6.0, [1.0, 5.5], [5.0, 7.0], "outside all our trials. Literal runs give the figure, and ours overlap with them: no "
     "difference is certain", False, True),
    (83.2, [27.0, 28.0], [10.97, 58.4, 12.0], "outside all our trials. None of 3 literal runs of the printed code gives the "
     "printed figure: they gave 10.97 to 58.4; the reason is not known", False, False),
    (3.0, [1.0, 5.0], [4.0, 4.5], "within the spread of our trials. None of 2 literal runs of the printed code gives the printed "
     "figure: they gave 4 to 4.5", True, False),
    (None, [1.0, 5.0], [2.0, 4.0], "the notebook prints no figure", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("figure", "ours", "literal", "text", "good", "gives"), LITERAL_TRIALS)
def test_a_verdict_names_a_cause_only_where_literal_runs_confirm_it(
    figure: float | None,
    ours: list[float],
    literal: list[float] | None,
    text: str,
    good: bool | None,
    gives: bool | None,
) -> None:
    row = Statistical("book/dqn", "what", "printed", figure, lambda job: np.array(ours))
    found = agreement.verdict(row, np.array(ours), None if literal is None else np.array(literal))
    assert found == (text, good, gives)


def test_every_row_with_a_literal_loop_says_what_ours_does_differently() -> None:
    assert {row.job for row in STATISTICAL if row.literal} == set(printed_figures.OTHERWISE)


def test_extremes_are_compared_as_extremes() -> None:
    """One outlier among maxima moves their mean and deviation; what is shown are their median and range."""
    row = Statistical("book/dqn", "largest", "206", 206, lambda job: np.ones(1), values="maxima")
    assert agreement.verdict(row, np.array([120.0, 130, 240])).text == "within the spread of our maxima"
    assert agreement.spread(np.array([120.0, 130, 2_400]), "maxima") == "median 130, 120 to 2400"
    assert {row.values for row in STATISTICAL if "largest return" in row.what} == {"maxima"}
    assert {row.values for row in STATISTICAL if "smallest" in row.what} == {"minima"}


def test_statistics_of_training_episodes() -> None:
    assert printed_figures.running(np.mean)(np.array([1.0, 2.0, 3.0])) == pytest.approx(10 / 3)
    assert printed_figures.running(np.max)(np.array([1.0, 2.0, 3.0])) == 6.0
    assert printed_figures.loop("epsilon", np.max)({"epsilon": np.array([1.0, 5.0])}) == 5.0
    assert agreement.spread(np.array([1.0, 3.0, np.nan]), "trials") == "mean 2, std 1, 1 to 3, 2 of 3"
    assert agreement.spread(np.array([np.nan]), "trials") == "0 of 1"
    assert agreement.spread(np.array([1_645_820.4, 1_793_580.0]), "minima") == "median 1719700, 1645820 to 1793580"


REFUSED = "refused: env.id: expected an environment whose packages are installed, received 'LunarLander-v3'.\n"


@pytest.mark.parametrize(
    ("status", "stderr", "why", "failed"),
    [
        (2, REFUSED + "pip install 'rlexp[box2d]' brings it.\n", "not run: needs pip install 'rlexp[box2d]'", False),
        (2, REFUSED + "pip install foo.\n", "not run: needs pip install foo", False),
        (2, "W: noise\nrefused: trials: expected 1 or more, received 0.\nRaise it.\n",
         "refused: trials: expected 1 or more, received 0. Raise it.", True),
        (1, "Traceback ...\nOSError: no space left\n", "failed: OSError: no space left", True),
        (1, "failed: 2 of 10 trials diverged\nmore\n", "failed: 2 of 10 trials diverged", True),
        (1, "x" * 500, f"failed: {'x' * 236} ...", True),
        (3, "", "failed: exit status 3", True),
        (-9, "", "failed: killed by signal 9", True),
        (-15, "", "interrupted: the same command continues it", True),
        (130, "", "interrupted: the same command continues it", True),
    ],
)  # fmt: skip
def test_why_a_preset_has_no_results(status: int, stderr: str, why: str, failed: bool) -> None:
    assert explain(status, stderr) == Absent(why, failed)


def test_a_missing_extra_and_a_failure_stop_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Box2D is made unavailable in the process of the preset that needs it."""
    block = "import sys; sys.modules['Box2D'] = None; sys.argv[0] = 'rlexp'; from rlexp.cli.run import main; main()"
    lander = ["+experiment=book/pg_lunar_lander", "trials=1", "tracking=files"]
    absent = run_all(
        {
            "lander": [sys.executable, "-c", block, *lander],
            "broken": [sys.executable, "-c", "raise OSError('no space')"],
            "good": [sys.executable, "-c", ""],
        },
        processes=2,
    )
    assert absent == {
        "lander": Absent("not run: needs pip install 'rlexp[box2d]'", failed=False),
        "broken": Absent("failed: OSError: no space"),
    }
    out, err = capsys.readouterr()
    assert "lander: not run: needs pip install 'rlexp[box2d]'\n" in out and "good: done in " in out
    assert "broken: failed: OSError: no space (after " in out and "Traceback" in err


def _main(
    exact_jobs: dict[str, JobFolder], monkeypatch: pytest.MonkeyPatch, absent: dict[str, Absent]
) -> tuple[int, str, str]:
    """Exit status, report.html and report.md of the exact jobs and two literal runs, and of presets that are `absent`."""
    run: dict[str, np.ndarray] = {name: np.full(10_000, 20.0) for name in ("random", "epsilon", "log_alpha")}
    run["mdp"] = np.full((3, 3), 18.7)
    output_dir = next(iter(exact_jobs.values())).folder.parents[1]
    monkeypatch.setattr(reproduction, "presets", lambda: [*ONE_TRIAL, *absent])
    monkeypatch.setattr(reproduction, "run_all", lambda commands, processes: dict(absent))
    monkeypatch.setattr(literal_loops, "read", lambda path: run)
    status = reproduction.main(["--output-dir", str(output_dir), "--trials", "2"])
    folder = output_dir / "chapter18" / "report"
    return status, (folder / "report.html").read_text(), (folder / "report.md").read_text()


def test_the_report_is_written_without_what_was_not_run(
    exact_jobs: dict[str, JobFolder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Absent("not run: needs pip install 'rlexp[box2d]'", failed=False)
    status, page, markdown = _main(exact_jobs, monkeypatch, {"book/pg_lunar_lander": missing})
    assert status == 0 and "book/pg_lunar_lander: not run: needs pip install 'rlexp[box2d]'" in capsys.readouterr().out
    assert '<div class="notice"><p>book/pg_lunar_lander: not run: needs pip install &#x27;rlexp[box2d]&#x27;.' in page
    assert (
        '<tr><td data-label="preset">pg_lunar_lander</td><td data-label="what">mean return of the last 100 episodes</td>'
        '<td data-label="notebook">-</td><td data-label="notebook&#x27;s loop, run literally">-</td>'
        '<td data-label="ours">-</td><td data-label="verdict">not run: needs pip install &#x27;rlexp[box2d]&#x27;</td>'
    ) in page
    row = "| pg_lunar_lander | mean return of the last 100 episodes | - | - | - | not run: needs pip install 'rlexp\\[box2d\\]' |"
    assert row in markdown
    assert "11 of 11 exact figures are equal to all printed digits" in markdown
    assert "| 18.77621289 (drawn in Figure 18-9, not printed) | ours is its code | 18.77621289 | equal |" in markdown
    assert (
        "| q_epsilon | mean return of 10,000 episodes | 83.2468 | mean 20, std 0, 20 to 20 | - | not run |" in markdown
    )


def test_a_failure_is_in_its_row_and_in_the_exit_status(
    exact_jobs: dict[str, JobFolder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A preset that fails, and one whose results do not give what its row needs."""

    def training() -> list[np.ndarray]:
        raise OSError("episodes.npz is missing")

    broken = JobFolder(exact_jobs[ONE_TRIAL[1]].folder)
    monkeypatch.setattr(broken, "training", training)
    monkeypatch.setattr(reproduction, "load", lambda *_: ({**exact_jobs, "book/q_random": broken}, {}))
    status, page, markdown = _main(exact_jobs, monkeypatch, {"book/dqn": Absent("failed: no space")})
    assert status == 1 and "| dqn | return of episode 600 | 146 | - | - | failed: no space |" in markdown
    assert "failed: book/dqn, book/q_random; the same command tries them again" in capsys.readouterr().err
    assert '<tr class="bad"><td data-label="preset">dqn</td>' in page
    assert (
        "| q_random | mean return of 10,000 episodes | 22.291 | mean 20, std 0, 20 to 20 | - | failed: its results cannot be read (OSError: episodes.npz is missing) |"
        in markdown
    )


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduction, "run_all", interrupted)
    assert reproduction.main(["--output-dir", str(tmp_path), "--trials", "1"]) == 130


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert reproduction.main(["--output-dir", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("--output-dir: expected a folder that can be written, received ")


def test_help_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reproduction.main(["--help"])
    assert "pip install 'rlexp[box2d]'" in capsys.readouterr().out
