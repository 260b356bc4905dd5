"""Results of the tuned presets: run `+experiment=tuned/*` with fresh seeds, and tabulate what they reach.

    python scripts/reproduce_results.py                        every preset, ten trials from seed 20000
    python scripts/reproduce_results.py --only ddqn_acrobot    one of them
    python scripts/reproduce_results.py --list                 what there is, and what is done

Jobs run one after the other, environment by environment, in the study `reproduce_results`. Finished ones are not run
again, and a killed one continues. After each of them the table is written: page.html, page.md and results.json in
outputs/reproduce_results. Presets for LunarLander need Box2D: pip install 'rlexp[box2d]'. A preset that cannot run, or
fails, stays in the table with the reason; the others are run.

Exit status: 0 with a table, even if an optional package is missing; 1 if a job failed or was refused (its line says
why); 2 if this command was refused; 130 if interrupted, 143 if terminated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rlexp.book import tuned_page, tuned_rows
from rlexp.book.processes import Absent, explain
from rlexp.book.tuned_rows import NOT_RUN, Jobs, Row
from rlexp.data.checkpoint import write_atomically
from rlexp.system import words
from rlexp.system.errors import refusal
from rlexp.system.stored_files import Damaged
from rlexp.system.tool import DONE, FAILED, Parser, tool, warn

STUDY, CHANGED = "reproduce_results", "reproduce_results_changed"  # the latter for jobs with overrides
SEED, TRIALS = 20_000, 10
LARGEST = 2**32  # number of seeds that there are
SCRIPT = "python scripts/reproduce_results.py"
OWN = ("trials", "seed", "study", "output_dir")  # keys that are not given as overrides
DATA, DOCUMENT, README = Path("docs/tuned.json"), Path("docs/researchers/tuned.md"), Path("README.md")


def run(command: Sequence[str], environment: dict[str, str], output_dir: Path) -> Absent | None:
    """Run one job in a process of its own; returns the reason if it has no results. A signal is passed on to it.

    Args:
        command: of the job.
        environment: variables of the process.
        output_dir: a path that the reason does not tell, since tables are for others.
    """
    with (
        tempfile.TemporaryFile("w+", errors="replace") as stderr,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment) as process,
    ):
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # a terminal has interrupted it, too: within half a second both count as one signal
            process.wait()  # until its checkpoint is written
            raise
        stderr.seek(0)
        return explain(status, tuned_rows.without(output_dir, stderr.read())) if status else None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {number}")
    return number


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="reproduce_results.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        examples=(
            "python scripts/reproduce_results.py --only acrobot --only rainbow",
            "python scripts/reproduce_results.py --seed 20000 --seed 30000",
            "python scripts/reproduce_results.py --no-run --write-docs",
            "python scripts/reproduce_results.py --only ddqn_acrobot --trials 2 budget.steps=5000",
        ),
    )
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE",
        help=f"overrides of every job, to try something; its table is apart, in the study {CHANGED}")  # fmt: skip
    add("--only", action="append", default=[], metavar="TEXT",
        help="the preset of this name, or those with this text in their names; may be repeated")  # fmt: skip
    add("--trials", type=_positive, default=TRIALS, metavar="N", help=f"trials per preset (default {TRIALS})")
    add("--seed", type=int, action="append", metavar="SEED",
        help=f"first seed; repeated, each range has its own line (default {SEED})")  # fmt: skip
    add("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    add("--list", action="store_true", help="print the presets and what is known of them, and run nothing")
    add("--no-run", action="store_true", help="write the table of what is done, and run nothing")
    add("--write-docs", action="store_true",
        help=f"also write {DATA}, and from it {DOCUMENT} and the summary of {README}")  # fmt: skip
    args = parser.parse_args(argv)
    args.seed = sorted(args.seed or [SEED])
    for earlier, later in zip(args.seed, args.seed[1:], strict=False):
        if later < earlier + args.trials:
            raise refusal("--seed", f"ranges of {args.trials} seeds that are apart", f"{earlier} and {later}")
    if wrong := [seed for seed in args.seed if not 0 <= seed <= LARGEST - args.trials]:
        raise refusal("--seed", f"seeds from 0 to {LARGEST - 1}", f"{wrong[0]} with {args.trials} trials")
    for text in args.overrides:
        key = text.partition("=")[0].lstrip("+~")
        if "=" not in text or key in OWN:
            raise refusal("KEY=VALUE", f"an override other than {', '.join(OWN)}", repr(text), "A preset: --only NAME.")
    if args.overrides and args.write_docs:
        raise refusal("--write-docs", "presets without overrides", " ".join(args.overrides))
    return args


def shown_command(argv: Sequence[str] | None) -> str:
    """The command line, as a user has typed it."""
    return " ".join([SCRIPT, *(sys.argv[1:] if argv is None else argv)])


class Table:
    """The table of a study, with the rows of earlier commands.

    Args:
        folder: of the study.
        jobs: behind the rows.
        command: that writes it.
        changes: overrides of every job.
    """

    def __init__(self, folder: Path, jobs: Jobs, command: str, changes: Sequence[str]) -> None:
        self.folder, self.jobs, self.command, self.changes = folder, jobs, command, tuple(changes)
        self._rows: dict[tuple[str, int, int], Row] = {}

    def rows(self) -> list[Row]:
        """All rows, also those that the table leaves out."""
        return list(self._rows.values())

    def look(self, keys: Sequence[tuple[str, int, int]]) -> None:
        """Read the rows of `keys` (preset, first seed, trials), and those of the file that earlier commands wrote."""
        for key in keys:
            self._rows[key] = self.jobs.look(*key)
        self._add_stored()

    def put(self, row: Row) -> None:
        """Replace a row, and write the table."""
        self._rows[row.key] = row
        self.write()

    def write(self) -> None:
        """Write page.html, page.md and results.json."""
        self._add_stored()
        rows = tuned_rows.shown(self.rows())
        tuned_rows.write(self.folder / "results.json", rows, self.command)
        tuned_page.page(rows, self.command, self.changes).write(self.folder / "page.html")

    def _add_stored(self) -> None:
        """Add what the file has beyond this table: another command may have written it meanwhile."""
        known = tuned_rows.presets()
        for row in stored(self.folder / "results.json"):
            ours = self._rows.get(row.key)
            if row.preset in known and (ours is None or (row.measured and not ours.measured)):
                ours = self._rows[row.key] = self.jobs.look(*row.key)
            if ours and ours.missing == NOT_RUN and is_failure(row) and ours.group_id == row.group_id:
                self._rows[row.key] = row


def stored(path: Path) -> list[Row]:
    """The rows of a file; none, with a warning, if it is damaged."""
    try:
        return tuned_rows.read(path)
    except FileNotFoundError:
        return []
    except Damaged as error:
        warn(f"{error}; the jobs' folders tell its rows again")
        return []


def is_failure(row: Row) -> bool:
    """Whether a row has no figures for another reason than a missing package."""
    return not row.measured and not row.missing.startswith("not run")


def told(row: Row) -> str:
    """A row's figures, or why there are none, for a line of output."""
    if not row.measured:
        return row.missing if row.missing == NOT_RUN else f"missing: {row.missing}"
    cells = dict(zip(tuned_page.HEAD, tuned_page.cells(row), strict=True))
    return f"IQM {cells['IQM [95 %]']}, min and max {cells['min, max']}, {cells['minutes']} minutes"


def listed(rows: Sequence[Row]) -> None:
    """Print rows with what is known of them."""
    widths = [max([len(text) for text in column] or [0]) for column in zip(*map(_entry, rows), strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(_entry(row), widths, strict=True)).rstrip())


def _entry(row: Row) -> list[str]:
    return [row.preset, row.place or "-", f"{row.steps:,} steps" if row.steps else "-",
            f"seeds {row.seed} to {row.seed + row.trials - 1}", told(row)]  # fmt: skip


def run_rows(table: Table, waiting: Sequence[Row], environment: dict[str, str]) -> list[str]:
    """Run jobs one after the other, and write the table after each; returns the presets that failed."""
    measured = sum(row.measured for row in table.rows())
    elsewhere = "" if table.jobs.output_dir == Path("outputs").resolve() else f" --output-dir {table.jobs.output_dir}"
    watch = f"rlexp ls {table.jobs.study} --watch{elsewhere}"
    print(f"{measured} jobs are done, {len(waiting)} to run; {watch} shows them", flush=True)
    failed = []
    for number, row in enumerate(waiting, 1):
        where = f"[{number}/{len(waiting)}] {row.heading}"
        if row.group_id:
            print(f"{where}: running, {row.steps:,} env steps per trial", flush=True)
            overrides = tuned_rows.overrides(row, table.jobs.study, table.jobs.output_dir, table.changes)
            try:
                absent = run([sys.executable, "-m", "rlexp", *overrides], environment, table.jobs.output_dir)
            except KeyboardInterrupt:
                print("interrupted; the same command continues", file=sys.stderr)
                raise
            row = table.jobs.look(*row.key, missing=absent.why if absent else "failed: the job has left no results")
            table.put(row)
        print(f"{where}: {told(row)}", flush=True)
        failed += [row.preset] * is_failure(row)
    return failed


def write_text(path: Path, text: str) -> None:
    """Write a file completely, or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_docs(root: Path, rows: Sequence[Row]) -> None:
    """Write the documentation's data, and what is generated from them."""
    path = root / DATA
    rows, old = tuned_rows.documented(rows, tuned_rows.read(path) if path.is_file() else [])
    if old:
        warn(f"{DATA} keeps figures of another configuration or version of {words.names(old)}: run them again")
    texts = {
        name: tuned_page.put((root / name).read_text(), generated, str(name))
        for name, generated in ((DOCUMENT, tuned_page.documentation(rows)), (README, tuned_page.summary(rows)))
    }
    tuned_rows.write(path, rows, SCRIPT)
    for name, text in texts.items():
        write_text(root / name, text)


@tool
def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Run what is missing and write the table; the exit status is explained at the top of this file.

    Args:
        argv: arguments, by default the command's.
        root: of the checkout, whose documentation `--write-docs` writes.
    """
    args, began, environment = _arguments(argv), time.monotonic(), dict(os.environ)
    if args.write_docs and (root is None or not (root / README).is_file()):
        raise refusal("--write-docs", "a checkout of the repository", "none")
    study = CHANGED if args.overrides else STUDY
    folder = args.output_dir.expanduser().resolve() / study
    jobs, known = Jobs(study, folder.parent, args.overrides), tuned_rows.presets()
    chosen = tuned_rows.chosen(args.only, known)
    table = Table(folder, jobs, shown_command(argv), args.overrides)
    table.look([(preset, seed, args.trials) for preset in known for seed in args.seed])
    waiting = [row for row in table.rows() if row.preset in chosen and not row.measured and row.trials == args.trials]
    waiting = sorted((row for row in waiting if row.seed in args.seed), key=lambda row: row.rank)
    if args.list:
        listed([row for row in tuned_rows.shown(table.rows()) if row.preset in chosen])
        return DONE
    folder.mkdir(parents=True, exist_ok=True)
    table.write()
    failed = [] if args.no_run else run_rows(table, waiting, environment)
    if args.write_docs and root is not None:
        write_docs(root, table.rows())
    minutes = round((time.monotonic() - began) / 60, 1)
    print(json.dumps({"page": str(folder / "page.html"), "minutes": minutes}))
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
    return FAILED if failed else DONE
