"""What a study looks like in MLflow: names of runs, views, descriptions, models; and what users have changed stays."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlexp.cli import ui
from rlexp.tracking import sync
from rlexp.tracking.addresses import resolve_uri
from rlexp.tracking.mlflow import description, params, study_jobs, views
from rlexp.tracking.mlflow.model import model_name
from tests import browser as browsers
from tests.tracking.test_trackers import deliver, make_job, state_of


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=resolve_uri(None, tmp_path_factory.mktemp("outputs")))


@pytest.fixture
def output_dir(client: Any) -> Any:
    """The output folder of the store, without experiments and jobs of other tests."""
    folder = Path(client.tracking_uri.removeprefix("sqlite:///")).parent
    yield folder
    shutil.rmtree(folder / "study one", ignore_errors=True)
    if experiment := client.get_experiment_by_name("study one"):
        client.rename_experiment(experiment.experiment_id, f"of an earlier test {experiment.experiment_id}")
        client.delete_experiment(experiment.experiment_id)


def job(output_dir: Path, name: str, started: float = 0.0, status: str | None = "done", **algo: Any) -> Path:
    """A job with a configuration of its own."""
    config = {"algo": {"name": "dqn", **algo}, "env": {"name": "cartpole", "default_steps": 9}, "trials": 3}
    folder = make_job(output_dir, name, num_records=2, status=status, config=config)
    stored = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**stored, "started": 1_700_000_000.0 + started}))
    return folder


def names(client: Any, folder: Path) -> list[str]:
    """The names of a job's run and its trials' runs."""
    state = state_of(folder)
    return [client.get_run(run).info.run_name for run in (state["run_id"], *state["trial_runs"].values())]


def selected(client: Any, folder: Path, view: str = "rlexp") -> list[str]:
    tags = client.get_experiment(state_of(folder)["experiment_id"]).tags
    columns: list[str] = json.loads(tags[f"mlflow.sharedViewState.{view}"])["selectedColumns"]
    return [column for column in columns if column.startswith("params.")]


def test_names_and_views_follow_what_differs_and_leave_what_a_user_has_changed(client: Any, output_dir: Path) -> None:
    first = job(output_dir, "first", lr=0.1)
    assert deliver(first) == []
    assert names(client, first) == ["dqn", "dqn seed 3", "dqn seed 4", "dqn seed 5"] and selected(client, first) == []
    second = job(output_dir, "second", 10, lr=0.2)
    assert deliver(second) == []
    assert names(client, first)[::3] == ["dqn lr=0.1", "dqn lr=0.1 seed 5"]
    assert names(client, second)[::3] == ["dqn lr=0.2", "dqn lr=0.2 seed 5"]
    assert selected(client, first) == ["params.`algo.lr`"]
    assert selected(client, first, "rlexp-trials") == ["params.`seed`", "params.`algo.lr`"]
    # A user renames a run, writes a description, and changes the view: nothing is different, so nothing is written.
    state, experiment = state_of(first), state_of(first)["experiment_id"]
    client.update_run(state["run_id"], name="my best")
    client.set_tag(state["run_id"], "mlflow.note.content", "mine")
    client.set_experiment_tag(experiment, "mlflow.sharedViewState.rlexp", '{"selectedColumns": ["params.`mine`"]}')
    assert deliver(first) == [] and sync.sync(second) == (True, "nothing new")
    assert names(client, first)[0] == "my best"
    assert client.get_run(state["run_id"]).data.tags["mlflow.note.content"] == "mine"
    assert selected(client, first) == ["params.`mine`"]
    # A third job shows something new: a column is added, and the renamed run keeps its name.
    third = job(output_dir, "third", 20, lr=0.1, batch=8)
    assert deliver(third) == []
    assert selected(client, first) == ["params.`mine`", "params.`algo.batch`"]  # that for lr was removed
    assert names(client, first)[:2] == ["my best", "dqn lr=0.1 batch=- seed 3"]
    assert names(client, third)[0] == "dqn lr=0.1 batch=8"
    # MLflow lists what started last first: the trials of a job are in the order of their seeds.
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{state_of(third)['run_id']}'")
    assert [run.data.tags["rlexp.seed"] for run in runs] == ["3", "4", "5"]


def test_runs_of_an_earlier_version_get_names_and_are_still_found(
    client: Any, output_dir: Path, tmp_path: Path
) -> None:
    from rlexp.tracking.mlflow.fetch import fetch_study

    old = job(output_dir, "dqn-cartpole-0001", lr=0.1)
    assert deliver(old) == []
    state = state_of(old)
    client.update_run(state["run_id"], name="dqn-cartpole-0001")  # as it was
    client.delete_tag(state["run_id"], "rlexp.job")
    for seed, run in state["trial_runs"].items():
        client.update_run(run, name=f"trial {seed}")
    (output_dir / "study one" / ".mlflow_names.json").write_text("{damaged")
    (output_dir / "study one" / ".mlflow_names.json").unlink()
    assert deliver(job(output_dir, "dqn-cartpole-0002", 10, lr=0.2)) == []
    assert names(client, old)[:2] == ["dqn lr=0.1", "dqn lr=0.1 seed 3"]
    assert fetch_study("study one", client.tracking_uri, tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dqn-cartpole-0001", "dqn-cartpole-0002"]
    assert len((tmp_path / "dqn-cartpole-0001" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_study_whose_page_cannot_be_made_is_delivered_and_that_is_told(
    client: Any, output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError("no\nspace")

    folder = job(output_dir, "first")
    monkeypatch.setattr(views, "update", fail)
    told = "Names and views of the study in MLflow are as they were: no\ndelivered 2 records, 5 files"
    assert sync.sync(folder) == (True, told)
    assert client.get_run(state_of(folder)["run_id"]).info.status == "FINISHED"


def test_columns_are_for_what_differs_within_an_algorithm() -> None:
    def config(name: str, env: str, **algo: Any) -> dict[str, Any]:
        return {"algo": {"name": name, **algo}, "env": {"name": env}, "seed": 0, "trials": 2}

    jobs = [config("a", "x", lr=1, only_a=1), config("b", "x", lr=2, only_b=1)]
    assert views.differing(jobs) == ["algo.name"]
    assert views.differing([*jobs, config("a", "y", lr=3, only_a=1)]) == ["algo.name", "env.name"]
    assert views.differing([*jobs, config("a", "x", lr=3, only_a=1)]) == ["algo.name", "algo.lr"]
    assert views.differing([config("a", "x"), {**config("a", "x"), "seed": 2}]) == ["seed"]
    assert views.differing(jobs[:1]) == views.differing([]) == []


def test_a_view_is_sorted_by_score_and_fits_into_a_tag() -> None:
    many = [f"params.`{'x' * 100}{number}`" for number in range(60)]
    for text in (views.jobs_view([]), views.jobs_view(many), views.trials_view(many)):
        assert len(text) <= 5_000
    state = json.loads(views.jobs_view(["params.`algo.lr`"]))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`final/return/iqm`", False)
    assert state["searchFilter"] == "tags.`rlexp.kind` = 'job'"
    shown = ["final/return/low", "final/return/high", "final/return/min", "time/minutes"]
    expected = ["metrics.`final/return/iqm`", "params.`algo.lr`", *(f"metrics.`{name}`" for name in shown)]
    assert state["selectedColumns"] == expected
    curve = state["compareRunCharts"][0]
    assert (curve["metricKey"], curve["xAxisKey"], curve["type"]) == ("eval/return/iqm", "step", "LINE")


def test_settings_are_those_that_the_job_reads_and_resolved() -> None:
    schedule = {"kind": "linear", "initial": 1.0, "final": 0.1, "decay": None}
    config = {
        "algo": {"name": "q_learning", "alpha": schedule, "discretizer": {"low": []}}, "network": {"name": "mlp"},
        "env": {"name": "cartpole", "default_steps": 50, "discretizer": {"low": [1.0]}, "kwargs": {}},
        "budget": {"steps": None, "episodes": None}, "tracking": {"uri": "x"}, "output_dir": "o", "label": None,
    }  # fmt: skip
    del schedule["decay"]
    assert params.own_settings(config) == {
        "algo": {"name": "q_learning", "alpha": schedule},
        "env": {"name": "cartpole", "discretizer": {"low": [1.0]}},
        "budget": {"steps": 50},
    }
    deep = params.own_settings({**config, "algo": {"name": "ddqn"}, "budget": {"episodes": 7}})
    assert deep == {
        "algo": {"name": "ddqn"}, "network": {"name": "mlp"}, "env": {"name": "cartpole"}, "budget": {"episodes": 7}
    }  # fmt: skip
    unknown = params.own_settings({**config, "algo": {"name": "of_another_package"}})
    assert {"network", "budget"} < set(unknown) and "discretizer" in unknown["env"]


def test_descriptions_have_no_markup_from_outside(tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    (folder / "learning_curve.png").touch()
    trials = [{"seed": k, "final_return": k / 4, "best_eval_return": None, "best_step": -1} for k in range(30)]
    trials[3] |= {"status": "failed", "note": "|x|\n# [a](javascript:b) <script>`"}
    summary = {"final/return": {"iqm": 4.0, "min": 0.0, "max": 7.25, "ci95": [3.0, None]}, "trials": trials[:4]}
    text = description.description(folder, "f" * 32, "rlexp run `a`</code><script>\x1b[2J", summary)
    assert f"![learning curve](get-artifact?path=learning_curve.png&run_uuid={'f' * 32})" in text
    assert "**Final return 4** (IQM, 95 % interval) · min 0, max 7.25 · 4 trials" in text
    assert not re.search(r"<(?!/?(pre|code)>)|javascript:|`|\x1b", text)
    assert "| 3 | 0.75 | - | - | &#124;x&#124;" in text
    long = description.description(folder, "f" * 32, "x" * 99_999, {**summary, "trials": trials})
    assert len(long) <= 8_000 and "and 10 more trials" in long and "| 29 | 7.25 |" in long
    assert description.changed_tags({}, "a").keys() == {"mlflow.note.content", "rlexp.description"}
    assert description.changed_tags(description.changed_tags({}, "a"), "b")["mlflow.note.content"] == "b"
    assert description.changed_tags({"mlflow.note.content": "mine"}, "b") == {}


@pytest.mark.parametrize(
    ("score", "name"),
    [(500.0, "ddqn-cartpole-iqm500"), (0.7412, "ddqn-cartpole-iqm0_741"), (-79.25, "ddqn-cartpole-iqm-79_2"),
     (None, "ddqn-cartpole")],
)  # fmt: skip
def test_models_are_named_by_algorithm_environment_and_score(score: float | None, name: str) -> None:
    summary = {"final/return": {"iqm": score}}
    assert model_name("ddqn", "cartpole", summary) == name
    odd = model_name("a/b:c.%\"'", "é" * 300, summary)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,100}", odd) and odd.startswith("a-b-c-")


def test_names_of_jobs_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    good, bad = job(tmp_path, "good"), job(tmp_path, "bad", 5)
    (bad / "config.yaml").write_text("{")
    assert study_jobs.names(tmp_path / "study one") == {"good": "dqn"}
    (bad / "config.yaml").write_text((good / "config.yaml").read_text().replace("dqn", "d\\u0007qn"))
    assert study_jobs.names(tmp_path / "study one") == {"good": "dqn", "bad": "d\\x07qn"}


def test_the_page_of_a_study_is_found(client: Any, output_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = job(output_dir, "first", lr=0.1)
    deliver(folder)
    experiment = state_of(folder)["experiment_id"]
    assert ui.find_page(client.tracking_uri, "study one", output_dir) == (experiment, "")
    assert ui.find_page(client.tracking_uri, None, output_dir) == (experiment, "")  # the only one
    assert ui.main(["study on", "--output-dir", str(output_dir), "--no-browser"]) == 2
    told = f"refused: STUDY: expected a study in {client.tracking_uri}, received 'study on'.\nDid you mean study one?\n"
    assert capsys.readouterr().err == told
    client.delete_experiment_tag(experiment, "mlflow.sharedViewState.rlexp")  # of an earlier version
    assert ui.find_page(client.tracking_uri, "study one", output_dir) == (experiment, "")
    assert selected(client, folder) == []
    client.create_experiment("another")
    found, others = ui.find_page(client.tracking_uri, None, output_dir)
    assert found is None and others.startswith(
        "studies: study one and another   (one of them: rlexp ui --tracking-uri "
    )
    client.delete_experiment(client.get_experiment_by_name("another").experiment_id)


@pytest.mark.slow
@pytest.mark.browser
def test_a_study_shows_jobs_by_score_without_a_click_and_curves_by_one(
    client: Any, output_dir: Path, browser: browsers.Browser
) -> None:
    worse, better = (job(output_dir, name, lr=lr) for name, lr in (("worse", 0.1), ("better", 0.2)))
    summary = json.loads((better / "summary.json").read_text())
    summary["final/return"] |= {"iqm": 81.5}
    (better / "summary.json").write_text(json.dumps(summary))
    for folder in (worse, better):
        (folder / "learning_curve.png").write_bytes(PIXEL)
        assert deliver(folder) == []
    server = subprocess.Popen(
        [sys.executable, "-m", "rlexp.ui", "study one", "--output-dir", str(output_dir), "--no-browser"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        server.stdout.readline()
        address = server.stdout.readline().split()[0]
        browser.open(address, width=1600)
        rows = "[...document.querySelectorAll('.ag-center-cols-container [role=row]')].map(r => r.innerText)"
        linked = "[...document.querySelectorAll('a[href*=\"/runs/\"]')].map(a => a.innerText)"
        browser.until(f"{rows}.length == 2 && {rows}.every(text => text.includes('0.'))", 120)
        assert browser.evaluate(linked)[:2] == ["dqn lr=0.2", "dqn lr=0.1"]
        cells = [{*row.split()} for row in browser.evaluate(rows)]  # in the order in which the page made them
        assert {"81.5", "0.2"} <= cells[0] and {"56", "0.1"} <= cells[1]
        browser.click("label:has(> span > input[value=CHART])")
        browser.until("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 2", 120)
        place = address.split("#")[0]
        browser.open("about:blank")
        state = state_of(better)
        browser.open(f"{place}#/experiments/{state['experiment_id']}/runs/{state['run_id']}")
        picture = "[...document.querySelectorAll('img')].find(i => i.src.includes('get-artifact'))"
        assert browser.until(f"{picture}?.naturalWidth", 120) == 1
    finally:
        os.kill(server.pid, signal.SIGINT)
        server.wait(timeout=30)


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002"
    "000001e221bc330000000049454e44ae426082"
)
