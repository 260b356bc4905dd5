"""The fused engine for agents with tables: the host engine's results, bit for bit, wherever both draw the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rlexp.algos.expected_sarsa import ExpectedSarsa
from rlexp.algos.q_learning import QLearning
from rlexp.algos.sarsa import Sarsa
from rlexp.config import registry
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.env import EnvSettings
from rlexp.data import seeding
from rlexp.engines.fused import base, tabular, tensor_numpy
from rlexp.engines.fused.tabular_program import Numbered
from rlexp.envs import inspection, tensor
from rlexp.envs.discretizer import States
from rlexp.envs.tensor.base import gymnasium_uniforms
from rlexp.jobs.engine_choice import choose_engine
from rlexp.jobs.job import Job
from rlexp.jobs.runner import compose
from rlexp.system.errors import Diverged, Refusal
from tests.conftest import records
from tests.engines.test_engines import trial
from tests.engines.test_fused import resumed, third_party  # noqa: F401  (fixtures)

CLIFF = ("env=cliff_walking", "trials=2", "budget.steps=600", "algo.alpha=0.37")
LAKE = ("env.id=FrozenLake-v1", "+env.kwargs.is_slippery=false", "trials=2", "algo.initial_value=0.3")
LINEAR = "{kind: linear, initial: 1, final: 0.1, duration: %s, unit: %s}"


def same(host: Any, ours: Any) -> None:
    """Assert that records, tables, episodes, counts and choices of two jobs are equal, bit for bit."""
    assert (host["engine"], ours["engine"]) == ("host", "fused")
    assert records(host.folder) == records(ours.folder) and len(records(ours.folder)) > 5
    for key in ("steps", "episodes", "updates", "seeds"):
        assert host[key] == ours[key]
    assert host["trials"] == ours["trials"]
    files = ["episodes.npz", *(f"trials/{seed}/best.npz" for seed in host["seeds"])]
    for file in files:
        theirs, mine = (np.load(job.folder / file) for job in (host, ours))
        for name in theirs.files:
            assert theirs[name].dtype == mine[name].dtype and theirs[name].tobytes() == mine[name].tobytes()


@pytest.mark.parametrize(
    ("algo", "options"),
    [
        ("q_learning", (*CLIFF, "env.max_episode_steps=4", f"algo.epsilon={LINEAR % (300, 'step')}", f"algo.alpha={LINEAR % (200, 'update')}")),
        ("sarsa", (*LAKE, "budget.episodes=60", f"algo.epsilon={LINEAR % (40, 'episode')}",
                   "evaluation.selection=train_episode")),
        ("expected_sarsa", (*CLIFF, "env.max_episode_steps=15", "algo.bootstrap=always", "evaluation.selection=last", "algo.gamma=0.7",
                            f"algo.alpha={LINEAR % (20, 'episode')}")),
        ("double_q_learning", (*LAKE, "algo.visit_power=1", "algo.alpha=0.8", "algo.epsilon=0.4")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_it_equals_the_host_engine_bit_for_bit_in_deterministic_environments(
    algo: str, options: tuple[str, ...], tiny: Callable[..., Any]
) -> None:
    """The first case has more episodes than one call of the program has resets."""
    assert tabular.MIN_STEPS // tabular.STEPS_PER_RESET < 600 / 4
    same(tiny(algo, "engine=host", *options), tiny(algo, "engine=fused", *options))


class FromGymnasium:
    """The numbers that Gymnasium's generators gave in the episodes of a job, as the fused engine asks for them.

    A reset takes the first `reset_width` numbers of its episode's seed, each step one of those that follow.
    """

    def __init__(self, job: Any, reset_width: int) -> None:
        with np.load(job.folder / "episodes.npz") as file:
            ends = [file["step"][file["trial"] == k].astype(int) for k in range(len(job["seeds"]))]
        self.resets, self.steps = [], []
        for seed, last in zip(job["seeds"], ends, strict=True):
            edges = [0, *last, max(job["steps"], last[-1]) + 1]
            rows = [
                gymnasium_uniforms(
                    seeding.episode_seed(seed, episode), reset_width + edges[episode + 1] - edges[episode]
                )
                for episode in range(len(edges) - 1)
            ]
            self.resets.append(np.stack([row[:reset_width] for row in rows]))
            self.steps.append(np.concatenate([row[reset_width:] for row in rows])[:, None])
        self.made = seeding.Uniforms

    def __call__(self, seeds: Any, stream: str, *args: Any) -> Any:
        if stream not in ("reset", "dynamics"):
            return self.made(seeds, stream, *args)
        self_, rows = object.__new__(Drawn), self.resets if stream == "reset" else self.steps
        self_.data = [np.pad(r, ((0, 4096), (0, 0))).astype(np.float32) for r in rows]
        return self_


class Drawn:
    data: list[np.ndarray]

    def rows(self, index: np.ndarray) -> np.ndarray:
        return np.stack([d[i] for d, i in zip(self.data, index, strict=True)])

    def span(self, first: np.ndarray, count: int, size: int) -> np.ndarray:
        return np.stack([d[i : i + size] for d, i in zip(self.data, first, strict=True)])


@pytest.mark.parametrize(
    ("algo", "env", "reset_width"), [("q_learning", "taxi", 1), ("sarsa", "three_state_mdp", 0)], ids=["masks", "-inf"]
)
def test_it_equals_the_host_engine_bit_for_bit_on_gymnasiums_own_numbers(
    algo: str, env: str, reset_width: int, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random transitions and masks, also in the best tables and in evaluations; the chapter's environments draw no number
    at reset."""
    options = (f"env={env}", "env.max_episode_steps=40", "trials=2", "algo.epsilon=0.6", "algo.initial_value=0.5")
    host = tiny(algo, "engine=host", *options)
    numbers = FromGymnasium(host, reset_width)
    monkeypatch.setattr(seeding, "Uniforms", numbers)
    same(host, tiny(algo, "engine=fused", *options))


@pytest.mark.parametrize(
    ("algo", "trials", "options"),
    [
        pytest.param("double_q_learning", 3, ("algo.visit_power=0.7", "algo.alpha=1"), marks=pytest.mark.slow),
        ("sarsa", 10, ("budget.episodes=12", "evaluation.selection=train_episode", "algo.epsilon=0.4")),
    ],
)
def test_a_trial_alone_equals_the_trial_in_a_batch(
    algo: str, trials: int, options: tuple[str, ...], tiny: Callable[..., Any]
) -> None:
    several, one = (
        tiny(algo, "engine=fused", f"seed={seed}", f"trials={n}", *options) for seed, n in ((2, trials), (3, 1))
    )
    assert trial(several, 3) == trial(one, 3) != trial(several, 4)
    if "budget.episodes=12" in options:
        assert several["episodes"] == [12] * 10 and len({trial["steps"] for trial in several["trials"]}) > 1


@pytest.mark.parametrize(
    "options",
    [
        ("env=three_state_mdp", "env.max_episode_steps=3", "algo.visit_power=0.6", "algo.alpha=1"),
        ("env=taxi", f"algo.epsilon={LINEAR % (3, 'episode')}"),
    ],
    ids=["visits", "masks"],
)
@pytest.mark.slow
def test_the_number_of_cores_changes_no_bit(
    options: tuple[str, ...], tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a trial has more episodes than one call without shards has resets."""
    job = ("double_q_learning", "engine=fused", "evaluation.selection=train_episode", *options)
    monkeypatch.setattr(tabular, "num_cores", lambda: 1)
    whole = tiny(*job, "trials=5", "study=one")
    monkeypatch.setattr(tabular, "num_cores", lambda: 64)
    shared = tiny(*job, "trials=5", "study=two")
    assert records(whole.folder) == records(shared.folder) and whole["trials"] == shared["trials"]
    assert trial(whole, 4) == trial(shared, 4) == trial(tiny(*job, "trials=1", "seed=4"), 4) != trial(whole, 3)


def test_a_job_resumes_to_the_same_bits_and_a_sweep_compiles_once(
    resumed: Callable[..., Any],  # noqa: F811
    tiny: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tabular, "num_cores", lambda: 2)
    options = ("engine=fused", "trials=5", "env=three_state_mdp", "algo.visit_power=0.6", "algo.alpha=1",
               "env.max_episode_steps=9", "evaluation.selection=train_episode")  # fmt: skip
    whole = resumed("sarsa", *options, call=17)
    programs = len(base._PROGRAMS)
    other = tiny("sarsa", *options, "algo.alpha=0.5", "algo.gamma=0.8", "algo.initial_value=2", "seed=7")
    assert len(base._PROGRAMS) == programs and records(other.folder) != records(whole.folder)


@pytest.mark.usefixtures("third_party")
@pytest.mark.slow
def test_a_diverging_trial_is_masked_and_leaves_the_others_untouched(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["engine=fused", "env.id=probes/NaNReward-v0", "env.imports=[tests.probes]", "trials=6", "budget.steps=200",
               "evaluation.max_steps=50", "+discretizer=cartpole", "algo.discretizer.dimensions=[0]",
               "algo.discretizer.low=[0]", "algo.discretizer.high=[1]", "algo.discretizer.num_bins=[2]"]  # fmt: skip
    first = seeding.Uniforms(range(6), "reset", 1, seeding.LONG_BLOCK).rows(np.zeros(6, np.int64))[:, 0]
    sick = {k for k in range(6) if first[k] < 0.5}
    assert 0 < len(sick) < 6
    with pytest.raises(Diverged, match=f"{len(sick)} of 6 trials diverged"):
        tiny("q_learning", *options, "+env.kwargs.after=100")
    healthy = tiny("q_learning", *options, "+env.kwargs.after=100000")
    (folder,) = (f for f in healthy.folder.parent.iterdir() if f != healthy.folder)
    job = Job(folder)
    assert job["status"] == "failed" and job["engine"] == "fused"
    for seed, entry in enumerate(job["trials"]):
        if seed in sick:
            assert entry["note"] == "the TD error is not finite at env step 101" and entry["steps"] == 101
        else:
            assert entry["status"] == "done" and trial(job, seed) == trial(healthy, seed)
    assert job["updates"] == [100 if seed in sick else 200 for seed in range(6)]
    monkeypatch.setattr(tabular, "num_cores", lambda: 3)
    monkeypatch.setattr(base.Pace, "stop", lambda self, steps: setattr(self, "steps", 17))
    with pytest.raises(Diverged):
        tiny("q_learning", *options, "+env.kwargs.after=100", "study=again")
    (again,) = (f for f in (healthy.folder.parent.parent / "again").iterdir() if f.is_dir())
    assert records(again) == records(folder)  # wherever calls end, and whoever is beside it


def test_states_equal_those_of_the_host_engine_even_on_the_edges_of_bins() -> None:
    settings = compose("algo=q_learning", "+discretizer=cartpole")
    states = States(inspection.inspect(settings.env, tabular=True), settings.algo.discretizer)
    edges = np.concatenate([*states.bins.edges, [0.4, -3.0]]).astype(np.float32)
    numbers = np.concatenate([edges, np.nextafter(edges, np.float32(-9)), np.nextafter(edges, np.float32(9))])
    numbers = np.append(numbers[np.abs(numbers) > 1e-37], [0.0, 1e-37, -1e-37])  # XLA takes less for zero
    grid = np.stack(np.meshgrid(numbers, numbers), axis=-1).reshape(-1, 2)
    rows = np.concatenate([np.zeros_like(grid), grid], axis=1)
    env = Numbered(tensor.build(settings.env), states)
    assert (tabular.mapped(env.observe)(tf.constant(rows)).numpy() == states(rows)[0]).all()


def test_rules_on_tensors_equal_rules_on_arrays() -> None:
    rng = np.random.default_rng(0)
    n, num_actions = 500, 5
    q = np.where(rng.random((n, num_actions)) < 0.3, -np.inf, rng.standard_normal((n, num_actions)).round(1))
    q[:, 2] = 0.25  # something is possible everywhere
    u, epsilon = rng.random((n, 2)).astype(np.float32), rng.random(n).astype(np.float32)
    r_t, d_t, value = rng.standard_normal((3, n))
    a_t = np.argmax(np.isfinite(q), axis=1)
    info = inspection.inspect(EnvSettings(id="FrozenLake-v1"), tabular=True)
    for rules in (QLearning, Sarsa, ExpectedSarsa):
        ours, theirs = (rules(TabularSettings(), info, xp) for xp in (tensor_numpy, np))

        def rule(agent: Any, q: Any, u: Any, epsilon: Any, a_t: Any, r_t: Any, d_t: Any, value: Any) -> Any:
            next_value = agent.next_value(q, q, a_t, epsilon)
            return agent.act(q, u, epsilon), next_value, agent.td_error(value, r_t, d_t, next_value)

        compiled = tf.function(lambda *args: rule(ours, *args), jit_compile=True, autograph=False)  # noqa: B023
        arguments = (q, u, epsilon, a_t, r_t, d_t, value)
        for mine, expected in zip(compiled(*map(tf.constant, arguments)), rule(theirs, *arguments), strict=True):
            assert (mine.numpy() == expected).all()
    assert tensor_numpy.square(tf.constant(3.0)).numpy() == 9.0  # anything else is TensorFlow's own NumPy


def choice(*overrides: str) -> str:
    settings = compose(*overrides)
    return choose_engine(
        settings, inspection.inspect(settings.env, tabular=registry.family(settings.algo.name).tabular)
    )


def test_auto_chooses_it_for_long_jobs() -> None:
    lake = ("algo=q_learning", "env=frozen_lake", "trials=10")
    assert choice("algo=q_learning", "env=frozen_lake") == choice("algo=q_learning", "+discretizer=cartpole") == "fused"
    assert choice(*lake, "budget.steps=10000") == "host" and choice(*lake, "budget.steps=30000") == "fused"
    assert choice(*lake, "budget.episodes=500") == "host" and choice(*lake, "budget.episodes=2000") == "fused"
    assert choice(*lake, "budget.steps=10000", "evaluation.period=100") == "fused"  # evaluations are the most of it
    assert choice(*lake, "budget.steps=10", "engine=fused") == "fused"
    assert choice(*lake, "budget.steps=1000000", "engine=host") == "host"
    assert choice("+experiment=book/q_log_alpha") == choice("+experiment=book/q_epsilon") == "fused"
    assert choice("algo=sarsa", "env=three_state_mdp", "budget.steps=1000000", "network=cnn") == "fused"
    assert choice("algo=sarsa", "env.id=Blackjack-v1", "budget.steps=1000000") == "host"
    with pytest.raises(Refusal, match=r"engine: .* Blackjack-v1 has neither tensor dynamics"):
        choice("algo=sarsa", "env.id=Blackjack-v1", "engine=fused")
