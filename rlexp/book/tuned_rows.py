"""The rows of the tuned presets' table: one for each preset and range of seeds, with figures or the reason for none.

The figures come from the folders of finished jobs. A JSON file holds the rows, so that a table knows of earlier runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rlexp.book.processes import REFUSED, explain, unreadable
from rlexp.config import paths, registry
from rlexp.config.schema.job import Settings
from rlexp.config.study_names import flat
from rlexp.data.checkpoint import write_atomically
from rlexp.jobs.job_folder import status_of
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.report import references
from rlexp.system import cores
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.stored_files import read_job, read_json
from rlexp.system.stored_schemas import COUNT, FLAG, MAYBE_NUMBER, NOTE, SECONDS, SEED, TEXT, Schema
from rlexp.system.text import mask_tree

ENVIRONMENTS = (  # the order of the table; others follow by their names
    "cartpole",
    "acrobot",
    "mountain_car",
    "lunar_lander",
    "frozen_lake",
    "frozen_lake_8x8",
    "cliff_walking",
    "taxi",
)
NOT_RUN = "not run yet"
PRIORITISED = {"ddqn": "double DQN with prioritised replay"}  # algorithm -> its published name with prioritised replay


@dataclass(frozen=True)
class Row:
    """A preset with one range of seeds.

    Attributes:
        preset: name below `conf/experiment/tuned`.
        seed, trials: first seed and number of trials.
        environment, env_id, limit: name, Gymnasium id and time limit; "" and None if the preset is refused.
        changed: whether the environment differs from Gymnasium's, so that no published result belongs to it.
        algorithm: registry key.
        published_as: names of the algorithm in publications.
        differences: what sets it apart from those.
        group_id: of the configuration, whatever the seeds; "" if the preset is refused.
        steps: env steps per trial.
        missing: why there are no figures; "" if there are.
        iqm, low, high, smallest, largest: of the trials' final returns, with the 95 % interval of the IQM.
        exact: whether the figures are expected returns, computed from the transition table.
        optimum: expected return of the best policy, if it is known.
        seconds: duration of the job.
        cores: of the machine.
    """

    preset: str
    seed: int
    trials: int
    environment: str = ""
    env_id: str = ""
    limit: int | None = None
    changed: bool = False
    algorithm: str = ""
    published_as: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    group_id: str = ""
    steps: int = 0
    missing: str = NOT_RUN
    iqm: float | None = None
    low: float | None = None
    high: float | None = None
    smallest: float | None = None
    largest: float | None = None
    exact: bool = False
    optimum: float | None = None
    seconds: float = 0.0
    cores: int = 0

    @property
    def measured(self) -> bool:
        """Whether the row has figures."""
        return not self.missing

    @property
    def key(self) -> tuple[str, int, int]:
        """Preset, first seed and number of trials: the key of a job."""
        return self.preset, self.seed, self.trials

    @property
    def name(self) -> str:
        """The preset without its environment: `ddqn_prioritized`."""
        return self.preset.replace(f"_{self.environment}", "") if self.environment else self.preset

    @property
    def place(self) -> str:
        """The environment that results belong to: its Gymnasium id, and its own name if it differs from Gymnasium's."""
        return f"{self.env_id}, {self.environment}" if self.changed else self.env_id

    @property
    def heading(self) -> str:
        """Preset and seeds, for a line of output."""
        return f"{self.preset}, seeds {self.seed} to {self.seed + self.trials - 1}"

    @property
    def command(self) -> str:
        """What a user types to run it."""
        return f"rlexp +experiment=tuned/{self.preset} trials={self.trials} seed={self.seed}"

    @property
    def reference(self) -> references.Reference | None:
        """Published results on the environment."""
        return references.find(self.env_id, self.limit, self.changed)

    @property
    def rank(self) -> tuple[int, str, int, str, int, int]:
        """The place in the table: by environment, algorithm, preset and seed."""
        place = ENVIRONMENTS.index(self.environment) if self.environment in ENVIRONMENTS else len(ENVIRONMENTS)
        algos = list(registry.ALGOS)
        algo = algos.index(self.algorithm) if self.algorithm in algos else len(algos)
        return place, self.environment, algo, self.preset, self.seed, self.trials


STORED = Schema(
    preset=TEXT, seed=SEED, trials=COUNT, environment=NOTE, env_id=NOTE, changed=FLAG, algorithm=NOTE,
    published_as=[TEXT], differences=[TEXT], group_id=NOTE, steps=COUNT, missing=NOTE, exact=FLAG, seconds=SECONDS,
    cores=COUNT, **dict.fromkeys(("limit", "iqm", "low", "high", "smallest", "largest", "optimum"), MAYBE_NUMBER),
)  # fmt: skip


def read(path: Path) -> list[Row]:
    """The rows of a file; raises `FileNotFoundError`, or `Damaged` if it holds anything else."""
    known = {field.name for field in fields(Row)}
    found = []
    for entry in read_json(path, Schema(rows=[STORED]), "rows")["rows"]:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
        }
        if {"preset", "seed", "trials"} <= set(values) <= known:
            found.append(Row(**values))
    return found


def write(path: Path, rows: Iterable[Row], command: str) -> None:
    """Write rows to a file, one key per line, so that a comparison of versions shows what has changed."""
    text = json.dumps(mask_tree({"command": command, "rows": [asdict(row) for row in rows]}), indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def presets() -> list[str]:
    """The names below `conf/experiment/tuned`."""
    return paths.configured("experiment/tuned")


def chosen(only: Sequence[str], known: Sequence[str]) -> list[str]:
    """The presets that texts choose: the one of this name, else all whose names contain the text; all for no texts.

    Raises:
        Refusal: for a text that chooses none.
    """
    found: set[str] = set()
    for text in only:
        matching = [text] if text in known else [name for name in known if text and text in name]
        if not matching:
            hint = did_you_mean(text, known) or "--list shows them."
            raise refusal("--only", "a tuned preset, or a part of its name", repr(text), hint)
        found |= set(matching)
    return [name for name in known if name in found or not only]


def overrides(row: Row, study: str, output_dir: Path, changes: Sequence[str] = ()) -> list[str]:
    """The command line of a row's job."""
    own = [f"trials={row.trials}", f"seed={row.seed}", f"study={study}", f"output_dir={output_dir}"]
    return [f"+experiment=tuned/{row.preset}", *changes, *own]


class Jobs:
    """The jobs behind rows; each preset is composed once.

    Args:
        study, output_dir: of the jobs.
        changes: overrides of every job.
    """

    def __init__(self, study: str, output_dir: Path, changes: Sequence[str] = ()) -> None:
        self.study, self.output_dir, self.changes = study, output_dir, tuple(changes)
        self._composed: dict[str, Settings | Refusal] = {}

    def look(self, preset: str, seed: int, trials: int, missing: str = NOT_RUN) -> Row:
        """The row of a job: with its figures if it is done, else with `missing`; a refusal is its own reason."""
        row = Row(preset, seed, trials, missing=missing)
        settings = self._settings(preset)
        if isinstance(settings, Refusal):
            return replace(row, missing=self._refused(settings))
        settings = replace(settings, seed=seed, trials=trials)
        row = _described(row, settings)
        try:
            settings, _ = resolve(settings)
        except Refusal as refused:
            return replace(row, missing=self._refused(refused))
        row = replace(row, group_id=settings.group_id)
        if status_of(settings.folder) != "done":
            return row
        try:
            return measured(row, read_job(settings.folder)[1] or {})
        except (ValueError, TypeError, OSError, KeyError) as error:  # of one job's files: the others are shown
            return replace(row, missing=without(self.output_dir, unreadable(error).why))

    def _settings(self, preset: str) -> Settings | Refusal:
        if preset not in self._composed:
            try:
                self._composed[preset] = compose(
                    *overrides(Row(preset, 0, 1), self.study, self.output_dir, self.changes)
                )
            except Refusal as refused:
                self._composed[preset] = refused
        return self._composed[preset]

    def _refused(self, refused: Refusal) -> str:
        return explain(REFUSED, without(self.output_dir, f"refused: {refused}")).why


def without(output_dir: Path, text: str) -> str:
    """A text that names the output folder as users know it, and not by its path on this machine."""
    return text.replace(str(output_dir), "outputs")


def _described(row: Row, settings: Settings) -> Row:
    """The row with what its configuration says."""
    env, algo, config = settings.env, settings.algo.name, flat(settings.to_dict())
    names = [published for published, ours in references.OURS.items() if ours == algo]
    apart = references.differences(algo, config)
    if config.get("algo.replay") == "prioritized" and algo in PRIORITISED:
        names, apart = [PRIORITISED[algo]], [text for text in apart if text != "prioritised replay"]
    return replace(
        row, environment=env.name, env_id=env.id, limit=env.max_episode_steps, algorithm=algo,
        steps=settings.max_steps or 0, changed=bool(env.kwargs) or env.preprocessing not in (None, "none"),
        published_as=tuple(names), differences=tuple(apart),
    )  # fmt: skip


def measured(row: Row, summary: Mapping[str, Any]) -> Row:
    """The row with the figures of a finished job's summary: exact values, or played returns if it has none."""
    exact = "final/value" in summary
    score = summary["final/value" if exact else "final/return"]
    values = score["per_trial"]
    if len(values) != row.trials or any(value is None or not math.isfinite(value) for value in values):
        return replace(row, missing="failed: not every trial has a final return")
    low, high = map(float, score["ci95"]) if score["ci95"] else (None, None)
    return replace(
        row, missing="", iqm=score["iqm"], low=low, high=high, smallest=score["min"], largest=score["max"], exact=exact,
        optimum=summary.get("optimum"), steps=summary["steps"], seconds=summary["wall_seconds"], cores=cores.usable(),
    )  # fmt: skip


def shown(rows: Iterable[Row]) -> list[Row]:
    """The rows of a table, in its order.

    Of a preset and a first seed: the measured row with the most trials. Rows that were not run are left out, but for
    one of each preset without any other.
    """
    rows = sorted(rows, key=lambda row: (row.measured, row.missing != NOT_RUN, row.trials))
    best = {(row.preset, row.seed): row for row in rows}  # the last one counts
    told = {row.preset for row in best.values() if row.missing != NOT_RUN}
    waiting = {row.preset: row for row in best.values() if row.preset not in told}
    return sorted(
        [*(row for row in best.values() if row.missing != NOT_RUN), *waiting.values()], key=lambda row: row.rank
    )


def documented(rows: Sequence[Row], before: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """The rows of the documentation: those that were measured here, and those that it has and that still hold.

    Args:
        rows: of all presets.
        before: of the documentation.

    Returns:
        The rows, and the presets whose figures are kept though their configuration or rlexp's version has changed.
    """
    here = {(row.preset, row.seed) for row in rows if row.measured}
    groups = {row.preset: row.group_id for row in rows if row.group_id}
    known, again = {row.preset for row in rows}, {preset for preset, _ in here}
    kept = [
        row for row in before
        if row.measured and row.preset in known and (row.preset, row.seed) not in here
        and (row.preset not in again or groups[row.preset] == row.group_id)
    ]  # fmt: skip
    old = sorted({row.preset for row in kept if groups.get(row.preset, row.group_id) != row.group_id})
    return shown([*rows, *kept]), old
