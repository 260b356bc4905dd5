"""A study as a user holds it: order, names, the best, table, picture, HTML."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import rlexp
from tests.studies import make_job

NAN = float("nan")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    study = tmp_path / "outputs" / "ladder"
    make_job(study, "dqn", [10.0, 20.0, 30.0], config={"gamma": 0.9})
    make_job(study, "dqn", [40.0, 50.0, 60.0], config={"gamma": 0.99})
    make_job(study, "ddqn", [NAN, 55.0, 56.0])
    make_job(study, "ppo", None, status="failed", error="ValueError: oops")
    return tmp_path / "outputs"


def test_jobs_are_sorted_and_named(outputs: Path) -> None:
    study = rlexp.load_study("ladder", outputs)
    assert study.names == ["dqn gamma=0.99", "ddqn", "dqn gamma=0.9", "ppo"]  # a trial without a score is the worst: 10
    assert [job.status for job in study] == ["done", "done", "done", "failed"] and len(study) == 4
    assert study.best() is study[0] is study["dqn gamma=0.99"] is study[study[0].folder.name]
    assert study["ddqn"].name == "ddqn" and study["ppo"] is study[-1]
    assert re.fullmatch(r"<Study ladder: 4 jobs, best dqn gamma=0.99 with IQM 50 \[\S+, \S+\]; .*/ladder>", repr(study))
    with pytest.raises(
        rlexp.Refusal, match=r"expected the name of one job, received 'dqn'.\nThere are: dqn gamma=0.99, dqn gamma=0.9"
    ):
        study["dqn"]
    with pytest.raises(rlexp.Refusal, match=r"received 'dqn gama=0.9'.\nDid you mean dqn gamma=0.9"):
        study["dqn gama=0.9"]


def test_the_same_from_a_folder(outputs: Path) -> None:
    assert rlexp.load_study(outputs / "ladder").names == rlexp.load_study("ladder", output_dir=str(outputs)).names
    with pytest.raises(rlexp.Refusal, match=r"received 'lader'.\nDid you mean ladder\?"):
        rlexp.load_study("lader", outputs)
    for wrong in ("", "a\0b", "x" * 5000, "ladder/*"):
        with pytest.raises(rlexp.Refusal, match=r"^study: expected a study"):
            rlexp.load_study(wrong, outputs)


def test_several_environments(tmp_path: Path) -> None:
    study = tmp_path / "s"
    for env, env_id, final in (("cartpole", "CartPole-v1", 100.0), ("acrobot", "Acrobot-v1", -80.0)):
        for algo, bonus in (("dqn", 0.0), ("ddqn", 5.0)):
            make_job(study, algo, [final + bonus, final + bonus + 1], env=env, env_id=env_id)
    found = rlexp.load_study(study)
    assert found.names == ["ddqn on acrobot", "dqn on acrobot", "ddqn on cartpole", "dqn on cartpole"]
    assert found.best("cartpole").name == "ddqn on cartpole" and found.best("acrobot").score == -74.5
    assert repr(found).startswith("<Study s: 4 jobs on acrobot, cartpole; ")
    with pytest.raises(
        rlexp.Refusal, match=r"env: expected one of the environments, received none.\n.*best\('acrobot'\)"
    ):
        found.best()
    with pytest.raises(rlexp.Refusal, match=r"received 'cartpol'.\nDid you mean cartpole"):
        found.best("cartpol")
    assert [axes.get_ylabel() for axes in found.plot().axes] == [
        "evaluation return on acrobot",
        "evaluation return on cartpole",
    ]


def test_the_table_of_a_study(outputs: Path) -> None:
    frame = rlexp.load_study("ladder", outputs).to_frame("eval/return")
    assert list(frame.columns) == ["job", "seed", "step", "metric", "value"]
    last = frame[frame.step == 20_000].groupby("job").value.mean().round(1).to_dict()
    assert last == {"dqn gamma=0.99": 50.0, "ddqn": 37.0, "dqn gamma=0.9": 20.0, "ppo": 100.0}
    assert rlexp.load_study("ladder", outputs).to_frame().metric.nunique() == 3


def test_html_and_report(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = outputs / "ladder" / "zzz"
    broken.mkdir()
    (broken / "job.json").write_text("<b>")
    study = rlexp.load_study("ladder", outputs)
    html = study._repr_html_()
    first = re.search(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", html)
    assert first is not None and first.groups()[:2] == ("dqn gamma=0.99", "done") and first[3].startswith("50 [")
    assert "<td>2 of 3 scored</td>" in html and "<b>Study ladder</b>: 4 jobs" in html and "data:image/png" in html
    assert list(study.problems) == ["zzz"] and "Not read: zzz" in html and "<b>&" not in html
    assert study.plot()._repr_png_().startswith(b"\x89PNG")
    monkeypatch.setattr("rlexp.report.study.write", lambda folder, baseline=None: folder / "report" / "index.html")
    assert study.verdict().startswith("On cartpole no algorithm is significantly better: dqn gamma=0.99 has")
    assert study.report() == outputs / "ladder" / "report" / "index.html"


def test_odd_names_and_no_results(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "s", "dqn", None, status="", num_trials=2)
    (folder / "metrics.jsonl").unlink()
    config = json.loads((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(json.dumps({**config, "label": "<i>$\\x{$"}))
    study = rlexp.load_study(tmp_path / "s")
    html = study._repr_html_()
    assert "&lt;i&gt;$" in html and "<i>" not in html and study["<i>$\\x{$"].status == "killed"
    with pytest.raises(rlexp.Refusal, match="expected a finished job with a score, received s, which has none"):
        study.best()
