"""All calls into environments pass here; a call that goes wrong raises `Misbehaved`, or is reported as a fault.

An environment is third-party code: it may raise anything, whenever it is called, and return anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.envs.faults import Misbehaved, is_signal, raised, trace, unreadable
from rlexp.envs.result_check import FLOAT32_MAX, ResultCheck, check_info, to_bool, to_reward
from rlexp.envs.watchdog import Hangs, watch
from rlexp.system import supervisor


def call(method: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call into an environment, watched by the watchdog.

    Args:
        method: its name, for the sentence.
        function, args: what is called.

    Raises:
        Misbehaved: for any exception, also SystemExit or a KeyboardInterrupt that the environment raised itself.
        Interrupted: for a signal.
    """
    watch.calls += 1
    watch.method = method
    watch.inside = True
    try:
        result = function(*args)
        watch.inside = False
        return result
    except Misbehaved:  # of an environment in another process
        watch.inside = False
        raise
    except BaseException as error:
        watch.inside = False
        if is_signal(error):
            raise
        fault = Misbehaved(raised(error, method), trace(error))
    raise fault


def announce(method: str) -> None:
    """Name the next call, also to the supervisor, which reports it if the process dies in it."""
    watch.method = method
    supervisor.note(method=method)


def step_all(
    envs: Sequence[Any] | Mapping[int, Any],
    actions: Sequence[Any] | Mapping[int, Any] | np.ndarray,
    running: Sequence[int],
    check: ResultCheck,
    observations: np.ndarray,
    rewards: list[float],
    report: Callable[[int, str, str], None],
) -> list[tuple[int, bool, bool]]:
    """One step in each of some environments: `call` for the hot loop, with checked results.

    Args:
        envs, actions: by number.
        running: numbers of the environments that take a step.
        check: checks the results.
        observations, rewards: where results are written, by number.
        report: called with number, fault and traceback; such a step gives no reward.

    Returns:
        Number, terminated and truncated of the episodes that have ended.
    """
    ended, read = [], check.read
    watch.method = "step"
    try:
        for k in running:
            watch.calls += 1
            watch.number = k
            watch.inside = True
            try:
                result: Any = envs[k].step(actions[k])
            except BaseException as error:
                watch.inside = False
                if is_signal(error):
                    raise
                report(k, raised(error, "step"), trace(error))
                continue
            try:
                observation, reward, terminated, truncated, info = result
                observations[k] = read(observation)
                if reward.__class__ is not float or not -FLOAT32_MAX <= reward <= FLOAT32_MAX:
                    reward = to_reward(reward)
                if info.__class__ is not dict:
                    check_info(info)
                if terminated is not False or truncated is not False:
                    terminated, truncated = to_bool("terminated", terminated), to_bool("truncated", truncated)
                    if terminated or truncated:
                        ended.append((k, terminated, truncated))
                rewards[k] = reward
            except BaseException as error:  # also of objects whose comparison raises
                watch.inside = False
                if is_signal(error):
                    raise
                report(k, raised(error, "step") if isinstance(error, Hangs) else unreadable(error, result), "")
    finally:
        watch.inside = False
    return ended


def close_all(envs: Sequence[gym.Env | None]) -> list[str]:
    """Close environments.

    Returns:
        What went wrong, one text per environment. It is no fault: all results are in.
    """
    problems = []
    for env in envs:
        if env is None:
            continue
        announce("close")
        try:
            call("close", env.close)
        except Misbehaved as fault:
            problems.append(fault.text)
    return problems


class Guarded:
    """An environment whose methods are called through `call`; for loops that need not be fast.

    Args:
        env: its other attributes are read from here.
    """

    def __init__(self, env: gym.Env) -> None:
        self._env, self._steps = env, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, **options: Any) -> Any:
        """Reset."""
        self._steps = 0
        return self._call("reset", partial(self._env.reset, **options))

    def step(self, action: Any) -> Any:
        """Step."""
        self._steps += 1
        return self._call("step", self._env.step, action)

    def render(self) -> Any:
        """Render."""
        return self._call("render", self._env.render)

    def close(self) -> Any:
        """Close."""
        return self._call("close", self._env.close)

    def _call(self, method: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(method, function, *args)
        except Misbehaved as fault:
            raise Misbehaved(f"step {self._steps}: {fault.text}", fault.trace) from None
