"""The command line: `python -m rlexp key=value ...`, and the console script `rlexp`.

Exit status: 0 done, 2 refused, 1 failed, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from rlexp.config import paths
from rlexp.config.arguments import options_first, remember, rewrite
from rlexp.config.build import build
from rlexp.config.command_line import check_arguments
from rlexp.config.messages import explain
from rlexp.config.paths import conf_dir
from rlexp.config.schema.job import Settings
from rlexp.system import stopping, supervisor
from rlexp.system.errors import Refusal
from rlexp.system.text import clean

HELP = """\
rlexp: reinforcement-learning experiments, many seeds at once, tracked in MLflow.

usage: python -m rlexp [key=value ...]            one job
       python -m rlexp -m key=value1,value2 ...   every combination
                          hydra/launcher=fused    those that differ in learning rate, gamma, ... together

{algo}
{env}
              or any Gymnasium id: env.id=Blackjack-v1 (module:Id where a module registers it)
              env.kwargs.<name>=<value>  env.wrappers=[<module>.<Class>]  env.max_episode_steps=500
{network}
{tracking}
{experiment}
{discretizer}
{sweep}
{schedule}

trials=5 seed=0            seeds run together: seed, seed + 1, ...
budget.steps=50000         env steps per trial (or budget.episodes=600)
study=default              what is compared: the MLflow experiment and folder
device=auto|cpu|gpu  engine=auto|host  output_dir=outputs  tracking.uri=<URI>
rerun=true                 start afresh where the job is already done
RLEXP_SUPERVISE=0          (environment) jobs in the command's own process, for debuggers

examples:
  python -m rlexp algo=dueling_ddqn
  python -m rlexp algo=ddqn env=acrobot trials=10 budget.steps=100000
  python -m rlexp +experiment=book/dueling_ddqn
  python -m rlexp +sweep=families                              # policy gradients, tables and DQN side by side
  python -m rlexp +sweep=dqn_ladder env=cartpole,acrobot
  python -m rlexp -m algo=q_learning env=frozen_lake schedule@algo.epsilon=linear,exponential,log10,constant
  python -m rlexp -m hydra/launcher=fused algo=dqn algo.optimizer.lr=1e-4,3e-4,1e-3 algo.gamma=.95,.99
  python -m rlexp algo=ddqn algo.optimizer.lr=1e-3 algo.epsilon.final=0.02
  python -m rlexp -m hydra/sweeper=optuna 'algo.optimizer.lr=tag(log,interval(1e-4,1e-2))' algo.gamma=.98,.99

all keys with their values:      python -m rlexp --cfg job
Hydra's own options:             python -m rlexp --hydra-help
watch a trained trial:           python -m rlexp.play <job folder>
which is better, and is it sure: python -m rlexp.report <study>
studies and jobs:                python -m rlexp.ls
MLflow's pages in a browser:     python -m rlexp.ui
deliver to MLflow what is left:  python -m rlexp.sync <folder>
best job of a study:             python -m rlexp.best <study>
"""


def help_text() -> str:
    """What `--help` prints: everything that can be chosen, found in conf/."""
    groups = {group: f"{group}=" for group in ("algo", "env", "network", "tracking")}
    groups |= {group: f"+{group}=" for group in ("experiment", "discretizer", "sweep")}
    groups |= {"schedule": "schedule@<key>= "}
    return HELP.format(**{group: _choices(label, group) for group, label in groups.items()})


def _choices(label: str, group: str) -> str:
    names = paths.configured(group)
    text = ", ".join(name for name in names if group != "schedule" or "/" not in name)
    return textwrap.fill(
        text,
        110,
        initial_indent=f"{label:<14}",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
        break_long_words=False,
    )


def main() -> None:
    """Run the command line and exit with its status."""
    supervisor.enable()
    stopping.install()
    status = 1  # also for what nobody expects, whose traceback is all there is to say
    try:
        status = _status()
    finally:
        supervisor.note(status=status)
    sys.exit(status)


def _status() -> int:
    if any(arg in ("-h", "--help") for arg in sys.argv[1:]):
        print(help_text(), end="")
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, instead of printing and exiting with 1
    import hydra

    from rlexp.sweeps import plugins
    from rlexp.sweeps.outcome import EXIT_STATUS, Outcome, attempt
    from rlexp.sweeps.sweep import Ended

    plugins.register()
    outcomes: list[Outcome] = []  # of the jobs that run in this process
    apart: list[int] = []  # exit status of the job that has run in a worker of this process

    def task(config: Any, run_job: Callable[..., Any] | None = None) -> float | None:
        """One job, as Hydra calls it, perhaps in a process far away. Its score, for sweepers.

        The fused launcher gives a `run_job` of its own.
        """
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        alone = HydraConfig.get().mode == RunMode.RUN
        settings = _checked(config) if alone else None
        if settings is not None and (ended := supervisor.run_in_worker()) is not None:
            apart.append(_end(ended))
            return None
        outcomes.append(attempt(config, run_job, settings))
        if not alone:
            stopping.heed_late()
        return outcomes[-1].score

    typed = sys.argv[1:]
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
        if outcomes:  # something of Hydra's own, after a job
            raise
        return _refuse(explain(error))
    finally:
        sys.argv[1:] = typed
    return max([*apart, *(EXIT_STATUS[outcome.status] for outcome in outcomes)], default=0)


def _checked(config: Any) -> Settings | None:
    """The settings; None where the configuration alone is refused, so that no other process need be started for it."""
    try:
        return build(config)
    except Refusal:
        return None


def _end(ended: supervisor.Death | int) -> int:
    """The exit status for how a job's process has ended, which is told if it died: never 0 then."""
    if isinstance(ended, int):
        return ended
    if ended.signum is not None:
        return 128 + ended.signum
    print(f"failed: {ended.sentence()}", file=sys.stderr)
    return 1


def _refuse(text: str) -> int:
    print(f"refused: {clean(text)}", file=sys.stderr)
    return 2
