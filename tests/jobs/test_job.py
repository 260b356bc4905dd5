"""A job as a user holds it: table, picture, HTML, and how it is found."""

from __future__ import annotations

import base64
import builtins
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlexp
from tests.studies import make_job

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_job(tmp_path / "outputs" / "s", "dqn", [100.0, 300.0, 200.0], points=4, steps=2000)


def test_a_job_is_its_summary_with_curves(folder: Path) -> None:
    job = rlexp.load_job(folder)
    assert job["status"] == job.status == "done" and job["curves"] is job.curves and job.folder == folder
    assert (job.name, job.seeds, job.score) == ("dqn", [0, 1, 2], 200.0)
    assert re.fullmatch(
        r"<Job dqn on cartpole: done, 3 trials, final return IQM 200 \[\S+, \S+\]; .*/s/dqn-cartpole-\w+>", repr(job)
    )
    assert job.config["env"]["id"] == "CartPole-v1"
    assert job.curves["eval/return"].values.shape == (4, 3)


def test_the_table_is_tidy(folder: Path) -> None:
    frame = rlexp.load_job(folder).to_frame()
    assert list(frame.columns) == ["job", "seed", "step", "metric", "value"]
    assert [str(frame[c].dtype) for c in ("seed", "step", "value")] == ["int64", "int64", "float64"]
    assert frame.metric.value_counts().to_dict() == {"eval/return": 12, "train/loss": 12, "final/return": 3}
    last = frame[(frame.metric == "eval/return") & (frame.step == 2000)]
    assert last[["job", "seed", "value"]].values.tolist() == [["dqn", 0, 100.0], ["dqn", 1, 300.0], ["dqn", 2, 200.0]]
    assert rlexp.load_job(folder).to_frame("eval/return").metric.unique().tolist() == ["eval/return"]
    with pytest.raises(
        rlexp.Refusal, match=r"metrics: expected some of eval/return, .*\nDid you mean eval/return or final/return\?"
    ):
        rlexp.load_job(folder).to_frame("eval/retrun")


def test_missing_values_have_no_row(tmp_path: Path) -> None:
    job = rlexp.load_job(make_job(tmp_path / "s", "dqn", [1.0, float("nan")]))
    final = job.to_frame(["final/return"])
    assert final.value.tolist() == [1.0] and final.seed.tolist() == [0]


def test_without_pandas_there_is_no_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def importing(name: str, *args: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return found(name, *args)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(
        rlexp.Refusal, match=r"to_frame: expected pandas, received no such package.\npip install pandas"
    ):
        rlexp.load_job(folder).to_frame()


def test_pictures(folder: Path) -> None:
    """Figures show themselves in a notebook, though pyplot does not know them."""
    figure = rlexp.load_job(folder).plot()
    assert figure._repr_png_().startswith(b"\x89PNG") and len(figure.axes) == 2
    (folder / "animation.gif").write_bytes(b"GIF89a....")
    html = rlexp.load_job(folder)._repr_html_()
    png, gif = re.findall(r'<img src="data:image/(\w+);base64,([^"]+)" alt="([^"]+)"', html)
    assert (
        png[0] == "png"
        and base64.b64decode(png[1]).startswith(b"\x89PNG")
        and png[2] == "Learning curves of dqn on cartpole"
    )
    assert (gif[0], base64.b64decode(gif[1])) == ("gif", b"GIF89a....")
    assert "<b>dqn on cartpole</b>: done, 3 trials, 2,000 env steps each, 12.5 s" in html
    assert re.search(r"<td>200 \[\d\S*, \d\S*\]</td><td>200</td><td>100</td><td>100</td><td>300</td>", html)


def test_animations_from_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is linked, what is no GIF is left out."""
    (folder / "animation.gif").write_bytes(b"<svg onload=alert(1)>")
    assert "gif" not in rlexp.load_job(folder)._repr_html_()
    monkeypatch.setattr("rlexp.jobs.html.MAX_ANIMATION", 5)
    assert f'<a href="{folder.as_posix()}/animation.gif">animation</a>' in rlexp.load_job(folder)._repr_html_()


def test_names_from_files_are_escaped(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "s", "dqn", [1.0, 2.0])
    path = folder / "job.json"
    odd = {"algo": f"{SCRIPT}$\\frac{{$", "env": '"><img src=x onerror=alert(1)>\x1b[2J'}
    path.write_text(json.dumps({**json.loads(path.read_text()), **odd}))
    job = rlexp.load_job(folder)
    html = job._repr_html_()
    assert "<script>" not in html and "<img src=x" not in html and "\x1b" not in html + repr(job)
    assert "&lt;script&gt;" in html


def test_jobs_without_results(tmp_path: Path) -> None:
    running = rlexp.load_job(make_job(tmp_path / "s", "dqn", None, status="", num_trials=3))
    assert (running.status, dict(running) == {"curves": running.curves}) == ("killed", True) and np.isnan(running.score)
    assert repr(running).startswith("<Job dqn on cartpole: killed, 3 trials; ") and "killed" in running._repr_html_()
    failed = rlexp.load_job(make_job(tmp_path / "s", "ddqn", None, status="failed", error="ValueError: <oops>"))
    assert "<p>ValueError: &lt;oops&gt;</p>" in failed._repr_html_() and failed.score_in_words == "-"


def test_jobs_are_found_by_name(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    first = make_job(outputs / "a", "dqn", [1.0])
    second = make_job(outputs / "a", "ddqn", [2.0])
    third = make_job(outputs / "b", "dqn", [3.0])
    assert rlexp.load_job(second.name, output_dir=outputs).folder == second
    assert rlexp.load_job("ddqn", outputs).folder == second
    assert rlexp.load_job(f"b/{third.name}", outputs).folder == third
    with pytest.raises(rlexp.Refusal, match=rf"of one job, received 'dqn'.\nThere are: a/{first.name}, b/{third.name}"):
        rlexp.load_job("dqn", outputs)
    with pytest.raises(rlexp.Refusal, match=rf"received 'dddqn-cartpole'.\nDid you mean .*{second.name}"):
        rlexp.load_job("dddqn-cartpole", outputs)
    with pytest.raises(rlexp.Refusal, match="It has none"):
        rlexp.load_job("dqn", tmp_path / "empty")


def test_damaged_files_are_named(folder: Path) -> None:
    (folder / "summary.json").write_text("{")
    with pytest.raises(rlexp.Failure, match=r"summary.json"):
        rlexp.load_job(folder)
    (folder / "summary.json").unlink()
    (folder / "job.json").write_text('{"seeds": [0, 1, 2]}')
    with pytest.raises(rlexp.Failure, match=r"job.json: expected the key algo"):
        rlexp.load_job(folder)
