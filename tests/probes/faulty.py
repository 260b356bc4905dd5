"""Environments with one of 40 faults, registered as `probes/Faulty-v0`.

`KINDS` holds the result of each fault: a job "refused" before the start, a "failed" trial, a finished job with a warning
("warned"), or a "lost" process.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

KINDS: dict[str, tuple[str, str]] = {  # kind -> the result, and a part of its message
    "raises": ("failed", "step 3: step raised ValueError: the sensor fell off"),
    "empty error": ("failed", "step 3: step raised RuntimeError ("),
    "long error": ("failed", "step 3: step raised RuntimeError: first line ("),
    "megabyte error": ("failed", "step 3: step raised RuntimeError: xxxx"),
    "unprintable error": ("failed", "step 3: step raised Unprintable: its message raises ValueError"),
    "exit 0": ("failed", "step 3: step raised SystemExit: 0 ("),
    "interrupt": ("failed", "step 3: step raised KeyboardInterrupt ("),
    "generator exit": ("failed", "step 3: step raised GeneratorExit ("),
    "stop iteration": ("failed", "step 3: step raised StopIteration ("),
    "base exception": ("failed", "step 3: step raised Base: not an Exception ("),
    "no memory": ("failed", "step 3: step raised MemoryError"),
    "recursion": ("failed", "step 3: step raised RecursionError: maximum recursion depth exceeded"),
    "reset exit": ("failed", "step 0: reset raised SystemExit: 0 ("),
    "reset one value": ("failed", "step 0: reset: expected (observation, info) of reset, received "),
    "second instance": ("failed", "__init__ raised SystemExit: 0 ("),
    "init exit": ("refused", "(__init__ raised SystemExit: 0 ("),
    "init empty error": ("refused", "(RuntimeError"),
    "close exit": ("warned", "close raised SystemExit: 0 ("),
    "close raises": ("warned", "close raised OSError: the cable is gone ("),
    "256 in uint8": ("failed", "step 3: expected an observation of uint8 (0 to 255), received [300, 0]"),
    "half in uint8": ("failed", "step 3: expected an observation of uint8 (0 to 255), received [0.5, 0.0]"),
    "state beyond": ("failed", "step 3: expected an observation in [0, 3), received 3"),
    "part beyond": ("failed", "expected an observation whose n is in [0, 3), received -1"),
    "part too large": ("failed", "expected an observation whose x is of int8 (-128 to 127), received [128]"),
    "reward of shape 1": (
        "failed",
        "step 3: expected a reward that is one number, received [1.0] (an array of shape (1,))",
    ),
    "reward in words": ("failed", "step 3: expected a reward that is one number, received 'much' (str)"),
    "terminated in words": ("failed", "step 3: expected terminated to be true or false, received 'no' (str)"),
    "truncated None": ("failed", "step 3: expected truncated to be true or false, received None (NoneType)"),
    "info None": ("failed", "step 3: expected an info that is a dict, received None"),
    "outside its Box": ("warned", "number 1 of an observation is 7, outside [-1, 1], which its Box declares"),
    "NumPy generator": ("warned", "it draws from NumPy's global generator"),
    "unseeded instance": ("warned", "two instances that were reset with the same seed differ at step 0"),
    "hangs": ("failed", "step 3: step has not returned within "),
    "hangs, catches Exception": ("failed", "step 3: step has not returned within "),
    "hangs, catches all": ("lost", " s (env.step_timeout), and cannot be interrupted"),
    "hangs in C": ("lost", " s (env.step_timeout), and cannot be interrupted"),
    "segmentation fault": ("lost", "SIGSEGV: a segmentation fault, in segmentation_fault (faulty.py, line "),
    "os._exit(0)": ("lost", "something called os._exit(0)"),
    "abort": ("lost", "SIGABRT: it called abort, in abort (faulty.py, line "),
    "SIGKILL": ("lost", "SIGKILL: ended by another process, or by the system for lack of memory"),
}
instance_numbers = itertools.count(1)  # of the instances in this process


class Unprintable(Exception):
    """An exception whose message cannot be printed."""

    def __str__(self) -> str:
        raise ValueError


class Base(BaseException):
    """An exception that is not an Exception."""


def recursion() -> None:
    recursion()


def hang() -> None:
    time.sleep(60)


def hang_catching(caught: type[BaseException]) -> None:
    while True:
        with contextlib.suppress(caught):
            time.sleep(0.01)


def hang_in_c() -> None:
    lock, libc = ctypes.create_string_buffer(256), ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)  # deadlocks with itself, and ignores signals


def segmentation_fault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def throw(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


ACTS: dict[str, Callable[[], Any]] = {  # kind -> what the third step of a training episode does
    "raises": throw(ValueError("the sensor fell off")),
    "empty error": throw(RuntimeError()),
    "long error": throw(RuntimeError("first line\nsecond line")),
    "megabyte error": throw(RuntimeError("x" * 1_000_000)),
    "unprintable error": throw(Unprintable()),
    "exit 0": lambda: sys.exit(0),
    "interrupt": throw(KeyboardInterrupt()),
    "generator exit": throw(GeneratorExit()),
    "stop iteration": throw(StopIteration()),
    "base exception": throw(Base("not an Exception")),
    "no memory": throw(MemoryError()),
    "recursion": recursion,
    "NumPy generator": np.random.random,
    "hangs": hang,
    "hangs, catches Exception": lambda: hang_catching(Exception),
    "hangs, catches all": lambda: hang_catching(BaseException),
    "hangs in C": hang_in_c,
    "segmentation fault": segmentation_fault,
    "os._exit(0)": lambda: os._exit(0),
    "abort": abort,
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
SPACES = {
    "256 in uint8": spaces.Box(0, 255, (2,), np.uint8),
    "half in uint8": spaces.Box(0, 255, (2,), np.uint8),
    "state beyond": spaces.Discrete(3),
    "part beyond": spaces.Dict({"n": spaces.Discrete(3), "x": spaces.Box(-128, 127, (1,), np.int8)}),
    "part too large": spaces.Dict({"n": spaces.Discrete(3), "x": spaces.Box(-128, 127, (1,), np.int8)}),
}


class Faulty(gym.Env[Any, Any]):
    """Reward 1; an episode ends after 10 steps. Evaluation episodes, whose seeds are small, have no faults.

    Args:
        kind: one of `KINDS`; "none": no fault.
    """

    def __init__(self, kind: str = "none") -> None:
        self.kind, self.number = kind, next(instance_numbers)
        self.action_space = spaces.Discrete(2)
        self.observation_space = SPACES.get(kind, spaces.Box(-1, 1, (2,), np.float32))
        self.good: Any = {"part beyond": {"n": 1, "x": np.zeros(1, np.int8)}, "state beyond": 1}.get(
            kind, np.zeros(2, getattr(self.observation_space, "dtype", None) or np.float32)
        )
        if kind == "part too large":
            self.good = {"n": 1, "x": np.zeros(1, np.int8)}
        if kind == "init exit" or (kind == "second instance" and self.number > 1 and is_training()):
            sys.exit(0)
        if kind == "init empty error":
            raise RuntimeError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.bad = 0, seed is not None and seed >= 1_000_000
        if self.bad and self.kind == "reset exit":
            sys.exit(0)
        if self.bad and self.kind == "reset one value":
            return self.good
        if self.kind == "unseeded instance":
            return np.full(2, 1 / self.number, np.float32), {}
        return self.good, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        result = [self.good, 1.0, self.t == 10, False, {}]
        if not self.bad or self.t != 3:
            return tuple(result)
        if self.kind in ACTS:
            ACTS[self.kind]()
        wrong: dict[str, tuple[int, Any]] = {
            "256 in uint8": (0, np.array([300, 0])),
            "half in uint8": (0, np.array([0.5, 0])),
            "state beyond": (0, 3),
            "part beyond": (0, {"n": -1, "x": np.zeros(1, np.int8)}),
            "part too large": (0, {"n": 1, "x": np.array([128])}),
            "reward of shape 1": (1, np.ones(1)),
            "reward in words": (1, "much"),
            "terminated in words": (2, "no"),
            "truncated None": (3, None),
            "info None": (4, None),
            "outside its Box": (0, np.array([0, 7], np.float32)),
        }
        if self.kind in wrong:
            place, value = wrong[self.kind]
            result[place] = value
        return tuple(result)

    def close(self) -> None:
        if self.kind == "close exit":
            sys.exit(0)
        if self.kind == "close raises":
            raise OSError("the cable is gone")


def is_training() -> bool:
    """Whether the instance is created for training, judged by the call stack."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_qualname == "TrialEnvs.__init__":
            return True
    return False


if "probes/Faulty-v0" not in gym.registry:
    gym.register("probes/Faulty-v0", entry_point=f"{__name__}:Faulty", disable_env_checker=True)
