"""Runs of the chapter's loops on tables as the notebook prints them (`cartpole`, `mdp`), one file per seed:

    python -m rlexp.book.literal_loops --seed 3 --file outputs/chapter18/literal/3.npz

A file that exists is kept, unless it was made with another version of NumPy or Gymnasium.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np

from rlexp.book.cartpole import EPISODES, three_loops
from rlexp.book.mdp import mdp_q_learning
from rlexp.data.checkpoint import write_npz
from rlexp.system.archives import open_npz

SHAPES = {"random": (EPISODES,), "epsilon": (EPISODES,), "log_alpha": (EPISODES,), "mdp": (3, 3)}
MADE_WITH = f"loops 1, gymnasium {gym.__version__}, numpy {np.__version__}"

Run = dict[str, np.ndarray]  # the returns of each loop's episodes, and the final action values of the decision process


def file(study: Path, seed: int) -> Path:
    """The file of one seed."""
    return study / "literal" / f"{seed}.npz"


def command(study: Path, seed: int) -> list[str]:
    """The command that runs one seed."""
    return [sys.executable, "-m", "rlexp.book.literal_loops", "--seed", str(seed), "--file", str(file(study, seed))]


def read(path: Path) -> Run | None:
    """Read a run; None if there is none, or if it is damaged or from other versions."""
    try:
        with open_npz(path) as stored:
            if str(stored["made_with"]) != MADE_WITH:
                return None
            run = {name: stored[name] for name in SHAPES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return run if all(run[name].shape == shape for name, shape in SHAPES.items()) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one seed and write its file."""
    parser = argparse.ArgumentParser(
        prog="python -m rlexp.book.literal_loops",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, required=True, help="of NumPy's global generator, as np.random.seed takes it"
    )
    parser.add_argument("--file", type=Path, required=True, help="where to write it")
    args = parser.parse_args(argv)
    if read(args.file) is None:
        args.file.parent.mkdir(parents=True, exist_ok=True)
        run = {**three_loops(args.seed), "mdp": mdp_q_learning(seed=args.seed)[-1]}
        write_npz(args.file, {**run, "made_with": np.array(MADE_WITH)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
