"""Tracking URIs: the one in force, whether it lies in an output folder, and the commands that use it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from rlexp.system import places
from rlexp.system.errors import refusal
from rlexp.system.text import MASK, USER_INFO_HINT, mask, user_info
from rlexp.tracking import store_file
from rlexp.tracking.store_file import JOBS_VIEW

LOCAL_SERVER = "http://127.0.0.1:5000"  # where `rlexp ui` serves, unless the port is taken
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "file")  # of MLflow's stores
PUT_IN = f"with the password in place of {MASK}, or the whole address in MLFLOW_TRACKING_URI"


def resolve_uri(uri: str | None, output_dir: Path) -> str:
    """The tracking URI in force: `uri`, else MLFLOW_TRACKING_URI, else SQLite in the output folder.

    A database's URI may contain a password, which MLflow needs: pass it through `mask` before it is written or printed.

    Raises:
        Refusal: for a server's address with a user name or password, an unknown scheme, or a file in a folder that
            cannot be created.
    """
    default = f"sqlite:///{(output_dir.absolute() / 'mlflow.db').as_posix()}"
    named = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if named and user_info(named):
        where = "tracking URI" if uri else "MLFLOW_TRACKING_URI"
        raise refusal(where, "an address without a user's name or password", named, USER_INFO_HINT)
    scheme = re.match(r"([a-z][a-z0-9.-]*)(?:\+\w+)?:", named or "", re.IGNORECASE)
    if scheme and scheme[1].lower() not in SCHEMES:
        where = "--tracking-uri" if uri else "MLFLOW_TRACKING_URI"
        raise refusal(where, "sqlite:///<file>, postgresql://..., or http(s)://<server>", mask(named or ""))
    path = store_file.store_path(named or "")
    if path is not None and (why := places.why_not(path.parent)):
        raise refusal("tracking URI", "a file in a folder that can be made", why)
    return named or default


def local_store(uri: str, output_dir: Path) -> bool:
    """Whether `uri` is a store of files inside an output folder, so that nothing that is sent there leaves it."""
    scheme, _, path = uri.partition(":")
    if scheme not in ("sqlite", "file") or not path.startswith("/") or any(sign in path for sign in "?#%\0"):
        return False
    if scheme == "sqlite":
        if not path.startswith("///"):
            return False
        path = path.removeprefix("///")
    elif path.startswith("//"):
        if not path.startswith("///"):
            return False  # on another machine
        path = path.removeprefix("//")
    try:
        return Path(path).resolve().is_relative_to(output_dir.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def sync_command(path: Path, uri: str | None = None, output_dir: Path | None = None) -> str:
    """The command that delivers a folder to `uri`; it names the URI unless it is the one that the command would choose.

    Args:
        path: a job's folder, or a folder of several jobs.
        uri: None for the default.
        output_dir: the output folder; default: `path`.
    """
    command = f"rlexp sync {shlex.quote(str(path))}"
    if uri is None or uri == os.environ.get("MLFLOW_TRACKING_URI") or local_store(uri, output_dir or path):
        return command
    hidden = mask(uri)
    return f"{command} --tracking-uri {shlex.quote(hidden)}" + (f"   ({PUT_IN})" if hidden != uri else "")


def study_page(server: str, experiment_id: str, view: str = JOBS_VIEW) -> str:
    """The address of a study's page in MLflow: the table of its jobs, or of its trials.

    Args:
        server: address of MLflow's server.
        experiment_id: of the study.
        view: `JOBS_VIEW` or `TRIALS_VIEW`.
    """
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}"
    return f"{server.rstrip('/')}/{page}"


def ui_command(uri: str, study: str = "", experiment_id: str = "") -> str:
    """The command that shows what is at `uri`, or the address itself for a server; passwords are masked.

    Args:
        uri: tracking URI.
        study: the study to show; empty for all.
        experiment_id: of the study in the store, if it is known: its page's address is told, too.
    """
    if uri.startswith("http"):
        return study_page(mask(uri), experiment_id) if experiment_id else mask(uri)
    usual = resolve_uri(None, Path("outputs"))
    words = ["rlexp ui", *(["--"] if study.startswith("-") else []), shlex.quote(study) if study else ""]
    if uri != usual:
        words.insert(1, f"--tracking-uri {shlex.quote(mask(uri))}")
    command = " ".join(filter(None, words))
    return f"{command}   ({study_page(LOCAL_SERVER, experiment_id)})" if experiment_id else command
