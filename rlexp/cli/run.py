"""The command `rlexp run`: training, `rlexp key=value ...`.

Exit status: 0 done, 2 refused, 1 failed, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from rlexp.cli.help import HELP_FLAGS, training
from rlexp.config import plugin_yaml
from rlexp.config.arguments import options_first, remember, rewrite
from rlexp.config.build import build
from rlexp.config.command_line import check_arguments
from rlexp.config.messages import explain
from rlexp.config.paths import conf_dir
from rlexp.config.schema.job import Settings
from rlexp.system import search_path, stopping, supervisor
from rlexp.system.errors import Refusal
from rlexp.system.text import clean
from rlexp.system.version import __version__


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    supervisor.enable()
    stopping.install()
    if not {"-sc", "--shell-completion"} & {*sys.argv}:  # Tab runs no code of the folder that it is pressed in
        search_path.add_working_directory()
    status = 1  # also after an unexpected error, which Python reports
    try:
        status = _status()
    finally:
        supervisor.note(status=status)
    sys.exit(status)


def _status() -> int:
    typed = sys.argv[1:]
    if "--version" in typed:  # Hydra's flag would print Hydra's version
        print(f"rlexp {__version__}")
        return 0
    if any(arg in HELP_FLAGS for arg in typed):
        print(training(), end="")
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, instead of printing and exiting with 1
    import hydra

    from rlexp.sweeps import plugins
    from rlexp.sweeps.attempt import attempt
    from rlexp.sweeps.outcome import EXIT_STATUS, Outcome
    from rlexp.sweeps.sweep import Ended

    plugins.register()
    plugin_yaml.register()
    outcomes: list[Outcome] = []  # of the jobs that ran in this process
    apart: list[int] = []  # exit status of the job that ran in a worker process

    def task(config: Any, run_job: Callable[..., Any] | None = None) -> float | None:
        """Run one job for Hydra, perhaps in another process; returns its score, for sweepers.

        The fused launcher passes its own `run_job`.
        """
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        alone = HydraConfig.get().mode == RunMode.RUN
        settings = _checked(config) if alone else None
        if settings is not None and (ended := supervisor.run_in_worker()) is not None:
            apart.append(supervisor.exit_status(ended))
            return None
        outcomes.append(attempt(config, run_job, settings))
        if not alone:
            stopping.raise_if_stopped_late()
        return outcomes[-1].score

    try:
        check_arguments(typed)
        sys.argv[1:] = rewrite(options_first(typed))
        remember(sys.argv[1:], typed)
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    except KeyboardInterrupt as interrupt:
        return 128 + getattr(interrupt, "signum", 2)
    except Ended as ended:
        return ended.status
    except Refusal as refused:
        return _refuse(str(refused))
    except Exception as error:
        if outcomes:  # an error of Hydra's after a job
            raise
        return _refuse(explain(error))
    finally:
        sys.argv[1:] = typed
    return max([*apart, *(EXIT_STATUS[outcome.status] for outcome in outcomes)], default=0)


def ask_hydra(line: str) -> list[str]:
    """The words with which Hydra would complete a command line, whose last word may be unfinished or empty."""
    os.environ["COMP_LINE"] = line
    typed, sys.argv[1:] = sys.argv[1:], ["-sc", "query=bash"]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()):
            _status()
        return said.getvalue().split()
    finally:
        sys.argv[1:] = typed
        del os.environ["COMP_LINE"]


def _checked(config: Any) -> Settings | None:
    """The settings; None if the configuration is invalid, so that no process is started for it."""
    try:
        return build(config)
    except Refusal:
        return None


def _refuse(text: str) -> int:
    print(f"refused: {clean(text)}", file=sys.stderr)
    return 2
