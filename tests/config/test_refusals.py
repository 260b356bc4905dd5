"""Wrong configurations and command lines: each is refused in its own sentence, with status 2, and leaves no file behind.

The rows run the product's own way from a command line to `resolve`; only what Hydra makes of the chosen groups is
remembered between them, since that takes most of the time.
"""

from __future__ import annotations

import copy
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from rlexp.cli import run as command_line
from rlexp.config import paths, registry
from rlexp.config.arguments import rewrite
from rlexp.config.build import build
from rlexp.config.command_line import check_arguments
from rlexp.config.messages import explain, known_keys
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.job import Settings
from rlexp.jobs import runner
from rlexp.system.errors import Diverged, Refusal

TAKE_BOX = ", ".join(registry.algos_taking("box"))
KEY = "expected a key of the configuration, received an unknown one."
FOLDER = "expected letters, digits and _ . + - (it names a folder), received"
SCALAR = "expected a number or a mapping with the keys kind, initial, final, duration, decay, unit; received"
READ = "\nQuote what has blanks or special characters: 'key=\"a b\"'"
ROWS: list[tuple[str, str]] = [
    # keys
    ("agent=dqn", f"agent: {KEY}\nThe algorithm is algo=, e.g. algo=dqn."),
    ("trial=3", f"trial: {KEY}\nDid you mean trials or exact_trials?"),
    ("trails=3", f"trails: {KEY}\nDid you mean trials or tracking or exact_trials?"),
    ("seeds=3", f"seeds: {KEY}\nIt is trials= for how many, seed= for the first: seeds are seed, seed + 1, ..."),
    ("evaluation.episodes=3", f"evaluation.episodes: {KEY}\nDid you mean evaluation.num_episodes or evaluation.final_episodes or evaluation.period?"),
    ("env.max_steps=10", f"env.max_steps: {KEY}\nDid you mean env.max_episode_steps or env.default_steps or evaluation.max_steps?"),
    ("budget.step=100", f"budget.step: {KEY}\nDid you mean budget.steps or budget or budget.episodes?"),
    ("steps=1000", f"steps: {KEY}\nDid you mean budget.steps?"),
    ("episodes=100", f"episodes: {KEY}\nDid you mean budget.episodes?"),
    ("lr=1e-3", f"lr: {KEY}\nIt is algo.optimizer.lr for networks, algo.alpha for tables."),
    ("gamma=0.9", f"gamma: {KEY}\nDid you mean algo.gamma?"),
    ("algo.lr=1e-3", f"algo.lr: {KEY}\nDid you mean algo.optimizer.lr?"),
    ("algo.optimiser.lr=1e-3", f"algo.optimiser.lr: {KEY}\nDid you mean algo.optimizer.lr or algo.optimizer or algo.policy_optimizer.lr?"),
    ("algo.optimizer.learning_rate=1e-3", f"algo.optimizer.learning_rate: {KEY}\nDid you mean algo.optimizer.name or algo.optimizer.lr or algo.optimizer.clip_norm?"),
    ("algo.optimizer.clipnorm=1", f"algo.optimizer.clipnorm: {KEY}\nDid you mean algo.optimizer.clip_norm or algo.policy_optimizer.clip_norm or algo.optimizer.lr?"),
    ("algo.eps=0.1", f"algo.eps: {KEY}\nDid you mean algo.epsilon or algo.replay or algo.n_step?"),
    ("algo.epsilon.start=1", f"algo.epsilon.start: {KEY}\nDid you mean algo.epsilon or algo.learn_start or algo.target?"),
    ("algo.buffer_size=1000", f"algo.buffer_size: {KEY}\nIt is algo.replay_size."),
    ("algo.replaysize=10", f"algo.replaysize: {KEY}\nDid you mean algo.replay_size or algo.replay or algo.normalize?"),
    ("algo=pg algo.epsilon=0.1", f"algo.epsilon: {KEY}\nIt belongs to other algorithms; this one's keys: rlexp algo=<name> --cfg job"),
    ("algo=q_value_iteration algo.alpha=0.1", f"algo.alpha: {KEY}\nIt belongs to other algorithms; this one's keys: rlexp algo=<name> --cfg job"),
    ("algo=random algo.gamma=0.9", f"algo.gamma: {KEY}\nIt belongs to other algorithms; this one's keys: rlexp algo=<name> --cfg job"),
    ("network.units=[32]", f"network.units: {KEY}\nDid you mean network.noisy or network.hidden_units or network.name?"),
    ("checkpoint.evry=3", f"checkpoint.evry: {KEY}\nDid you mean checkpoint.every or checkpoint.keep or checkpoint?"),
    ("log.point=10", f"log.point: {KEY}\nDid you mean log.points or checkpoint or algo.v_min?"),
    ("animation.enable=false", f"animation.enable: {KEY}\nDid you mean animation.enabled or animation or animation.max_steps?"),
    ("tracking.url=x", f"tracking.url: {KEY}\nDid you mean tracking.uri or tracking or tracking.name?"),
    ("+hydra_typo=1", f"hydra_typo: {KEY}\nSee them all: rlexp --cfg job"),
    ("++typo=1", f"typo: {KEY}\nSee them all: rlexp --cfg job"),
    ("+algo.optimizer.typo=1", f"algo.optimizer.typo: {KEY}\nDid you mean algo.optimizer or algo.optimizer.lr or algo.optimizer.clip_norm?"),
    ("+algo.epsilon.typo=1", "algo.epsilon: unknown key 'typo'; expected one of kind, initial, final, duration, decay, unit."),
    ("+evaluation.typo=1", f"evaluation.typo: {KEY}\nDid you mean evaluation.policy or evaluation.period or evaluation?"),
    ("+budget.typo=1", f"budget.typo: {KEY}\nDid you mean budget.steps or budget or budget.episodes?"),
    ("+a.b.c=1", f"a: {KEY}\nDid you mean tau?"),
    # types
    ("trials=", "trials: expected a whole number, received ''."),
    ("trials=null", "trials: expected a whole number, received null."),
    ("trials=true", "trials: expected a whole number, received true."),
    ("trials=[1]", "trials: expected a whole number, received [1]."),
    ("trials={a:1}", "trials: expected a whole number, received {'a': 1}."),
    ("trials=1.5e0", "trials: expected a whole number, received '1.5e0'."),
    ("trials=${nope}", "trials: expected a value, received ${nope}, which no key has."),
    ("seed=1.5", "seed: expected a whole number, received '1.5'."),
    ("seed=null", "seed: expected a whole number, received null."),
    ("study=null", "study: expected a text, received null."),
    ("study=[a]", "study: expected a text, received ['a']."),
    ("exact_trials=2", "exact_trials: expected true or false, received '2'."),
    ("engine=null", "engine: expected a text, received null."),
    ("device=null", "device: expected a text, received null."),
    ("budget=100", "budget: expected a mapping of keys, received '100'.\nFor example: budget.<key>=..."),
    ("budget=[]", "budget: expected a mapping of keys, received [].\nFor example: budget.<key>=..."),
    ("budget=null", "budget: expected a mapping of keys, received null.\nFor example: budget.<key>=..."),
    ("budget.steps=abc", "budget.steps: expected a whole number or null, received 'abc'."),
    ("budget.steps=1e-3", "budget.steps: expected a whole number or null, received '1e-3'."),
    ("evaluation=1", "evaluation: expected a mapping of keys, received '1'.\nFor example: evaluation.<key>=..."),
    ("checkpoint.every=null", "checkpoint.every: expected a number, received null."),
    ("checkpoint.keep=1.5", "checkpoint.keep: expected a whole number, received '1.5'."),
    ("animation.enabled=no_thanks", "animation.enabled: expected true or false, received 'no_thanks'."),
    ("tracking.timeout=soon", "tracking.timeout: expected a number, received 'soon'."),
    ("env.kwargs=1", "env.kwargs: expected a mapping, received '1'."),
    ("env.kwargs=[1]", "env.kwargs: expected a mapping of keys, received [1].\nFor example: env.kwargs.<key>=..."),
    ("env.imports=rlexp", "env.imports: expected a list of texts, received 'rlexp'.\nA list of one: 'env.imports=[rlexp]'"),
    ("env.frame_stack=two", "env.frame_stack: expected a whole number, received 'two'."),
    ("env.max_episode_steps=many", "env.max_episode_steps: expected a whole number or null, received 'many'."),
    ("network.hidden_units=32", "network.hidden_units: expected a list of whole numbers, received '32'.\nA list of one: 'network.hidden_units=[32]'"),
    ("network.hidden_units=[32,1.5]", "network.hidden_units[1]: expected a whole number, received '1.5'."),
    ("network.hidden_units=null", "network.hidden_units: expected a list of whole numbers, received null."),
    ("network.options=1", "network.options: expected a mapping, received '1'."),
    ("algo.gamma=abc", f"algo.gamma: {SCALAR} 'abc' (str)."),
    ("algo.gamma=null", f"algo.gamma: {SCALAR} None (NoneType)."),
    ("algo.epsilon=true", f"algo.epsilon: {SCALAR} True (bool). Write 1 or 0 if a number is meant."),
    ('algo.epsilon=\'"0.1"\'', f"algo.epsilon: {SCALAR} '0.1' (str). It is text: write 0.1, without quotes (some YAML readers take 1e-3 for text, not 1.0e-3)."),
    ("algo.epsilon.initial=null", "algo.epsilon: kind 'linear' needs initial, final, duration; received final, duration. Add initial."),
    ("algo.optimizer=adam", "algo.optimizer: expected a mapping of keys, received 'adam'.\nFor example: algo.optimizer.<key>=..."),
    ("algo.optimizer=null", "algo.optimizer: expected a mapping of keys, received null.\nFor example: algo.optimizer.<key>=..."),
    ("algo.optimizer.lr=null", f"algo.optimizer.lr: {SCALAR} None (NoneType)."),
    ("algo.optimizer.options=1", "algo.optimizer.options: expected a mapping, received '1'."),
    ("algo.loss=null", "algo.loss: expected a text, received null."),
    ("algo=pg algo.normalize=maybe", "algo.normalize: expected true or false, received 'maybe'."),
    # ranges
    ("trials=-1", "trials: expected a number >= 1 and <= 100000, received -1."),
    ("trials=100001", "trials: expected a number >= 1 and <= 100000, received 100001."),
    ("seed=4294967296", "seed: expected a number >= 0 and <= 4294967295, received 4294967296."),
    ("budget.steps=-5", "budget.steps: expected a number >= 1, received -5."),
    ("budget.steps=100000000000000000000", "budget.steps: expected at most 10**12, which would take years, received 100000000000000000000."),
    ("budget.episodes=0", "budget.episodes: expected a number >= 1, received 0."),
    ("evaluation.num_episodes=0", "evaluation.num_episodes: expected a number >= 1 and <= 10000, received 0."),
    ("evaluation.num_episodes=100000000000", "evaluation.num_episodes: expected a number >= 1 and <= 10000, received 100000000000."),
    ("evaluation.period=0", "evaluation.period: expected a number >= 1, received 0."),
    ("evaluation.seed=-1", "evaluation.seed: expected a number >= 0 and <= 2147483648, received -1."),
    ("evaluation.final_episodes=0", "evaluation.final_episodes: expected a number >= 1 and <= 1000000, received 0."),
    ("evaluation.candidates=101", "evaluation.candidates: expected a number >= 1 and <= 100, received 101."),
    ("evaluation.max_steps=0", "evaluation.max_steps: expected a number >= 1, received 0."),
    ("log.points=2001", "log.points: expected a number >= 1 and <= 2000, received 2001."),
    ("checkpoint.every=-1", "checkpoint.every: expected a number >= 0, received -1.0."),
    ("checkpoint.every=nan", "checkpoint.every: expected a number >= 0, received nan."),
    ("checkpoint.keep=0", "checkpoint.keep: expected a number >= 1, received 0."),
    ("animation.max_steps=0", "animation.max_steps: expected a number >= 1, received 0."),
    ("tracking.timeout=-1", "tracking.timeout: expected a number >= 0, received -1.0."),
    ("env.max_episode_steps=0", "env.max_episode_steps: expected a number >= 1, received 0."),
    ("env.frame_stack=65", "env.frame_stack: expected a number >= 1 and <= 64, received 65."),
    ("env.default_steps=0", "env.default_steps: expected a number >= 1, received 0."),
    ("network.hidden_units=[-1]", "network.hidden_units: expected a number >= 1, received -1."),
    ("algo.gamma=-0.1", "algo.gamma: expected a number >= 0 and <= 1, received -0.1."),
    ("algo.gamma=inf", "algo.gamma: expected a finite number (float32), received inf. Look for a division by zero or an overflow where it is computed."),
    ("algo.epsilon.duration=0", "algo.epsilon.duration: expected a number of counts > 0; received 0. For a value that does not change, write the plain number."),
    ("algo.optimizer.lr=-1", "algo.optimizer.lr: expected a number > 0, received -1."),
    ("algo.optimizer.clip_norm=-1", "algo.optimizer.clip_norm: expected a number > 0, received -1.0."),
    ("algo.replay_size=0", "algo.replay_size: expected a number >= 1, received 0."),
    ("algo.batch_size=-1", "algo.batch_size: expected a number >= 1, received -1."),
    ("algo.n_step=1001", "algo.n_step: expected a number >= 1 and <= 1000, received 1001."),
    ("algo.learn_start=-1", "algo.learn_start: expected a number >= 0, received -1."),
    ("algo.learn_period=0", "algo.learn_period: expected a number >= 1, received 0."),
    ("algo.num_updates=0", "algo.num_updates: expected a number >= 1, received 0."),
    ("algo.target=soft algo.tau=0", "algo.tau: expected a number > 0 and <= 1, received 0."),
    ("algo.target_period=0", "algo.target_period: expected a number >= 1, received 0."),
    ("algo=ppo algo.clip_ratio=2", "algo.clip_ratio: expected a number > 0 and <= 1, received 2.0."),
    ("algo=pg algo.entropy_coef=-1", "algo.entropy_coef: expected a number >= 0, received -1."),
    ("algo=pg algo.reward_scale=0", "algo.reward_scale: expected a number > 0, received 0.0."),
    ("algo=pg_baseline algo.value_coef=0", "algo.value_coef: expected a number > 0, received 0.0."),
    ("algo=q_value_iteration env=frozen_lake algo.iterations=0", "algo.iterations: expected a number >= 1 and <= 1000000, received 0."),
    ("algo=q_learning +discretizer=cartpole algo.alpha=2", "algo.alpha: expected a number >= 0 and <= 1, received 2."),
    ("algo=q_learning +discretizer=cartpole algo.discretizer.num_bins=[0,1]", "algo.discretizer.num_bins: expected a number >= 1 and <= 100000, received 0."),
    ("algo=q_learning +discretizer=cartpole algo.discretizer.low=[nan,0]", "algo.discretizer.low: expected a finite number, received nan."),
    ("algo=angle_policy algo.observation_index=-1", "algo.observation_index: expected a number >= 0, received -1."),
    # choices
    ("engine=fuzed", "engine: expected one of auto, host, fused, received 'fuzed'.\nDid you mean fused?"),
    ("device=cuda", "device: expected one of auto, cpu, gpu, received 'cuda'.\nDid you mean gpu?"),
    ("evaluation.selection=best", "evaluation.selection: expected one of eval, train_episode, last, received 'best'.\nDid you mean last?"),
    ("evaluation.policy=greed", "evaluation.policy: expected one of greedy, sampled, received 'greed'.\nDid you mean greedy?"),
    ("env.preprocessing=atary", "env.preprocessing: expected one of none, atari, received 'atary'.\nDid you mean atari?"),
    ("network.activation=reluu", "network.activation: expected a Keras activation, received 'reluu'.\nDid you mean relu or relu6 or elu?"),
    ("network=dueling network.options.aggregation=median", "network.options.aggregation: expected one of mean, max, received 'median'."),
    ("+network.options.foo=1", "network.options.foo: expected an option of network dueling, received an unknown one.\nIt reads initializer, layer_norm, aggregation."),
    ("algo.optimizer.name=Adam", "algo.optimizer.name: expected one of sgd, rmsprop, adam, adamw, nadam, radam, received 'Adam'.\nDid you mean adam or radam or nadam?"),
    ("+algo.optimizer.options.beta1=0.9", "algo.optimizer.options.beta1: expected one of beta_1, beta_2, epsilon for adam, received an unknown one.\nDid you mean beta_1 or beta_2?"),
    ("algo.loss=hubber", "algo.loss: expected one of mse, huber, received 'hubber'.\nDid you mean huber?"),
    ("algo.target=polyak", "algo.target: expected one of none, hard, soft, received 'polyak'."),
    ("algo.learn_unit=steps", "algo.learn_unit: expected one of step, episode, received 'steps'.\nDid you mean step or episode?"),
    ("algo.truncation=ignore", "algo.truncation: expected one of bootstrap, terminate, received 'ignore'."),
    ("algo.epsilon.unit=steps", "algo.epsilon.unit: unknown unit 'steps'; expected one of step, episode, update. Did you mean 'step'?"),
    ("algo.epsilon.kind=exponential", "algo.epsilon: kind 'exponential' needs initial, decay; received initial, final, duration. Add decay."),
    ("algo.gamma={initial:1}", "algo.gamma: expected the key kind, one of constant, linear, exponential, inverse_time, log10; received only initial. Add kind, or write a plain number for a constant."),
    ("algo=pg algo.head=linear", "algo.head: expected one of softmax, sigmoid, received 'linear'."),
    ("algo=q_learning +discretizer=cartpole algo.bootstrap=never", "algo.bootstrap: expected one of unless_terminated, always, received 'never'."),
    # names that become folders
    ("study=", f"study: {FOLDER} ''."),
    ("study=..", f"study: {FOLDER} '..'."),
    ("study=a/b", f"study: {FOLDER} 'a/b'."),
    ("study=/abs", f"study: {FOLDER} '/abs'."),
    ("study=.hidden", f"study: {FOLDER} '.hidden'."),
    ("study='a\\ b'", f"study: {FOLDER} 'a b'."),
    ("study=-x", f"study: {FOLDER} '-x'."),
    ("env.name=../x", f"env.name: {FOLDER} '../x'."),
    ("env.name=", f"env.name: {FOLDER} ''."),
    ("output_dir=", "output_dir: expected a folder, received nothing.\nThe current one is output_dir=."),
    # contradictions and impossible things
    ("evaluation.num_episodes=500 evaluation.final_seed=100100", "evaluation.final_seed: expected at least 100500, the end of evaluation.seed + num_episodes, received 100100.\nEpisodes that score the best weights must be fresh."),
    ("evaluation.candidate_episodes=5 evaluation.candidate_seed=200010", "evaluation.candidate_seed: expected at least 200100, the end of evaluation.final_seed + final_episodes, received 200010.\nEpisodes that score the best weights must be fresh."),
    ("network.name=nomodule:build", "network.name: expected an importable module:function, received 'nomodule:build'.\nPerhaps: pip install nomodule (a guess from its name). A file of your own is looked for in the current folder and in PYTHONPATH."),
    ("network.name=:", "network.name: expected an importable module:function, received ':'."),
    ("network.name=json:not-a-name", "network.name: expected an importable module:function, received 'json:not-a-name'."),
    ("algo=dqn network=cnn", "network: expected image observations of at least 36 x 36 pixels for cnn, received shape (4,).\nUse network=mlp."),
    ("env.id=", "env.id: expected a Gymnasium id, as in gymnasium.envs.registry, or module:Id, received '' (Malformed environment ID: . (Currently all IDs must be of the form [namespace/](env-name)-v(version). (namespace is optional)))."),
    ("env.id=cartpole", "env.id: expected a Gymnasium id, received 'cartpole', which is not registered or out of date.\nDid you mean env=cartpole? Is it registered by a module of its own: env.id=<module>:cartpole or env.imports=[<module>]"),
    ("env.id=CartPole", "env.id: expected an id with its version, received 'CartPole'.\nDid you mean CartPole-v1?"),
    ("env.id=CartPole-v9", "env.id: expected a Gymnasium id, received 'CartPole-v9', which is not registered or out of date.\nDid you mean CartPole-v1 or CartPole-v0? Is it registered by a module of its own: env.id=<module>:CartPole-v9 or env.imports=[<module>]"),
    ("env.id=nomodule:CartPole-v1", "env.id: expected a Gymnasium id, as in gymnasium.envs.registry, or module:Id, received 'nomodule:CartPole-v1' (No module named 'nomodule').\nPerhaps: pip install nomodule (a guess from its name). A file of your own is looked for in the current folder and in PYTHONPATH."),
    ("env.id=json:Xyzzyplugh-v0", "env.id: expected a Gymnasium id, received 'json:Xyzzyplugh-v0', which 'json' does not register.\nIs it registered by another module than 'json': env.id=<module>:Xyzzyplugh-v0 or env.imports=[<module>]"),
    ("env.id=BipedalWalker-v3", "env.id: expected an environment with a Discrete action space, received 'BipedalWalker-v3' with Box actions (Box(-1.0, 1.0, (4,), float32)).\nThese algorithms take them: algo=" + TAKE_BOX + ". A wrapper numbers them: env.wrappers='[{name: DiscretizeAction, bins: 5}]'"),
    ("env.id=HalfCheetah-v5", "env.id: expected an environment whose packages are installed, received 'HalfCheetah-v5'.\npip install 'gymnasium[mujoco]' brings it."),
    ("env.id=ALE/Pongg-v5", "env.id: expected a Gymnasium id, received 'ALE/Pongg-v5', which is not registered or out of date.\nDid you mean ALE/Pong-v5 or ALE/Pooyan-v5 or ALE/Boxing-v5? Is it registered by a module of its own: env.id=<module>:ALE/Pongg-v5 or env.imports=[<module>]"),
    ("+env.kwargs.render_mode=human", "env.kwargs: expected arguments of the environment itself, received render_mode, which is rlexp's to give.\nThe best trial is animated at the end (animation.enabled); rlexp play shows it."),
    ("+env.kwargs.max_episode_steps=5", "env.kwargs: expected arguments of the environment itself, received max_episode_steps, which is rlexp's to give.\nThe limit of an episode is env.max_episode_steps."),
    ("env=frozen_lake +env.kwargs.map_name=7x7", "env.kwargs: expected arguments that FrozenLake-v1 takes, received {'map_name': '7x7'} (KeyError: '7x7')."),
    ("env.imports=[os.path.x]", "env.imports: expected modules that can be imported, received 'os.path.x' (No module named 'os.path.x'; 'os.path' is not a package)."),
    ("algo=q_learning +discretizer=cartpole algo.discretizer.num_bins=[100000,100000]", "algo.discretizer.num_bins: expected tables that fit in this machine's memory (24 GiB), received 5 tables of 10000000000 states, 2235 GiB.\nLower algo.discretizer.num_bins or trials."),
    ("algo=q_learning +discretizer=cartpole algo.discretizer.dimensions=[2,2]", "algo.discretizer.dimensions: expected each dimension once, received [2, 2]."),
    ("algo=q_learning +discretizer=cartpole env.frame_stack=2", "env.frame_stack: expected 1 for q_learning, received 2."),
    ("algo=random engine=fused", "engine: expected auto or host, received 'fused', but algo random has no fused loop.\nengine=host runs it: the same algorithm, configuration and metrics."),
    ("algo=dqn env=lunar_lander engine=fused", "engine: expected auto or host, received 'fused', but LunarLander-v3 has neither tensor dynamics (an entry of rlexp.envs) nor a transition table P.\nengine=host runs it: the same algorithm, configuration and metrics."),
    ("algo=angle_policy algo.observation_index=4", "algo: expected an environment with two actions and more than 4 observed numbers for angle_policy, received 'CartPole-v1' with 2 actions and observations of shape (4,).\nIt was made for env=cartpole."),
    ("algo=q_value_iteration env=mountain_car", "env.id: expected an environment with a transition table P for q_value_iteration, received 'MountainCar-v0', which has none.\nToy-text environments have one, for example env=frozen_lake; or learn: algo=ddqn."),
    ("trials=3 trials=0", "trials: expected a number >= 1 and <= 100000, received 0."),
]  # fmt: skip


def filled(message: str) -> str:
    """`<algo>` stands for the names of the group."""
    return re.sub(r"<(\w+)>(?!=)", lambda m: ", ".join(paths.configured(m[1])) or m[0], message)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Run a command line in this process, without ever starting a job: its status, and what it says."""

    def resolved(settings: Any, *args: Any, **kwargs: Any) -> None:
        runner.resolve(settings)
        raise AssertionError(f"accepted: {settings}")

    def run(args: Sequence[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rlexp", *args])
        status = command_line._status()
        return status, capsys.readouterr().err

    monkeypatch.setattr(runner, "run_job", resolved)
    monkeypatch.chdir(tmp_path)
    yield run
    assert list(tmp_path.iterdir()) == []


@functools.cache
def composed(groups: tuple[str, ...]) -> Any:
    """What Hydra makes of the chosen groups."""
    from hydra import compose, initialize_config_dir

    from rlexp.config.paths import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", list(groups))


def apply(values: Sequence[str], config: Any) -> None:
    """Write `key=value` into a composed configuration, as Hydra does."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser

    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(list(values)), config)


def sentence(args: Sequence[str]) -> str:
    """The refusal of a command line whose groups Hydra knows and whose other words are `key=value`."""
    groups = tuple(arg for arg in args if re.match(r"\+?(algo|env|network|tracking|discretizer|experiment)=", arg))
    try:
        check_arguments(args)
        config = copy.deepcopy(composed(groups))
        apply([arg for arg in rewrite(args) if arg not in groups], config)
        runner.resolve(build(config))
    except (HydraException, OmegaConfBaseException) as error:
        return explain(error)
    except Refusal as refused:
        return str(refused)
    raise AssertionError("accepted")


@pytest.mark.parametrize(("line", "message"), ROWS, ids=[line for line, _ in ROWS])
def test_wrong_values_are_refused_in_a_sentence(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = sentence(shlex.split(line))
    assert said == filled(message) and len(said.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


LINES: list[tuple[list[str], str]] = [
    (["algo="], "algo: expected a name, received nothing.\nFor example: algo=dueling_ddqn"),
    (["algo=null"], "algo: expected a name, received null.\nFor example: algo=dueling_ddqn"),
    (["algo=DQN"], "algo: expected one of <algo>, received 'DQN'.\nDid you mean dqn or ddqn or qr_dqn?"),
    (["algo=q-learning"], "algo: expected one of <algo>, received 'q-learning'.\nDid you mean q_learning or double_q_learning?"),
    (["algo=[dqn,ddqn]"], "algo: expected one name, received [dqn,ddqn].\nSeveral jobs: rlexp -m algo=dqn,ddqn"),
    (["algo=dueling_ddnq"], "algo: expected one of <algo>, received 'dueling_ddnq'.\nDid you mean dueling_ddqn or dueling_dqn?"),
    (["algo.name=dqqn"], "algo.name: expected one of <algo>, received 'dqqn'.\nDid you mean dqn or ddqn or qr_dqn?"),
    (["algo.name=null"], "algo.name: expected one of <algo>, received 'None'."),
    (["algo.name=../dqn"], "algo.name: expected one of <algo>, received '../dqn'.\nDid you mean dqn or ddqn or qr_dqn?"),
    (["~algo"], "algo: expected a value, received a deletion.\nEvery key has a value; give another one, or null."),
    (["+algo=dqn"], "algo: expected no + before it, received one.\nIt has a value already: write algo=..."),
    (["env="], "env: expected a name, received nothing.\nFor example: env=cartpole"),
    (["env=cartpole-v1"], "env: expected one of <env>, received 'cartpole-v1'.\nDid you mean env=cartpole? Its Gymnasium id is env.id=CartPole-v1"),
    (["env=lunarlander"], "env: expected one of <env>, received 'lunarlander'.\nDid you mean lunar_lander or lunar_lander_continuous?"),
    (["+env=cartpole"], "env: expected no + before it, received one.\nIt has a value already: write env=..."),
    (["network=mpl"], "network: expected one of <network>, received 'mpl'.\nDid you mean mlp?"),
    (["network=duelling"], "network: expected one of <network>, received 'duelling'.\nDid you mean dueling or dueling_cnn or noisy_dueling?"),
    (["tracking=wandb"], "tracking: expected one of <tracking>, received 'wandb'."),
    (["tracking=mlfow"], "tracking: expected one of <tracking>, received 'mlfow'.\nDid you mean mlflow?"),
    (["tracking=mlflow,tensorboard"], "tracking: expected one value, received mlflow,tensorboard.\nSeveral trackers: 'tracking=[mlflow,tensorboard]'"),
    (["tracking=[]"], "tracking: expected a tracker, received none.\ntracking=files sends results nowhere else."),
    (["tracking=[mlflow,tensorbord]"], "tracking.name: expected one of mlflow, tensorboard, files, received 'tensorbord'.\nDid you mean tensorboard?"),
    (["tracking=[mlflow"], "tracking: expected one name, received [mlflow.\nSeveral jobs: rlexp -m tracking=mlflow"),
    (["tensorboard=true"], f"tensorboard: {KEY}\nIt is tracking=tensorboard; beside MLflow: tracking=[mlflow,tensorboard]"),
    (["+experiment=book/ddqnn"], "experiment: expected one of <experiment>, received 'book/ddqnn'.\nDid you mean book/ddqn or book/dqn or book/fixed_dqn?"),
    (["+experiment="], "experiment: expected a name, received nothing.\nFor example: +experiment=book/dqn"),
    (["experiment=book/dqn"], f"experiment: {KEY}\nIt is added, with a plus: +experiment=<name>"),
    (["+discretizer=cartpol"], "discretizer: expected one of cartpole, received 'cartpol'.\nDid you mean cartpole?"),
    (["discretizer=cartpole"], f"discretizer: {KEY}\nIt is added, with a plus: +discretizer=<name>"),
    (["hydra/launcher=slrum"], "hydra/launcher: expected one of basic, fused, joblib, ray, submitit_local, submitit_slurm, received 'slrum'.\nOthers come with plugins: pip install hydra-<name>-..."),
    (["~trials"], "trials: expected a value, received a deletion.\nEvery key has a value; give another one, or null."),
    (["~algo.gamma"], "algo.gamma: expected a value, received a deletion.\nEvery key has a value; give another one, or null."),
    (["trials=range(3)"], "trials: expected one value, received range(3).\nSeveral jobs: rlexp -m 'trials=range(3)'"),
    (["trials=1,2"], "trials: expected one value, received 1,2.\nSeveral jobs: rlexp -m trials=1,2   A list: 'trials=[1,2]'"),
    (["trials"], f"command line: expected key=value, received 'trials'.{READ}"),
    (["trials:3"], f"command line: expected key=value, received 'trials:3'.{READ}"),
    (["trials==3"], f"command line: expected key=value, received 'trials==3'.{READ}"),
    (["trials=3=4"], f"command line: expected key=value, received 'trials=3=4'.{READ}"),
    (['trials="unclosed'], f"command line: expected key=value, received 'trials=\"unclosed'.{READ}"),
    (["trials=[1,2"], f"command line: expected key=value, received 'trials=[1,2'.{READ}"),
    (["study=ü"], f"command line: expected key=value, received 'study=ü'.{READ}"),
    (["--trials=3"], "--trials: expected key=value, or an option of Hydra's, received '--trials=3'.\nDid you mean trials=3?"),
    (["--num-trials=3"], "--num-trials: expected key=value, or an option of Hydra's, received '--num-trials=3'.\nSee: rlexp --help"),
    (["--hepl"], "--hepl: expected key=value, or an option of Hydra's, received '--hepl'.\nDid you mean --help or --hydra-help or --resolve?"),
    (["-m", "trials=range(0)"], "sweep: expected at least one job, received none.\nA range or a choice in it is empty."),
    (["-m", "algo=dqqn,pppo"], "algo: expected one of <algo>, received 'dqqn'.\nDid you mean dqn or ddqn or qr_dqn?"),
    (["=3"], "command line: expected key=value, received '=3'.\nSee: rlexp --help"),
    (["env.imports=['']"], "env.imports: expected modules that can be imported, received '' (Empty module name)."),
    (["--config-name=nope"], "--config-name: expected config, received 'nope'.\nIt is a preset, perhaps: +experiment=<name>"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "message"), LINES, ids=[" ".join(args) for args, _ in LINES])
def test_wrong_words_are_refused_with_status_2(args: list[str], message: str, refuse: Any) -> None:
    assert refuse(args) == (2, f"refused: {filled(message)}\n")
    assert len(message.splitlines()) <= 2


def test_there_are_at_least_120_rows() -> None:
    assert len(ROWS) + len(LINES) >= 120 and len(dict(ROWS)) == len(ROWS)


UNREADABLE = [
    (b"name: [dqn", "while parsing a flow sequence"),
    (b"\xff\xfe\x00dqn", ""),
    (b"- dqn\n- ddqn\n", ""),
    (b"defaults: [dqn]\ngama: 0.9\n", f"algo.gama: {KEY}\nDid you mean algo.gamma"),
    (b"defaults: [dqn]\ngamma: high\n", f"algo.gamma: {SCALAR} 'high' (str)."),
    (b"defaults: [nothing]\n", "algo: expected one of <algo>, received 'nothing'."),
    (b"name: !!python/object/apply:os.system ['touch hacked']\n", "could not determine a constructor for the tag"),
    (b"name: !!python/name:os.system\n", "could not determine a constructor for the tag"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), UNREADABLE, ids=[str(content[:30]) for content, _ in UNREADABLE])
def test_unreadable_config_files(content: bytes, message: str, tmp_path_factory: Any, refuse: Any) -> None:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "algo").mkdir()
    (folder / "algo" / "mine.yaml").write_bytes(content)
    status, said = refuse([f"--config-dir={folder}", "algo=mine"])
    assert status == 2 and said.startswith("refused: ") and filled(message) in said
    assert len(said.splitlines()) <= 2 and "Traceback" not in said
    assert [path.name for path in folder.iterdir()] == ["algo"]


SUBPROCESS = [
    (["algo=dqqn"], "Did you mean dqn or ddqn"),
    (["trials=0"], "trials: expected a number >= 1 and <= 100000, received 0."),
    (["--trials=3"], "Did you mean trials=3?"),
]


@pytest.mark.parametrize(("args", "message"), SUBPROCESS, ids=[args[0] for args, _ in SUBPROCESS])
def test_a_process_ends_with_status_2_and_leaves_no_file(args: list[str], message: str, tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "rlexp", *args], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_tables_of_names_are_complete() -> None:
    """What is known of Keras and of our optimisers without importing TensorFlow."""
    import dataclasses

    from keras.src.activations import ALL_OBJECTS_DICT

    from rlexp.config.schema.algos import OPTIMIZER_OPTIONS
    from rlexp.config.schema.network import ACTIVATIONS
    from rlexp.math import optimizers

    assert sorted(filter(None, ALL_OBJECTS_DICT)) == list(ACTIVATIONS)
    for name, options in OPTIMIZER_OPTIONS.items():
        assert tuple(f.name for f in dataclasses.fields(optimizers.build(name))) == options


BASE = ("algo=q_learning", "env=frozen_lake", "tracking=files", "animation.enabled=false", "trials=2", "budget.steps=20",
        "evaluation.num_episodes=1", "evaluation.final_episodes=1", "evaluation.candidate_episodes=1")  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 3), st.integers(), st.floats(), st.sampled_from([10**6, 2**31, 2**32, 10**20, 1e-300])
)
WORDS = st.one_of(
    st.text(max_size=8), st.sampled_from(["null", "true", "'3'", "${seed}", "${x}", "../x", "!!int", "{}", "[]"])
)
VALUES = st.one_of(
    NUMBERS, WORDS, st.lists(NUMBERS, max_size=3), st.dictionaries(st.sampled_from(["kind", "a"]), NUMBERS)
)
KEYS = st.sampled_from(sorted({*known_keys(Settings, ""), *known_keys(TabularSettings, "algo."), "typo", "algo.typo"}))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=st.lists(st.tuples(KEYS, st.sampled_from(["", "+", "++"]), VALUES), min_size=1, max_size=3))
def test_random_overrides_are_refused_or_run(overrides: list[tuple[str, str, Any]], tmp_path: Path) -> None:
    """They end in a refusal, a finished job or a recorded failure: any other exception fails this test."""
    words = [f"{sign}{key}={value}" for key, sign, value in overrides if key != "output_dir"]
    try:
        check_arguments(words)
        config = copy.deepcopy(composed(BASE[:3]))
        apply([*BASE[3:], *rewrite(words), f"output_dir={tmp_path}"], config)
        chosen, _ = runner.resolve(build(config))
        work = chosen.trials * (chosen.max_steps or 10**6)
        if work <= 1_000 and chosen.evaluation.num_episodes < 10 and chosen.evaluation.final_episodes < 10:
            assert runner.run_job(chosen, quiet=True)["status"] == "done"
    except (HydraException, OmegaConfBaseException) as error:
        said = explain(error)
        assert said and len(said.splitlines()) <= 2
    except (Refusal, Diverged) as error:
        assert str(error) and len(str(error).splitlines()) <= 2
