"""Schemas of the JSON files in job and sweep folders: the keys, and the kind of each value.

`stored_files.check` compares a file with its schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LAST_SECOND = 253_402_300_799  # end of the year 9999, seconds since 1970
STATUSES = ("done", "failed", "killed", "pruned")  # of a job that has ended


@dataclass(frozen=True)
class Kind:
    """A set of permitted values.

    Attributes:
        words: what belongs to it, for error messages.
        fits: whether a value belongs to it.
    """

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def _integer_in(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value < high


def _are_distinct_seeds(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) == len({v for v in value if _integer_in(0, 2**32)(v)})


NUMBER = Kind("a finite number", _is_number)
COUNT = Kind("an integer >= 0", _integer_in(0, 2**63))
INTEGER = Kind("an integer", _integer_in(-(2**63), 2**63))
SEED = Kind("a seed", _integer_in(0, 2**32))
TEXT = Kind("a string", lambda value: isinstance(value, str) and 0 < len(value) <= 2**20)
NOTE = Kind("a string", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TIME = Kind("seconds since 1970", lambda value: _is_number(value) and 0 <= value <= LAST_SECOND)
SECONDS = Kind("a number of seconds", lambda value: _is_number(value) and value >= 0)
SEEDS = Kind("a list of different seeds", _are_distinct_seeds)


def maybe(kind: Kind) -> Kind:
    """The values of `kind`, and null."""
    return Kind(f"{kind.words} or null", lambda value: value is None or kind.fits(value))


def list_of(kind: Kind) -> Kind:
    """Lists of any length whose items are of a kind."""
    return Kind(f"a list of {kind.words}", lambda value: isinstance(value, list) and all(map(kind.fits, value)))


def mapping_of(kind: Kind) -> Kind:
    """Mappings with any keys whose values are of a kind."""
    return Kind(
        f"a mapping to {kind.words}", lambda value: isinstance(value, dict) and all(map(kind.fits, value.values()))
    )


def one_of(*names: str) -> Kind:
    """One of the given strings."""
    return Kind(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


class Schema(dict[str, Any]):
    """Key -> its kind, or the schema of a nested mapping, or a list that holds the schema of its items.

    A key may be missing unless the reader requires it. Keys that the schema does not name are not checked.
    """


MAYBE_NUMBER = maybe(NUMBER)
SCORES = Schema(dict.fromkeys(("mean", "std", "iqm", "min", "max"), MAYBE_NUMBER), per_trial=list_of(MAYBE_NUMBER))
SWEEP_OF_JOB = Schema(id=TEXT, local_id=TEXT, name=TEXT, command=TEXT, started=TIME)
JOB = Schema(
    study=TEXT, name=TEXT, algo=TEXT, env=TEXT, config_id=TEXT, group_id=TEXT, seeds=SEEDS, command=NOTE, started=TIME,
    overrides=maybe(list_of(NOTE)), sweep=SWEEP_OF_JOB, tags=mapping_of(NOTE), files=mapping_of(TEXT),
)  # fmt: skip
TRIAL = Schema(
    seed=SEED, status=one_of("done", "diverged", "failed"), note=NOTE, restarted_episodes=COUNT, steps=COUNT,
    best_eval_return=MAYBE_NUMBER, last_eval_return=MAYBE_NUMBER, best_train_episode=MAYBE_NUMBER,
    best_step=Kind("a step", _integer_in(-1, 2**63)), candidate_return=MAYBE_NUMBER, final_return=MAYBE_NUMBER,
)  # fmt: skip
SPEC = Schema(
    kind=one_of("discrete", "multi_discrete", "box"), n=COUNT, start=INTEGER, dtype=TEXT, env_dtype=TEXT,
    shape=list_of(COUNT), sizes=list_of(COUNT), starts=maybe(list_of(INTEGER)), low=maybe(list_of(MAYBE_NUMBER)),
    high=maybe(list_of(MAYBE_NUMBER)),
)  # fmt: skip
SUMMARY = Schema(
    {"final/return": SCORES, "final/value": SCORES},
    algo=TEXT, env=TEXT, env_id=TEXT, study=TEXT, config_id=TEXT, group_id=TEXT, seeds=SEEDS, status=one_of(*STATUSES),
    steps=COUNT, total_steps=COUNT, episodes=list_of(COUNT), updates=list_of(COUNT), wall_seconds=SECONDS,
    train_seconds=SECONDS, grouped=COUNT, steps_per_second=NUMBER, optimum=MAYBE_NUMBER, selection=TEXT, best_seed=SEED,
    trials=[TRIAL], observation_shape=list_of(COUNT), observation_dtype=TEXT, num_actions=COUNT, action=SPEC,
    device=TEXT, engine=TEXT, finished=TIME, error=NOTE, pruned_at=COUNT, files=mapping_of(TEXT),
)  # fmt: skip
OUTCOME = Schema(
    status=one_of("done", "failed", "refused", "killed", "pruned", "lost"), score=MAYBE_NUMBER, folder=maybe(TEXT),
    error=NOTE, seconds=SECONDS, grouped=COUNT, ran=FLAG,
)  # fmt: skip
PLACE = Schema(number=COUNT, total=COUNT, name=NOTE)
SEARCH = Schema(
    num_candidates=COUNT, batch_size=COUNT, objective=TEXT, threshold=MAYBE_NUMBER, seed=COUNT, startup=COUNT,
    prune=FLAG, warmup=NUMBER, space=Kind("a list", lambda value: isinstance(value, list)),
)  # fmt: skip
SWEEP = Schema(
    id=TEXT, local_id=TEXT, name=TEXT, study=TEXT, command=NOTE, started=TIME, tracking_uri=maybe(NOTE),
    status=one_of("running", "done", "failed", "killed"), wall_seconds=SECONDS, jobs=[Schema(status=TEXT)],
    search=SEARCH, scores=list_of(MAYBE_NUMBER), total=COUNT,
)  # fmt: skip
TRACKING = Schema(
    uri=TEXT, local_id=TEXT, experiment_id=TEXT, run_id=maybe(TEXT), trial_runs=mapping_of(TEXT), lines=COUNT,
    last=maybe(list_of(NUMBER)), sending=list_of(TIME), artifacts=mapping_of(TEXT), status=maybe(NOTE),
    missing=list_of(NOTE),
)  # fmt: skip
OWNER = Schema(pid=COUNT, host=TEXT)
CONFIG = Schema(
    algo=Schema(name=TEXT), budget=Schema(steps=maybe(COUNT), episodes=maybe(COUNT)),
    env=Schema(name=TEXT, id=TEXT, kwargs=maybe(mapping_of(Kind("anything", lambda value: True)))),
    network=Schema(name=TEXT), evaluation=Schema(), tracking=Schema(uri=maybe(NOTE)),
    study=TEXT, seed=SEED, trials=COUNT,
)  # fmt: skip
