"""How commands end, and what of a command line is refused before anything runs."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from rlexp.cli import play, ui
from rlexp.jobs import runner
from rlexp.sweeps import limits
from rlexp.system import places
from rlexp.system.errors import Refusal
from rlexp.system.tool import Parser, Terminated, tool
from rlexp.tracking.addresses import resolve_uri


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Refusal("x: expected a, received b.\nDo c."), 2, "refused: x: expected a, received b.\nDo c.\n"),
        (Terminated(), 143, ""),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), 1, "failed: /a/b: No space left on device\n"),
        (
            OSError(errno.ENOTDIR, "Not a directory", "/a/b"), 2,
            "refused: /a/b: expected a path that can be used, received: Not a directory.\n",
        ),
        (MemoryError(), 1, "failed: there is not enough memory\n"),
    ],
)  # fmt: skip
def test_every_command_ends_in_a_sentence(
    error: BaseException, status: int, said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "dup2", lambda *descriptors: None)

    @tool
    def main() -> int:
        raise error

    assert main() == status
    assert capfd.readouterr().err == said


def test_the_traceback_of_what_nobody_expected_is_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    @tool
    def main() -> int:
        raise KeyError("study")

    assert main() == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: KeyError: 'study'; an error of rlexp's own: please report it, with ")
    assert said.count("\n") == 1
    kept = Path(said.split("with ")[1].strip())
    assert "Traceback" in kept.read_text()
    kept.unlink()


def test_sigterm_ends_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    @tool
    def main() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert main() == 143 and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--number", "x"], "argument --number: invalid int value: 'x'"),
        (["--nothing"], "unrecognized arguments: --nothing"),
        (["a\0b"], "expected a text without NUL"),
    ],
)
def test_arguments_are_refused_in_two_lines(args: list[str], said: str) -> None:
    parser = Parser(prog="x")
    parser.add_argument("--number", type=int)
    with pytest.raises(Refusal, match=said) as refused:
        parser.parse_args(args)
    assert len(str(refused.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("command", "args"),
    [
        (ui, ["--port", "99999999"]),
        (ui, ["--port", "-1"]),
        (ui, ["--tracking-uri", "ftp://x"]),
        (ui, ["--output-dir", "x" * 5000]),
        (play, ["nowhere", "--episode-seed", "-1"]),
        (play, ["nowhere", "--output", "/nowhere/x.gif"]),
    ],
)
def test_wrong_words_of_commands(command, args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(args) == 2
    said = capsys.readouterr().err
    assert said.startswith("refused: ") and len(said.splitlines()) <= 2 and len(said) < 1500


def test_places_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    assert places.why_not(tmp_path / "new" / "newer") is None
    for place, why in (
        (tmp_path / "file", "which is a file"),
        (tmp_path / "file" / "x", "which is a file"),
        (tmp_path / "loop" / "x", ""),
        ("/proc/x", "where no files can be created"),
        ("x" * 5000, "a path of 5,000 letters"),
        ("x" * 300, "a name of 300 letters"),
        ("a\0b", "a name with a NUL"),
    ):
        assert why in (places.why_not(place) or pytest.fail(f"{place} was accepted"))
    with pytest.raises(
        Refusal, match=r"output_dir: expected a folder in which jobs can make theirs, received .* a file"
    ):
        runner.compose("algo=random", f"output_dir={tmp_path}/file")


@pytest.mark.parametrize("uri", ["ftp://x", "gopher:x", "sqlite:////proc/x/y.db", "sqlite:////dev/null/y.db"])
def test_wrong_addresses(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match=r"URI|uri"):
        resolve_uri(uri, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(Refusal, match="URI"):
        resolve_uri(None, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "number"),
    [
        (["seed=range(0,3000000)"], "3,000,000"),
        (["seed=range(0,200)", "trials=1,2,3", "budget.steps=range(1,100)"], "59,400"),
        (["algo.gamma=range(0,1,1e-9)"], "1,000,000,000"),
    ],
)
def test_sweeps_of_millions_are_refused(overrides: list[str], number: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parse = OverridesParser.create().parse_overrides
    with pytest.raises(Refusal, match=f"at most 10,000 jobs, received {number}"):
        limits.check_number(parse(overrides))
    limits.check_number(parse(["seed=range(0,100)", "algo.gamma=range(0,1,0.01)"]))


def test_wrong_options_of_sweepers_and_launchers() -> None:
    for name, value in (("restarts", -1), ("max_trials", 0), ("max_batch_size", 0), ("restarts", 1.5)):
        with pytest.raises(Refusal, match=rf"hydra\.sweeper\.{name}: expected a whole number >= "):
            limits.check("hydra.sweeper", {name: value})
    limits.check("hydra.launcher", {"restarts": 0, "max_batch_size": None, "num_cpus": 0.5, "address": "auto"})
    with pytest.raises(Refusal, match=r"hydra\.launcher\.n_jobs: expected a whole number >= 1, or -1"):
        limits.check_workers(0)
    limits.check_workers(-1)


def test_networks_that_do_not_fit_into_memory() -> None:
    from rlexp.jobs.preflight import preflight

    for network in ("mlp", "dueling"):
        settings = runner.compose("algo=dqn", f"network={network}", "network.hidden_units=[100000,100000]", "trials=5")
        with pytest.raises(
            Refusal, match=r"network\.hidden_units: expected networks that fit .* Lower|networks of 10,"
        ):
            preflight(settings)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_the_command_that_started_it(signum: signal.Signals, tmp_path: Path) -> None:
    import subprocess
    import sys
    import time
    import urllib.request

    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db").create_experiment("ladder")
    command = [sys.executable, "-m", "rlexp.ui", "--output-dir", str(tmp_path), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    address = process.stdout.readline().split()[0]
    process.send_signal(signum)
    assert process.wait(30) == (143 if signum == signal.SIGTERM else -signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            return
        time.sleep(0.3)
    pytest.fail("the server runs on")
