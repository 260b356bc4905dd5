"""The command `rlexp env`: what there is to know of an environment before anything is trained in it."""

from __future__ import annotations

import math
import shlex
import signal
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.config.paths import conf_dir, configured
from rlexp.system import search_path, stopping, supervisor
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.stored_yaml import parse
from rlexp.system.text import clean
from rlexp.system.tool import BROKEN_PIPE, Parser, refuse, shortened, tool
from rlexp.system.words import decimal, names, plural

if TYPE_CHECKING:
    from rlexp.config.schema.env import EnvSettings
    from rlexp.config.schema.job import Settings
    from rlexp.envs.facts import Facts
    from rlexp.envs.info import EnvInfo
    from rlexp.jobs.suitability import Suitability

SECONDS = 0.5  # of measuring
TIMEOUT = 60.0  # seconds that a call of an environment may take here
WIDTH = 20  # of the first column
ATARI = "space_invaders"  # the name of conf/env for Atari games


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 if the environment ends the process, 2 without one."""
    parser = Parser(
        prog="rlexp env",
        description="Describe an environment: spaces, time limit, rewards, wrappers, packages, how fast it steps here, "
        "and which algorithms and presets take it.",
        examples=(
            "rlexp env CartPole-v1",
            "rlexp env taxi --picture taxi.png",
            "rlexp env mymodule:MyEnv-v0",
            "rlexp env --list cart",
        ),
    )
    parser.add_argument("env", nargs="?", metavar="ENV", help="a registered id, module:Id, or a name of conf/env")
    parser.add_argument(
        "--list", nargs="?", const="", metavar="PATTERN", help="list names and registered ids that contain this text"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write a picture of the first state, as .png")
    parser.add_argument("--quick", action="store_true", help=f"do not measure for {SECONDS:g} s how fast it steps")
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT, metavar="SECONDS",
        help=f"how long a call of the environment may take; default: {TIMEOUT:g}",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if (args.env is None) == (args.list is None):
        raise refusal("ENV", "an environment, or --list", "neither" if args.env is None else "both")
    if args.list is not None:
        return _list(args.list)
    _check(args)
    if ":" in args.env:  # the reader has named a module, which may be their own
        search_path.put_back_working_directory()
    return _supervised(args)


def _check(args: Any) -> None:
    """Raise `Refusal` for options that cannot be meant."""
    if not 0 < args.timeout <= 1e6:
        raise refusal("--timeout", "seconds above 0, at most 1e6", f"{args.timeout:g}")
    if args.picture is None:
        return
    if args.picture.suffix.lower() != ".png":
        raise refusal("--picture", "a .png file", shortened(args.picture))
    if not args.picture.expanduser().parent.is_dir() or args.picture.is_dir():
        raise refusal("--picture", "a file in a folder that is there", shortened(args.picture))


def _supervised(args: Any) -> int:
    """Describe the environment in a process of its own, which it may end; returns the exit status."""
    supervisor.enable()
    if supervisor.is_enabled():
        worker = supervisor.Worker()
        stopping.acknowledge_once(lambda: True)  # there is no training that the usual line could speak of
        if not worker.is_worker:
            return supervisor.exit_status(worker.wait())
    status = 1
    try:
        for line in described(args.env, args.picture, 0.0 if args.quick else SECONDS, args.timeout):
            print(line, flush=True)
        status = 0
    except Refusal as refused:
        status = refuse(str(refused))
    except KeyboardInterrupt as interrupt:
        status = 128 + int(getattr(interrupt, "signum", signal.SIGINT))
    except BrokenPipeError:
        status = BROKEN_PIPE
        raise  # `tool` looks after the stream
    finally:
        supervisor.note(status=status)
    return status


def _list(pattern: str) -> int:
    """Print the names of conf/env and the registered ids."""
    from rlexp.envs import facts

    own = [(name, _id_of(name)) for name in configured("env")]
    facts.register_all()
    names = [(name, env_id) for name, env_id in own if facts.matches(name, pattern) or facts.matches(env_id, pattern)]
    ids = facts.registered(pattern)
    if not names and not ids:
        near = did_you_mean(pattern, [*configured("env"), *facts.registered()])
        raise refusal("--list", "a text in a name or a registered id", repr(pattern), near)
    for name, env_id in names:
        print(f"env={name:<{WIDTH}} {env_id}")
    for env_id in ids:
        print(f"env.id={clean(env_id, newlines=False)}")
    return 0


def _id_of(name: str) -> str:
    """The Gymnasium id of a name of conf/env."""
    return str(_content(name).get("id", ""))


def _content(name: str) -> dict[str, Any]:
    """The file of a name of conf/env."""
    return parse((conf_dir() / "env" / f"{name}.yaml").read_text())


def described(name: str, picture: Path | None, seconds: float, timeout: float) -> Iterator[str]:
    """The lines that describe an environment, each as soon as it is known.

    Args:
        name: a name of conf/env, a registered id, or module:Id.
        picture: file for a picture of its first state; None for none.
        seconds: how long to step it; 0: not at all.
        timeout: seconds that one of its calls may take.

    Raises:
        Refusal: if it is unknown, cannot be made, or does something wrong.
    """
    from rlexp.system import backend

    backend.set_environment("auto")  # what an environment imports may import TensorFlow
    from rlexp.envs import facts, inspection

    settings = _settings(name)
    settings = replace(settings, env=replace(settings.env, step_timeout=timeout))
    choice = _choice(name, settings.env.id)
    yield from _title(name, choice, settings)
    try:
        found = facts.gather(settings.env)
    except Refusal:
        yield from _registration(settings.env.id)
        raise
    try:
        seen = inspection.inspect(settings.env), inspection.inspect(settings.env, tabular=True)
    except Refusal as refused:  # its actions are of a kind that agents have no words for
        yield from [*_spaces(found, None), *_rewards(found), *_origin(found)]
        yield _row("algorithms", f"none takes it: {str(refused).splitlines()[0]}")
        seen = None
    if seen is not None:
        yield from [*_spaces(found, seen), *_rewards(found), *_origin(found), *_dynamics(settings, *seen)]
    if seconds > 0:
        yield from _pace(facts.measure(settings.env, seconds))
    if seen is not None:
        yield from _users(settings, choice, *seen)
    if picture is not None:
        if "rgb_array" not in found.render_modes:
            modes = names(found.render_modes) or "nothing"
            raise refusal("--picture", "an environment that renders to rgb_array", f"one that renders to {modes}")
        from rlexp.jobs.animation import write_png

        write_png(facts.first_frame(settings.env), picture.expanduser())
        yield _row("picture", str(picture))


def _settings(name: str) -> Settings:
    """The settings of a job in an environment; raises `Refusal` for an unknown one."""
    from rlexp.config import plugin_yaml
    from rlexp.envs import facts
    from rlexp.jobs.runner import compose
    from rlexp.system import packages

    own = [*configured("env"), *plugin_yaml.names("env")]
    if name in own:
        return compose("algo=random", f"env={name}")
    bare = name.rpartition(":")[2]
    if ":" not in name and not facts.is_registered(name) and not packages.for_id(name):
        versions = facts.registered(f"{name}-v*") if name else []
        near = f"Did you mean {versions[-1]}?" if versions else did_you_mean(name, [*own, *facts.registered()])
        raise refusal("ENV", "a registered id, module:Id, or a name of conf/env", repr(name[:200]),
                      near or "rlexp env --list shows what there is.")  # fmt: skip
    if not bare or any(not c.isprintable() or c in "'\"\\${}" for c in name):
        raise refusal("ENV", "an id such as CartPole-v1, or module:Id", repr(name[:200]))
    return compose("algo=random", *([f"env={ATARI}"] if name.startswith("ALE/") else []), f"env.id='{name}'")


def _choice(name: str, env_id: str) -> str:
    """What a command line says to choose an environment."""
    if name in configured("env") or name != env_id:
        return f"env={name}"
    if env_id.startswith("ALE/"):  # frames are prepared as for the game that has a file
        return f"env={ATARI} env.id={shlex.quote(env_id)}"
    same = [own for own in configured("env") if _id_of(own) == env_id and _is_plain(own)]
    return f"env={same[0]}" if len(same) == 1 else f"env.id={shlex.quote(env_id)}"


def _is_plain(name: str) -> bool:
    """Whether a name of conf/env stands for its id and nothing else."""
    content = _content(name)
    return not content.get("kwargs") and not {"max_episode_steps", "preprocessing", "defaults"} & content.keys()


def _row(what: str, told: str) -> str:
    return clean(f"{what:<{WIDTH}}{told}", newlines=False)


def _rows(what: str, lines: Sequence[str]) -> Iterator[str]:
    for i, line in enumerate(lines):
        yield _row("" if i else what, line)


def _title(name: str, choice: str, settings: Settings) -> Iterator[str]:
    yield clean(settings.env.id, newlines=False) + (f"   ({choice})" if choice != f"env.id={settings.env.id}" else "")
    if settings.env.kwargs:
        yield _row("arguments", ", ".join(f"{key}={value}" for key, value in settings.env.kwargs.items()))


def _registration(env_id: str) -> Iterator[str]:
    """What is known of an environment that cannot be made."""
    from rlexp.envs import facts

    if (known := facts.registration(env_id)) is not None:
        entry, limit, threshold = known
        yield _row("registered as", entry)
        yield _row("time limit", f"{limit:,} steps" if limit else "none")
        yield _row("reward threshold", decimal(threshold) if threshold is not None else "none")


def _spaces(found: Facts, seen: tuple[EnvInfo, EnvInfo] | None) -> Iterator[str]:
    """Spaces and time limit; `seen`: the environment as algorithms without and with tables see it, if they can."""
    yield from _rows("observation", found.observation)
    if seen is not None and (states := seen[1].num_states) is not None:
        mask = ", an action mask beside it" if seen[1].masked else ""
        yield _row("", f"tables see {plural(states, 'state')}{mask}")
    if seen is not None and found.shape != seen[0].observation_shape:
        yield _row("", f"networks see {seen[0].observation}")
    yield from _rows("actions", found.action)
    yield _row("time limit", f"{found.time_limit:,} steps" if found.time_limit is not None else "none")


def _rewards(found: Facts) -> Iterator[str]:
    solved = found.reward_threshold
    yield _row(
        "reward threshold", "none" if solved is None else f"{decimal(solved)}: a mean return that counts as solved"
    )
    if found.table_rewards is not None:
        low, high = found.table_rewards
        yield _row("rewards", f"{decimal(low)} to {decimal(high)}, from the transition table")


def _origin(found: Facts) -> Iterator[str]:
    yield _row("wrappers", ", ".join(found.wrappers) or "none")
    yield _row("package", found.package)
    yield _row("class", found.cls)
    yield _row("render modes", ", ".join(found.render_modes) or "none")


def _dynamics(settings: Settings, plain: EnvInfo, tabular: EnvInfo) -> Iterator[str]:
    from rlexp.config import registry
    from rlexp.envs import tensor

    table = "no"
    if tabular.table:
        table = "yes, complete" if tabular.is_table else "yes, but it does not say everything"
    yield _row("transition table", table)
    why = tensor.why_not(settings.env, plain)
    how = "its transition table" if registry.dynamics(settings.env.id) is None else "its dynamics in TensorFlow"
    yield _row("fused engine", f"yes, by {how}" if why is None else f"no: {why}")


def _pace(pace: Any) -> Iterator[str]:
    low, high = pace.rewards
    ended = f", {pace.episodes:,} episodes ended" + (
        f" with a mean return of {decimal(pace.mean_return)}" if pace.episodes else ""
    )
    yield _row("speed", f"{pace.steps / pace.seconds:,.0f} steps/s of one instance here, in {pace.seconds:.1f} s")
    told = f"rewards from {decimal(low)} to {decimal(high)}" if math.isfinite(low + high) else "no finite rewards"
    yield _row("random actions", f"{told} in {pace.steps:,} steps{ended}")


def _users(settings: Settings, choice: str, plain: EnvInfo, tabular: EnvInfo) -> Iterator[str]:
    """The algorithms that take an environment, their presets, and the command to start with."""
    from rlexp.config import registry
    from rlexp.envs.spec import title
    from rlexp.jobs.suitability import presets, suitability

    asked = suitability(settings, plain, tabular)
    fit = [one for one in asked if not one.refused]
    kind = plain.action.kind
    if not registry.algos_taking(kind):
        yield _row("algorithms", f"none takes {title(kind)} actions now")
        return
    if not fit:
        yield from _rows("algorithms", ["none takes it:", *(f"  {one.algo}: {one.refused}" for one in asked)])
        return
    own: dict[str, list[str]] = {one.algo: [] for one in fit}
    anywhere = []
    for preset in presets():
        if preset.algo in own and preset.env and _is_for(preset.env, settings.env):
            own[preset.algo].append(preset.name)
        elif preset.algo in own and not preset.env and not any(one.more for one in fit):
            anywhere.append(preset.name)
    yield _row("algorithms", "and their presets for it, +experiment=<preset>")
    for one in fit:
        yield _row("", f"  {one.algo:<{WIDTH}}{', '.join(filter(None, [one.more, *own[one.algo]])) or '-'}")
    if anywhere:
        yield from _rows("  for any", textwrap.wrap(", ".join(anywhere), 90))
    reasons: dict[str, list[str]] = {}
    for one in asked:
        if one.refused:
            why = one.refused.partition(", received")[0].replace(f" for {one.algo}", "")
            reasons.setdefault(why, []).append(one.algo)
    yield from _rows("not", [f"  {', '.join(names)}: {why}" for why, names in reasons.items()])
    yield _row("start with", f"rlexp {_start(fit, own, choice, tabular)}")


def _is_for(name: str, env: EnvSettings) -> bool:
    """Whether a preset for a name of conf/env is for an environment, too."""
    content = _content(name)
    same = content.get("id") == env.id and (content.get("kwargs") or {}) == env.kwargs
    return same or (name == ATARI and env.id.startswith("ALE/"))


def _start(fit: Sequence[Suitability], own: Mapping[str, Sequence[str]], choice: str, tabular: EnvInfo) -> str:
    """The overrides of a first job: tables where states are numbered, else the default algorithm, if they suit.

    Pictures need settings of their own: a preset, if there is one. `own`: presets for the environment by algorithm.
    """
    first = ("q_learning", "dueling_ddqn") if tabular.num_states is not None else ("dueling_ddqn", "q_learning")
    by_name = {one.algo: one for one in fit}
    chosen = next((by_name[name] for name in first if name in by_name), fit[-1])
    if chosen.more and own[chosen.algo]:
        return f"+experiment={own[chosen.algo][0]} {choice.rpartition(' ')[2]}"
    return " ".join(filter(None, [f"algo={chosen.algo}", choice, chosen.more]))
