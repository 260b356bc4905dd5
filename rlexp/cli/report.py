"""The command `rlexp report`: which algorithm is better, by how much, and whether that is certain."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rlexp.config import registry
from rlexp.system.errors import refusal
from rlexp.system.tool import Parser, tool


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 written, 2 no such study."""
    parser = Parser(
        prog="rlexp report",
        description="Compare the jobs of one or more studies: learning curves, final returns with intervals, "
        "probability of improvement, paired tests with a verdict in words. Writes index.html (self-contained), "
        "index.md, figures/ (PNG, SVG) and tables/ (CSV). Jobs that are not finished are named; it may be made again "
        "at any time. A CSV brings the results of other programs: columns job, seed, step, metric (eval/return, "
        "train/return, final/return) and value, one row per number; env where the studies have several environments.",
        epilog="exit status: 0 written, 2 no such study, contender or CSV",
        examples=(
            "rlexp report dqn_ladder",
            "rlexp report dqn_ladder --baseline fixed_dqn      # compare the others with it, not each pair",
            "rlexp report monday tuesday                       # outputs/reports/monday+tuesday/index.html",
            "rlexp report dqn_ladder sb3.csv                   # a curve of Stable-Baselines3 beside ours",
            "rlexp report dqn_ladder --tracking-uri http://server:5000",
            "rlexp report rainbow_ablation                     # which component matters where",
            "rlexp report my_study --distributions             # what c51, qr_dqn, iqn and rainbow expect",
        ),
    )
    parser.add_argument(
        "study",
        nargs="+",
        help="name of a study under --output-dir, or a folder; in MLflow: of an experiment; or a CSV",
    )
    parser.add_argument("--baseline", metavar="NAME", help="contender with which the others are compared")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="read the study from MLflow alone: sqlite:///<file> or http(s)://<server> (default: from job folders)",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="default: <output dir>/<study>/report; for several studies, or with a CSV, <output dir>/reports/<A>+<B>",
    )
    parser.add_argument(
        "--distributions",
        action="store_true",
        help="draw, beside the animations, the distribution of returns of each action where it is missing: "
        f"distribution.gif in the folders of jobs ({', '.join(registry.distributional())})",
    )
    args = parser.parse_args(argv)
    if args.distributions and args.tracking_uri is not None:
        raise refusal(
            "--distributions", "job folders, which have the weights", "--tracking-uri", "Give one of the two."
        )
    command = shlex.join(["rlexp", "report", *(sys.argv[1:] if argv is None else argv)])
    from rlexp.report import study

    path, headline = study.make(
        args.study, output_dir=args.output_dir, tracking_uri=args.tracking_uri, to=args.to, command=command,
        baseline=args.baseline, distributions=args.distributions,
    )  # fmt: skip
    print("\n".join([*headline, f"report: {path}"]))
    return 0
