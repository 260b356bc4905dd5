"""The pages of `rlexp help`: what there is, and what can be chosen for training, as found in conf/."""

from __future__ import annotations

import textwrap

from rlexp.config import paths, plugin_yaml

HELP_FLAGS = ("-h", "--help")

TOOLS = {  # one line each; the module of that name in this folder has the rest
    "env": "describe an environment: spaces, rewards, speed, algorithms and presets that take it",
    "ls": "list studies, or the jobs of one study, with status and score; --watch: while they run",
    "best": "print the best job of a study as the command that reproduces it",
    "report": "compare the jobs of a study: which is better, and is that certain",
    "play": "render episodes of a trained policy to a GIF, an MP4 or the screen",
    "ui": "show MLflow's pages in a browser",
    "sync": "deliver to MLflow or TensorBoard what it has not received",
    "chain": "print the Markov chain of the chapter's Figure 18-7",
    "completion": "print a script that completes these words in bash, zsh or fish",
    "help": "print this page, or the page of a tool: rlexp help play",
}

OVERVIEW = """\
rlexp: reinforcement-learning experiments, many seeds at once, tracked in MLflow.

usage: rlexp [run] key=value ...               train: one job
       rlexp [run] -m key=value1,value2 ...    train: every combination
       rlexp <tool> ...                        see below; rlexp <tool> --help has its options

tools:
{tools}

examples:
  rlexp algo=dueling_ddqn
  rlexp -m algo=dqn,ddqn,dueling_ddqn trials=10 study=ladder
  rlexp report ladder

Training takes (rlexp help run: more keys and examples):

{choices}
"""

TRAINING = """\
rlexp run: train. The word run may be left out.

usage: rlexp [run] [key=value ...]             one job
       rlexp [run] -m key=value1,value2 ...    every combination
                   hydra/launcher=fused        those that differ in learning rate, gamma, ... together

{choices}

trials=5 seed=0            seeds run together: seed, seed + 1, ...
budget.steps=50000         env steps per trial (or budget.episodes=600)
study=default              what is compared: the MLflow experiment and folder
device=auto|cpu|gpu  engine=auto|host  output_dir=outputs  tracking.uri=<URI>
rerun=true                 start afresh where the job is already done
RLEXP_SUPERVISE=0          (environment) jobs in the command's own process, for debuggers

examples:
  rlexp algo=dueling_ddqn
  rlexp algo=ddqn env=acrobot trials=10 budget.steps=100000
  rlexp +experiment=book/dueling_ddqn
  rlexp +sweep=families                              # policy gradients, tables and DQN side by side
  rlexp +sweep=dqn_ladder env=cartpole,acrobot
  rlexp -m algo=q_learning env=frozen_lake schedule@algo.epsilon=linear,exponential,log10,constant
  rlexp -m hydra/launcher=fused algo=dqn algo.optimizer.lr=1e-4,3e-4,1e-3 algo.gamma=.95,.99
  rlexp algo=ddqn algo.optimizer.lr=1e-3 algo.epsilon.final=0.02
  rlexp -m hydra/sweeper=optuna 'algo.optimizer.lr=tag(log,interval(1e-4,1e-2))' algo.gamma=.98,.99

all keys with their values:      rlexp --cfg job
Hydra's own options:             rlexp --hydra-help
exit status:                     0 done, 1 failed, 2 refused, 130 interrupted, 143 terminated
"""

CHOICES = """\
{algo}
{env}
              or any Gymnasium id: env.id=Blackjack-v1 (module:Id where a module registers it)
              env.kwargs.<name>=<value>  env.wrappers=[<module>.<Class>]  env.max_episode_steps=500
{network}
{tracking}
{experiment}
{discretizer}
{sweep}
{schedule}"""


def overview() -> str:
    """What `rlexp`, `rlexp help` and `rlexp --help` print."""
    tools = "\n".join(f"  rlexp {name:<12} {line}" for name, line in TOOLS.items())
    return OVERVIEW.format(tools=tools, choices=_choices())


def training() -> str:
    """What `rlexp help run` prints."""
    return TRAINING.format(choices=_choices())


def _choices() -> str:
    groups = {group: f"{group}=" for group in ("algo", "env", "network", "tracking")}
    groups |= {group: f"+{group}=" for group in ("experiment", "discretizer", "sweep")}
    groups |= {"schedule": "schedule@<key>= "}
    return CHOICES.format(**{group: _choice(label, group) for group, label in groups.items()})


def _choice(label: str, group: str) -> str:
    names = sorted([*paths.configured(group), *plugin_yaml.names(group)])
    text = ", ".join(name for name in names if group != "schedule" or "/" not in name)
    return textwrap.fill(
        text,
        110,
        initial_indent=f"{label:<14}",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
        break_long_words=False,
    )
