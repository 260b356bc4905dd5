"""Copy the picture of `+sweep=families` from a study's report to the folder from which the documentation shows it.

rlexp +sweep=families
python scripts/families_picture.py                       # outputs/families, CartPole, to docs/images/families.png
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from rlexp.report import study
from rlexp.system.errors import Refusal


def main() -> int:
    """Write the report again and copy its picture; exit status 2 if there is no such study or picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "study", nargs="?", type=Path, default=Path("outputs/families"), help="default: outputs/families"
    )
    parser.add_argument("--env", default="cartpole", help="environment of the picture (default: cartpole)")
    parser.add_argument(
        "--to",
        type=Path,
        default=Path(__file__).resolve().parents[1] / "docs" / "images" / "families.png",
        help="destination file",
    )
    args = parser.parse_args()
    try:
        report = study.write(args.study, command=" ".join(["python scripts/families_picture.py", *sys.argv[1:]]))
    except Refusal as refused:
        print(refused, file=sys.stderr)
        return 2
    slug = args.env.replace("_", "-")
    found = sorted((report.parent / "figures").glob(f"*-{slug}-families.png"))
    if not found:
        print(f"{args.study}: expected finished jobs of two families on {args.env}, found none", file=sys.stderr)
        return 2
    shutil.copyfile(found[0], args.to)
    print(args.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
