"""The end of a job: weights, tables, pictures and the summary."""

from __future__ import annotations

import csv
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.data import checkpoint, seeding
from rlexp.engines.evaluation import Scores
from rlexp.engines.trial_results import Results
from rlexp.envs.faults import is_signal, raised
from rlexp.jobs.context import Context
from rlexp.jobs.results import load_job
from rlexp.jobs.summary import best_trial, summarize, unhealthy_trials
from rlexp.jobs.weights import save_models, save_tables
from rlexp.system.stored_files import FILES, digests

DIGESTED = ("metrics.jsonl", "evaluation.csv", "episodes.npz", "history.npz")  # files whose digests the summary holds


def finish(
    settings: Settings, context: Context, results: Results, scores: Scores, train_seconds: float, grouped: int
) -> None:
    """Write the files of a trained job; the summary comes last, since it says that the rest is there.

    Args:
        settings, context: of the job.
        results, scores: of its trials.
        train_seconds: duration of the training.
        grouped: number of jobs that were trained together.

    Raises:
        Diverged: if trials have diverged or failed; everything is written.
    """
    from rlexp.jobs import plots  # Matplotlib takes a third of a second, which is not the training's

    folder, info, console = settings.folder, context.info, context.console
    of_which = f" of {settings.job_name}" if grouped > 1 else ""
    console.phase(f"weights{of_which}")
    if context.deploy is not None:
        save_models(folder, settings.seeds, context.deploy, results.params)
    elif info.tabular:
        save_tables(folder, settings.seeds, info.num_actions, results.params)
    _write_evaluation(folder, settings.seeds, scores)
    columns = {name: results.episodes[:, i] for i, name in enumerate(("trial", "step", "return", "length"))}
    checkpoint.write_npz(folder / "episodes.npz", columns)
    best = best_trial(scores)
    if settings.animation.enabled and np.isfinite(scores.returns[best].mean()):
        console.phase(f"animation{of_which}")
        _animate(settings, context, settings.seeds[best])
    console.phase(f"learning curve{of_which}")
    summary = summarize(settings, context, results, scores, train_seconds, grouped)
    data = load_job(folder)
    data.summary, data.config = summary, {"evaluation": asdict(settings.evaluation)}
    plots.learning_curve(data, folder / "learning_curve.png", seeding.generator(0, "report"))
    weights = sorted((folder / "trials").glob("*/best.*"))
    summary[FILES] = digests([*(folder / name for name in DIGESTED), *weights])
    checkpoint.write_json(folder / "summary.json", summary)
    if (error := unhealthy_trials(settings, results)) is not None:
        raise error


def _write_evaluation(folder: Path, seeds: list[int], scores: Scores) -> None:
    """Write the final episodes of each trial as a table."""
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["seed", "episode_seed", "return", "length"])
    for k, seed in enumerate(seeds):
        for i, episode_seed in enumerate(scores.seeds):
            writer.writerow([seed, episode_seed, repr(float(scores.returns[k, i])), int(scores.lengths[k, i])])
    checkpoint.write_atomically(folder / "evaluation.csv", lambda file: file.write(table.getvalue().encode()))


def _animate(settings: Settings, context: Context, seed: int) -> None:
    """Film the policy of one trial; a failure is a warning, since a picture is no reason to lose a trained job."""
    from rlexp.jobs.animation import animate
    from rlexp.jobs.policy import policy_of

    if not context.info.rgb_array:
        context.console.say(f"no animation: {settings.env.id} cannot be rendered to pictures")
        return
    try:
        policy = policy_of(settings, seed, settings.folder, allow_imports=True)  # the command has named them
        episode, path = settings.evaluation.final_seed, settings.folder / "animation.gif"
        animate(policy, episode, path, settings.animation.max_steps)
    except BaseException as error:
        if is_signal(error):
            raise
        where = f"{settings.env.id}, trial seed {seed}, episode seed {settings.evaluation.final_seed}"
        context.console.warn(f"no animation: {where}: {raised(error)}")
