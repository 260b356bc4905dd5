"""The summary of a finished job: the content of summary.json."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.data import seeding
from rlexp.engines.evaluation import Scores
from rlexp.engines.trial_results import Results
from rlexp.envs import spec
from rlexp.jobs.context import Context
from rlexp.math import statistics
from rlexp.math.two_way import summarize_final
from rlexp.system.errors import Diverged

SCORE_NAMES = {  # evaluation.selection -> the score that chose a trial's best weights
    "eval": "best_eval_return",
    "last": "last_eval_return",
    "train_episode": "best_train_episode",
}
UNHEALTHY = ("diverged", "failed")  # statuses of trials


def summarize(
    settings: Settings, context: Context, results: Results, scores: Scores, train_seconds: float, grouped: int
) -> dict[str, Any]:
    """The summary of a job, without the digests of its files.

    Args:
        settings, context: of the job.
        results, scores: of its trials.
        train_seconds: duration of the training.
        grouped: number of jobs that were trained together, in these seconds.
    """
    finals = scores.returns.mean(axis=1)  # [N]
    steps = [int(s) for s in results.counts["step"]]
    healthy = not set(UNHEALTHY) & set(results.status)
    return {
        "algo": settings.algo.name,
        "env": settings.env.name,
        "env_id": settings.env.id,
        "study": settings.study,
        "config_id": settings.config_id,
        "group_id": settings.group_id,
        "seeds": settings.seeds,
        "status": "done" if healthy else "failed",
        "steps": max(steps),
        "total_steps": sum(steps),
        "episodes": [int(e) for e in results.counts["episode"]],
        "updates": [int(u) for u in results.counts["update"]],
        "wall_seconds": round(context.clock.seconds(), 3),
        "train_seconds": round(train_seconds, 3),
        "grouped": grouped,
        "steps_per_second": round(sum(steps) / train_seconds, 1),
        "final/return": summarize_final(finals, scores.returns),
        **_exact_value(results),
        "selection": settings.evaluation.selection,
        "best_seed": settings.seeds[best_trial(scores)],
        "trials": _trials(settings, results, finals),
        "observation_shape": list(context.info.observation.shape),
        "observation_dtype": context.info.observation.dtype,
        "action": spec.to_json(context.info.action),
        "device": context.device,
        "engine": settings.engine,
        "finished": time.time(),
    }


def best_trial(scores: Scores) -> int:
    """The trial with the highest mean return in the final episodes."""
    finals = scores.returns.mean(axis=1)  # [N]
    return int(np.argmax(np.where(np.isnan(finals), -np.inf, finals)))


def unhealthy_trials(settings: Settings, results: Results) -> Diverged | None:
    """The error of a job with trials that have diverged or failed; None if there are none."""
    diverged, failed = ([k for k, status in enumerate(results.status) if status == word] for word in UNHEALTHY)
    if not diverged and not failed:
        return None
    parts: list[str] = []
    for word, which in zip(UNHEALTHY, (diverged, failed), strict=True):
        seeds = ", ".join(str(settings.seeds[k]) for k in which)
        of = "" if parts else f" of {settings.trials} trials"
        if which:
            parts.append(f"{len(which)}{of} {word} (seeds {seeds})")
    why = f": {results.notes[failed[0]]}" if failed else ""
    others = "the others finished" if len(diverged) + len(failed) < settings.trials else "none finished"
    error = Diverged(f"{', '.join(parts)}{why}; {others}: {settings.folder}")
    for trace in dict.fromkeys(filter(None, results.traces)):
        error.add_note(trace.rstrip())  # for error.txt
    return error


def _trials(settings: Settings, results: Results, finals: np.ndarray) -> list[dict[str, Any]]:
    score_name = SCORE_NAMES[settings.evaluation.selection]
    return [
        {
            "seed": seed,
            "status": results.status[k],
            "note": results.notes[k],
            "restarted_episodes": int(results.restarts[k]),
            "steps": int(results.counts["step"][k]),
            score_name: _finite(results.score[k]),
            "best_step": int(results.step[k]),
            "candidate_return": _finite(results.candidate_return[k]),
            "final_return": _finite(finals[k]),
        }
        for k, seed in enumerate(settings.seeds)
    ]


def _exact_value(results: Results) -> dict[str, Any]:
    """The expected return of the policies, where a transition table tells it."""
    if results.value is None:
        return {}
    exact = statistics.summarize(results.value, seeding.generator(0, "report"))
    return {"final/value": exact, "optimum": _finite(results.optimum)}


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
