"""The `pip install` line for a missing package, and the packages that register environment ids.

The tables are part of the code; no package index is asked.
"""

from __future__ import annotations

import importlib
import importlib.util
import re

PACKAGES = {  # top-level module -> what to install, where the names differ or an extra contains it
    "ale_py": "rlexp[atari]",
    "Box2D": "rlexp[box2d]",
    "cv2": "rlexp[atari]",
    "gymnasium_robotics": "gymnasium-robotics",
    "highway_env": "highway-env",
    "imageio_ffmpeg": "rlexp[video]",
    "minatar": "minatar",
    "minigrid": "minigrid",
    "mujoco": "gymnasium[mujoco]",
    "optuna": "rlexp[search]",
    "PIL": "pillow",
    "pygame": "gymnasium[classic-control]",
    "ray": "rlexp[ray]",
    "sklearn": "scikit-learn",
    "tensorboard": "rlexp[tensorboard]",
    "tensorflow_probability": "tensorflow-probability",
    "yaml": "PyYAML",
}
KEYWORDS = {  # in the message of an environment about a missing package -> what to install
    "box2d": "rlexp[box2d]",
    "ale_py": "rlexp[atari]",
    "ale-py": "rlexp[atari]",
    "opencv": "rlexp[atari]",
    "mujoco": "gymnasium[mujoco]",
    "pygame": "gymnasium[classic-control]",
}
MISSING = "DependencyNotInstalled"  # Gymnasium's error for a missing package; its message names the package
IDS = {  # prefix of the ids that a package registers -> its module
    "ALE/": "ale_py",
    "BabyAI-": "minigrid",
    "MiniGrid-": "minigrid",
    "MinAtar/": "minatar",
    "AdroitHand": "gymnasium_robotics",
    "Fetch": "gymnasium_robotics",
    "PointMaze": "gymnasium_robotics",
    "highway-": "highway_env",
}
HYDRA = {  # launchers and sweepers of Hydra that are packages of their own
    "joblib": "rlexp[parallel]",
    "submitit_local": "rlexp[slurm]",
    "submitit_slurm": "rlexp[slurm]",
    "ax": "hydra-ax-sweeper",
    "nevergrad": "hydra-nevergrad-sweeper",
    "rq": "hydra-rq-launcher",
}


def line(package: str) -> str:
    """The `pip install` line for a package."""
    return f"pip install {repr(package) if '[' in package else package}"


def for_module(module: str) -> str:
    """What to do about a module that is not found; empty if its package is installed."""
    top = module.partition(".")[0]
    if top in PACKAGES:
        return "" if _installed(top) else f"{line(PACKAGES[top])} brings it."
    if not top.isidentifier() or _installed(top):
        return ""
    return (
        f"Perhaps: pip install {top.replace('_', '-')} (a guess from its name). "
        "A file of your own is looked for in the current folder and in PYTHONPATH."
    )


def for_error(error: BaseException) -> str:
    """What to do about an exception if a missing package caused it, else empty."""
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, ModuleNotFoundError) and cause.name and type(error).__name__ != MISSING:
            return for_module(cause.name)
    if type(error).__name__ != MISSING:
        return ""
    text = str(error)
    for word, package in KEYWORDS.items():
        if word in text.lower():
            return f"{line(package)} brings it."
    command = re.search(r"pip install [\w\[\]'\".=-]+", text)
    extra = re.search(r"gymnasium\[([\w-]+)\]", text)
    return f"{line(extra[0])} brings it." if extra else command[0].rstrip("'\".") if command else ""


def for_id(env_id: str) -> str:
    """The `pip install` line of the package that registers ids like this one; empty if it is unknown or installed."""
    module = _module_of(env_id)
    return "" if module is None or _installed(module) else f"{line(PACKAGES[module])} brings it."


def import_for_id(env_id: str) -> None:
    """Import the package that registers ids like this one, if it is known and installed."""
    module = _module_of(env_id)
    if module is not None and _installed(module):
        importlib.import_module(module)


def _module_of(env_id: str) -> str | None:
    return next((module for start, module in IDS.items() if env_id.startswith(start)), None)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
