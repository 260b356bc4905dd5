"""The command `rlexp sync`: deliver to MLflow, or to TensorBoard, what it has not received."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlexp.system.errors import did_you_mean, refusal
from rlexp.system.text import MASK, clean, mask
from rlexp.system.tool import Parser, shortened, tool
from rlexp.tracking.addresses import PUT_IN, resolve_uri, ui_command
from rlexp.tracking.base import SILENCE
from rlexp.tracking.delivery_loop import follow
from rlexp.tracking.folders import asked_uri, find_jobs, find_sweeps, job_uri, place
from rlexp.tracking.leftovers import close_silent
from rlexp.tracking.log import one_line
from rlexp.tracking.sync import sync

OUTPUTS = Path("outputs")  # the default output folder
TARGETS = ("mlflow", "tensorboard")


@tool
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 all delivered, 1 something not delivered, 2 wrong path."""
    parser = Parser(
        prog="rlexp sync",
        description="Deliver jobs to MLflow (records, artifacts, final status and best weights) or to TensorBoard "
        "(event files with curves, final scores and hyper-parameters). All is read from the jobs' folders, so that it "
        "does not matter which tracker a job was trained with. What was delivered before is not sent again.",
        epilog="exit code: 0 all delivered, 1 something was not delivered, 2 wrong path, or nothing was changed",
        examples=(
            "rlexp sync outputs/",
            "rlexp sync outputs/dqn_ladder --tracking-uri http://server:5000",
            "rlexp sync --rebuild outputs/",
            "rlexp sync --to tensorboard dqn_ladder",
        ),
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="job, study or output folder, or the name of a study in outputs; default: outputs",
    )
    parser.add_argument("--to", default="mlflow", metavar="TRACKER", help=f"{' or '.join(TARGETS)}; default: mlflow")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="sqlite:///<file> or http(s)://<server>; default: MLFLOW_TRACKING_URI, else mlflow.db in the output "
        "folder. A job that was tracked elsewhere is sent there only if that is named here: its folder does not choose",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="make the SQLite store of an output folder anew from all its jobs; the old one is set aside, not deleted",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="deliver running jobs, whose folders are read from standard input; used by the training process",
    )
    args = parser.parse_args(argv)
    if args.to not in TARGETS:
        raise refusal("--to", " or ".join(TARGETS), repr(args.to), did_you_mean(args.to, TARGETS))
    if args.rebuild and args.follow:
        parser.error("--rebuild and --follow exclude each other")
    if args.to != "mlflow" and (args.rebuild or args.follow or args.tracking_uri):
        parser.error("--tracking-uri, --rebuild and --follow are for MLflow")
    if args.rebuild and not args.paths:
        parser.error("--rebuild needs the output folder")
    if args.follow:  # the training process gives the address in the environment
        return 0 if follow(args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")) else 1
    args.paths = [_path(path) for path in args.paths or [OUTPUTS]]
    return (_deliver if args.to == "mlflow" else _deliver_to_tensorboard)(args)


def _path(path: Path) -> Path:
    """The folder that is meant: a path, or a study of the default output folder by its name."""
    study = OUTPUTS / path
    return study if not path.exists() and study.is_dir() else path


def _jobs(paths: Sequence[Path], find: Callable[[Path], list[Path]]) -> dict[Path, list[Path]]:
    """The folders to deliver, by path; refuses paths without any."""
    jobs = {path: find(path) for path in paths}
    for path, folders in jobs.items():
        if not folders:
            raise refusal("PATH", "a folder of jobs", f"{shortened(path)}, where is no job.json, nor two folders below")
    return jobs


def _deliver_to_tensorboard(args: Any) -> int:
    from rlexp.tracking.tensorboard import hyperparameters, place
    from rlexp.tracking.tensorboard.sync import sync

    all_delivered = True
    folders = dict.fromkeys(folder.absolute() for found in _jobs(args.paths, find_jobs).values() for folder in found)
    for folder in folders:
        delivered, line = sync(folder)
        print(f"{clean(folder, newlines=False)}: {line}", flush=True)
        all_delivered &= delivered
    for study in dict.fromkeys(folder.parent for folder in folders):
        try:
            place.settle(study)
        except Exception as error:  # the jobs are delivered all the same
            print(f"{study.name}: event files keep the names of the folders: {one_line(error)}", flush=True)
        print(f"See: {place.ui_command(study)}")
    if not hyperparameters.available():
        print(f"TensorBoard: {hyperparameters.MISSING}")
    return 0 if all_delivered else 1


def _deliver(args: Any) -> int:
    resolve_uri(args.tracking_uri, OUTPUTS)  # refuse a wrong address once, not for each job
    jobs = _jobs(args.paths, lambda path: [*find_jobs(path), *find_sweeps(path)])
    if args.rebuild:
        from rlexp.tracking.rebuild import rebuild

        return rebuild(args.paths, args.tracking_uri)
    all_delivered = True
    not_named: dict[str, None] = {}
    uris: dict[str, dict[tuple[Path, str], None]] = {}  # by address that has answered: output folders and studies
    for folder in dict.fromkeys(folder for folders in jobs.values() for folder in folders):
        delivered, line = sync(folder, args.tracking_uri)
        print(f"{clean(folder, newlines=False)}: {line}", flush=True)
        all_delivered &= delivered
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # already reported above
            asked = None if delivered or args.tracking_uri else asked_uri(folder)
            if asked and line.startswith("not sent:"):
                not_named[asked] = None
        if delivered:
            uris.setdefault(job_uri(folder, args.tracking_uri), {})[place(folder)] = None
    for uri, places in uris.items():
        for output_dir, study in places:
            try:
                closed = close_silent(output_dir, study, uri)
            except Exception as error:  # the jobs are delivered all the same
                print(
                    f"{study} in {mask(uri)}: runs of silent processes were not closed: {one_line(error)}", flush=True
                )
                all_delivered, closed = False, []
            for name in closed:
                print(f"{name} in {mask(uri)}: closed as killed, no sign of life for {SILENCE / 60:.0f} minutes")
    for asked in not_named:
        paths = shlex.join(map(str, args.paths))
        hint = f"   ({PUT_IN})" if MASK in asked else ""
        print(f"If you trust that place: rlexp sync {paths} --tracking-uri {shlex.quote(mask(asked))}{hint}")
    for uri in uris:
        print(f"See: {ui_command(uri)}")
    return 0 if all_delivered else 1
