"""`--baseline`: the others are compared with one contender."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rlexp.cli.report import main
from rlexp.jobs.results import load_study
from rlexp.report.analysis import Analysis, analyse
from tests.studies import make_job


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    g = np.random.default_rng(5)
    for algo, level in (("dqn", 100), ("fixed_dqn", 200), ("ddqn", 202), ("dueling_ddqn", 300)):
        make_job(tmp_path / "s", algo, g.normal(level, 6, 10))
    return tmp_path / "s"


def analysed(folder: Path, baseline: str | None) -> Analysis:
    return analyse(load_study(folder), np.random.default_rng(0), baseline)


def test_comparisons_and_sentences_are_against_the_baseline(ladder: Path) -> None:
    found = analysed(ladder, "fixed_dqn")
    pairs = [(c.first, c.second, c.verdict) for c in found.tasks[0].returns]
    assert pairs == [
        ("dueling_ddqn", "fixed_dqn", "better"), ("ddqn", "fixed_dqn", "undecided"), ("dqn", "fixed_dqn", "worse"),
    ]  # fmt: skip
    better, _, worse = (c.difference for c in found.tasks[0].returns)
    assert 90 < better < 110 and -110 < worse < -90  # the contender's mean minus the baseline's
    first, second = found.headline
    assert re.fullmatch(
        r"On cartpole the final return of the baseline fixed_dqn is IQM 196\.9, 95 % interval [\d.]+ to [\d.]+: dueling_ddqn "
        r"\(\+9\d\.\d\) is certainly better \(at most a 4 % chance of any false claim; numbers are mean differences\); dqn "
        r"\(-9\d\.\d\) is certainly worse; it is undecided against ddqn \(about \d+ more trials each needed\)\.",
        first,
    )
    assert second.startswith("On cartpole the area under the learning curve of the baseline fixed_dqn is IQM ")


def test_fewer_comparisons_are_corrected_less(ladder: Path) -> None:
    every = {(c.first, c.second): c.adjusted for c in analysed(ladder, None).tasks[0].returns}
    assert len(every) == 6
    for c in analysed(ladder, "fixed_dqn").tasks[0].returns:
        assert c.adjusted <= every.get((c.first, c.second), every.get((c.second, c.first), 0))


def test_a_baseline_without_results_is_said(ladder: Path) -> None:
    make_job(ladder, "sarsa", None, status="")
    found = analysed(ladder, "sarsa")
    assert found.tasks[0].returns == []
    assert found.headline == ["On cartpole the baseline sarsa has no final return: nothing is compared."]


def test_an_algorithm_names_its_only_contender(ladder: Path) -> None:
    make_job(ladder, "pg", np.full(10, 50.0), config={"lr": 0.1})
    assert analysed(ladder, "pg").baseline == "pg"
    make_job(ladder, "pg", np.full(10, 60.0), config={"lr": 0.2})
    assert analysed(ladder, "pg lr=0.1").baseline == "pg lr=0.1"
    with pytest.raises(
        ValueError, match=r"received 'pg', which is the algorithm of 2\.\nName one: pg lr=0.2, pg lr=0.1"
    ):
        analysed(ladder, "pg")


def test_the_command_takes_and_refuses_a_baseline(ladder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["s", "--output-dir", str(ladder.parent)]
    assert main([*place, "--baseline", "fixd_dqn"]) == 2
    assert capsys.readouterr().err == (
        "refused: --baseline: expected the name of a contender, received 'fixd_dqn'.\nDid you mean fixed_dqn or ddqn or dqn?\n"
    )
    assert not (ladder / "report").exists()
    assert main([*place, "--baseline", "fixed_dqn"]) == 0
    text = (ladder / "report" / "index.html").read_text()
    assert ">Which is better than fixed_dqn on cartpole: final return</h3>" in text
    assert "baseline fixed_dqn" in (ladder / "report" / "figures" / "1-cartpole-final.svg").read_text()
    assert "--baseline fixed_dqn</code>" in text
    csv = (ladder / "report" / "tables" / "comparisons.csv").read_text().splitlines()[1:]
    assert len(csv) == 6 and all(row.split(",")[3] == "fixed_dqn" for row in csv)
