"""Short forms that a person writes, and what Hydra is told instead.

- `schedule@algo.epsilon=linear` is `+schedule/epsilon@algo.epsilon=linear` to Hydra: the group is in no defaults list,
  and epsilon and the alpha of tables have files of their own in conf/schedule/, with the values that suit them.
  Schedules come last, so that a preset beside them does not undo them.
- `budget.steps=3000` also means `budget.episodes=null`, and the reverse: a budget that is given replaces a preset's,
  whatever that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SCHEDULE = re.compile(r"\+*schedule(?:/\w+)?(?:@(?P<key>[^=]*))?=(?P<name>.*)", re.DOTALL)
UNITS = {"budget.steps": "budget.episodes", "budget.episodes": "budget.steps"}


def expand(arguments: Iterable[str]) -> list[str]:
    """The arguments that Hydra is given for those that a person wrote; what it returns stays as it is.

    Raises:
        Refusal: for a schedule without its key or its name.
    """
    arguments = list(arguments)
    schedules = [argument for argument in arguments if SCHEDULE.fullmatch(argument)]
    others = [argument for argument in arguments if argument not in schedules]
    return [*others, *_other_budgets(others), *map(_schedule, schedules)]


def as_written(override: str) -> str:
    """An override of Hydra's as a person writes it."""
    found = SCHEDULE.fullmatch(override)
    return f"schedule@{found['key']}={found['name']}" if found and found["key"] else override.removeprefix("++")


def shown(override: str) -> str:
    """An override in a table: `epsilon log10` for a schedule chosen by its name, all others as they are."""
    found = SCHEDULE.fullmatch(override)
    return f"{found['key'].rpartition('.')[2]} {found['name']}" if found and found["key"] else override


def _other_budgets(arguments: Sequence[str]) -> list[str]:
    """What takes away the budget of the other unit, where one is given."""
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
