"""`rlexp report`: the page, its pictures and tables, from job folders and from MLflow alone."""

from __future__ import annotations

import base64
import csv
import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlexp.cli.report import main
from rlexp.jobs.results import load_study
from rlexp.math.statistics import bootstrap_ci, iqm
from rlexp.report import study
from rlexp.report.analysis import analyse
from tests.browser import Browser
from tests.studies import make_job

NAN = float("nan")
EVIL = "<img src=x onerror=alert(1)>$x^2$"
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")  # 1 x 1
COMMAND = f"rlexp report '{EVIL}'"


def headline(folder: Path) -> list[str]:
    return analyse(load_study(folder), np.random.default_rng(0)).headline


def warnings(folder: Path) -> list[str]:
    return analyse(load_study(folder), np.random.default_rng(0)).warnings


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with everything in it: two environments, a sweep, a failed, a diverged, a pruned and an unfinished job."""
    folder = tmp_path_factory.mktemp("outputs") / "mixed"
    g = np.random.default_rng(1)
    for lr in (0.001, 0.01):
        for gamma in (0.9, 0.99):
            final = np.minimum(500, g.normal(200 + 9000 * lr, 20, 10)).round(1)
            make_job(folder, "dqn", final, config={"optimizer": {"lr": lr}, "gamma": gamma})
    luck = np.tile([-8.0, -1.0, 2.0, 7.0], (10, 1))
    make_job(folder, "ddqn", g.normal(480, 5, 10).round(1), noise=lambda n: luck[:n])  # their episodes matter
    make_job(folder, "ddqn", g.normal(-90, 5, 10).round(1), env="acrobot", env_id="Acrobot-v1")
    diverged = g.normal(-130, 5, 10).round(1)
    diverged[4] = NAN
    make_job(folder, "random", diverged, env="acrobot", env_id="Acrobot-v1", status="failed")
    make_job(folder, "random", g.normal(22, 1, 10).round(1))
    make_job(folder, "pg", None, status="failed", error=f"ValueError: {EVIL}")
    make_job(folder, "sarsa", None, status="")
    make_job(folder, "dqn", None, config={"optimizer": {"lr": 0.01}, "gamma": 0.5}, status="pruned")
    return folder


@pytest.fixture(scope="module")
def page(mixed: Path) -> Path:
    return study.write(mixed, command=COMMAND)


# The verdict.


def test_a_winner_is_named_with_his_interval(tmp_path: Path) -> None:
    high, low = np.arange(10.0) + 400, np.arange(10.0) + 100
    make_job(tmp_path / "s", "ddqn", high)
    make_job(tmp_path / "s", "dqn", low)
    make_job(tmp_path / "s", "random", low - 90)
    assert headline(tmp_path / "s") == [
        "On cartpole ddqn won, and that is certain (at most a 4 % chance of any false claim): its final return "
        f"(IQM 404.5, 95 % interval {' to '.join(f'{b:.1f}' for b in ci(high))}) is better than that of each of the 2 others."
    ]


def ci(values: Any) -> tuple[float, float]:
    from rlexp.data import seeding

    return bootstrap_ci(values, iqm, seeding.generator(0, "report"))


def test_what_is_open_is_said_with_the_number_of_trials_that_are_needed(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).normal(0, 10, 10)
    make_job(tmp_path / "s", "ddqn", 400 + noise)
    make_job(tmp_path / "s", "dqn", 394 + noise[::-1])
    make_job(tmp_path / "s", "random", 22 + noise)
    (sentence, *_) = headline(tmp_path / "s")
    assert re.fullmatch(
        r"On cartpole ddqn has the highest final return \(IQM \d+\.\d, .*\), certainly better than random; it is undecided "
        r"against dqn \(about \d+ more trials each needed\)\.",
        sentence,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_few_trials_never_lead_to_a_claim(size: int, tmp_path: Path) -> None:
    make_job(tmp_path / "s", "ddqn", np.arange(size) + 1000.0)
    make_job(tmp_path / "s", "dqn", np.arange(size) + 1.0)
    (sentence,) = headline(tmp_path / "s")
    assert sentence.startswith("On cartpole no algorithm is significantly better: ddqn has the highest final return")
    assert sentence.endswith(f"cannot decide it, at least {5 - size} more needed).")
    (warned,) = warnings(tmp_path / "s")
    assert warned.endswith("intervals are too narrow with fewer than 5.")


def test_equal_returns_are_told_apart_by_learning_speed(tmp_path: Path) -> None:
    fast = make_job(tmp_path / "s", "ddqn", [500.0] * 10)
    make_job(tmp_path / "s", "dqn", [500.0] * 10)
    lines = [json.loads(line) for line in (fast / "metrics.jsonl").read_text().splitlines()]
    for line in lines[:-1]:
        line["metrics"]["eval/return"] = [400.0 + k for k in range(10)]
    (fast / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert headline(tmp_path / "s") == [
        "On cartpole ddqn and dqn reach the maximum of 500 (IQM).",
        "On cartpole ddqn and dqn share the first place.",
        "On cartpole, of these, ddqn won, and that is certain (at most a 4 % chance of any false claim): its area under the "
        "learning curve (IQM 404.5, 95 % interval 401.8 to 407.3) is better than that of dqn.",
    ]


def test_the_same_iqm_shares_the_first_place_and_each_rival_has_its_reason(tmp_path: Path) -> None:
    same = np.random.default_rng(1).normal(300, 5, 10)
    for algo, values in (
        ("ddqn", same),
        ("dqn", same),
        ("dueling_ddqn", same - 1),
        ("pg", same[::-1] - 1),
        ("random", same - 250),
    ):
        make_job(tmp_path / "s", algo, values)
    first = headline(tmp_path / "s")[0]
    assert re.fullmatch(
        r"On cartpole ddqn and dqn share the first place with the same final return \(IQM 30\d\.\d, 95 % interval .*, equal "
        r"in all trials\), certainly before dueling_ddqn and random; against pg \(about \d+ more trials each needed\) it is "
        r"undecided\.",
        first,
    )


def test_intervals_hold_the_luck_of_the_episodes_in_summary_picture_and_report_alike(tmp_path: Path) -> None:
    """Ten trials with one policy, of which 84 of 100 episodes succeed: no spread over trials, but all share their luck."""
    luck = np.repeat(np.repeat([0.16, -0.84], [84, 16])[None], 10, axis=0)  # [N, E]
    folder = make_job(tmp_path / "s", "dqn", [0.84] * 10, noise=lambda n: luck)
    summary = json.loads((folder / "summary.json").read_text())
    low, high = summary["final/return"]["ci95"]
    assert 0.74 < low < 0.79 and 0.89 < high < 0.93  # 0.84 +- 2 * sqrt(0.84 * 0.16 / 100)
    study.write(tmp_path / "s")
    (row,) = rows(tmp_path / "s" / "report" / "tables" / "results.csv")
    assert (float(row["low"]), float(row["high"])) == (low, high)
    (folder / "evaluation.csv").unlink()
    assert warnings(tmp_path / "s") == [
        "On cartpole the final episodes of dqn are not known (no evaluation.csv): intervals and comparisons of their "
        "returns include only the luck of the trials, not that of the episodes."
    ]
    study.write(tmp_path / "s")
    (row,) = rows(tmp_path / "s" / "report" / "tables" / "results.csv")
    assert (float(row["low"]), float(row["high"])) == (0.84, 0.84)


def test_exact_values_at_the_optimum_are_a_maximum(tmp_path: Path) -> None:
    for algo, final, value in (("q_learning", 0.84, 0.888), ("sarsa", 0.86, 0.888), ("random", 0.1, 0.1)):
        folder = make_job(tmp_path / "s", algo, [final] * 10, env="frozen_lake_8x8", env_id="FrozenLake8x8-v1")
        summary = json.loads((folder / "summary.json").read_text())
        summary |= {"final/value": {"per_trial": [value] * 10}, "optimum": 0.888}
        (folder / "summary.json").write_text(json.dumps(summary))
    first, second, *_ = headline(tmp_path / "s")
    assert first == (
        "On frozen_lake_8x8 sarsa and q_learning reach the maximum of 0.888: their policies are worth as much as the best "
        "one (exact values, IQM)."
    )
    assert second.startswith("On frozen_lake_8x8 sarsa and q_learning share the first place, certainly before random")
    path = folder.parent
    for file in path.glob("*/summary.json"):  # the best policy counts steps, which tables cannot
        file.write_text(json.dumps({**json.loads(file.read_text()), "optimum": 0.913}))
    assert headline(path)[0].startswith(
        "On frozen_lake_8x8 sarsa and q_learning share the first place with the same exact value (IQM 0.888), certainly "
    )
    study.write(tmp_path / "s")
    found = rows(tmp_path / "s" / "report" / "tables" / "results.csv")
    assert [float(row["exact_value_iqm"]) for row in found] == pytest.approx([0.888, 0.888, 0.1])
    assert "exact value: IQM (the best policy: 0.913)" in (tmp_path / "s" / "report" / "index.html").read_text()


def test_one_job_alone_and_none(tmp_path: Path) -> None:
    make_job(tmp_path / "s", "dqn", [5.0])
    assert headline(tmp_path / "s") == [
        "On cartpole dqn reached a final return of IQM 5; there is nothing to compare it with."
    ]
    make_job(tmp_path / "t", "dqn", None, status="")
    assert headline(tmp_path / "t") == ["On cartpole no job has finished yet: there is nothing to compare."]
    assert study.write(tmp_path / "t").is_file() and study.write(tmp_path / "s").is_file()


def test_several_environments_have_a_verdict_over_all(mixed: Path) -> None:
    first, *others = headline(mixed)
    assert first.startswith("Over all environments ddqn won, and that is certain")
    assert [sentence.split()[1] for sentence in others] == ["acrobot", "cartpole"]


def test_a_broken_job_is_named(tmp_path: Path) -> None:
    make_job(tmp_path / "s", "dqn", [1.0] * 5)
    (make_job(tmp_path / "s", "fixed_dqn", [1.0] * 5) / "metrics.jsonl").write_text("{\n{}\n")
    (first, *_) = warnings(tmp_path / "s")
    assert re.match(
        r"fixed_dqn-cartpole-\w+ cannot be read: .*metrics\.jsonl, line 1: expected a record of 5 trials", first
    )


def test_nothing_is_left_out_in_silence(mixed: Path) -> None:
    found = "\n".join(warnings(mixed))
    assert re.search(r"pg on cartpole \(pg-cartpole-\w+\) has failed: ValueError: <img.*; it is not compared\.", found)
    assert re.search(r"sarsa on cartpole \(.*\) is not finished \(it runs, or was killed\)", found)
    assert (
        "On cartpole the search pruned 1 candidate before the end of the budget (dqn lr=0.01 gamma=0.5): it is drawn and "
        "listed as far as trained, but not compared."
    ) in found
    assert "1 of 10 trials diverged (seed 4: loss at env step 900)" in found
    assert "no final return for seed 4; in comparisons it counts as the worst trial of all" in found


def test_pruned_candidates_are_listed_and_not_compared(tmp_path: Path) -> None:
    """Theirs are the highest curves, for a quarter of the budget: they count for nothing."""
    for k in range(9):
        pruned = make_job(tmp_path / "s", "dqn", None, config={"lr": 1 + k}, status="pruned")
        lines = (pruned / "metrics.jsonl").read_text().splitlines(keepends=True)
        (pruned / "metrics.jsonl").write_text("".join(lines[:5]))
    for lr in (0.1, 0.2, 0.3):
        make_job(tmp_path / "s", "dqn", [10 * lr + k for k in range(10)], config={"lr": lr})
    assert warnings(tmp_path / "s") == [
        "On cartpole the search pruned 9 candidates before the end of the budget (dqn lr=1, dqn lr=2, dqn lr=3, dqn lr=4 "
        "and 5 others): they are drawn and listed as far as trained, but not compared."
    ]
    assert headline(tmp_path / "s")[0].startswith("On cartpole dqn lr=0.3 ")
    page = study.write(tmp_path / "s")
    tables = page.parent / "tables"
    assert Counter(row["status"] for row in rows(tables / "results.csv")) == {"done": 3, "pruned": 9}
    assert {row["env_steps"] for row in rows(tables / "results.csv") if row["status"] == "pruned"} == {"5000"}
    assert Counter(row["status"] for row in rows(tables / "trials.csv")) == {"done": 30, "pruned": 90}
    compared = {row[side] for row in rows(tables / "comparisons.csv") for side in ("first", "second")}
    assert compared == {"dqn lr=0.1", "dqn lr=0.2", "dqn lr=0.3"}
    assert page.read_text().count('data-label="status">pruned<') == 2 * 9  # results, and where they come from
    assert pruned.name in page.read_text()


def test_a_killed_job_is_named_and_not_compared(tmp_path: Path) -> None:
    make_job(tmp_path / "s", "dqn", [1.0] * 6)
    make_job(tmp_path / "s", "ddqn", None, status="killed")
    (found,) = warnings(tmp_path / "s")
    assert re.fullmatch(r"ddqn on cartpole \(ddqn-cartpole-\w+\) was killed; it is not compared\.", found)


def test_different_budgets_are_said(tmp_path: Path) -> None:
    make_job(tmp_path / "s", "dqn", [5.0] * 6)
    make_job(tmp_path / "s", "ddqn", [5.0] * 6, steps=40_000)
    assert (
        "On cartpole the budgets differ (20000, 40000): longer training does not make a better algorithm."
        in warnings(tmp_path / "s")
    )


# The page.


def test_page_tables_and_pictures(page: Path, mixed: Path) -> None:
    assert page == mixed / "report" / "index.html"
    text = page.read_text()
    for heading in (
        "Over all environments", "Results on acrobot (Acrobot-v1)", "Which is better on cartpole: final return",
        "Hyper-parameters", "What differs in the configurations", "Published results on acrobot", "How it was measured", "Where it comes from",
    ):  # fmt: skip
        assert f">{heading}</h" in text
    assert "rl-baselines3-zoo" in text and "-76.6 +- 11.8" in text and "0123abc" in text
    names = sorted(path.stem for path in page.parent.glob("figures/*.png"))
    assert names == [
        "0-profiles", "1-acrobot-curves", "1-acrobot-final", "1-acrobot-trials-1", "2-cartpole-curves", "2-cartpole-final",
        "2-cartpole-trials-1", "2-cartpole-trials-2", "cartpole-dqn-heat-map", "cartpole-dqn-slices",
    ]  # fmt: skip
    assert text.count("<img ") == len(names) - 2  # the curves are drawn by the page itself
    for name in names:
        assert Image.open(page.parent / "figures" / f"{name}.png").width == 896
        assert ElementTree.parse(page.parent / "figures" / f"{name}.svg").getroot().tag.endswith("svg")


def test_csv_has_every_number(page: Path) -> None:
    tables = page.parent / "tables"
    (ddqn,) = [
        row for row in rows(tables / "results.csv") if (row["environment"], row["contender"]) == ("acrobot", "ddqn")
    ]
    trials = [
        row for row in rows(tables / "trials.csv") if (row["environment"], row["contender"]) == ("acrobot", "ddqn")
    ]
    final = [float(row["final_return"]) for row in trials]
    assert (float(ddqn["iqm"]), float(ddqn["worst"])) == (iqm(final), min(final))
    assert (float(ddqn["low"]), float(ddqn["high"])) == ci(final)
    assert (ddqn["trials"], ddqn["wall_seconds"], ddqn["steps_per_second"]) == ("10", "12.5", "20000.0")
    steps = [float(row["steps_to_threshold"]) for row in trials]
    assert float(ddqn["steps_to_threshold_median"]) == np.median(steps)
    comparisons = rows(tables / "comparisons.csv")
    assert (
        len([row for row in comparisons if (row["environment"], row["measure"]) == ("cartpole", "final return")]) == 15
    )
    (pair,) = [row for row in comparisons if (row["environment"], row["measure"]) == ("acrobot", "final return")]
    assert (pair["first"], pair["second"], pair["verdict"], pair["paired"]) == ("ddqn", "random", "better", "True")
    curves = [
        row for row in rows(tables / "curves.csv") if (row["environment"], row["contender"]) == ("acrobot", "ddqn")
    ]
    assert [int(row["step"]) for row in curves] == [1000 * i for i in range(1, 21)] and {
        row["trials"] for row in curves
    } == {"10"}
    assert {row["algo.optimizer.lr"] for row in rows(tables / "configurations.csv")} == {"-", "0.001", "0.01"}


def test_names_with_html_in_them_stay_text(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;$x^2$" in text and "<img src=x" not in text
    assert not re.search(r"(?<!\\)<", re.sub("`.*?`", "", page.with_suffix(".md").read_text()))
    for final, note in ((1.0, EVIL), (2.0, "=1+1")):
        folder = make_job(tmp_path / "s", "dqn", [final] * 6, env="evil", config={"note": note})
        job = json.loads((folder / "job.json").read_text()) | {
            "env": EVIL,
            "command": EVIL,
            "tags": {EVIL: EVIL},
            "study": EVIL,
        }
        (folder / "job.json").write_text(json.dumps(job))
    evil = study.write(tmp_path / "s").read_text()
    assert "<img src=x" not in evil and f"<title>Study {EVIL.replace('<', '&lt;').replace('>', '&gt;')}</title>" in evil
    assert "'=1+1" in (tmp_path / "s" / "report" / "tables" / "configurations.csv").read_text()


@pytest.mark.slow
def test_many_contenders_fit(tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    for k in range(12):
        make_job(
            tmp_path / "s",
            "dqn",
            g.normal(100 + k, 10, 6),
            config={"gamma": 0.9 + k / 1000, "epsilon": k, "batch_size": 2**k},
        )
    text = study.write(tmp_path / "s").read_text()
    assert "20 of 66 pairs; all of them are in tables/comparisons.csv." in text
    assert len(rows(tmp_path / "s" / "report" / "tables" / "comparisons.csv")) == 2 * 66
    assert "5 others" in (tmp_path / "s" / "report" / "figures" / "1-cartpole-curves.svg").read_text()


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The report of a hundred jobs, each with an animation of 300 kB; and the seconds of CPU time that it took."""
    folder, g = tmp_path_factory.mktemp("outputs") / "s", np.random.default_rng(0)
    for k in range(100):
        final = g.normal(300 + k, 50, 10)
        job = make_job(folder, "dqn", final, config={"gamma": 0.9 + k / 1000}, points=500)
        (job / "animation.gif").write_bytes(GIF + g.bytes(300_000))
    began = time.process_time()
    return study.write(folder), time.process_time() - began


@pytest.mark.slow
def test_a_hundred_jobs_take_less_than_20_seconds_and_15_megabytes(hundred: tuple[Path, float]) -> None:
    page, seconds = hundred
    assert seconds < 20
    assert 8e6 < page.stat().st_size < 15e6  # some animations are inside, the others are links


@pytest.mark.slow
@pytest.mark.browser
def test_a_hundred_jobs_can_be_read_and_toggled_in_chromium(hundred: tuple[Path, float], browser: Browser) -> None:
    browser.open(hundred[0].as_uri(), 390)
    assert browser.evaluate("document.querySelectorAll('[data-curve]').length") == 100
    assert browser.evaluate("document.querySelectorAll('.card img').length") == 20  # 6 MiB of animations
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    browser.click("[data-show=none]")
    browser.click(".legend label:nth-of-type(3)")
    browser.evaluate("document.querySelector('.area').focus()")
    browser.press("End")
    assert browser.evaluate("document.querySelectorAll('.readout div').length") == 1
    assert browser.problems == []


# The command.


def test_command_writes_and_prints(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixed", "--output-dir", str(mixed.parent), "--to", str(tmp_path / "here")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert (
        printed[0].startswith("Over all environments ddqn won")
        and printed[-1] == f"report: {tmp_path / 'here' / 'index.html'}"
    )
    (job,) = mixed.glob("pg-cartpole-*")
    assert main([str(job), "--to", str(tmp_path / "one")]) == 0


def test_a_wrong_study_is_refused_with_near_matches(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixt", "--output-dir", str(mixed.parent)]) == 2
    assert capsys.readouterr().err == (
        f"refused: study: expected a study under {mixed.parent} or a study's folder, received 'mixt'.\nDid you mean mixed?\n"
    )
    assert main([str(mixed.parent)]) == 2
    assert capsys.readouterr().err.endswith("a folder of 1.\nName one: mixed\n")
    assert main(["x", "--output-dir", str(mixed / "nothing")]) == 2
    assert capsys.readouterr().err.endswith("No job has run there yet.\n")


def test_a_study_of_broken_jobs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (make_job(tmp_path / "s", "dqn", [1.0]) / "config.yaml").unlink()
    assert main(["s", "--output-dir", str(tmp_path)]) == 2
    assert "expected at least one job that can be read" in capsys.readouterr().err


def test_help_and_reports_need_neither_tensorflow_nor_mlflow(tmp_path: Path) -> None:
    make_job(tmp_path / "s", "dqn", [1.0, 2.0])
    code = (
        "import sys\nfrom rlexp.cli.report import main\n"
        f"assert main(['s', '--output-dir', {str(tmp_path)!r}]) == 0\n"
        "print(sorted({'tensorflow', 'mlflow', 'keras', 'gymnasium', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("[]", "")
    shown = subprocess.run([sys.executable, "-m", "rlexp.report", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "--tracking-uri" in shown.stdout and "rlexp report dqn_ladder" in shown.stdout


# From MLflow alone.


@pytest.fixture(scope="module")
def delivered(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from rlexp.tracking.addresses import resolve_uri
    from rlexp.tracking.mlflow.deliver import Delivery

    uri = resolve_uri(None, mixed.parent)
    filmed = make_job(tmp_path_factory.mktemp("others") / "filmed", "dqn", [1.0, 2.0])
    (filmed / "animation.gif").write_bytes(GIF)
    for folder in [*sorted(job.parent for job in mixed.glob("*/job.json")), filmed]:
        delivery = Delivery(folder, uri, running=True)
        delivery.send()
        if (folder / "summary.json").exists():
            delivery.finish(json.loads((folder / "summary.json").read_text())["status"])
    return uri


@pytest.mark.slow
def test_report_from_mlflow_equals_report_from_files(page: Path, delivered: str, tmp_path: Path) -> None:
    theirs, _ = study.make(["mixed"], output_dir=tmp_path, tracking_uri=delivered, to=None, command=COMMAND)
    assert theirs == tmp_path / "mixed" / "report" / "index.html"
    for path in page.parent.rglob("*.*"):
        assert (theirs.parent / path.relative_to(page.parent)).read_bytes() == path.read_bytes(), path.name


def test_animations_come_from_mlflow_too(delivered: str, tmp_path: Path) -> None:
    page, _ = study.make(["filmed"], output_dir=tmp_path, tracking_uri=delivered, to=None, command=COMMAND)
    assert f"data:image/gif;base64,{base64.b64encode(GIF).decode()}" in page.read_text()
    assert "animation.gif" not in page.with_suffix(".md").read_text()  # no link to a file that is gone


def test_an_unknown_experiment_is_refused(delivered: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixd", "--tracking-uri", delivered]) == 2
    assert capsys.readouterr().err.endswith("received 'mixd'.\nDid you mean mixed?\n")
    assert main(["mixed", "--tracking-uri", f"sqlite:///{tmp_path}/none.db"]) == 2
    assert "none.db, which does not exist" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def test_configuration_of_params() -> None:
    from rlexp.tracking.mlflow.params import config_of_params, flat_params

    config = {"a": {"b": 0.001, "c": None, "d": [120, 84], "e(1)": "x.y", "f": {}, "g": True, "h": "linear"}, "n": 3}
    assert config_of_params(dict(flat_params(config))) == config


# In a browser.


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200])
def test_in_chromium_pictures_are_drawn_and_nothing_leaves_the_page(page: Path, width: int, browser: Browser) -> None:
    browser.open(page.as_uri(), width)
    widths = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert widths == [896] * 8
    assert browser.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out at the side
    assert browser.evaluate("document.querySelector('.lead').getBoundingClientRect().top") < 200
    assert browser.evaluate("document.querySelectorAll('iframe, link, script[src]').length") == 0
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}
    assert [url for url in browser.requests if url.startswith("file")] == [page.as_uri()]
    assert browser.problems == []
