"""Grouping jobs by environment and contender: the jobs of a study that differ only in their seeds are one contender.

Jobs of several studies are several contenders, even if their configurations are equal: the studies are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from rlexp.config import study_names
from rlexp.jobs.results import Curve, Episodes, JobData
from rlexp.math.statistics import iqm
from rlexp.report import references
from rlexp.report.contenders import Contender, Task, final_returns
from rlexp.system import words


def tasks(jobs: Iterable[JobData]) -> list[Task]:
    """The environments of studies with their contenders, sorted by name; contenders are ranked, the best first."""
    grouped: dict[str, dict[tuple[str, str], list[JobData]]] = {}
    for job in jobs:
        key = words.as_json(_env(job))
        grouped.setdefault(key, {}).setdefault((job.job["study"], job.job["group_id"]), []).append(job)
    found: list[Task] = []
    envs = []
    for groups in grouped.values():
        first = next(iter(groups.values()))[0]
        env = _env(first)
        changed = bool(env["kwargs"]) or env["preprocessing"] not in (None, "none")
        reference = references.find(str(env["id"]), env["max_episode_steps"], changed)
        task = Task(str(first.job["env"]), str(env["id"]), reference)
        task.contenders = [_contender(task, group) for group in groups.values()]
        found.append(task)
        envs.append(env)
    for task, name in zip(found, study_names.env_names(envs), strict=True):
        task.name = name
    _label(found)
    for task in found:
        task.contenders = sorted(task.contenders, key=_rank)  # a new list: ranking reads the old one
    return sorted(found, key=lambda task: task.name)


def _env(job: JobData) -> dict[str, Any]:
    """The settings that tell environments apart; those of `job.json` where the configuration has none."""
    name = str(job.job["env"])
    env = study_names.env_settings(job.config)
    return {**env, "name": name, "id": env["id"] or name}


def _label(every: list[Task]) -> None:
    """Label each contender with its name and what differs from others of this name on the same environment.

    Those of several studies that share a label have the name of their study, too, on all environments. What other
    programs have trained keeps its name.
    """
    own = [[c for c in task.contenders if not c.is_foreign] for task in every]
    names = study_names.contender_names([[(c.name, c.config) for c in contenders] for contenders in own])
    for contenders, labels in zip(own, names, strict=True):
        for c, label in zip(contenders, labels, strict=True):
            c.label = label
    for task in every:
        for c in task.contenders:
            c.label = c.name if c.is_foreign else c.label
    shared: set[str] = set()
    for task in every:
        studies: dict[str, set[str]] = {}
        for c in task.contenders:
            studies.setdefault(c.label, set()).add(c.study)
        shared |= {label for label, found in studies.items() if len(found) > 1}
    for task in every:
        for c in task.contenders:
            c.label += f" ({c.study})" if c.label in shared else ""
        repeated = {label for label, number in Counter(c.label for c in task.contenders).items() if number > 1}
        for c in task.contenders:  # repeated for jobs of other versions of rlexp
            c.label += f" ({c.jobs[0].job['config_id']})" if c.label in repeated else ""


def _rank(contender: Contender) -> tuple[bool, float, float, str]:
    """Sort key, the best first: by the final return, then by the area under the curve."""
    if not contender.finished:
        return True, 0.0, 0.0, contender.label
    area = float(iqm(contender.area))
    return False, -float(iqm(contender.scores)), -area if np.isfinite(area) else 0.0, contender.label


def _contender(task: Task, jobs: list[JobData]) -> Contender:
    """One contender from jobs with different seeds; its label is chosen later."""
    seeds: list[int] = []
    columns: list[tuple[JobData, int]] = []  # of each trial
    for job in jobs:
        for k, seed in enumerate(job.job["seeds"]):
            if seed not in seeds:  # the same seed of the same configuration is the same trial
                seeds.append(int(seed))
                columns.append((job, k))
    finals = {id(job): final_returns(job) for job in jobs}
    final = np.array([np.nan if (f := finals[id(job)]) is None else f[k] for job, k in columns])
    statuses = [_status(job, k, np.isfinite(value)) for (job, k), value in zip(columns, final, strict=True)]
    curves = {name: _merge(name, columns) for name in ("eval/return", "train/return", "eval/regret")}
    kept = {name: curve for name, curve in curves.items() if np.isfinite(curve.values).any()}
    config = study_names.flat(jobs[0].config)
    episodes, no_episodes = _pool_episodes(jobs, columns)
    value = np.array([_value(job, k) for job, k in columns], np.float64)
    return Contender(
        "", str(jobs[0].job["algo"]), task, jobs, config, seeds, statuses, final, kept, episodes, no_episodes, value
    )


def _pool_episodes(jobs: list[JobData], columns: list[tuple[JobData, int]]) -> tuple[Episodes | None, str]:
    """The final episodes of trials from one or more jobs, or the reason why they cannot be pooled."""
    missing = next((job.no_episodes for job in jobs if job.episodes is None), "")
    found = {id(job): job.episodes for job in jobs if job.episodes is not None}
    if missing or len({episodes.seeds for episodes in found.values()}) != 1:
        return None, missing or "its jobs have different final episodes"
    return Episodes(next(iter(found.values())).seeds, np.stack([found[id(job)].returns[k] for job, k in columns])), ""


def _value(job: JobData, trial: int) -> float:
    known = ((job.summary or {}).get("final/value") or {}).get("per_trial")
    return np.nan if known is None or known[trial] is None else float(known[trial])


def _merge(name: str, columns: list[tuple[JobData, int]]) -> Curve:
    """One metric of trials from one or more jobs, at all steps at which any of them has a record."""
    parts = [(job.curves[name], k) if name in job.curves else None for job, k in columns]
    recorded = [part[0].steps for part in parts if part]
    steps = np.unique(np.concatenate(recorded)) if recorded else np.zeros(0, np.int64)
    values = np.full((len(steps), len(columns)), np.nan)
    for trial, part in enumerate(parts):
        if part:
            values[np.searchsorted(steps, part[0].steps), trial] = part[0].values[:, part[1]]
    some = np.isfinite(values).any(axis=1)
    return Curve(steps[some], np.where(np.isfinite(values), values, np.nan)[some])


def _status(job: JobData, trial: int, scored: bool) -> str:
    if job.summary is None:
        return "unfinished"
    trials = job.summary.get("trials")
    if trials:
        return str(trials[trial]["status"])
    return str(job.summary.get("status", "done" if scored else "unfinished"))
