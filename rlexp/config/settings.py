"""The schema of a configuration: types, ranges, one line a field; and the refusal of what does not fit.

Values and defaults that a user reads stand in `conf/*.yaml`; here stands what may be written there. The default of a
field is the value of its YAML (for a schema of several algorithms: of the one that its `name` says), for whoever builds
settings in Python and for jobs that are older than a key; `tests/test_defaults.py` compares them.
Nothing in this module imports TensorFlow, MLflow or Gymnasium.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from rlexp import __version__
from rlexp.config import arguments, hints, schedules
from rlexp.system import packages, places
from rlexp.system.text import USER_INFO_HINT, clean, user_info


class Refusal(ValueError):
    """A configuration that cannot run. The message says what was expected, what was received, what to do.

    What it quotes of files, servers and command lines is shown, and not obeyed by a terminal; secrets are masked.
    """

    def __init__(self, message: str) -> None:
        super().__init__(clean(message))


def refusal(where: str, expected: str, received: str, fix: str = "") -> Refusal:
    """Build a `Refusal` of one line, or two where there is something to do."""
    where, received = clean(where, newlines=False), clean(received, newlines=False)
    return Refusal(f"{where}: expected {expected}, received {received}." + (f"\n{fix}" if fix else ""))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' for near matches of a misspelt name, else an empty string."""
    known = list(known)
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(lower[n] for n in near)}?" if near else ""


def opt(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    scalar: bool = False,
) -> Any:
    """A dataclass field: its default, its one line of help, and what it may hold.

    `low` and `high` are inclusive, `above` is exclusive; `scalar` marks a number that may be a schedule,
    whose initial and final values must lie in that range.
    """
    metadata = {"help": help, "low": low, "high": high, "above": above, "choices": choices, "scalar": scalar}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class RandomSettings:
    """Uniformly random actions."""

    name: str = opt("random", "registry key")


@dataclass
class AnglePolicySettings:
    """The chapter's hard-coded policy."""

    name: str = opt("angle_policy", "registry key")
    observation_index: int = opt(2, "which number of the observation is the angle", low=0)
    threshold: float = opt(0.0, "action 0 below it, action 1 otherwise (radians on CartPole)")


OPTIMIZER_OPTIONS = {  # by their Keras names
    "sgd": ("momentum", "nesterov"),
    "rmsprop": ("rho", "momentum", "epsilon", "centered"),
    "adam": ("beta_1", "beta_2", "epsilon"),
    "nadam": ("beta_1", "beta_2", "epsilon"),
}

ACTIVATIONS = (  # of Keras
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink", "threshold",
)  # fmt: skip


def linear(initial: float, final: float, duration: int) -> dict[str, Any]:
    """The schedule that goes from one number to another in so many env steps."""
    return {"kind": "linear", "initial": initial, "final": final, "duration": duration, "unit": "step"}


@dataclass
class OptimizerSettings:
    """Optimiser, with the values of the DQN family; hyper-parameter names are Keras'."""

    name: str = opt("adam", "optimiser", choices=tuple(OPTIMIZER_OPTIONS))
    lr: Any = opt(linear(2e-3, 5e-4, 50_000), "learning rate, a number or a schedule", above=0, scalar=True)
    clip_norm: float | None = opt(10.0, "largest global gradient norm of a trial; null: no clipping", above=0)
    options: dict[str, Any] = opt({}, "further hyper-parameters by their Keras names")


@dataclass
class PGOptimizerSettings(OptimizerSettings):
    """Optimiser of REINFORCE."""

    lr: Any = opt(linear(1e-2, 3e-4, 100_000), "learning rate, a number or a schedule", above=0, scalar=True)
    clip_norm: float | None = opt(None, "largest global gradient norm of a trial; null: no clipping", above=0)


@dataclass
class PGBaselineOptimizerSettings(PGOptimizerSettings):
    """Optimiser of policy gradients with a baseline."""

    lr: Any = opt(linear(5e-3, 1e-4, 50_000), "learning rate, a number or a schedule", above=0, scalar=True)


@dataclass
class DQNSettings:
    """DQN, fixed targets, double DQN, and their dueling variants."""

    name: str = opt("dqn", "registry key")
    gamma: Any = opt(0.998, "discount factor, a number or a schedule", low=0, high=1, scalar=True)
    epsilon: Any = opt(
        {**linear(1.0, 0.1, 10_000), "decay": None},
        "probability of a random action, a number or a schedule",
        low=0,
        high=1,
        scalar=True,
    )
    optimizer: OptimizerSettings = opt(OptimizerSettings, "optimiser")
    loss: str = opt("mse", "loss of the TD error", choices=("mse", "huber"))
    replay_size: int = opt(50_000, "transitions in the replay ring", low=1)
    batch_size: int = opt(64, "transitions per update", low=1)
    learn_unit: str = opt("step", "what learn_start and learn_period count", choices=("step", "episode"))
    learn_start: int = opt(1_000, "nothing is learned up to this count", low=0)
    learn_period: int = opt(2, "one learning phase every so many", low=1)
    n_step: int = opt(10, "most steps that one target sums rewards over", low=1, high=1_000)
    num_updates: int = opt(1, "updates per learning phase", low=1)
    target: str = opt("none", "target network", choices=("none", "hard", "soft"))
    target_period: int = opt(128, "hard: copied every so many target_unit", low=1)
    target_unit: str = opt("update", "what target_period counts", choices=("update", "step", "episode"))
    tau: Any = opt(0.01, "soft: weight of the online network per update", above=0, high=1, scalar=True)
    truncation: str = opt("bootstrap", "what an episode cut by a limit means", choices=("bootstrap", "terminate"))
    reward_clip: float | None = opt(None, "rewards are learned from as clipped to +- this; null: as they are", above=0)


@dataclass
class PGSettings:
    """Policy gradients: REINFORCE."""

    name: str = opt("pg", "registry key")
    gamma: Any = opt(0.995, "discount factor, a number or a schedule", low=0, high=1, scalar=True)
    head: str = opt("softmax", "what makes probabilities of outputs", choices=("softmax", "sigmoid"))
    optimizer: OptimizerSettings = opt(PGOptimizerSettings, "optimiser")
    batch_unit: str = opt("episode", "what batch_size counts", choices=("episode", "step"))
    batch_size: int = opt(10, "episodes, or env steps, per batch", low=1)
    num_updates: int = opt(1, "passes over a batch, each of num_minibatches gradient steps", low=1)
    num_minibatches: int = opt(1, "parts that a batch is shuffled into, one gradient step each", low=1)
    clip_ratio: float | None = opt(
        None, "how far a batch's updates may move a probability, as a ratio; null: no limit", above=0, high=1
    )
    normalize: bool = opt(True, "returns or advantages of a batch get mean 0 and standard deviation 1")
    entropy_coef: Any = opt(0.0, "weight of the entropy bonus, a number or a schedule", low=0, scalar=True)
    reward_scale: float = opt(1.0, "rewards are multiplied by it, in learning only", above=0)
    truncation_penalty: float = opt(0.0, "taken from the last reward of an episode cut by a limit", low=0)


@dataclass
class PGBaselineSettings(PGSettings):
    """Policy gradients with a learned value baseline."""

    name: str = opt("pg_baseline", "registry key")
    optimizer: OptimizerSettings = opt(PGBaselineOptimizerSettings, "optimiser")
    batch_unit: str = opt("step", "what batch_size counts", choices=("episode", "step"))
    batch_size: int = opt(500, "episodes, or env steps, per batch", low=1)
    num_updates: int = opt(5, "passes over a batch, each of num_minibatches gradient steps", low=1)
    clip_ratio: float | None = opt(
        0.2, "how far a batch's updates may move a probability, as a ratio; null: no limit", above=0, high=1
    )
    reward_scale: float = opt(0.1, "rewards are multiplied by it, in learning only", above=0)
    gae_lambda: float = opt(0.98, "lambda of the advantage estimates", low=0, high=1)
    value_coef: float = opt(0.5, "weight of the value's loss", above=0)
    truncation: str = opt("bootstrap", "what an episode cut by a limit means", choices=("bootstrap", "terminate"))


@dataclass
class QValueIterationSettings:
    """Planning with a transition table."""

    name: str = opt("q_value_iteration", "registry key")
    gamma: float = opt(0.99, "discount factor", low=0, high=1)
    tolerance: float = opt(1e-9, "stop once no action value moves by more than this", low=0)
    iterations: int = opt(10_000, "stop after so many sweeps", low=1, high=1_000_000)


@dataclass
class DiscretizerSettings:
    """Uniform bins that turn the numbers of a Box observation into one state; dimensions not listed are ignored."""

    dimensions: list[int] = opt([], "which numbers of the observation are binned, in this order", low=0)
    low: list[float] = opt([], "lower end of the first bin of each; what is below falls into that bin")
    high: list[float] = opt([], "upper end of the last bin of each; what is above falls into that bin")
    num_bins: list[int] = opt([], "bins of each", low=1, high=100_000)


@dataclass
class TabularSettings:
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


@dataclass
class EnvSettings:
    """A Gymnasium environment."""

    name: str = opt("cartpole", "name in folder names and reports")
    id: str = opt("CartPole-v1", "Gymnasium id, or module:Id")
    kwargs: dict[str, Any] = opt({}, "arguments of gymnasium.make")
    max_episode_steps: int | None = opt(None, "limit of an episode; null: the environment's own", low=1)
    imports: list[str] = opt([], "modules to import first")
    wrappers: list[Any] = opt([], "Gymnasium wrappers in this order: class paths, or mappings of name and arguments")
    preprocessing: str = opt("none", "what stands between the environment and the agent", choices=("none", "atari"))
    frame_stack: int = opt(1, "an observation is the last so many of the environment's", low=1, high=64)
    step_timeout: float | None = opt(600.0, "seconds that a call of an environment may take; null: for ever", above=0)
    discretizer: DiscretizerSettings = opt(DiscretizerSettings, "bins through which tables see a Box observation")
    default_steps: int = opt(50_000, "env steps per trial where no budget is given", low=1)


@dataclass
class NetworkSettings:
    """A Keras model for one trial."""

    name: str = opt("mlp", "registry key, or module:function of your own")
    hidden_units: list[int] = opt([64, 64], "units of the hidden layers", low=1)
    activation: str = opt("tanh", "Keras name of the hidden activation")
    options: dict[str, Any] = opt({}, "further options of this network")


@dataclass
class TrackingSettings:
    """Where results are sent besides the job's folder."""

    name: str = opt("mlflow", "tracker", choices=("mlflow", "files"))
    uri: str | None = opt(None, "tracking URI; null: MLFLOW_TRACKING_URI, else SQLite in output_dir")
    timeout: float = opt(60.0, "seconds to wait at the end for delivery", low=0)


@dataclass
class BudgetSettings:
    """How long each trial trains, exactly."""

    steps: int | None = opt(None, "env steps per trial", low=1)
    episodes: int | None = opt(None, "episodes per trial", low=1)


@dataclass
class EvaluationSettings:
    """Evaluation on fixed seeds, and the choice of the best weights."""

    policy: str = opt("greedy", "how actions are chosen", choices=("greedy", "sampled"))
    num_episodes: int = opt(50, "episodes per evaluation and trial", low=1, high=10_000)
    period: int = opt(2_000, "env steps of a trial between evaluations", low=1)
    seed: int = opt(100_000, "evaluation episode i is reset with seed + i", low=0, high=2**31)
    final_episodes: int = opt(100, "fresh episodes that re-score the best weights", low=1, high=10**6)
    final_seed: int = opt(200_000, "final episode i is reset with final_seed + i", low=0, high=2**31)
    candidates: int = opt(3, "best weights kept per trial, scored again at the end; 1: none is", low=1, high=100)
    candidate_episodes: int = opt(200, "episodes that score a candidate again", low=1, high=10**6)
    candidate_seed: int = opt(300_000, "candidate episode i is reset with candidate_seed + i", low=0, high=2**31)
    selection: str = opt("eval", "what chooses the best weights", choices=("eval", "train_episode", "last"))
    max_steps: int = opt(10_000, "an evaluation episode without a limit of its own is cut here", low=1)


@dataclass
class LogSettings:
    """How finely training is recorded."""

    points: int = opt(250, "records per job in metrics.jsonl, about; evaluations add theirs", low=1, high=2_000)


@dataclass
class CheckpointSettings:
    """When to write checkpoints, and how many to keep."""

    every: float = opt(60.0, "seconds between checkpoints", low=0)
    keep: int = opt(2, "checkpoints kept", low=1)


@dataclass
class AnimationSettings:
    """The picture of the best trial at the end."""

    enabled: bool = opt(True, "animate the best trial")
    max_steps: int = opt(500, "env steps shown", low=1)


@dataclass
class Settings:
    """One job: what `python -m rlexp` runs."""

    algo: Any = opt(DQNSettings, "algorithm")
    env: EnvSettings = opt(EnvSettings, "environment")
    network: NetworkSettings = opt(NetworkSettings, "network")
    tracking: TrackingSettings = opt(TrackingSettings, "tracker")
    trials: int = opt(5, "seeds run together", low=1, high=100_000)
    seed: int = opt(0, "trial k uses seed + k", low=0, high=2**32 - 1)
    study: str = opt("default", "MLflow experiment and folder")
    label: str | None = opt(None, "what tables and reports call it; null: its algorithm and what differs")
    engine: str = opt("auto", "what advances the trials", choices=("auto", "host", "fused"))
    device: str = opt("auto", "where tensors live", choices=("auto", "cpu", "gpu"))
    output_dir: str = opt("outputs", "where job folders live")
    exact_trials: bool = opt(True, "pad a single trial, so that it equals the trial in a batch")
    rerun: bool = opt(False, "start afresh where there is something to skip or to resume")
    budget: BudgetSettings = opt(BudgetSettings, "length of training")
    evaluation: EvaluationSettings = opt(EvaluationSettings, "evaluation")
    log: LogSettings = opt(LogSettings, "records")
    checkpoint: CheckpointSettings = opt(CheckpointSettings, "checkpoints")
    animation: AnimationSettings = opt(AnimationSettings, "animation")

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trials: [seed, seed + 1, ...]."""
        return list(range(self.seed, self.seed + self.trials))

    @property
    def max_steps(self) -> int | None:
        """Env steps per trial, or None where the budget counts episodes."""
        if self.budget.episodes is not None:
            return None
        return self.budget.steps or self.env.default_steps

    @property
    def group_id(self) -> str:
        """Hash of everything that can move a curve but for the seeds: the same for replications."""
        from rlexp.config.images import options_that_differ

        curve = dataclasses.asdict(self)
        for elsewhere in (
            "study",
            "label",
            "output_dir",
            "tracking",
            "rerun",
            "checkpoint",
            "animation",
            "trials",
            "seed",
        ):
            del curve[elsewhere]
        curve["budget"] = {"steps": self.max_steps, "episodes": self.budget.episodes}
        del curve["env"]["default_steps"], curve["env"]["step_timeout"]
        if not self.env.wrappers:  # as it was before there were any
            del curve["env"]["wrappers"]
        if self.network.name in ("cnn", "dueling_cnn"):  # options younger than these networks count where they differ
            curve["network"]["options"] = options_that_differ(self.network)
        del curve["env"]["discretizer"]  # of tables what is in effect is in algo.discretizer; networks read none
        return _digest({"version": __version__, **curve})

    @property
    def config_id(self) -> str:
        """Hash of everything that can move a curve: it names the job's folder."""
        return _digest({"group": self.group_id, "seeds": [self.seed, self.trials]})

    @property
    def job_name(self) -> str:
        """`<algo>-<env>-<config_id>`."""
        return f"{self.algo.name}-{self.env.name}-{self.config_id}"

    @property
    def folder(self) -> Path:
        """Absolute path of the job's folder."""
        return Path(self.output_dir).expanduser().resolve() / self.study / self.job_name

    def trial_name(self, k: int) -> str:
        """What a person calls trial `k`."""
        return f"seed={self.seeds[k]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain nested mapping, as written to the job's config.yaml."""
        return dataclasses.asdict(self)


def conf_dir() -> Path:
    """The shipped configuration: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def build(config: DictConfig | Mapping[str, Any]) -> Settings:
    """Check a composed configuration and turn it into `Settings`.

    Args:
        config: the composed mapping; a `hydra` node in it is ignored.

    Raises:
        Refusal: at the first unknown key, wrong type, value out of range, or contradiction.
    """
    from rlexp.config import bins, registry, wrapper_entries

    if not isinstance(config, DictConfig):
        config = OmegaConf.create(dict(config))
    try:
        raw = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise Refusal(explain(error)) from error
    assert isinstance(raw, dict)
    raw.pop("hydra", None)
    algo = raw.get("algo")
    if not isinstance(algo, dict) or "name" not in algo:
        raise refusal("algo", "a mapping with a name, as in conf/algo/", repr(algo), "For example: algo=dueling_ddqn")
    schema = registry.algo(str(algo["name"])).schema
    settings = _typed(Settings, {**{str(key): value for key, value in raw.items()}, "algo": {}}, "")
    try:
        settings.algo = _typed(schema, _without_bins(schema, algo), "algo")
    except Refusal as refused:
        raise registry.of_another_yaml(str(algo["name"]), refused) from refused
    settings.env.wrappers = wrapper_entries.parse(settings.env.wrappers)
    bins.follow_id(settings.env)
    _rename_env(settings.env)
    _resolve_shares(settings.algo, "algo", settings)
    _check_ranges(settings, "")
    if isinstance(settings.algo, TabularSettings):
        settings.algo.discretizer = bins.replaced(settings.env.discretizer, settings.algo.discretizer)
    _check_names(settings)
    _check_contradictions(settings)
    return settings


def _without_bins(schema: type, algo: Mapping[str, Any]) -> Mapping[str, Any]:
    """An algorithm's values, less the bins of an algorithm that does not read them: a sweep may mix it with tables."""
    if "discretizer" not in algo or "discretizer" in (f.name for f in dataclasses.fields(schema)):
        return algo
    _typed(DiscretizerSettings, algo["discretizer"] or {}, "algo.discretizer")  # misspelt keys are refused here, too
    return {key: value for key, value in algo.items() if key != "discretizer"}


def _resolve_shares(node: Any, prefix: str, settings: Settings) -> None:
    """Replace schedules that count in shares of the budget by those that count the budget's own unit."""
    for f in dataclasses.fields(node):
        value, where = getattr(node, f.name), f"{prefix}.{f.name}"
        if dataclasses.is_dataclass(value):
            _resolve_shares(value, where, settings)
        elif f.metadata.get("scalar") and isinstance(value, Mapping) and value.get("unit") == schedules.BUDGET:
            episodes = settings.budget.episodes
            unit, count = ("episode", episodes) if episodes is not None else ("step", settings.max_steps or 1)
            try:
                setattr(node, f.name, schedules.of_budget(value, where, unit, max(count, 1)))
            except ValueError as error:
                raise Refusal(str(error)) from error


def check_arguments(args: Iterable[str]) -> None:
    """Refuse what Hydra would take on a command line, or answer with its whole usage, but nobody can have meant.

    Raises:
        Refusal: for options that are Hydra's neither, for a list or nothing where one name is expected, and for
            keys that are taken out.
    """
    from hydra._internal.utils import get_args_parser

    options = get_args_parser()._option_string_actions
    for arg in args:
        key, sign, value = arg.partition("=")
        if arg.startswith("-") and key not in options:
            bare, known = key.lstrip("-").replace("-", "_"), [*_known_keys(Settings, ""), *_GROUPS]
            near = f"Did you mean {bare}{sign or '='}{value or '...'}?" if bare in known else did_you_mean(key, options)
            raise refusal(key, "key=value, or an option of Hydra's", repr(arg), near or "See: python -m rlexp --help")
        group = key.lstrip("+")
        if sign and group in _GROUPS and not arg.startswith("~"):
            if value in ("", "null"):
                raise refusal(group, "a name", value or "nothing", f"For example: {arg[: len(key)]}={_GROUPS[group]}")
            if value.startswith("[") and group not in ("experiment", "debug"):
                several = value.strip("[]").replace(" ", "")
                raise refusal(group, "one name", value, f"Several jobs: python -m rlexp -m {group}={several}")
        if sign and not key.strip("+~"):
            raise refusal("command line", "key=value", repr(arg), "See: python -m rlexp --help")
        if arg.startswith("~") and not re.search(r"\.(kwargs|options)\.", arg):
            raise refusal(arg[1:], "a value", "a deletion", "Every key has a value; give another one, or null.")


_GROUPS = {  # what a command line may choose, and an example
    "algo": "dueling_ddqn",
    "env": "cartpole",
    "network": "mlp",
    "tracking": "files",
    "experiment": "book/dqn",
    "discretizer": "cartpole",
}


def explain(error: Exception) -> str:
    """The one or two lines that a user can act on, from a Hydra or OmegaConf error about an override."""
    text = arguments.unmarked(str(error).strip())
    if hasattr(error, "override"):  # Hydra could not even read it
        received = arguments.unmarked(error.override or "") or text.splitlines()[0].partition(": ")[2]
        quote = "Quote what has blanks or special characters: 'key=\"a b\"'"
        return str(refusal("command line", "key=value", repr(received) if received else text.splitlines()[0], quote))
    unknown = re.search(r"Could not override '(?P<key>[^']+)'", text)
    if unknown and ("To append to your" in text or "No match in the defaults list" in text):
        return unknown_key(unknown["key"].split("@")[0])
    missing = re.search(r"Could not (?:find|load) '(?P<group>[\w/]+)/(?P<name>[^/']*)'", text)
    if missing and missing["group"].startswith("hydra/"):
        known = [line.strip() for line in text.partition("Available options in")[2].splitlines()[1:]]
        known = [name for name in known if re.fullmatch(r"\w+", name)]
        package = packages.HYDRA.get(missing["name"])
        near = f"{packages.line(package)} brings it." if package else did_you_mean(missing["name"], known)
        near = near or "Others come with plugins: pip install hydra-<name>-..."
        return str(refusal(missing["group"], f"one of {', '.join(known)}", repr(missing["name"]), near))
    missing = re.search(r"Could not (?:find|load) '(?P<group>\w+)/(?P<name>[^']+)'", text)
    if missing:
        return str(unknown_choice(missing["group"], missing["name"]))
    sweep = re.search(r"Ambiguous value for argument '(?P<key>[^=]+)=(?P<value>[^']+)'", text)
    if sweep:
        key, values = sweep["key"], sweep["value"]
        several = f"Several jobs: python -m rlexp -m {key}={values}   A list: '{key}=[{values}]'"
        several = hints.SEEDS if key == "seed" else several
        return str(refusal(key, "one value", values, several))
    sweep = re.search(r"Sweep parameters '(?P<key>[^=]+)=(?P<value>.+)' requires --multirun", text)
    if sweep:
        several = f"Several jobs: python -m rlexp -m '{sweep['key']}={sweep['value']}'"
        return str(refusal(sweep["key"], "one value", sweep["value"], several))
    place = re.search(r"Additional config directory '(?P<path>[^']+)' not found", text)
    if place:
        return str(refusal("--config-dir", "a folder", repr(place["path"])))
    place = re.search(r"Cannot find primary config '(?P<name>[^']+)'", text)
    if place:
        return str(
            refusal("--config-name", "config", repr(place["name"]), "It is a preset, perhaps: +experiment=<name>")
        )
    there = re.search(r"An item is already at '(?P<key>[^']+)'", text)
    there = there or re.search(r"(?:Multiple values for )?(?P<key>\w+)(?:\. To override| appears more than once)", text)
    if there:
        return str(refusal(there["key"], "no + before it", "one", f"It has a value already: write {there['key']}=..."))
    shape = re.search(r"Error merging override \+*(?P<key>[^=]+)=(?P<value>.*)", text)
    if shape and arguments.kind_of(shape["key"]).startswith("list["):
        return str(_wrong_type(shape["key"], arguments.kind_of(shape["key"]), shape["value"]))
    if shape:
        return str(refusal(shape["key"], "a mapping of keys", shape["value"], f"For example: {shape['key']}.<key>=..."))
    interpolated = re.search(r"Interpolation key '(?P<key>[^']+)' not found", text)
    if interpolated:
        return str(
            refusal(str(getattr(error, "full_key", "")), "a value", f"${{{interpolated['key']}}}, which no key has")
        )
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("object_type")]
    return "\n".join(lines[:2])


def unknown_choice(group: str, name: str) -> Refusal:
    """The refusal of a name that a configuration group does not have."""
    from rlexp.config.registry import configured, plugin_without_yaml

    lost = plugin_without_yaml(group, name)
    if lost is not None:
        return lost
    known = [known for known in configured(group) if group != "schedule" or "/" not in known]
    hint = hints.for_choice(group, name) or did_you_mean(name, known) or hints.where_nothing_is_near(group)
    return refusal(group, f"one of {', '.join(known)}", repr(name), hint)


def unknown_key(key: str) -> str:
    """The two lines for a key that no schema knows, or not the one of this algorithm, with near matches."""
    from rlexp.config.registry import ALGOS, configured

    known = set(_known_keys(Settings, ""))
    known.update(*(_known_keys(schema, "algo.") for schema in {entry.schema for entry in ALGOS.values()}))
    leaf = {k.rsplit(".", 1)[-1]: k for k in sorted(known, reverse=True)}
    said = f"{key}: expected a key of the configuration, received an unknown one.\n"
    if key in known:
        return f"{said}It belongs to other algorithms; this one's keys: python -m rlexp algo=<name> --cfg job"
    if key in ("experiment", "discretizer", "sweep") and configured(key):
        return f"{said}It is added, with a plus: +{key}=<name>"
    if hint := hints.for_key(key):
        return said + hint
    group, _, last = key.rpartition(".")
    near = f"Did you mean {leaf[last]}?" if last in leaf and leaf[last].startswith(group) else ""
    near = near or did_you_mean(key, sorted(known)) or did_you_mean(last, leaf)
    return said + (near or "See them all: python -m rlexp --cfg job")


def _known_keys(schema: type, prefix: str) -> Iterable[str]:
    for f in dataclasses.fields(schema):
        yield prefix + f.name
        inner = f.default_factory if f.default_factory is not MISSING else None
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from _known_keys(inner, f"{prefix}{f.name}.")


def _typed(schema: type, values: Mapping[str, Any], where: str) -> Any:
    """Merge values into a dataclass schema; a wrong type or an unknown key is a Refusal."""
    _check_switches(schema, values, where)
    values = arguments.whole_numbers(schema, values)
    try:
        defaults = OmegaConf.structured(schema)
        _forget_schedules(defaults, schema, values)
        merged = OmegaConf.merge(defaults, dict(values))
        return OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise Refusal(unknown_key(".".join(filter(None, [where, str(error.full_key)])))) from error
    except OmegaConfBaseException as error:
        _find_wrong_type(schema, values, where)
        raise Refusal(explain(error)) from error


def _forget_schedules(defaults: DictConfig, schema: type, values: Mapping[str, Any]) -> None:
    """A schedule that is given takes the place of the default one, whose further keys mean nothing to it."""
    for f in dataclasses.fields(schema):
        value, inner = values.get(f.name), f.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            _forget_schedules(defaults[f.name], inner, value)
        elif f.name in values and f.metadata.get("scalar"):
            defaults[f.name] = None


def _check_switches(schema: type, values: Mapping[str, Any], where: str) -> None:
    """OmegaConf takes any whole number for true."""
    for f in dataclasses.fields(schema):
        value = values.get(f.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and f.type == "bool" and value not in (0, 1):
            raise _wrong_type(".".join(filter(None, [where, f.name])), f.type, value)
        if isinstance(f.default_factory, type) and dataclasses.is_dataclass(f.default_factory):
            _check_switches(f.default_factory, value if isinstance(value, Mapping) else {}, f"{where}{f.name}.")


def _find_wrong_type(schema: type, values: Mapping[str, Any], where: str) -> None:
    """Refuse the first value that its field cannot hold; a list's wrong element is named by its index."""
    for f in dataclasses.fields(schema):
        name = ".".join(filter(None, [where, f.name]))
        if f.name not in values:
            continue
        value, inner = values[f.name], f.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            if not isinstance(value, Mapping):
                raise refusal(name, "a mapping of keys", _shown(value), f"For example: {name}.<key>=...")
            _find_wrong_type(inner, value, name)
            continue
        try:
            OmegaConf.merge(OmegaConf.structured(schema), {f.name: value})
        except OmegaConfBaseException as error:
            kind = str(f.type)
            index = re.search(r"\[(\d+)\]", str(error.full_key or ""))
            if index and isinstance(value, list):
                item = kind.removeprefix("list[").removesuffix("]")
                raise _wrong_type(f"{name}[{index[1]}]", item, value[int(index[1])]) from error
            raise _wrong_type(name, kind, value) from error


_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of texts",
    "list[Any]": "a list",
    "dict[str, Any]": "a mapping",
}


def _wrong_type(where: str, kind: str, value: Any) -> Refusal:
    bare = kind.removesuffix(" | None")
    words = _TYPE_WORDS.get(bare, bare) + (" or null" if bare != kind else "")
    fix = hints.SEEDS if where == "seed" and isinstance(value, list) else ""
    if bare.startswith("list[") and isinstance(value, str | int | float) and value != "":
        fix = f"A list of one: '{where}=[{value}]'"
    return refusal(where, words, _shown(value), fix)


def _shown(value: Any) -> str:
    """A value as it is written in YAML, in quotes where it is a text or a number in a wrong place."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, list | Mapping) else repr(str(value))


def _check_ranges(node: Any, prefix: str) -> None:
    for f in dataclasses.fields(node):
        value, where, rule = getattr(node, f.name), prefix + f.name, f.metadata
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{where}.")
            continue
        if not rule or (value is None and not rule["scalar"]):
            continue
        if rule["choices"] and value not in rule["choices"]:
            raise refusal(
                where,
                f"one of {', '.join(rule['choices'])}",
                repr(value),
                hints.for_value(where, str(value)) or did_you_mean(str(value), rule["choices"]),
            )
        if rule["scalar"]:
            try:
                schedules.parse(value, where)
            except ValueError as error:
                raise Refusal(str(error)) from error
            if isinstance(value, Mapping):  # what a schedule tends to may be the excluded limit itself
                _check_number(
                    f"{where}.final",
                    value.get("final"),
                    {**rule, "low": rule["low"] if rule["above"] is None else rule["above"], "above": None},
                )
                where, value = f"{where}.initial", value["initial"]
            numbers = [(where, value)]
        elif isinstance(value, list):
            numbers = [(where, v) for v in value]
        else:
            numbers = [(where, value)]
        for name, number in numbers:
            _check_number(name, number, rule)


def _check_number(where: str, number: Any, rule: Mapping[str, Any]) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return
    low, high, above = rule["low"], rule["high"], rule["above"]
    bad = not math.isfinite(number) or (
        (low is not None and number < low)
        or (high is not None and number > high)
        or (above is not None and number <= above)
    )
    if bad:
        parts = [
            f">= {low}" if low is not None else "",
            f"> {above}" if above is not None else "",
            f"<= {high}" if high is not None else "",
        ]
        limits = " and ".join(p for p in parts if p)
        raise refusal(where, f"a number {limits}" if limits else "a finite number", f"{number}")


def _rename_env(env: EnvSettings) -> None:
    """`env.id=` on top of a named environment: the name follows the id."""
    shipped = conf_dir() / "env" / f"{env.name}.yaml"
    if shipped.is_file() and OmegaConf.select(OmegaConf.load(shipped), "id") != env.id:
        env.name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", env.id).strip("-.+_") or "env"


_OURS = {  # arguments of gymnasium.make -> what to write
    "id": "It is env.id.",
    "max_episode_steps": "The limit of an episode is env.max_episode_steps.",
    "render_mode": "The best trial is animated at the end (animation.enabled); python -m rlexp.play shows it.",
}
_PATH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def _check_names(settings: Settings) -> None:
    """Names become folders: they may not leave the output folder."""
    for where, name in (
        ("study", settings.study),
        ("env.name", settings.env.name),
        ("algo.name", settings.algo.name),
    ):
        if not _PATH_NAME.fullmatch(name):
            raise refusal(where, "letters, digits and _ . + - (it names a folder)", repr(name))


def _check_contradictions(settings: Settings) -> None:
    from rlexp.config import bins

    if settings.budget.steps is not None and settings.budget.episodes is not None:
        raise refusal("budget", "steps or episodes", "both", "Give one: budget.steps=50000 or budget.episodes=600")
    for where, budget in (("budget.steps", settings.budget.steps), ("budget.episodes", settings.budget.episodes)):
        if budget is not None and budget > 10**12:
            raise refusal(where, "at most 10**12, which would take years", str(budget))
    if settings.seed + settings.trials > 2**32:
        raise refusal("seed", "seed + trials <= 2**32", f"{settings.seed} + {settings.trials}")
    if not settings.output_dir.strip():
        raise refusal("output_dir", "a folder", "nothing", "The current one is output_dir=.")
    if why := places.why_not(settings.output_dir):
        raise refusal("output_dir", "a folder in which jobs can make theirs", why)
    _check_episode_seeds(settings.evaluation)
    env, network = settings.env, settings.network
    ours = {"render_mode", "max_episode_steps", "id", "disable_env_checker"} & env.kwargs.keys()
    if ours:
        name = min(ours)
        raise refusal("env.kwargs", "arguments of the environment itself", f"{name}, which is rlexp's to give",
                      _OURS.get(name, ""))  # fmt: skip
    if ":" not in network.name and network.activation not in ACTIVATIONS:
        raise refusal("network.activation", "a Keras activation", repr(network.activation),
                      did_you_mean(network.activation, ACTIVATIONS))  # fmt: skip
    if env.preprocessing == "atari" and not env.id.rsplit(":", 1)[-1].startswith("ALE/"):
        raise refusal("env.preprocessing", f"none for {env.id}", "'atari'", "It is for ids that begin with ALE/.")
    if env.preprocessing == "atari" and "frameskip" in env.kwargs:
        raise refusal(
            "env.kwargs", "no frameskip with env.preprocessing=atari, which skips frames itself", str(env.kwargs)
        )
    algo = settings.algo
    optimizer = getattr(algo, "optimizer", None)
    if optimizer is not None:
        for key in optimizer.options:
            known = OPTIMIZER_OPTIONS[optimizer.name]
            if key not in known:
                raise refusal(f"algo.optimizer.options.{key}", f"one of {', '.join(known)} for {optimizer.name}",
                              "an unknown one", did_you_mean(key, known))  # fmt: skip
    if isinstance(algo, DQNSettings):
        if algo.batch_size > algo.replay_size:
            raise refusal("algo.batch_size", f"at most algo.replay_size ({algo.replay_size})", str(algo.batch_size))
        expected = {"fixed_dqn", "ddqn", "dueling_dqn", "dueling_ddqn"}
        if algo.name in expected and algo.target == "none":
            raise refusal(
                "algo.target",
                f"hard or soft for {algo.name}",
                "'none'",
                "Without a target network the algorithm is algo=dqn.",
            )
    if isinstance(algo, PGSettings) and algo.name == "pg" and algo.batch_unit == "step":
        raise refusal(
            "algo.batch_unit",
            "episode for pg",
            "'step'",
            "A batch cut within an episode needs a value to go on from: algo=pg_baseline.",
        )
    if isinstance(algo, PGSettings):
        parts = algo.num_minibatches
        if parts & (parts - 1):
            raise refusal("algo.num_minibatches", "a power of two, as padded batches are", str(parts))
        if parts > algo.batch_size:
            raise refusal(
                "algo.num_minibatches",
                f"at most algo.batch_size ({algo.batch_size}), so that none is empty",
                str(parts),
            )
    if settings.evaluation.policy == "sampled" and not isinstance(algo, PGSettings):
        raise refusal(
            "evaluation.policy",
            f"greedy for {algo.name}",
            "'sampled'",
            "Only policies with probabilities (pg, pg_baseline) can be sampled.",
        )
    bins.check("env.discretizer", env.discretizer)
    if isinstance(algo, TabularSettings):
        bins.check("algo.discretizer", algo.discretizer)
    uri = settings.tracking.uri
    if uri is not None and user_info(uri):
        raise refusal("tracking.uri", "an address without a user's name or password", uri, USER_INFO_HINT)
    if uri is not None and not re.match(r"(sqlite|postgresql|mysql|mssql|https?|file)(\+\w+)?:", uri):
        raise refusal("tracking.uri", "sqlite:///<file>, postgresql://..., or http(s)://<server>", repr(uri))
    if uri is not None and uri.startswith("sqlite:///") and (why := places.why_not(Path(uri[10:]).parent)):
        raise refusal("tracking.uri", "a file in a folder that can be made", why)


def _check_episode_seeds(config: EvaluationSettings) -> None:
    """What scores the best weights must be fresh: no episode may serve two of the three kinds of evaluation."""
    ranges = sorted(
        (getattr(config, seed), getattr(config, seed) + getattr(config, count), f"evaluation.{seed}", count)
        for seed, count in (
            ("seed", "num_episodes"),
            ("final_seed", "final_episodes"),
            ("candidate_seed", "candidate_episodes"),
        )
    )
    for (_, end, first, count), (start, _, second, _) in itertools.pairwise(ranges):
        if start < end:
            raise refusal(second, f"at least {end}, the end of {first} + {count}", str(start),
                          "Episodes that score the best weights must be fresh.")  # fmt: skip


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
