"""The command `rlexp chain`: the notebook's runs of the Markov chain of Figure 18-7."""

from __future__ import annotations

from collections.abc import Sequence

from rlexp.book.mdp import SEED, chain_runs
from rlexp.envs.chapter import CHAIN_END
from rlexp.system.tool import Parser, tool


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Print the runs as the notebook does; one that is cut ends in `...`."""
    parser = Parser(
        prog="rlexp chain",
        description="Print runs of the Markov chain of the chapter's Figure 18-7, with the notebook's random numbers.",
        examples=("rlexp chain", "rlexp chain --runs 3 --seed 7"),
    )
    parser.add_argument("--runs", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the random numbers (default: 42)")
    args = parser.parse_args(argv)
    for number, states in enumerate(chain_runs(args.runs, args.seed), start=1):
        end = "" if states[-1] == CHAIN_END else " ..."
        print(f"Run #{number}: {' '.join(map(str, states))}{end}")
    return 0
