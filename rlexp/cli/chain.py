"""The notebook's runs of the Markov chain of Figure 18-7: `python -m rlexp.chain`."""

from __future__ import annotations

import argparse

from rlexp.book.mdp import SEED, chain_runs
from rlexp.envs.chapter import CHAIN_END


def main(argv: list[str] | None = None) -> int:
    """Print the runs as the notebook does; one that is cut ends in `...`."""
    parser = argparse.ArgumentParser(prog="python -m rlexp.chain", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the random numbers (default 42)")
    args = parser.parse_args(argv)
    for number, states in enumerate(chain_runs(args.runs, args.seed), start=1):
        end = "" if states[-1] == CHAIN_END else " ..."
        print(f"Run #{number}: {' '.join(map(str, states))}{end}")
    return 0
