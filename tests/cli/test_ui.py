"""`rlexp ui`: whose server it starts, and for whom."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from rlexp.cli import ui


def test_it_listens_on_this_machine_only_and_starts_no_workers() -> None:
    words = ui.command("sqlite:///x.db", ui.LOOPBACK, 5001)
    assert words[words.index("--host") + 1] == "127.0.0.1" and words[words.index("--port") + 1] == "5001"
    assert words[words.index("--uvicorn-opts") + 1] == "--log-level=warning"  # else the address is lost among its lines
    assert ui.environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert ui.environment()["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((ui.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ui.free_port(ui.LOOPBACK, port) != port


def test_without_results_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--output-dir", str(tmp_path), "--no-browser"]) == 2
    assert capsys.readouterr().err.endswith("received no such file. Run a job first, or give --output-dir.\n")


def test_a_server_of_ones_own_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--tracking-uri", "http://tracking.example:5000", "--no-browser"]) == 0
    assert capsys.readouterr().out == "the results are on a server: http://tracking.example:5000\n"


@pytest.mark.slow
def test_the_pages_are_served_until_ctrl_c(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db").create_experiment("ladder")
    server = subprocess.Popen(
        [sys.executable, "-m", "rlexp.ui", "--output-dir", str(tmp_path), "--no-browser"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    server.stdout.readline()
    address = server.stdout.readline().split()[0]
    page = "/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=rlexp"
    assert address.endswith(page)  # there is one study
    address = address.removesuffix(page)
    with urllib.request.urlopen(address, timeout=30) as page:
        assert b"MLflow" in page.read()
    os.kill(server.pid, signal.SIGINT)
    assert server.wait(timeout=30) == 0
