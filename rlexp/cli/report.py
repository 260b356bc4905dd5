"""The command `rlexp report`: which algorithm is better, by how much, and whether that is certain."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rlexp.system.tool import Parser, tool


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 written, 2 no such study."""
    parser = Parser(
        prog="rlexp report",
        description="Compare the jobs of a study: learning curves, final returns with intervals, probability of "
        "improvement, paired tests with a verdict in words. Writes index.html (self-contained), index.md, figures/ "
        "(PNG, SVG) and tables/ (CSV). Jobs that are not finished are named; it may be made again at any time.",
        epilog="exit status: 0 written, 2 no such study",
        examples=("rlexp report dqn_ladder", "rlexp report dqn_ladder --tracking-uri http://server:5000"),
    )
    parser.add_argument("study", help="name of a study under --output-dir, or a folder; in MLflow: of an experiment")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="read the study from MLflow alone: sqlite:///<file> or http(s)://<server> (default: from job folders)",
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: <output dir>/<study>/report")
    args = parser.parse_args(argv)
    command = shlex.join(["rlexp", "report", *(sys.argv[1:] if argv is None else argv)])
    from rlexp.report import study

    path, headline = study.make(
        args.study, output_dir=args.output_dir, tracking_uri=args.tracking_uri, to=args.to, command=command
    )
    print("\n".join([*headline, f"report: {path}"]))
    return 0
