"""The views of a study in MLflow: a table of its jobs, or of its trials, with columns for what differs, and charts.

A view is a tag of the experiment, `mlflow.sharedViewState.<name>`, which the page's address names (see
`rlexp.tracking.addresses.study_page`). Without one, MLflow shows an experiment as a page about language models.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient

from rlexp.tracking.mlflow.params import flat_params, own_settings
from rlexp.tracking.store_file import JOBS_VIEW, TRIALS_VIEW

TAG = "mlflow.sharedViewState."
WRITTEN = "rlexp.views"  # digest of the layout, then the columns that rlexp has added, one per line
MAX_VALUE = 5_000  # characters of an experiment's tag in older versions of MLflow; 3.17 takes 20,000
MAX_COLUMNS = 12  # for what differs
OF_JOBS = ("final/return/iqm", "final/return/low", "final/return/high", "final/return/min", "time/minutes")
OF_TRIALS = ("final/return", "eval/return", "train/return")
SAME_FOR_ALL = "tags.`mlflow.user`"  # runs that are equal in it come by their start; sorted by that itself, nested
SECTION = "rlexp-return"  # of the page of charts
NAME, NAME_WIDTH, WIDTH = "attributes.`Run Name`", 240, 105  # the column of the names; pixels


def update(client: MlflowClient, experiment_id: str, configs: Sequence[Mapping[str, Any]]) -> None:
    """Write the views of a study if jobs have brought new differences.

    Columns for params that are there already stay: another machine's jobs, or a user, may have brought them. One that a
    user has removed is not added again.

    Args:
        client: of the store.
        experiment_id: of the study.
        configs: of the study's jobs.
    """
    tags = client.get_experiment(experiment_id).tags
    own = _columns("params", differing(configs))[:MAX_COLUMNS]
    layout = hashlib.sha256((jobs_view([]) + trials_view([])).encode()).hexdigest()[:16]
    written, *added = (tags.get(WRITTEN) or "").split("\n")
    new = [column for column in own if column not in added]
    if written == layout and not new and all(TAG + name in tags for name in (JOBS_VIEW, TRIALS_VIEW)):
        return
    columns = list(dict.fromkeys([*_param_columns(tags.get(TAG + JOBS_VIEW)), *new]))[:MAX_COLUMNS]
    client.set_experiment_tag(experiment_id, TAG + JOBS_VIEW, jobs_view(columns))
    client.set_experiment_tag(experiment_id, TAG + TRIALS_VIEW, trials_view(columns))
    client.set_experiment_tag(experiment_id, WRITTEN, "\n".join([layout, *added, *new])[:MAX_VALUE])


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The params in which jobs of a study differ: algorithm and environment, then those within one algorithm.

    Args:
        configs: of the study's jobs.

    Returns:
        Names of params. The seed is one of them if jobs of an algorithm and an environment differ in nothing else.
    """
    jobs = [dict(flat_params(own_settings(config))) for config in configs]
    found = {key: None for key in ("label", "algo.name", "env.name") if len({job.get(key) for job in jobs}) > 1}
    alike = defaultdict(list)
    for job in jobs:
        alike[job.get("algo.name"), job.get("env.name")].append(job)
    for group in alike.values():
        keys = dict.fromkeys(key for job in group for key in job)
        differ = [key for key in keys if len({job.get(key) for job in group}) > 1]
        found |= dict.fromkeys(key for key in differ if key != "seed" or differ == ["seed"])
    return list(found)


def jobs_view(columns: Sequence[str]) -> str:
    """The view of a study's jobs: sorted by score, with curves of the evaluations over env steps."""
    charts = [
        _chart("LINE", "eval/return/iqm", "evaluation return (IQM)"),
        _chart("BAR", "final/return/iqm", "final return (IQM)"),
        _chart("LINE", "train/return/iqm", "training return (IQM)"),
    ]
    return _fitting("job", OF_JOBS, columns, "metrics.`final/return/iqm`", charts)


def trials_view(columns: Sequence[str]) -> str:
    """The view of a study's trials: job by job, in the order of their seeds."""
    charts = [
        _chart("LINE", "eval/return", "evaluation return"),
        _chart("BAR", "final/return", "final return"),
        _chart("LINE", "train/return", "training return"),
    ]
    seed = _columns("params", ["seed"])
    return _fitting("trial", OF_TRIALS, [*seed, *(c for c in columns if c not in seed)], SAME_FOR_ALL, charts)


def _fitting(kind: str, metrics: Sequence[str], columns: Sequence[str], order: str, charts: list[Any]) -> str:
    """The view as JSON, without the last columns where it would be too long for a tag."""
    for number in range(len(columns), -1, -1):
        score, *others = _columns("metrics", metrics)
        shown = [score, *columns[:number], *others]
        state = {
            "selectedColumns": shown,
            "columnOrder": [NAME, *shown],
            "columnWidths": {NAME: NAME_WIDTH, **dict.fromkeys(shown, WIDTH)},
            "searchFilter": f"tags.`rlexp.kind` = '{kind}'",
            "orderByKey": order,
            "orderByAsc": False,
            "isAccordionReordered": True,
            "hideEmptyCharts": True,
            "runsHiddenMode": "FIRST_20_RUNS",
            "compareRunSections": [
                {"uuid": SECTION, "name": "Return", "display": True, "isReordered": True, "columns": 2}
            ],
            "compareRunCharts": charts,
        }
        if len(text := json.dumps(state)) <= MAX_VALUE:
            break
    return text


def _chart(kind: str, metric: str, title: str) -> dict[str, Any]:
    """A card of the page of charts."""
    chart = {
        "uuid": f"rlexp-{kind.lower()}-{metric}",
        "type": kind,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metric,
        "displayName": title,
    }
    if kind == "LINE":
        chart |= {
            "selectedMetricKeys": [metric], "xAxisKey": "step", "selectedXAxisMetricKey": "",
            "xAxisScaleType": "linear", "scaleType": "linear", "lineSmoothness": 0, "range": {},
        }  # fmt: skip
    return chart


def _columns(kind: str, names: Sequence[str]) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def _param_columns(state: str | None) -> list[str]:
    """The columns for params in a stored view; none where it is no view."""
    try:
        columns = json.loads(state or "{}").get("selectedColumns", [])
        return [c for c in columns if isinstance(c, str) and c.startswith("params.`") and c.endswith("`")]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return []
