"""The command `rlexp ui`: MLflow's pages for the project's store, by default for this machine only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rlexp.system import words
from rlexp.system.errors import Refusal, did_you_mean, refusal
from rlexp.system.text import mask
from rlexp.system.tool import Parser, Terminated, tool
from rlexp.tracking import store_file
from rlexp.tracking.addresses import resolve_uri, study_page, ui_command
from rlexp.tracking.log import one_line

LOOPBACK = "127.0.0.1"
FIRST_PORT = 5000  # MLflow's default
PORTS = 100  # number of ports to try
PR_SET_PDEATHSIG = 1  # option of prctl
GRACE = 10.0  # seconds until the server is killed
PATIENCE = 120.0  # seconds for the server to answer


def command(uri: str, host: str, port: int) -> list[str]:
    """The command line of MLflow's server, without a URI that holds a password: other users can read it."""
    store = ["--backend-store-uri", uri] if mask(uri) == uri else []
    quiet = ["--uvicorn-opts", "--log-level=warning"]  # thirty lines would hide the address
    return [sys.executable, "-m", "mlflow", "ui", *store, "--host", host, "--port", str(port), *quiet]


def _trouble(uri: str) -> str | None:
    """Why a store cannot be shown; MLflow is imported for it."""
    from rlexp.tracking.mlflow import store

    return store.trouble(uri)


def find_page(uri: str, study: str | None, output_dir: Path) -> tuple[str | None, str]:
    """The experiment of the study to show, and a line about the others.

    Args:
        uri: tracking URI.
        study: the study that the user asked for; None: the only one, if there is only one.
        output_dir: the folder of the studies.

    Returns:
        Id of the experiment, None to show all; and what to say beside the address.

    Raises:
        Refusal: if there is no such study.
    """
    path = store_file.store_path(uri)
    if path is None and study is None:
        return None, ""
    try:
        known = store_file.studies(path) if path is not None else _studies(uri)
    except sqlite3.DatabaseError as error:
        raise Refusal(_trouble(uri) or f"{path}: {error}") from error
    if study is not None and study not in known:
        hint = did_you_mean(study, known) or (f"There are {words.names(list(known))}." if known else "There are none.")
        raise refusal("STUDY", f"a study in {mask(uri)}", repr(study), hint)
    if study is None and len(known) != 1:
        example = f"   (one of them: {ui_command(uri, next(iter(known)))})" if known else ""
        return None, f"studies: {words.names(list(known)) or 'none'}{example}"
    chosen = study if study is not None else next(iter(known))
    if path is not None and not store_file.has_view(path, known[chosen]):
        _make_view(uri, known[chosen], output_dir / chosen)
    return known[chosen], ""


def _studies(uri: str) -> dict[str, str]:
    """The studies on a server, by their names; MLflow is imported for it."""
    from rlexp.tracking.mlflow import study

    try:
        return study.studies(uri)
    except Exception as error:  # of the connection
        raise refusal("--tracking-uri", "an MLflow server that answers", f"{mask(uri)}: {one_line(error)}") from error


def _make_view(uri: str, experiment_id: str, folder: Path) -> None:
    """Make the view of a study that an earlier version has tracked; without one, its page is MLflow's own."""
    from rlexp.tracking.mlflow import study

    try:
        study.make_views(uri, experiment_id, folder)
    except Exception as error:  # the page is there all the same
        print(f"warning: no view of the study was made: {one_line(error)}", file=sys.stderr)


def environment() -> dict[str, str]:
    """The server's environment: no telemetry, no job workers (eight processes and 2 GB), no warnings of its imports."""
    ours = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    ours["PYTHONWARNINGS"] = "ignore"
    ours["PYTHONSAFEPATH"] = "1"  # so that a flask.py in the working directory is not imported
    return {**os.environ, **ours}


def free_port(host: str, first: int = FIRST_PORT, number: int = PORTS) -> int | None:
    """The first free one of `number` ports from `first` on; None if all are in use."""
    for port in range(first, min(first + number, 65_536)):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((host, port))
            except (OSError, OverflowError, UnicodeError):
                continue
            return port
    return None


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until it is interrupted; its exit status: 0, 1 if the server fails, 2 without a store."""
    parser = Parser(
        prog="rlexp ui",
        description="Show a study in MLflow's pages, in a browser on this machine: its jobs sorted by score, with what "
        "differs between them; the button with a curve shows their learning curves.",
        examples=("rlexp ui", "rlexp ui dqn_ladder", "rlexp ui --output-dir /data/outputs --port 8080 --no-browser"),
    )
    parser.add_argument("study", nargs="?", metavar="STUDY", help="name of a study; without it, the only one, or all")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    parser.add_argument("--tracking-uri", metavar="URI", help="default: MLFLOW_TRACKING_URI, else DIR/mlflow.db")
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, help=f"default: the first free one from {FIRST_PORT} on")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    args = parser.parse_args(argv)
    if args.port is not None and not 0 < args.port < 65_536:
        raise refusal("--port", "a number from 1 to 65535", str(args.port))
    uri = resolve_uri(args.tracking_uri, args.output_dir)
    if uri.startswith("http"):
        found, _ = find_page(uri, args.study, args.output_dir)
        page = study_page(uri, found) if found else uri
        print(f"the results are on a server: {page}")
        _open(page, args.no_browser)
        return 0
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise Refusal(f"expected results in {uri}, received no such file. Run a job first, or give --output-dir.")
    if not store_file.was_used(uri) and (wrong := _trouble(uri)):
        raise Refusal(wrong)
    found, others = find_page(uri, args.study, args.output_dir)
    port = args.port or free_port(args.host)
    if port is None:
        raise refusal("--host, --port", "an address of this machine with a free port",
                      f"{args.host}, none from {FIRST_PORT} on", "Give another --port or --host.")  # fmt: skip
    if args.port is not None and free_port(args.host, port, 1) is None:
        raise refusal("--host, --port", "an address of this machine and a free port", f"{args.host}:{port}",
                      "Without --port, a free one is taken.")  # fmt: skip
    env = {**environment(), "MLFLOW_BACKEND_STORE_URI": uri}
    server = subprocess.Popen(
        command(uri, args.host, port), env=env, stdout=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform.startswith("linux") else None,
    )  # fmt: skip
    try:
        address = f"http://{args.host}:{port}"
        print(f"starting MLflow's server on {uri} ...", flush=True)
        if not _answers(address, server):
            why = _trouble(uri) or f"MLflow's server did not answer at {address}"
            print(f"failed: {why}", file=sys.stderr)
            return 1
        page = study_page(address, found) if found else address
        print(f"{page}  (Ctrl-C ends it)", flush=True)
        if others:
            print(others, flush=True)
        _open(page, args.no_browser)
        return 0 if server.wait() == 0 else 1
    except Terminated:
        raise
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _end_with_parent() -> None:
    """In the server's process, before it starts: ask for SIGTERM when the parent dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its children within a bounded time."""
    with contextlib.suppress(ValueError):  # not the main thread
        for signum in (signal.SIGTERM, signal.SIGINT):  # a second signal must not interrupt this
            signal.signal(signum, signal.SIG_IGN)
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)


def _answers(address: str, server: subprocess.Popen[bytes]) -> bool:
    """Whether the server answers within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return False


def _open(address: str, never: bool) -> None:
    """Open the address in a browser, if there is a display."""
    if never or not (
        sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return
    webbrowser.open(address)
