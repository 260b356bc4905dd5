"""Short forms of overrides, and what they stand for in Hydra's syntax.

- `schedule@algo.epsilon=linear` stands for `+schedule/epsilon@algo.epsilon=linear`: the group is in no defaults list,
  and epsilon and the alpha of tables have their own files, with suitable values, in conf/schedule/. Schedules are moved
  to the end, so that a preset beside them does not override them.
- `tracking=[mlflow,tensorboard]` stands for `tracking.name=[mlflow,tensorboard]`: Hydra would merge the files of the
  group, so that only the last name remained.
- `budget.steps=3000` implies `budget.episodes=null`, and vice versa: a given budget replaces a preset's, in any unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SCHEDULE = re.compile(r"\+*schedule(?:/\w+)?(?:@(?P<key>[^=]*))?=(?P<name>.*)", re.DOTALL)
TRACKERS = re.compile(r"\Atracking=(?P<names>\[[^\[\]]*\])\Z")
WRITTEN_TRACKERS = re.compile(r"\Atracking\.name=(?P<names>\[[^\[\]]*\])\Z")
UNITS = {"budget.steps": "budget.episodes", "budget.episodes": "budget.steps"}


def expand(arguments: Iterable[str]) -> list[str]:
    """Expand the short forms among some arguments; expanding twice changes nothing more.

    Raises:
        Refusal: for a schedule without its key or its name.
    """
    arguments = list(arguments)
    schedules = [argument for argument in arguments if SCHEDULE.fullmatch(argument)]
    others = [TRACKERS.sub(r"tracking.name=\g<names>", a) for a in arguments if a not in schedules]
    return [*others, *_other_budgets(others), *map(_schedule, schedules)]


def as_written(override: str) -> str:
    """An override in its short form, if it has one."""
    found = SCHEDULE.fullmatch(override)
    if found and found["key"]:
        return f"schedule@{found['key']}={found['name']}"
    return WRITTEN_TRACKERS.sub(r"tracking=\g<names>", override.removeprefix("++"))


def shown(override: str) -> str:
    """An override as tables show it: a named schedule as `epsilon log10`, all others unchanged."""
    found = SCHEDULE.fullmatch(override)
    return f"{found['key'].rpartition('.')[2]} {found['name']}" if found and found["key"] else override


def _other_budgets(arguments: Sequence[str]) -> list[str]:
    """The override that removes the budget of the other unit, where one is given."""
    said = {key.lstrip("+"): value for key, sign, value in (a.partition("=") for a in arguments) if sign}
    for unit in UNITS:  # budget={steps: 3000}
        if found := re.search(rf"\b{unit.partition('.')[2]}\s*:\s*(\w+)", said.get("budget", "")):
            said[unit] = found[1]
    given = [unit for unit in UNITS if said.get(unit, "null") != "null"]
    return [f"{UNITS[given[0]]}=null"] if len(given) == 1 and UNITS[given[0]] not in said else []


def _schedule(argument: str) -> str:
    from rlexp.config.paths import conf_dir
    from rlexp.system.errors import refusal

    found = SCHEDULE.fullmatch(argument)
    assert found is not None
    key, names = found["key"], found["name"]
    example = "For example: schedule@algo.epsilon=linear"
    if not re.fullmatch(r"\w+(\.\w+)*", key or ""):
        raise refusal("schedule", "what is scheduled", argument, example)
    own = conf_dir() / "schedule" / key.rpartition(".")[2]
    known = sorted(path.stem for path in own.parent.glob("*.yaml"))
    if not names or names.startswith(("[", "{")) or names == "null":
        raise refusal(f"schedule@{key}", f"one of {', '.join(known)}", names or "nothing", example)
    special = all((own / f"{name}.yaml").is_file() for name in re.findall(r"\w+", names))
    return f"+schedule/{own.name}@{key}={names}" if special else f"+schedule@{key}={names}"
