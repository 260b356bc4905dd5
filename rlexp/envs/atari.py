"""Atari 2600 games as agents see them (Mnih et al. 2015, "Human-level control", Methods; Machado et al. 2018,
"Revisiting the Arcade Learning Environment").

A step is four frames with the same action. The observation is the pixelwise maximum of the last two (some sprites are
drawn in every second frame only) in 84 x 84 grey bytes. As Machado et al. advise, randomness comes from sticky actions
(with probability 0.25 the emulator repeats the previous action in a frame), there are no random no-ops at the start,
and the loss of a life does not end an episode. As in Mnih et al., the actions are the minimal set of the game. Rewards
are the game's.
"""

from __future__ import annotations

import importlib

import gymnasium as gym

FRAME_SKIP = 4
SCREEN_SIZE = 84


def register() -> None:
    """Register the ids ALE/...; raises ImportError without ale-py."""
    ale_py = importlib.import_module("ale_py")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
    gym.register_envs(ale_py)


def preprocess(env: gym.Env, max_episode_steps: int | None) -> gym.Env:
    """Wrap a game that was made with `frameskip=1`.

    Args:
        env: the game.
        max_episode_steps: time limit of an episode in steps of four frames; None: the game's own.

    Raises:
        DependencyNotInstalled: without OpenCV.
    """
    env = gym.wrappers.AtariPreprocessing(env, noop_max=0, frame_skip=FRAME_SKIP, screen_size=SCREEN_SIZE)
    return env if max_episode_steps is None else gym.wrappers.TimeLimit(env, max_episode_steps)
