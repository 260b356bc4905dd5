"""Ranges, names and contradictions of a configuration."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlexp.config import hints, schedules
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.job import EvaluationSettings, Settings
from rlexp.config.schema.network import ACTIVATIONS
from rlexp.system import places
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.text import USER_INFO_HINT, user_info


def check_ranges(node: Any, prefix: str) -> None:
    for f in dataclasses.fields(node):
        value, where, rule = getattr(node, f.name), prefix + f.name, f.metadata
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{where}.")
            continue
        if not rule or (value is None and not rule["scalar"]):
            continue
        for choice in value if isinstance(value, list) and rule["choices"] else [value]:
            _check_choice(where, choice, rule["choices"])
        if rule["scalar"]:
            try:
                schedules.parse(value, where)
            except ValueError as error:
                raise Refusal(str(error)) from error
            if isinstance(value, Mapping):  # what a schedule tends to may be the excluded limit itself
                _check_number(
                    f"{where}.final",
                    value.get("final"),
                    {**rule, "low": rule["low"] if rule["above"] is None else rule["above"], "above": None},
                )
                where, value = f"{where}.initial", value["initial"]
            numbers = [(where, value)]
        elif isinstance(value, list):
            numbers = [(where, v) for v in value]
        else:
            numbers = [(where, value)]
        for name, number in numbers:
            _check_number(name, number, rule)


def _check_choice(where: str, value: Any, choices: Sequence[str]) -> None:
    if choices and value not in choices:
        hint = hints.for_value(where, str(value)) or did_you_mean(str(value), choices)
        raise refusal(where, f"one of {', '.join(choices)}", repr(value), hint)


def _check_number(where: str, number: Any, rule: Mapping[str, Any]) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return
    low, high, above = rule["low"], rule["high"], rule["above"]
    bad = not math.isfinite(number) or (
        (low is not None and number < low)
        or (high is not None and number > high)
        or (above is not None and number <= above)
    )
    if bad:
        parts = [
            f">= {low}" if low is not None else "",
            f"> {above}" if above is not None else "",
            f"<= {high}" if high is not None else "",
        ]
        limits = " and ".join(p for p in parts if p)
        raise refusal(where, f"a number {limits}" if limits else "a finite number", f"{number}")


_OURS = {  # arguments of gymnasium.make -> what to write
    "id": "It is env.id.",
    "max_episode_steps": "The limit of an episode is env.max_episode_steps.",
    "render_mode": "The best trial is animated at the end (animation.enabled); rlexp play shows it.",
}

_PATH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def check_names(settings: Settings) -> None:
    """Names become folders: they may not leave the output folder."""
    for where, name in (
        ("study", settings.study),
        ("env.name", settings.env.name),
        ("algo.name", settings.algo.name),
    ):
        if not _PATH_NAME.fullmatch(name):
            raise refusal(where, "letters, digits and _ . + - (it names a folder)", repr(name))


def check_contradictions(settings: Settings) -> None:
    from rlexp.config import bins

    if settings.budget.steps is not None and settings.budget.episodes is not None:
        raise refusal("budget", "steps or episodes", "both", "Give one: budget.steps=50000 or budget.episodes=600")
    for where, budget in (("budget.steps", settings.budget.steps), ("budget.episodes", settings.budget.episodes)):
        if budget is not None and budget > 10**12:
            raise refusal(where, "at most 10**12, which would take years", str(budget))
    workers = settings.workers
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int)):
        raise refusal("workers", "auto or a whole number", repr(workers), "auto uses the cores, where that pays.")
    if settings.seed + settings.trials > 2**32:
        raise refusal("seed", "seed + trials <= 2**32", f"{settings.seed} + {settings.trials}")
    if not settings.output_dir.strip():
        raise refusal("output_dir", "a folder", "nothing", "The current one is output_dir=.")
    if why := places.why_not(settings.output_dir):
        raise refusal("output_dir", "a folder in which jobs can make theirs", why)
    _check_episode_seeds(settings.evaluation)
    env, network = settings.env, settings.network
    ours = {"render_mode", "max_episode_steps", "id", "disable_env_checker"} & env.kwargs.keys()
    if ours:
        name = min(ours)
        raise refusal("env.kwargs", "arguments of the environment itself", f"{name}, which is rlexp's to give",
                      _OURS.get(name, ""))  # fmt: skip
    if ":" not in network.name and network.activation not in ACTIVATIONS:
        raise refusal("network.activation", "a Keras activation", repr(network.activation),
                      did_you_mean(network.activation, ACTIVATIONS))  # fmt: skip
    if network.noisy and not getattr(settings.algo, "noisy", False):
        raise refusal("network.noisy", f"false for {settings.algo.name}", "true", "Noise explores in the DQN family.")
    if env.preprocessing == "atari" and not env.id.rsplit(":", 1)[-1].startswith("ALE/"):
        raise refusal("env.preprocessing", f"none for {env.id}", "'atari'", "It is for ids that begin with ALE/.")
    if env.preprocessing == "atari" and "frameskip" in env.kwargs:
        raise refusal(
            "env.kwargs", "no frameskip with env.preprocessing=atari, which skips frames itself", str(env.kwargs)
        )
    algo = settings.algo
    check_node(algo, "algo")
    if settings.evaluation.policy not in getattr(algo, "evaluation_policies", ("greedy",)):
        raise refusal(
            "evaluation.policy",
            f"greedy for {algo.name}",
            repr(settings.evaluation.policy),
            "Only policies with probabilities can be sampled, for example that of algo=pg.",
        )
    bins.check("env.discretizer", env.discretizer)
    if isinstance(algo, TabularSettings):
        bins.check("algo.discretizer", algo.discretizer)
    if not settings.tracking.names:
        raise refusal("tracking", "a tracker", "none", "tracking=files sends results nowhere else.")
    uri = settings.tracking.uri
    if uri is not None and user_info(uri):
        raise refusal("tracking.uri", "an address without a user's name or password", uri, USER_INFO_HINT)
    if uri is not None and not re.match(r"(sqlite|postgresql|mysql|mssql|https?|file)(\+\w+)?:", uri):
        raise refusal("tracking.uri", "sqlite:///<file>, postgresql://..., or http(s)://<server>", repr(uri))
    if uri is not None and uri.startswith("sqlite:///") and (why := places.why_not(Path(uri[10:]).parent)):
        raise refusal("tracking.uri", "a file in a folder that can be made", why)


def check_node(node: Any, where: str) -> None:
    """Let a part of the configuration, and what is in it, refuse what contradicts there: see `schema.algos`."""
    if check := getattr(node, "check", None):
        check(where)
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            check_node(value, f"{where}.{f.name}")


def _check_episode_seeds(config: EvaluationSettings) -> None:
    """What scores the best weights must be fresh: no episode may serve two of the three kinds of evaluation."""
    ranges = sorted(
        (getattr(config, seed), getattr(config, seed) + getattr(config, count), f"evaluation.{seed}", count)
        for seed, count in (
            ("seed", "num_episodes"),
            ("final_seed", "final_episodes"),
            ("candidate_seed", "candidate_episodes"),
        )
    )
    for (_, end, first, count), (start, _, second, _) in itertools.pairwise(ranges):
        if start < end:
            raise refusal(second, f"at least {end}, the end of {first} + {count}", str(start),
                          "Episodes that score the best weights must be fresh.")  # fmt: skip
