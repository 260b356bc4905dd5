"""Which `pip install` brings what is missing, and which packages register which ids; no package index is asked."""

from __future__ import annotations

import importlib
import importlib.util
import re

PACKAGES = {  # top-level module -> what to install, where its name does not say it or an extra brings it
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
    "tensorflow_probability": "tensorflow-probability",
    "yaml": "PyYAML",
}
WORDS = {  # in what an environment says of a missing package
    "box2d": "rlexp[box2d]",
    "ale_py": "rlexp[atari]",
    "ale-py": "rlexp[atari]",
    "opencv": "rlexp[atari]",
    "mujoco": "gymnasium[mujoco]",
    "pygame": "gymnasium[classic-control]",
}
MISSING = "DependencyNotInstalled"  # Gymnasium's error for a missing package, which says in words what to install
IDS = {  # how ids begin that a package registers -> its module
    "ALE/": "ale_py",
    "BabyAI-": "minigrid",
    "MiniGrid-": "minigrid",
    "MinAtar/": "minatar",
    "AdroitHand": "gymnasium_robotics",
    "Fetch": "gymnasium_robotics",
    "PointMaze": "gymnasium_robotics",
    "highway-": "highway_env",
}
HYDRA = {  # launchers and sweepers that come with packages
    "joblib": "rlexp[parallel]",
    "submitit_local": "rlexp[slurm]",
    "submitit_slurm": "rlexp[slurm]",
    "ax": "hydra-ax-sweeper",
    "nevergrad": "hydra-nevergrad-sweeper",
    "rq": "hydra-rq-launcher",
}


def line(package: str) -> str:
    """The line for a package that is known to bring what is missing."""
    return f"pip install {repr(package) if '[' in package else package}"


def for_module(module: str) -> str:
    """What to do about a module that cannot be found; empty where its package is installed."""
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
    """What to do about an exception that a missing package has raised; empty where none is to blame."""
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, ModuleNotFoundError) and cause.name and type(error).__name__ != MISSING:
            return for_module(cause.name)
    if type(error).__name__ != MISSING:
        return ""
    text = str(error)
    for word, package in WORDS.items():
        if word in text.lower():
            return f"{line(package)} brings it."
    said = re.search(r"pip install [\w\[\]'\".=-]+", text)
    extra = re.search(r"gymnasium\[([\w-]+)\]", text)
    return f"{line(extra[0])} brings it." if extra else said[0].rstrip("'\".") if said else ""


def for_id(env_id: str) -> str:
    """The line that brings the package which registers ids like this one, where it is not installed; else empty."""
    module = _module_of(env_id)
    return "" if module is None or _installed(module) else f"{line(PACKAGES[module])} brings it."


def import_for_id(env_id: str) -> None:
    """Import the package that is known to register ids like this one when it is imported, if it is installed."""
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
