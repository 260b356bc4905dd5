"""What a study compares: its jobs as contenders, each one configuration on one environment with all its trials.

Jobs that differ in nothing but their seeds are one contender (further trials of it). Contenders of one algorithm are
told apart by what differs in their configurations: `dqn lr=0.001`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rlexp.jobs.results import Curve, Episodes, JobData
from rlexp.math.statistics import area_under_curve, iqm, steps_to
from rlexp.report import references
from rlexp.report.references import Reference
from rlexp.system import words
from rlexp.system.words import setting

NO_CURVE = (  # as in group_id
    "study", "label", "output_dir", "tracking", "rerun", "checkpoint", "animation", "trials", "seed",
)  # fmt: skip
ENV_KEYS = ("name", "id", "kwargs", "max_episode_steps", "preprocessing", "imports", "default_steps")  # make the task
LONGEST_LABEL = 56
MISSING = "-"  # a key that a configuration does not have


@dataclass
class Contender:
    """One configuration on one environment: everything that replications share.

    Attributes:
        label: what it is called, the same on all environments.
        algo: registry key.
        task: the environment.
        jobs: one or more, with different seeds.
        config: keys joined by dots -> value; schedules and lists are values.
        seeds: of the trials.  # N
        statuses: of the trials: "done", "diverged", "failed", "killed", "pruned" or "unfinished".  # N
        final: final return of the best weights, NaN where there is none.  # [N]
        curves: "eval/return", "train/return" -> `Curve` of all trials.
        episodes: the final episodes of all trials; None where they are not known, or not the same ones.
        no_episodes: why they are None.
        value: expected return of the best weights, where it is known exactly, NaN elsewhere.  # [N]
    """

    label: str
    algo: str
    task: Task
    jobs: list[JobData]
    config: dict[str, Any]
    seeds: list[int]
    statuses: list[str]
    final: np.ndarray
    curves: dict[str, Curve]
    episodes: Episodes | None
    no_episodes: str
    value: np.ndarray

    @property
    def name(self) -> str:
        """What its configuration is called (`label`), by default its algorithm; others may be called the same."""
        return str(self.jobs[0].config.get("label") or self.algo)

    @property
    def finished(self) -> bool:
        """Whether there are final returns of all its jobs."""
        return all(_final(job) is not None for job in self.jobs) and bool(np.isfinite(self.final).any())

    @property
    def scores(self) -> np.ndarray:
        """Final returns; a trial without one (it diverged) counts as the worst trial of all on this environment."""
        return np.where(np.isfinite(self.final), self.final, self.task.worst)

    @property
    def score_episodes(self) -> Episodes | None:
        """The episodes behind `scores`: a trial without final return has had the worst one in each of them."""
        if self.episodes is None:
            return None
        returns = np.where(np.isfinite(self.final)[:, None], self.episodes.returns, self.task.worst)
        return Episodes(self.episodes.seeds, returns)

    @property
    def at_maximum(self) -> bool:
        """Whether its trials (their IQM) are as good as can be: by exact values where known, else by returns."""
        if self.task.optimum is not None and np.isfinite(self.value).all():
            return bool(iqm(self.value) >= self.task.optimum - 1e-9 * max(1.0, abs(self.task.optimum)))
        maximum = self.task.reference.maximum if self.task.reference else None
        return maximum is not None and bool(np.isclose(iqm(self.scores), maximum, rtol=1e-9))

    @property
    def curve_name(self) -> str | None:
        """The metric that is drawn: evaluation where there is one."""
        return next((name for name in ("eval/return", "train/return") if name in self.curves), None)

    @cached_property
    def area(self) -> np.ndarray:
        """Area under the curve of each trial: mean evaluation return over the env steps.  # [N]"""
        if "eval/return" not in self.curves:
            return np.full(len(self.seeds), np.nan)
        return area_under_curve(*self.curves["eval/return"])

    def steps_to(self, threshold: float) -> np.ndarray:
        """Env steps until each trial's evaluation reached `threshold`.  # [N]"""
        if "eval/return" not in self.curves:
            return np.full(len(self.seeds), np.nan)
        return steps_to(threshold, *self.curves["eval/return"])

    @property
    def steps(self) -> int:
        """Env steps of the longest trial."""
        return max((int(curve.steps[-1]) for curve in self.curves.values() if len(curve.steps)), default=0)

    @property
    def wall_seconds(self) -> float:
        """Of all its jobs, NaN where one does not say."""
        return sum(_number(job.summary, "wall_seconds") for job in self.jobs)

    @property
    def steps_per_second(self) -> float:
        """Env steps of all trials per second of training."""
        steps = sum(_number(job.summary, "total_steps") for job in self.jobs)
        seconds = sum(_number(job.summary, "train_seconds") for job in self.jobs)
        return steps / seconds if seconds > 0 else np.nan

    @property
    def status(self) -> str:
        """One word a kind of trial: `done`, or `9 done, 1 diverged`."""
        counts = Counter(self.statuses)
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{number} {status}" for status, number in sorted(counts.items(), reverse=True))


@dataclass
class Task:
    """An environment with its arguments and limits.

    Attributes:
        name: what it is called.
        env_id: Gymnasium id.
        reference: what is known of it, if anything.
        contenders: the best final return (IQM) first; those without one at the end.
    """

    name: str
    env_id: str
    reference: Reference | None
    contenders: list[Contender] = field(default_factory=list)

    @property
    def finished(self) -> list[Contender]:
        """Contenders with final returns, the best first."""
        return [c for c in self.contenders if c.finished]

    @property
    def optimum(self) -> float | None:
        """The expected return of the best policy, where the environment is a table and a job says so."""
        said = ((job.summary or {}).get("optimum") for c in self.contenders for job in c.jobs)
        return next((float(value) for value in said if value is not None), None)

    @cached_property
    def worst(self) -> float:
        """The lowest final return of any trial; NaN where there is none."""
        values = np.concatenate([c.final for c in self.contenders])
        return float(np.nanmin(values)) if np.isfinite(values).any() else np.nan

    @cached_property
    def scale(self) -> tuple[float, float, str]:
        """The returns that score 0 and 1, and where they come from; NaNs where all trials are equal."""
        if self.reference:
            return self.reference.random, self.reference.solved, f"0: random play, 1: {self.reference.why}"
        final = [c.scores for c in self.finished]
        low, high = (float(f(np.concatenate(final))) if final else np.nan for f in (np.min, np.max))
        random = [c for c in self.finished if c.algo == "random"]
        if random:
            low = float(np.mean(random[0].scores))
        why = f"0: {'random play' if random else 'the worst trial'} of this study, 1: its best trial"
        return (low, high, why) if high > low else (np.nan, np.nan, why)


def tasks(jobs: Iterable[JobData]) -> list[Task]:
    """The environments of a study with their contenders, in the order of their names."""
    grouped: dict[str, dict[str, list[JobData]]] = {}
    for job in jobs:
        key = json.dumps([job.job["env"], _env(job)], sort_keys=True, default=str)
        grouped.setdefault(key, {}).setdefault(job.job["group_id"], []).append(job)
    found = []
    for groups in grouped.values():
        first = next(iter(groups.values()))[0]
        env = _env(first)
        changed = bool(env["kwargs"]) or env["preprocessing"] not in (None, "none")
        reference = references.find(str(env["id"]), env["max_episode_steps"], changed)
        task = Task(str(first.job["env"]), str(env["id"]), reference)
        task.contenders = [_contender(task, group) for group in groups.values()]
        found.append((task, env))
    _name_tasks(found)
    every = [task for task, _ in found]
    _label(every)
    for task in every:
        task.contenders = sorted(task.contenders, key=_rank)  # a new list: the ranks look at the old one
    return sorted(every, key=lambda task: task.name)


def varied(contenders: Iterable[Contender]) -> dict[str, list[Any]]:
    """The keys whose values differ -> their values, one a contender (`MISSING` where it has no such key)."""
    configs = [c.config for c in contenders]
    keys = dict.fromkeys(key for config in configs for key in config)
    found: dict[str, list[Any]] = {}
    for key in keys:
        values = [config.get(key, MISSING) for config in configs]
        if len({_text(v) for v in values}) == 1:
            continue
        mappings = [v for v in values if isinstance(v, Mapping)]
        alike = {(m.get("kind"), *sorted(m)) for m in mappings}
        if len(mappings) == len(values) and len(alike) == 1:  # schedules of one kind
            for part in mappings[0]:
                column = [m[part] for m in mappings]
                if len({_text(v) for v in column}) > 1:
                    found[f"{key}.{part}"] = column
        else:
            found[key] = values
    return found


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Keys -> as few of their last parts as tell them apart."""
    keys = list(keys)
    leaves = Counter(key.rsplit(".", 1)[-1] for key in keys)
    return {key: leaf if leaves[leaf := key.rsplit(".", 1)[-1]] == 1 else key.removeprefix("algo.") for key in keys}


def _text(value: Any) -> str:
    return words.as_json(value)


def _env(job: JobData) -> dict[str, Any]:
    env = job.config.get("env", {})
    return {
        "id": env.get("id", job.job["env"]),
        "kwargs": env.get("kwargs") or {},
        "max_episode_steps": env.get("max_episode_steps"),
        "preprocessing": env.get("preprocessing"),
    }


def _name_tasks(found: list[tuple[Task, dict[str, Any]]]) -> None:
    """Environments of one name are told apart by what differs."""
    for name, number in Counter(task.name for task, _ in found).items():
        same = [(task, env) for task, env in found if task.name == name]
        if number > 1:
            differing = [key for key in same[0][1] if len({_text(env[key]) for _, env in same}) > 1]
            for task, env in same:
                task.name = f"{name} {', '.join(f'{key}={setting(env[key])}' for key in differing)}"


def _label(every: list[Task]) -> None:
    """Name the contenders: by their name, and what differs among those of it on one environment."""
    for name in {c.name for task in every for c in task.contenders}:
        fields = [[c for c in task.contenders if c.name == name] for task in every]
        keys = list(dict.fromkeys(key for same in fields for key in varied(same)))
        names = short_keys(keys)
        scheduled = {key: words.schedules([c.config.get(key) for same in fields for c in same]) for key in keys}
        for same in fields:
            labels = [" ".join([name, *(_shown(c, key, names, scheduled[key]) for key in keys)]) for c in same]
            if max(map(len, labels), default=0) > LONGEST_LABEL:
                labels = [f"{name} #{i + 1}" for i in range(len(same))]
            repeated = {label for label, number in Counter(labels).items() if number > 1}
            for c, label in zip(same, labels, strict=True):  # other versions of this package
                c.label = f"{label} ({c.jobs[0].job['config_id']})" if label in repeated else label


def _shown(contender: Contender, key: str, names: Mapping[str, str], scheduled: Mapping[str, str] | None) -> str:
    value = contender.config.get(key, MISSING)
    if scheduled is not None:
        return f"{names[key].rpartition('.')[2]} {scheduled[_text(value)]}"
    if value is MISSING and key.rsplit(".", 1)[0] in contender.config:  # a part of a schedule
        value = contender.config[key.rsplit(".", 1)[0]].get(key.rsplit(".", 1)[1], MISSING)
    return f"{names[key]}={setting(value)}"


def _rank(contender: Contender) -> tuple[bool, float, float, str]:
    """The best first: final return, then area under the curve."""
    if not contender.finished:
        return True, 0.0, 0.0, contender.label
    area = float(iqm(contender.area))
    return False, -float(iqm(contender.scores)), -area if np.isfinite(area) else 0.0, contender.label


def _contender(task: Task, jobs: list[JobData]) -> Contender:
    seeds: list[int] = []
    columns: list[tuple[JobData, int]] = []  # of each trial
    for job in jobs:
        for k, seed in enumerate(job.job["seeds"]):
            if seed not in seeds:  # the same seed of the same configuration is the same trial
                seeds.append(int(seed))
                columns.append((job, k))
    finals = {id(job): _final(job) for job in jobs}
    final = np.array([np.nan if (f := finals[id(job)]) is None else f[k] for job, k in columns])
    statuses = [_status(job, k, np.isfinite(value)) for (job, k), value in zip(columns, final, strict=True)]
    curves = {name: _merge(name, columns) for name in ("eval/return", "train/return", "eval/regret")}
    kept = {name: curve for name, curve in curves.items() if np.isfinite(curve.values).any()}
    config = _flat(jobs[0].config)
    episodes, no_episodes = _pool_episodes(jobs, columns)
    value = np.array([_value(job, k) for job, k in columns], np.float64)
    return Contender(
        "", str(jobs[0].job["algo"]), task, jobs, config, seeds, statuses, final, kept, episodes, no_episodes, value
    )


def _pool_episodes(jobs: list[JobData], columns: list[tuple[JobData, int]]) -> tuple[Episodes | None, str]:
    """The final episodes of trials from one or more jobs, or why they cannot be taken together."""
    missing = next((job.no_episodes for job in jobs if job.episodes is None), "")
    found = {id(job): job.episodes for job in jobs if job.episodes is not None}
    if missing or len({episodes.seeds for episodes in found.values()}) != 1:
        return None, missing or "its jobs have different final episodes"
    return Episodes(next(iter(found.values())).seeds, np.stack([found[id(job)].returns[k] for job, k in columns])), ""


def _value(job: JobData, trial: int) -> float:
    known = ((job.summary or {}).get("final/value") or {}).get("per_trial")
    return np.nan if known is None or known[trial] is None else float(known[trial])


def _merge(name: str, columns: list[tuple[JobData, int]]) -> Curve:
    """One metric of trials from one or more jobs, at the steps at which any of them has a record."""
    parts = [(job.curves[name], k) if name in job.curves else None for job, k in columns]
    recorded = [part[0].steps for part in parts if part]
    steps = np.unique(np.concatenate(recorded)) if recorded else np.zeros(0, np.int64)
    values = np.full((len(steps), len(columns)), np.nan)
    for trial, part in enumerate(parts):
        if part:
            values[np.searchsorted(steps, part[0].steps), trial] = part[0].values[:, part[1]]
    some = np.isfinite(values).any(axis=1)
    return Curve(steps[some], np.where(np.isfinite(values), values, np.nan)[some])


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that can move a curve, keys joined by dots."""
    flat: dict[str, Any] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, Mapping) and value and "kind" not in value:
                walk(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = value

    walk({key: value for key, value in config.items() if key not in NO_CURVE}, "")
    if flat.get("budget.episodes") is None and flat.get("budget.steps") is None:
        flat["budget.steps"] = flat.get("env.default_steps")
    return {
        key: value
        for key, value in flat.items()
        if key != "algo.name" and not (key.startswith("env.") and key.split(".")[1] in ENV_KEYS)
    }


def _final(job: JobData) -> np.ndarray | None:
    result = (job.summary or {}).get("final/return")
    return np.array(result["per_trial"], np.float64) if result else None


def _status(job: JobData, trial: int, scored: bool) -> str:
    if job.summary is None:
        return "unfinished"
    trials = job.summary.get("trials")
    if trials:
        return str(trials[trial]["status"])
    return str(job.summary.get("status", "done" if scored else "unfinished"))


def _number(summary: Mapping[str, Any] | None, name: str) -> float:
    value = (summary or {}).get(name)
    return float(value) if value is not None else np.nan
