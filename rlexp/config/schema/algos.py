"""The schemas of the algorithms that this package brings, and what contradicts in them.

A schema's `check` refuses contradictions between settings, its `check_env` those with an environment. Both are called
before TensorFlow is imported, for the schemas of other packages too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rlexp.config.schema.env import DiscretizerSettings
from rlexp.config.schema.fields import constant, linear, opt
from rlexp.system.errors import did_you_mean, refusal


class Environment(Protocol):
    """What a schema may look at of an environment: a part of `rlexp.envs.info.EnvInfo`."""

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation."""

    @property
    def num_actions(self) -> int:
        """A, of Discrete actions."""

    @property
    def action(self) -> Any:
        """What agents choose: a spec with its `kind`, and for a Box with its `dtype` and whether it is `bounded`."""


@dataclass
class AlgoSettings:
    """What the settings of any algorithm say of it."""

    evaluation_policies: ClassVar[tuple[str, ...]] = ("greedy",)  # what `evaluation.policy` may be
    noisy: ClassVar[bool] = False  # whether `network.noisy` may be true

    def check(self, where: str) -> None:
        """Raise `Refusal` for settings that contradict one another; `where` they stand: "algo"."""

    def check_env(self, env_id: str, info: Environment) -> None:
        """Raise `Refusal` for an environment that these settings do not suit."""

    def warning(self, steps: int | None) -> str | None:
        """What is probably a mistake, with a budget of so many env steps (None: it counts episodes)."""
        return None


@dataclass
class RandomSettings(AlgoSettings):
    """Uniformly random actions."""

    name: str = opt("random", "registry key")

    def check_env(self, env_id: str, info: Environment) -> None:
        """Numbers of an action are drawn between two bounds."""
        if info.action.kind == "box" and not info.action.bounded:
            expected = f"an environment whose actions have bounds for {self.name}, which draws between these"
            raise refusal("env.id", expected, f"{env_id!r} with {info.action}")


@dataclass
class AnglePolicySettings(AlgoSettings):
    """The chapter's hard-coded policy."""

    name: str = opt("angle_policy", "registry key")
    observation_index: int = opt(2, "which number of the observation is the angle", low=0)
    threshold: float = opt(0.0, "action 0 below it, action 1 otherwise (radians on CartPole)")

    def check_env(self, env_id: str, info: Environment) -> None:
        """It needs the observed number that it looks at, and two actions."""
        shape = info.observation_shape
        if len(shape) != 1 or shape[0] <= self.observation_index or info.num_actions != 2:
            numbers = f"more than {self.observation_index} observed numbers"
            raise refusal(
                "algo",
                f"an environment with two actions and {numbers} for {self.name}",
                f"{env_id!r} with {info.num_actions} actions and observations of shape {shape}",
                "It was made for env=cartpole.",
            )


OPTIMIZER_OPTIONS = {  # by their Keras names
    "sgd": ("momentum", "nesterov"),
    "rmsprop": ("rho", "momentum", "epsilon", "centered"),
    "adam": ("beta_1", "beta_2", "epsilon"),
    "adamw": ("beta_1", "beta_2", "epsilon", "weight_decay"),
    "nadam": ("beta_1", "beta_2", "epsilon"),
    "radam": ("beta_1", "beta_2", "epsilon"),
}


@dataclass
class OptimizerSettings:
    """Optimiser, with the values of the DQN family; hyper-parameter names are Keras'."""

    name: str = opt("adam", "optimiser", choices=tuple(OPTIMIZER_OPTIONS))
    lr: Any = opt(constant(1e-3), "learning rate, a number or a schedule", above=0, scalar=True)
    clip_norm: float | None = opt(10.0, "largest global gradient norm of a trial; null: no clipping", above=0)
    options: dict[str, Any] = opt({}, "further hyper-parameters by their Keras names")

    def check(self, where: str) -> None:
        """Options belong to their optimiser."""
        known = OPTIMIZER_OPTIONS[self.name]
        for key in self.options:
            if key not in known:
                expected = f"one of {', '.join(known)} for {self.name}"
                raise refusal(f"{where}.options.{key}", expected, "an unknown one", did_you_mean(key, known))


@dataclass
class PGOptimizerSettings(OptimizerSettings):
    """Optimiser of REINFORCE."""

    lr: Any = opt(linear(1e-2, 3e-4, 100_000), "learning rate, a number or a schedule", above=0, scalar=True)
    clip_norm: float | None = opt(None, "largest global gradient norm of a trial; null: no clipping", above=0)


@dataclass
class PPOOptimizerSettings(PGOptimizerSettings):
    """Optimiser of PPO."""

    lr: Any = opt(linear(5e-3, 1e-4, 50_000), "learning rate, a number or a schedule", above=0, scalar=True)


SIGMA_0 = 0.5  # of factorised noise: Fortunato et al. 2018, section 3.2
PRIORITY_KEYS = ("priority_alpha", "priority_beta", "priority_epsilon")  # of algo; read for `replay: prioritized` alone


@dataclass
class ReplaySettings(AlgoSettings):
    """What algorithms that learn from a replay ring share: what its loops read."""

    name: str = opt("dqn", "registry key")
    gamma: Any = opt(0.99, "discount factor, a number or a schedule", low=0, high=1, scalar=True)
    optimizer: OptimizerSettings = opt(OptimizerSettings, "optimiser")
    replay_size: int = opt(50_000, "transitions in the replay ring", low=1)
    batch_size: int = opt(128, "transitions per update", low=1)
    learn_unit: str = opt("step", "what learn_start and learn_period count", choices=("step", "episode"))
    learn_start: int = opt(1_000, "nothing is learned up to this count", low=0)
    learn_period: int = opt(2, "one learning phase every so many", low=1)
    n_step: int = opt(3, "most steps that one target sums rewards over", low=1, high=1_000)
    num_updates: int = opt(1, "updates per learning phase", low=1)
    target: str = opt("none", "target network", choices=("none", "hard", "soft"))
    target_period: int = opt(200, "hard: copied every so many target_unit", low=1)
    target_unit: str = opt("update", "what target_period counts", choices=("update", "step", "episode"))
    tau: Any = opt(0.005, "soft: weight of the online network per update", above=0, high=1, scalar=True)
    truncation: str = opt("bootstrap", "what an episode cut by a limit means", choices=("bootstrap", "terminate"))
    reward_clip: float | None = opt(None, "rewards are learned from as clipped to +- this; null: as they are", above=0)

    def check(self, where: str) -> None:
        """A batch fits into the ring."""
        if self.batch_size > self.replay_size:
            expected = f"at most {where}.replay_size ({self.replay_size})"
            raise refusal(f"{where}.batch_size", expected, str(self.batch_size))

    def warning(self, steps: int | None) -> str | None:
        """A budget that ends before learning starts."""
        if self.learn_unit == "step" and steps is not None and self.learn_start >= steps:
            return f"nothing will be learned: algo.learn_start={self.learn_start} is not less than the budget"
        return None


@dataclass
class DQNSettings(ReplaySettings):
    """DQN, and what the algorithms that descend from it share."""

    noisy: ClassVar[bool] = True

    epsilon: Any = opt(
        {**linear(1.0, 0.01, 10_000), "decay": None},
        "probability of a random action, a number or a schedule",
        low=0,
        high=1,
        scalar=True,
    )
    loss: str = opt("huber", "loss of the TD error", choices=("mse", "huber"))
    replay: str = opt("uniform", "how a batch is drawn from the ring", choices=("uniform", "prioritized"))
    priority_alpha: float = opt(0.6, "prioritized: exponent of priorities; 0 draws uniformly", low=0, high=1)
    priority_beta: Any = opt(
        linear(0.4, 1.0, 50_000),
        "prioritized: exponent of importance weights, a number or a schedule",
        low=0,
        high=1,
        scalar=True,
    )
    priority_epsilon: float = opt(1e-6, "prioritized: added to each error", above=0)
    sigma0: float = opt(SIGMA_0, "noisy networks: initial deviation of a weight, times sqrt(inputs)", above=0)


@dataclass
class FixedDQNSettings(DQNSettings):
    """DQN with a target network, fixed between its renewals: double DQN and dueling variants, too."""

    name: str = opt("fixed_dqn", "registry key")
    target: str = opt("soft", "target network", choices=("none", "hard", "soft"))

    def check(self, where: str) -> None:
        """There is a target network."""
        super().check(where)
        check_target(self)


@dataclass
class DistributionalSettings(FixedDQNSettings):
    """What algorithms that learn the distribution of returns share."""

    double: bool = opt(False, "the online network chooses the next action, the target network evaluates it")


@dataclass
class C51Settings(DistributionalSettings):
    """Categorical DQN."""

    name: str = opt("c51", "registry key")
    loss: str = opt("cross_entropy", "loss of a distribution", choices=("cross_entropy",))
    num_atoms: int = opt(51, "K, returns whose probabilities are learned", low=2, high=10_000)
    v_min: float = opt(-100.0, "the lowest of these returns")
    v_max: float = opt(100.0, "the highest of them")

    @property
    def num_outputs(self) -> int:
        """K, the numbers that a network has for each action."""
        return self.num_atoms

    def check(self, where: str) -> None:
        """The support has a length."""
        super().check(where)
        if not self.v_min < self.v_max:
            raise refusal(f"{where}.v_max", f"a number above {where}.v_min ({self.v_min:g})", f"{self.v_max:g}")


@dataclass
class QRDQNSettings(DistributionalSettings):
    """Quantile regression DQN."""

    name: str = opt("qr_dqn", "registry key")
    loss: str = opt("quantile_huber", "loss of a distribution", choices=("quantile_huber",))
    num_quantiles: int = opt(51, "K, quantiles that are learned", low=1, high=10_000)
    kappa: float = opt(1.0, "error from which on the loss is linear; 0: throughout", low=0)

    @property
    def num_outputs(self) -> int:
        """K, the numbers that a network has for each action."""
        return self.num_quantiles


@dataclass
class IQNSettings(DistributionalSettings):
    """Implicit quantile networks."""

    noisy: ClassVar[bool] = False

    name: str = opt("iqn", "registry key")
    batch_size: int = opt(64, "transitions per update", low=1)
    loss: str = opt("quantile_huber", "loss of a distribution", choices=("quantile_huber",))
    kappa: float = opt(1.0, "error from which on the loss is linear; 0: throughout", low=0)
    num_taus: int = opt(8, "N, shares drawn for what is predicted", low=1, high=1_000)
    num_target_taus: int = opt(8, "N', shares drawn for the target", low=1, high=1_000)
    num_greedy_taus: int = opt(32, "K, shares whose mean is the value that actions are chosen by", low=1, high=1_000)
    num_cosines: int = opt(64, "n, cosines that a share is seen as", low=1, high=1_000)
    num_features: int = opt(64, "F, features that observation and share are multiplied in", low=1, high=10_000)
    cvar: float = opt(1.0, "actions are chosen by the mean of this worst share of returns", above=0, high=1)


@dataclass
class MunchausenDQNSettings(FixedDQNSettings):
    """Munchausen DQN."""

    name: str = opt("munchausen_dqn", "registry key")
    n_step: int = opt(1, "most steps that one target sums rewards over", low=1, high=1_000)
    temperature: float = opt(0.03, "tau, of the softmax policy", above=0)
    alpha: float = opt(0.9, "weight of the policy's logarithm in the reward", low=0, high=1)
    clip: float = opt(-1.0, "l_0, the least that tau log pi counts", high=0)


def check_target(settings: DQNSettings) -> None:
    """Raise `Refusal` where an algorithm that needs a target network has none."""
    if settings.target == "none":
        fix = "Without a target network the algorithm is algo=dqn."
        raise refusal("algo.target", f"hard or soft for {settings.name}", "'none'", fix)


@dataclass
class RolloutSettings(AlgoSettings):
    """What algorithms that learn from batches of their own latest steps share: what their loops read."""

    name: str = opt("pg", "registry key")
    gamma: Any = opt(0.995, "discount factor, a number or a schedule", low=0, high=1, scalar=True)
    optimizer: OptimizerSettings = opt(PGOptimizerSettings, "optimiser")
    batch_unit: str = opt("episode", "what batch_size counts", choices=("episode", "step"))
    batch_size: int = opt(10, "episodes, or env steps, per batch", low=1)
    reward_scale: float = opt(1.0, "rewards are multiplied by it, in learning only", above=0)
    truncation_penalty: float = opt(0.0, "taken from the last reward of an episode cut by a limit", low=0)
    num_envs: int = opt(1, "environments of each trial, which act together", low=1, high=10_000)

    def check(self, where: str) -> None:
        """All environments have equally many rows of a batch."""
        if self.batch_unit == "step" and self.batch_size % self.num_envs:
            expected = f"a multiple of {where}.num_envs ({self.num_envs})"
            raise refusal(f"{where}.batch_size", expected, str(self.batch_size))


@dataclass
class PGSettings(RolloutSettings):
    """Policy gradients: REINFORCE."""

    evaluation_policies: ClassVar[tuple[str, ...]] = ("greedy", "sampled")

    head: str = opt("softmax", "what makes probabilities of outputs", choices=("softmax", "sigmoid"))
    normalize: bool = opt(True, "returns or advantages of a batch get mean 0 and standard deviation 1")
    entropy_coef: Any = opt(0.0, "weight of the entropy bonus, a number or a schedule", low=0, scalar=True)
    distribution: str = opt("auto", "of Box actions; auto: gaussian", choices=("auto", "gaussian", "tanh_gaussian"))
    log_std_init: float = opt(0.0, "first logarithm of a Gaussian's deviation, in halves of the bounds' width")
    state_dependent_std: bool = opt(False, "a Gaussian's deviation is computed by the network")

    def check(self, where: str) -> None:
        """Returns need whole episodes, one after the other."""
        if self.num_envs != 1:
            fix = "Its whole episodes come one after another; several environments are for algo=pg_baseline."
            raise refusal(f"{where}.num_envs", f"1 for {self.name}", str(self.num_envs), fix)
        if self.batch_unit == "step":
            fix = "A batch cut within an episode needs a value to go on from: algo=pg_baseline."
            raise refusal(f"{where}.batch_unit", f"episode for {self.name}", "'step'", fix)

    def check_env(self, env_id: str, info: Environment) -> None:
        """A sigmoid chooses between two actions; a Gaussian is for floats, and tanh needs bounds to squash them to."""
        numbered, box = info.action.kind == "discrete", info.action.kind == "box"
        if self.head == "sigmoid" and not (numbered and info.num_actions == 2):
            actions = f"{info.num_actions} actions" if numbered else f"actions of {info.action}"
            raise refusal("algo.head", f"softmax for {actions}", "'sigmoid', which is for two")
        if self.distribution != "auto" and not box:
            received = f"{self.distribution!r} and {env_id!r} with actions of {info.action}"
            raise refusal("algo.distribution", "auto where actions are no Box", received)
        if box and info.action.dtype != "float32":
            received = f"{env_id!r} with actions of {info.action}"
            raise refusal("env.id", f"actions of floats for {self.name}", received)
        if self.distribution == "tanh_gaussian" and not info.action.bounded:
            received = f"'tanh_gaussian' and {env_id!r} with actions of {info.action}"
            fix = "A Gaussian needs none: algo.distribution=gaussian"
            raise refusal("algo.distribution", "gaussian where a number of the action has no bound", received, fix)


@dataclass
class PGBaselineSettings(PGSettings):
    """Policy gradients with a learned value baseline."""

    name: str = opt("pg_baseline", "registry key")
    batch_unit: str = opt("step", "what batch_size counts", choices=("episode", "step"))
    batch_size: int = opt(500, "episodes, or env steps, per batch", low=1)
    reward_scale: float = opt(0.1, "rewards are multiplied by it, in learning only", above=0)
    gae_lambda: float = opt(0.98, "lambda of the advantage estimates", low=0, high=1)
    value_coef: float = opt(0.5, "weight of the value's loss", above=0)
    truncation: str = opt("bootstrap", "what an episode cut by a limit means", choices=("bootstrap", "terminate"))

    def check(self, where: str) -> None:
        """A batch may end anywhere: the value stands for the rest."""
        RolloutSettings.check(self, where)


@dataclass
class ActorCriticSettings(PGBaselineSettings):
    """What actor-critics share beside the baseline."""

    orthogonal: bool = opt(False, "kernels start orthogonal; policy and value start near 0")
    normalize_observations: bool = opt(False, "observations are seen with running mean 0 and variance 1")
    normalize_rewards: bool = opt(False, "rewards are divided by the running deviation of discounted returns")


@dataclass
class PPOSettings(ActorCriticSettings):
    """Proximal policy optimisation."""

    name: str = opt("ppo", "registry key")
    optimizer: OptimizerSettings = opt(PPOOptimizerSettings, "optimiser")
    num_updates: int = opt(5, "passes over a batch, each of num_minibatches gradient steps", low=1)
    num_minibatches: int = opt(1, "parts that a batch is shuffled into, one gradient step each", low=1)
    clip_ratio: float = opt(0.2, "how far a batch's updates may move a probability, as a ratio", above=0, high=1)
    value_clip: float | None = opt(None, "how far a batch's updates may move a value; null: no limit", above=0)
    target_kl: float | None = opt(None, "a batch is left once the policy has moved so far; null: no limit", above=0)

    def check(self, where: str) -> None:
        """Minibatches have rows that count, and are of one size."""
        super().check(where)
        check_minibatches(self, where)


def check_minibatches(settings: Any, where: str) -> None:
    """Raise `Refusal` for minibatches without rows, or of different sizes."""
    parts, size = settings.num_minibatches, settings.batch_size
    if parts & (parts - 1):
        raise refusal(f"{where}.num_minibatches", "a power of two, as padded batches are", str(parts))
    if parts > size:
        expected = f"at most {where}.batch_size ({size}), so that none is empty"
        raise refusal(f"{where}.num_minibatches", expected, str(parts))


@dataclass
class QValueIterationSettings(AlgoSettings):
    """Planning with a transition table."""

    name: str = opt("q_value_iteration", "registry key")
    gamma: float = opt(0.99, "discount factor", low=0, high=1)
    tolerance: float = opt(1e-9, "stop once no action value moves by more than this", low=0)
    iterations: int = opt(10_000, "stop after so many sweeps", low=1, high=1_000_000)


@dataclass
class TabularSettings(AlgoSettings):
    """Tabular Q-learning and its relatives."""

    name: str = opt("q_learning", "registry key")
    gamma: float = opt(0.99, "discount factor", low=0, high=1)
    epsilon: Any = opt(
        {**linear(1.0, 0.1, 300_000), "decay": None},
        "probability of a random possible action, a number or a schedule",
        low=0,
        high=1,
        scalar=True,
    )
    alpha: Any = opt(
        {"kind": "exponential", "initial": 0.1, "final": 0.002, "duration": 300_000, "decay": 0.02, "unit": "step"},
        "learning rate, a number or a schedule",
        low=0,
        high=1,
        scalar=True,
    )
    visit_power: float = opt(0.0, "alpha is divided by (visits of the state and action)^visit_power", low=0, high=1)
    initial_value: float = opt(0.0, "every possible action starts with this value")
    bootstrap: str = opt("unless_terminated", "when the next state counts", choices=("unless_terminated", "always"))
    discretizer: DiscretizerSettings = opt(DiscretizerSettings, "what replaces the environment's own bins, if anything")
