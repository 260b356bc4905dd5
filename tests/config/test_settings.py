"""Every refusal's message: what was expected, what was received, what to do."""

from __future__ import annotations

import numpy as np
import pytest

from rlexp.config import schedules
from rlexp.jobs.preflight import preflight, resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal

REFUSALS = [
    ("algo=dueling_dqqn", "algo: expected one of a2c, angle_policy, c51, ddqn, double_q_learning, dqn, dueling_ddqn, dueling_dqn, "
     "expected_sarsa, fixed_dqn, iqn, munchausen_dqn, pg, pg_baseline, ppo, pqn, q_learning, q_value_iteration, qr_dqn, rainbow, random, sac, sarsa, td3, received 'dueling_dqqn'.\nDid you mean dueling_dqn or dueling_ddqn or ddqn?"),
    ("env=cartpol", "env: expected one of acrobot, bipedal_walker, cartpole, cliff_walking, frozen_lake, frozen_lake_8x8, lunar_lander, "
     "lunar_lander_continuous, markov_chain, mountain_car, mountain_car_continuous, pendulum, space_invaders, taxi, three_state_mdp, "
     "received 'cartpol'.\nDid you mean cartpole?"),
    ("algo.gama=.9", "algo.gama: expected a key of the configuration, received an unknown one.\nDid you mean algo.gamma"),
    ("+algo.typo=1", "algo.typo: expected a key of the configuration, received an unknown one.\n"),
    ("+typo=1", "typo: expected a key of the configuration, received an unknown one.\n"),
    ("trakcing=files", "trakcing: expected a key of the configuration, received an unknown one.\nDid you mean tracking"),
    ("trials=0", "trials: expected a number >= 1 and <= 100000, received 0."),
    ("trials=many", "trials: expected a whole number, received 'many'."),
    ("trials=1.5", "trials: expected a whole number, received '1.5'."),
    ("trials=1,2", "trials: expected one value, received 1,2.\nSeveral jobs: rlexp -m trials=1,2"),
    ("seed=-1", "seed: expected a number >= 0 and <= 4294967295, received -1."),
    ("seed=4294967295", "seed: expected seed + trials <= 2**32, received 4294967295 + 5."),
    ("algo.gamma=1.5", "algo.gamma: expected a number >= 0 and <= 1, received 1.5."),
    ("algo.gamma=nan", "algo.gamma: expected a finite number (float32), received nan."),
    ("algo.epsilon.initial=2", "algo.epsilon.initial: expected a number >= 0 and <= 1, received 2."),
    ("algo.epsilon.final=-1", "algo.epsilon.final: expected a number >= 0 and <= 1, received -1."),
    ("algo.epsilon.kind=liner", "algo.epsilon.kind: unknown kind 'liner'; expected one of constant, linear, exponential, "
     "inverse_time, log10. Did you mean 'linear'?"),
    ("algo.optimizer.lr=0", "algo.optimizer.lr: expected a number > 0, received 0."),
    ("algo.optimizer.lr=fast", "algo.optimizer.lr: expected a number or a mapping with the keys kind, initial, final, "
     "duration, decay, unit; received 'fast' (str)."),
    ("algo.optimizer.name=adamm", "algo.optimizer.name: expected one of sgd, rmsprop, adam, adamw, nadam, radam, "
     "received 'adamm'.\nDid you mean adam"),
    ("algo.loss=mae", "algo.loss: expected one of mse, huber, received 'mae'."),
    ("algo.batch_size=100000", "algo.batch_size: expected at most algo.replay_size (50000), received 100000."),
    ("algo.target=none", "algo.target: expected hard or soft for dueling_ddqn, received 'none'.\n"
     "Without a target network the algorithm is algo=dqn."),
    ("budget.steps=0", "budget.steps: expected a number >= 1, received 0."),
    ("budget.steps=10 budget.episodes=10", "budget: expected steps or episodes, received both.\nGive one:"),
    ("engine=fast", "engine: expected one of auto, host, fused, received 'fast'."),
    ("device=tpu", "device: expected one of auto, cpu, gpu, received 'tpu'."),
    ("study=../elsewhere", "study: expected letters, digits and _ . + - (it names a folder), received '../elsewhere'."),
    ("tracking.uri=nowhere", "tracking.uri: expected sqlite:///<file>, postgresql://..., or http(s)://<server>, received 'nowhere'."),
    ("network.hidden_units=[0]", "network.hidden_units: expected a number >= 1, received 0."),
    ("network.name=transformer", "network.name: expected one of cnn, dueling, dueling_cnn, minatar, mlp, noisy_dueling, received 'transformer'."),
    ("env.id=CartPol-v1", "env.id: expected a Gymnasium id, received 'CartPol-v1', which is not registered or out of date.\n"
     "Did you mean CartPole-v1"),
    ("env.id=LunarLander-v2", "env.id: expected a Gymnasium id, received 'LunarLander-v2', which is not registered or out of "
     "date.\nDid you mean LunarLander-v3"),
    ("env.id=Pendulum-v1", "env.id: expected an environment with a Discrete action space, received 'Pendulum-v1' with Box "
     "actions (Box(-2.0, 2.0, (1,), float32)).\n"),
    ("+env.kwargs.gravitas=1", "env.kwargs: expected arguments that CartPole-v1 takes, received {'gravitas': 1} ("),
    ("env.imports=[no_such_module]", "env.imports: expected modules that can be imported, received 'no_such_module' ("),
    ("algo=angle_policy env=acrobot", "algo: expected an environment with two actions and more than 2 observed numbers for "
     "angle_policy, received 'Acrobot-v1' with 3 actions"),
    ("algo=pg algo.head=sigmoid env=acrobot", "algo.head: expected softmax for 3 actions, received 'sigmoid', which is for two."),
    ("algo=pg algo.batch_unit=step", "algo.batch_unit: expected episode for pg, received 'step'.\nA batch cut within an episode "
     "needs a value to go on from: algo=pg_baseline."),
    ("algo=pg algo.gae_lambda=0.9", "algo.gae_lambda: expected a key of the configuration, received an unknown one.\n"),
    ("algo=pg_baseline algo.gae_lambda=1.5", "algo.gae_lambda: expected a number >= 0 and <= 1, received 1.5."),
    ("algo=ppo algo.num_minibatches=6", "algo.num_minibatches: expected a power of two, as padded batches are, received 6."),
    ("algo=ppo algo.num_minibatches=16 algo.batch_size=10", "algo.num_minibatches: expected at most algo.batch_size (10), so that none is empty, received 16."),
    ("algo=pg algo.batch_size=0", "algo.batch_size: expected a number >= 1, received 0."),
    ("algo=dqn evaluation.policy=sampled", "evaluation.policy: expected greedy for dqn, received 'sampled'.\nOnly policies with "
     "probabilities can be sampled, for example that of algo=pg."),
    ("evaluation.selection=lasst", "evaluation.selection: expected one of eval, train_episode, last, received 'lasst'.\n"
     "Did you mean last?"),
    ("env=space_invaders", "network: expected a convolutional network for images of shape (4, 84, 84), received 'dueling', which has "
     "dense layers only.\nUse network=dueling_cnn or network=cnn."),
    ("env.preprocessing=atari", "env.preprocessing: expected none for CartPole-v1, received 'atari'.\nIt is for ids that begin with ALE/."),
    ("env=space_invaders +env.kwargs.frameskip=4", "env.kwargs: expected no frameskip with env.preprocessing=atari, which skips "
     "frames itself, received {"),
    ("env.frame_stack=0", "env.frame_stack: expected a number >= 1 and <= 64, received 0."),
    ("algo.reward_clip=0", "algo.reward_clip: expected a number > 0, received 0."),
    ("+experiment=atari_dqn trials=10000", "algo.replay_size: expected rings that fit in this machine's memory ("),
    ("trials=100000 algo.replay_size=1000000", "algo.replay_size: expected rings that fit in this machine's memory ("),
    ("algo=q_learning env.discretizer.dimensions=[] env.discretizer.low=[] env.discretizer.high=[] env.discretizer.num_bins=[]",
     "algo.discretizer: expected bins of some of the 4 observed numbers for q_learning, received dimensions [] and 'CartPole-v1' "
     "with observations of shape (4,).\nGive env.discretizer.dimensions, .low, .high and .num_bins, one entry per binned "),
    ("algo=dqn env.discretizer.num_bins=[6]", "env.discretizer: expected as many low, high and num_bins as dimensions, "
     "received 2, 2, 2, 1."),
    ("algo=sarsa +discretizer=cartpole env=frozen_lake", "algo.discretizer: expected no bins, since FrozenLake-v1 has numbered "
     "states, received dimensions [2, 3]."),
    ("algo=sarsa +discretizer=cartpole env=mountain_car", "algo.discretizer: expected bins of some of the 2 observed numbers for "
     "sarsa, received dimensions [2, 3] and 'MountainCar-v0' with observations of shape (2,).\nmountain_car has bins of its own: "
     "leave out algo.discretizer (or +discretizer)."),
    ("algo=q_learning env.id=Blackjack-v1 +discretizer=cartpole", "algo.discretizer: expected no bins"),
    ("algo=q_learning +discretizer=cartpole algo.discretizer.num_bins=[6]", "algo.discretizer: expected as many low, high and "
     "num_bins as dimensions, received 2, 2, 2, 1."),
    ("algo=q_learning +discretizer=cartpole algo.discretizer.low=[1,-1]", "algo.discretizer: expected low < high in every "
     "dimension, received low 1.0 and high 0.4"),
    ("algo=q_learning algo.visit_power=2", "algo.visit_power: expected a number >= 0 and <= 1, received 2"),
    ("algo=q_value_iteration", "env.id: expected an environment with a transition table P for q_value_iteration, received "
     "'CartPole-v1', which has none.\nToy-text environments have one, for example env=frozen_lake"),
    ("algo=dqn env=three_state_mdp", "algo: expected one that heeds action masks, since rlexp/ThreeStateMDP-v0 has states in "
     "which some actions are impossible, received 'dqn'.\nSuch are the tabular ones, for example algo=q_learning."),
    ("+experiment=book/dqqn", "experiment: expected one of atari_dqn, book/angle_policy,"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), REFUSALS, ids=[overrides for overrides, _ in REFUSALS])
def test_refusals(overrides: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        preflight(compose(*overrides.split()))
    assert str(refused.value).startswith(message)
    assert len(str(refused.value).splitlines()) <= 2


@pytest.mark.parametrize("algo", ["a2c", "dqn", "pg", "ppo", "pqn", "sac", "td3"])
def test_a_learning_rate_can_fall(algo: str) -> None:
    """Every key of a linear schedule is there to be set, also where the default is constant."""
    rates = ["optimizer", "policy_optimizer"] if algo in ("sac", "td3") else ["optimizer"]
    for optimizer in rates:
        where, env = f"algo.{optimizer}.lr", "pendulum" if len(rates) == 2 else "cartpole"
        falls = {"kind": "linear", "initial": 0.5, "final": 0.1, "duration": 100, "unit": "step"}
        for overrides in (
            [f"{where}.{key}={value}" for key, value in falls.items()],
            [f"{where}={{{', '.join(f'{key}: {value}' for key, value in falls.items())}}}"],
        ):
            settings, _ = resolve(compose(f"algo={algo}", f"env={env}", *overrides))
            lr = schedules.parse(getattr(settings.algo, optimizer).lr, where)
            assert lr({"step": np.array([50, 200])}).tolist() == pytest.approx([0.3, 0.1])


def test_a_missing_extra_comes_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium

    def make(*args: object, **kwargs: object) -> None:
        raise gymnasium.error.DependencyNotInstalled(
            'Box2D is not installed, you can install it by run `pip install "gymnasium[box2d]"`'
        )

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(Refusal, match=r"pip install 'rlexp\[box2d\]' brings it\."):
        preflight(compose("env=lunar_lander"))


def test_atari_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(Refusal, match=r"pip install 'rlexp\[atari\]' brings it\."):
        preflight(compose("env=space_invaders"))


def test_atari_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(Refusal, match=r"pip install 'rlexp\[atari\]' brings it\."):
        preflight(compose("env=space_invaders"))


def test_config_id_names_everything_that_can_move_a_curve_and_nothing_else() -> None:
    base = compose("algo=ddqn")
    same = [
        "study=other",
        "output_dir=elsewhere",
        "tracking=files",
        "checkpoint.every=5",
        "rerun=true",
        "budget.steps=50000",
    ]
    assert {compose("algo=ddqn", override).config_id for override in same} == {base.config_id}
    moved = ["trials=6", "seed=1", "algo.gamma=0.98", "env.max_episode_steps=200", "budget.steps=100", "network.activation=elu",
             "evaluation.period=500", "device=cpu", "exact_trials=false"]  # fmt: skip
    ids = {compose("algo=ddqn", override).config_id for override in moved}
    assert len(ids) == len(moved) and base.config_id not in ids


def test_replications_share_a_group() -> None:
    assert compose("seed=0").group_id == compose("seed=1000", "trials=10").group_id != compose("algo=ddqn").group_id


def test_folder_and_environment_names() -> None:
    settings = compose("algo=ddqn", "study=s", "output_dir=/tmp/o", "env.id=Taxi-v3")
    assert settings.folder.as_posix() == f"/tmp/o/s/ddqn-Taxi-v3-{settings.config_id}"
    assert compose("env=acrobot").job_name.startswith("dueling_ddqn-acrobot-")


def test_dueling_algorithms_bring_their_network_and_the_user_can_choose_another() -> None:
    assert compose("algo=dueling_ddqn").network.name == "dueling"
    assert compose("algo=ddqn").network.name == "mlp"
    assert compose("algo=dueling_ddqn", "network=mlp").network.name == "mlp"


def test_book_presets_keep_the_notebooks_numbers() -> None:
    settings = compose("+experiment=book/dueling_ddqn")
    algo = settings.algo
    assert (settings.budget.episodes, settings.env.max_episode_steps, settings.evaluation.selection) == (
        600,
        200,
        "train_episode",
    )
    assert (algo.optimizer.name, algo.optimizer.lr, algo.optimizer.clip_norm, algo.loss) == (
        "nadam",
        5e-3,
        None,
        "mse",
    )
    assert (algo.replay_size, algo.batch_size, algo.gamma, algo.learn_start, algo.learn_unit) == (
        2000,
        32,
        0.95,
        51,
        "episode",
    )
    assert (algo.target, algo.target_period, algo.target_unit) == ("hard", 50, "update")
    assert (settings.network.hidden_units, settings.network.activation) == ([32, 32], "elu")
    assert (settings.network.options["aggregation"], settings.network.options["layer_norm"]) == ("max", False)
    assert compose("+experiment=book/ddqn").algo.optimizer.lr == 1e-2
    assert compose("+experiment=book/dqn").algo.target == "none"
    soft = compose("+experiment=book/soft_dqn").algo
    assert (soft.target, soft.tau) == ("soft", 0.01)


def test_book_policy_gradient_presets_keep_the_notebooks_numbers() -> None:
    """150 iterations of 10 episodes of at most 200 steps; 5 ReLU units, one sigmoid output, Nadam 0.01, gamma 0.95."""
    settings = compose("+experiment=book/pg")
    algo = settings.algo
    assert (settings.budget.episodes, algo.batch_unit, algo.batch_size) == (150 * 10, "episode", 10)
    assert (settings.env.max_episode_steps, settings.network.hidden_units, settings.network.activation) == (
        200,
        [5],
        "relu",
    )
    assert (algo.head, algo.gamma, algo.normalize, algo.entropy_coef) == ("sigmoid", 0.95, True, 0)
    assert (algo.optimizer.name, algo.optimizer.lr, algo.optimizer.clip_norm) == ("nadam", 1e-2, None)
    assert (settings.evaluation.selection, settings.evaluation.policy) == ("last", "sampled")
    lander = compose("+experiment=book/pg_lunar_lander")
    assert (lander.env.id, lander.env.max_episode_steps) == ("LunarLander-v3", 1000)
    assert (lander.network.hidden_units, lander.network.activation) == ([32, 32], "relu")
    assert (lander.algo.head, lander.algo.truncation_penalty, lander.algo.optimizer.name) == ("softmax", 100.0, "nadam")
