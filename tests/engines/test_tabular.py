"""Tabular algorithms and planning: rules by hand, known values, bins, masks, and files in the job's folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlexp
import tests.probes as probes
from rlexp.algos.double_q_learning import DoubleQLearning
from rlexp.algos.expected_sarsa import ExpectedSarsa
from rlexp.algos.q_learning import QLearning
from rlexp.algos.q_value_iteration import q_value_iteration
from rlexp.algos.sarsa import Sarsa
from rlexp.book.mdp import chain_runs, mdp_q_learning
from rlexp.config import registry
from rlexp.config.schema.algos import TabularSettings
from rlexp.config.schema.env import DiscretizerSettings, EnvSettings
from rlexp.envs import transition_table
from rlexp.envs.discretizer import Discretizer, States, masked
from rlexp.envs.inspection import inspect
from rlexp.jobs.runner import compose
from rlexp.system.errors import Diverged

TABULAR = sorted(name for name, algo in registry.ALGOS.items() if algo.family == "tabular")
MDP = EnvSettings(id="rlexp/ThreeStateMDP-v0")
INF = np.inf


def rule(cls: type[QLearning], **options: Any) -> QLearning:
    return cls(TabularSettings(**options), inspect(EnvSettings(id="FrozenLake-v1"), tabular=True))


def table_of(job: Any, seed: int = 0) -> np.ndarray:
    with np.load(job.folder / "trials" / str(seed) / "best.npz", allow_pickle=False) as file:
        return file["q"]


# The chapter's exact rows.


def test_chain_prints_the_notebooks_runs() -> None:
    process = subprocess.run([sys.executable, "-m", "rlexp.chain"], capture_output=True, text=True, check=True)
    lines = process.stdout.splitlines()
    assert lines[:2] == ["Run #1: 0 0 3", "Run #2: 0 1 2 1 2 1 2 1 2 1 3"]
    assert (lines[3], lines[9], len(lines)) == ("Run #4: 0 3", "Run #10: 0 0 0 1 2 1 3", 10)
    assert [len(run) for run in chain_runs(2, seed=42)] == [3, 11]


@pytest.mark.parametrize(
    ("gamma", "policy", "values"),
    [
        (0.90, [0, 0, 1], [[18.91891892, 17.02702702, 13.62162162], [0.0, -INF, -4.87971488], [-INF, 50.13365013, -INF]]),
        (0.95, [0, 2, 1], [[21.73304188, 20.63807938, 16.70138772], [0.95462106, -INF, 1.01361207], [-INF, 53.70728682, -INF]]),
    ],
)  # fmt: skip
def test_q_value_iteration_equals_the_notebooks_figures(gamma: float, policy: list[int], values: Any) -> None:
    table = transition_table.load(MDP)
    assert table is not None
    history = q_value_iteration(table, gamma, 50)
    assert history.shape == (51, 3, 3)
    np.testing.assert_allclose(history[-1], values, atol=5e-9)
    assert history[-1].argmax(axis=1).tolist() == policy


def test_the_preset_gives_the_same_and_keeps_every_sweep(tiny: Callable[..., Any]) -> None:
    output = tiny("random", "trials=1").folder.parents[1]
    job = rlexp.run("+experiment=book/mdp_q_value_iteration", f"output_dir={output}", "tracking=files", "animation.enabled=false",
                    "evaluation.num_episodes=3", "evaluation.final_episodes=3", quiet=True)  # fmt: skip
    history = np.load(job.folder / "history.npz")["q"]
    assert history.shape == (51, 3, 3) and job["updates"] == [50]
    np.testing.assert_array_equal(history[-1], table_of(job))
    assert round(history[-1][0, 0], 8) == 18.91891892


def test_q_learning_on_the_mdp_with_the_notebooks_seed() -> None:
    history = mdp_q_learning()
    assert history.shape == (10_001, 3, 3)
    assert round(history[-1][0, 0], 8) == 18.77621289


# Planning.


def test_value_iteration_of_a_chain_solved_by_hand() -> None:
    """State 0: action 0 stays and pays 1, action 1 goes to state 1. State 1: action 0 ends and pays 10 or 0 by half."""
    P = {
        0: {0: [(1.0, 0, 1.0, False)], 1: [(1.0, 1, 0.0, False)]},
        1: {0: [(0.5, 1, 10.0, True), (0.5, 1, 0.0, True)]},
    }
    table = transition_table.dense(P, 2, 2, np.array([1.0, 0.0]))
    assert table.possible.tolist() == [[True, True], [True, False]]
    q = q_value_iteration(table, 0.5, 100)[-1]
    np.testing.assert_allclose(q, [[1 + 0.5 * 2.5, 2.5], [5.0, -INF]])
    assert table.optimal_return(1) == 1.0 and table.optimal_return(2) == 5.0
    assert table.optimal_return(10) == 8 + 5  # stay eight times, then go
    assert table.policy_return(np.array([0, 0]), 10) == 10.0 and table.policy_return(np.array([1, 0]), 10) == 5.0


def test_planning_stops_at_the_tolerance_and_reaches_the_optimum(tiny: Callable[..., Any]) -> None:
    job = tiny("q_value_iteration", "env=cliff_walking", "trials=2", "algo.gamma=1.0")
    assert job["steps"] < 30 and job["updates"] == [job["steps"]] * 2
    assert job["final/return"]["per_trial"] == [-13.0, -13.0]
    assert job.curves["eval/regret"].values[-1].tolist() == [0.0, 0.0]
    history = np.load(job.folder / "history.npz")["q"]
    assert len(history) == job["steps"] + 1 and np.abs(history[-1] - history[-2]).max() <= 1e-9
    assert tiny("q_value_iteration", "env=cliff_walking", "trials=1", "algo.iterations=5")["steps"] == 5


# The rules by hand.


def test_targets_by_hand() -> None:
    q_t = np.array([[1.0, 4.0, -INF], [3.0, 2.0, 1.0]])  # [N, A]
    other_t = np.array([[7.0, 5.0, -INF], [8.0, 9.0, 9.0]])
    a_t, epsilon = np.array([0, 1]), np.array([0.5, 0.3])
    assert rule(QLearning).next_value(q_t, q_t, a_t, epsilon).tolist() == [4.0, 3.0]
    assert rule(Sarsa).next_value(q_t, q_t, a_t, epsilon).tolist() == [1.0, 2.0]
    expected = [0.5 * 2.5 + 0.5 * 4, 0.3 * 2 + 0.7 * 3]  # the impossible action has no share
    np.testing.assert_allclose(rule(ExpectedSarsa).next_value(q_t, q_t, a_t, epsilon), expected)
    assert rule(DoubleQLearning).next_value(q_t, other_t, a_t, epsilon).tolist() == [5.0, 8.0]
    td_error = rule(QLearning).td_error(
        np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([0.9, 0.0]), np.array([4.0, 3.0])
    )
    np.testing.assert_allclose(td_error, [2 + 0.9 * 4 - 1, 2 - 1])


@pytest.mark.parametrize("num_actions", [2, 3, 4, 6, 7])
def test_possible_actions_are_not_counted_if_all_are_possible(num_actions: int) -> None:
    from rlexp.engines.fused import tensor_numpy

    draw, edges = np.random.default_rng(0), np.arange(num_actions, dtype=np.float32) / np.float32(num_actions)
    u = np.stack([draw.random(5000, np.float32), draw.random(5000, np.float32)], axis=1)
    u[: 2 * num_actions, 1] = [*edges, *np.nextafter(edges, np.float32(-1)).clip(0)]  # where rounding would tell
    q = draw.integers(0, 2, (5000, num_actions)).astype(np.float64)
    for xp in (np, tensor_numpy):
        rules, epsilon = rule(QLearning), np.full(5000, 0.5)
        rules.xp = xp
        counted = np.asarray(rules.act(q, u, epsilon))
        rules.all_possible = True
        assert np.array_equal(np.asarray(rules.act(q, u, epsilon)), counted)
        assert set(counted.tolist()) == set(range(num_actions))


def test_epsilon_greedy_by_hand_takes_only_possible_actions() -> None:
    q = np.array([[-INF, 1.0, -INF, 2.0]] * 4)
    u = np.array([[0.0, 0.0], [0.0, 0.49], [0.0, 0.5], [0.9, 0.0]], np.float32)
    assert rule(QLearning).act(q, u, np.full(4, 0.5)).tolist() == [1, 1, 3, 3]
    assert rule(QLearning).act(q, np.float32([[0, 1 - 2**-24]] * 4), np.ones(4)).tolist() == [3] * 4


def test_visit_counts_divide_the_learning_rate() -> None:
    steps = rule(QLearning, visit_power=0.5).step_size(np.full(3, 0.6), np.array([1, 4, 9]))
    np.testing.assert_allclose(steps, [0.6, 0.3, 0.2])
    assert rule(QLearning).step_size(np.full(2, 0.6), np.array([1, 9])).tolist() == [0.6, 0.6]


def test_visit_counts_average_in_a_job(tiny: Callable[..., Any]) -> None:
    """With power 1 and alpha 1 a value is the mean of its targets: 1, the reward of action 1, from the first visit on."""
    job = tiny("q_learning", "env.id=probes/Bandit-v0", "env.imports=[tests.probes]", "trials=2", "algo.visit_power=1",
               "algo.alpha=1", "algo.epsilon=1", "+discretizer=cartpole", "algo.discretizer.dimensions=[0]",
               "algo.discretizer.low=[0]", "algo.discretizer.high=[2]", "algo.discretizer.num_bins=[2]")  # fmt: skip
    for seed in (0, 1):
        assert table_of(job, seed).tolist() == [[0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Taxi-v4"])
def test_a_job_equals_the_update_written_out(env: str, tiny: Callable[..., Any]) -> None:
    """Random actions, so that trial 1 of 3 can be followed step by step in plain Python."""
    from rlexp.data import seeding
    from rlexp.engines.tabular_rules import uniforms

    job = tiny("q_learning", f"env.id={env}", "trials=3", "algo.epsilon=1", "algo.alpha=0.5", "algo.gamma=0.9",
               "algo.initial_value=0.25", "evaluation.period=300")  # fmt: skip
    made = gym.make(env)
    u, q, episode = uniforms(QLearning, [1]), np.full(table_of(job, 1).shape, 0.25), 0
    s, info = made.reset(seed=seeding.episode_seed(1, 0))
    for t in range(300):
        possible = np.flatnonzero(info.get("action_mask", np.ones(q.shape[1])))
        a = possible[int(u.rows(np.array([t]))[0, 1] * len(possible))]
        s2, reward, terminated, truncated, info = made.step(a)
        best = q[s2][np.flatnonzero(info.get("action_mask", np.ones(q.shape[1])))].max()
        q[s, a] += 0.5 * (float(reward) + (0.0 if terminated else 0.9 * best) - q[s, a])
        s = s2
        if terminated or truncated:
            episode += 1
            s, info = made.reset(seed=seeding.episode_seed(1, episode))
    np.testing.assert_allclose(table_of(job, 1), q, rtol=1e-12)


# Probe environments: values that each algorithm must find.

BINS = {
    "Identity": ([0], [2]), "DelayedReward": ([0, 1], [2, 2]), "TwoStateChain": ([0], [2]), "TruncatedLoop": ([0], [2]),
}  # fmt: skip


def probe_job(tiny: Callable[..., Any], algo: str, probe: Any, *overrides: str) -> np.ndarray:
    """Q-values in the rows of `probe.observations`."""
    dimensions, bins = BINS[probe.__name__]
    config = DiscretizerSettings(dimensions, [0.0] * len(bins), [1.0] * len(bins), bins)
    job = tiny(algo, f"env.id=probes/{probe.__name__}-v0", "env.imports=[tests.probes]", f"algo.gamma={probe.gamma}", "trials=1",
               "+discretizer=cartpole", "budget.steps=3000", "evaluation.period=3000", "algo.visit_power=0.7", "algo.alpha=1",
               f"algo.discretizer.dimensions={dimensions}", f"algo.discretizer.low={config.low}",
               f"algo.discretizer.high={config.high}", f"algo.discretizer.num_bins={bins}", *overrides)  # fmt: skip
    return table_of(job)[Discretizer(config)(probe.observations)]


@pytest.mark.parametrize("algo", ["q_learning", "double_q_learning"])
@pytest.mark.parametrize("probe", [probes.Identity, probes.DelayedReward, probes.TwoStateChain])
def test_off_policy_learners_find_the_known_values(algo: str, probe: Any, tiny: Callable[..., Any]) -> None:
    np.testing.assert_allclose(probe_job(tiny, algo, probe, "algo.epsilon=1.0"), probe.q_star, atol=0.08)


@pytest.mark.parametrize("algo", ["sarsa", "expected_sarsa"])
@pytest.mark.parametrize("probe", [probes.Identity, probes.TwoStateChain])
def test_on_policy_learners_find_the_best_actions(algo: str, probe: Any, tiny: Callable[..., Any]) -> None:
    q = probe_job(tiny, algo, probe, "algo.epsilon=0.3")
    assert q.argmax(axis=1).tolist() == probe.q_star.argmax(axis=1).tolist()


def test_truncation_bootstraps(tiny: Callable[..., Any]) -> None:
    q = probe_job(tiny, "q_learning", probes.TruncatedLoop, "algo.epsilon=1.0", "algo.visit_power=0", "algo.alpha=0.1")
    np.testing.assert_allclose(q, probes.TruncatedLoop.q_star, rtol=0.01)


def test_the_notebooks_bootstrap_ignores_termination(tiny: Callable[..., Any]) -> None:
    options = ["env=cliff_walking", "trials=1", "algo.epsilon=1", "budget.steps=3000", "evaluation.period=3000",
               "evaluation.max_steps=20", "algo.gamma=0.5", "algo.alpha=0.5"]  # fmt: skip
    last = table_of(tiny("q_learning", *options))[47]  # the goal: nothing is ever learned in it
    assert last.tolist() == [0.0] * 4
    job = tiny("q_learning", "trials=1", "algo.gamma=0.5", "algo.alpha=0.5", "algo.bootstrap=always", "budget.steps=3000",
               "algo.epsilon=1", "evaluation.period=3000")  # fmt: skip
    corrected = tiny("q_learning", "trials=1", "algo.gamma=0.5", "algo.alpha=0.5", "budget.steps=3000", "algo.epsilon=1",
                     "evaluation.period=3000")  # fmt: skip
    visited = table_of(job) != 0
    assert table_of(job)[visited].mean() > table_of(corrected)[visited].mean()
    assert table_of(job).max() <= 2.0  # 1 / (1 - gamma)


def test_sarsa_walks_around_the_cliff_where_q_learning_walks_along_it(tiny: Callable[..., Any]) -> None:
    """Sutton and Barto, example 6.6: with epsilon 0.1 SARSA learns a safer path, longer than the best one of 13 steps."""
    options = ["env=cliff_walking", "trials=2", "budget.steps=8000", "evaluation.period=8000", "algo.gamma=1.0",
               "algo.alpha=0.5", "algo.epsilon=0.1"]  # fmt: skip
    assert tiny("q_learning", *options)["final/return"]["per_trial"] == [-13.0, -13.0]
    assert max(tiny("sarsa", *options, "algo.alpha=0.1")["final/return"]["per_trial"]) < -13.0


# States.


def test_bins_equal_the_notebooks_own_discretiser() -> None:
    from sklearn.preprocessing import KBinsDiscretizer

    space = gym.make("CartPole-v1").observation_space
    bound = np.deg2rad(50)
    assert isinstance(space, gym.spaces.Box)
    notebook = KBinsDiscretizer(n_bins=(6, 12), encode="ordinal", strategy="uniform")
    notebook.fit([[space.low[2], -bound], [space.high[2], bound]])
    config = compose("algo=q_learning", "+discretizer=cartpole").algo.discretizer
    assert config.high == pytest.approx([space.high[2], bound], abs=1e-15)
    edges = np.concatenate([np.concatenate(notebook.bin_edges_), [0.0, 1.0, -1.0]])
    numbers = np.concatenate([edges, np.nextafter(edges, -9), np.nextafter(edges, 9)])
    grid = np.stack(np.meshgrid(numbers, numbers), axis=-1).reshape(-1, 2)
    grid = np.concatenate([grid, np.float32(grid)])
    theirs = notebook.transform(grid).astype(int)  # [B, 2]
    observations = np.concatenate([np.full((len(grid), 2), 99.0), grid], axis=1)  # the first two dimensions are ignored
    ours = Discretizer(config)
    assert ours.num_states == 72
    np.testing.assert_array_equal(ours(observations), theirs[:, 0] * 12 + theirs[:, 1])


def test_numbered_states_and_masks_are_read_from_observations() -> None:
    plain = inspect(EnvSettings(id="FrozenLake-v1"), tabular=True)
    assert (plain.observation_shape, plain.observation_dtype, plain.num_states, plain.masked) == (
        (),
        "int64",
        16,
        False,
    )
    states, mask = States(plain, None)(np.array([[3, 5]]))
    assert states.tolist() == [[3, 5]] and mask is None
    taxi = inspect(EnvSettings(id="Taxi-v4"), tabular=True)
    assert (taxi.observation_shape, taxi.num_states, taxi.masked) == ((7,), 500, True)
    states, mask = States(taxi, None)(np.array([[314, 1, 1, 0, 0, 0, 1]]))
    assert states.tolist() == [314] and mask is not None and mask.tolist() == [[True, True, False, False, False, True]]
    assert masked(np.arange(6.0)[None], mask).tolist() == [[0.0, 1.0, -INF, -INF, -INF, 5.0]]
    assert masked(np.ones((1, 2)), np.zeros((1, 2), bool)).tolist() == [
        [1.0, 1.0]
    ]  # a last state may forbid everything


class OnlyInfo(gym.Env):
    """Three states in a ring; only `info` tells that the action that equals the state is forbidden."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state, self.t = 0, 0
        return 0, {"action_mask": np.arange(3) != 0}

    def step(self, action: Any) -> Any:
        assert action != self.state, "the mask is violated"
        self.state, self.t = (self.state + 1) % 3, self.t + 1
        return self.state, float(action), False, self.t == 10, {"action_mask": np.arange(3) != self.state}


gym.register("tests/OnlyInfo-v0", entry_point=OnlyInfo, disable_env_checker=True)


@pytest.mark.parametrize("algo", TABULAR)
def test_masks_are_never_violated(algo: str, tiny: Callable[..., Any]) -> None:
    """Both environments fail at once on an impossible action, while training, in evaluations and when the policy plays."""
    for env in ("env.id=tests/OnlyInfo-v0", "env=three_state_mdp"):
        job = tiny(algo, env, "trials=2", "algo.epsilon={kind: linear, initial: 1, final: 0, duration: 100}", "budget.steps=150",
                   "env.max_episode_steps=20", "algo.initial_value=9")  # fmt: skip
        assert job["status"] == "done"
        policy = rlexp.load_policy(job.folder, seed=1)
        observation, _ = (played := policy.make_env()).reset(seed=0)
        for _ in range(20):
            observation = played.step(policy(observation))[0]
    assert np.isneginf(table_of(job)).tolist() == [[False] * 3, [False, True, False], [True, False, True]]


def test_the_mdp_refuses_an_impossible_action_and_says_which_are_possible() -> None:
    env = gym.make("rlexp/ThreeStateMDP-v0", max_episode_steps=5)
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [1, 1, 1]
    raw: Any = env.unwrapped
    assert [raw.action_mask(s).tolist() for s in range(3)] == [[1, 1, 1], [1, 0, 1], [0, 1, 0]]
    raw.s = 1
    with pytest.raises(ValueError, match=r"expected one of the actions \[0, 2\] in state 1, received 1"):
        env.step(1)


@pytest.mark.parametrize("id", ["rlexp/ThreeStateMDP-v0", "rlexp/MarkovChain-v0"])
def test_the_chapters_environments_follow_their_tables(id: str) -> None:
    env: Any = gym.make(id, max_episode_steps=10_000).unwrapped
    env.reset(seed=1)
    for s, actions in env.P.items():
        for a, lines in actions.items():
            assert sum(line[0] for line in lines) == pytest.approx(1.0)
            counts: dict[Any, int] = {}
            for _ in range(2_000):
                env.s = s
                s2, reward, terminated, truncated, _ = env.step(a)
                counts[(s2, reward, terminated)] = counts.get((s2, reward, terminated), 0) + 1
                assert not truncated
            for probability, *outcome in lines:
                assert counts.pop(tuple(outcome)) / 2_000 == pytest.approx(probability, abs=0.05)
            assert not counts


# Jobs.


def test_no_tensorflow_is_imported(tmp_path: Any) -> None:
    code = (
        "import sys, rlexp\n"
        f"job = rlexp.run('algo=q_learning', 'env=frozen_lake', 'budget.steps=50', 'trials=2', 'tracking=files',"
        f" 'animation.enabled=false', 'evaluation.num_episodes=2', 'evaluation.final_episodes=2', 'output_dir={tmp_path}', quiet=True)\n"
        "rlexp.load_policy(job.folder)(3)\n"
        "print([name for name in ('tensorflow', 'keras', 'mlflow') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout == "[]\n", process.stderr


def test_regret_is_the_best_policys_expected_return_minus_the_evaluations(tiny: Callable[..., Any]) -> None:
    job = tiny("q_learning", "env=cliff_walking", "trials=2", "evaluation.max_steps=40")
    regret, returns = job.curves["eval/regret"], job.curves["eval/return"]
    np.testing.assert_allclose(regret.values, -13.0 - returns.values)
    assert "eval/regret" not in tiny("q_learning", "trials=1").curves


def test_policies_of_tables_score_what_the_summary_says_and_play(tiny: Callable[..., Any]) -> None:
    from rlexp.cli.play import main

    job = tiny("double_q_learning", "env=taxi", "trials=2", "evaluation.max_steps=200")
    for k, seed in enumerate(job["seeds"]):
        policy = rlexp.load_policy(job.folder / "trials" / str(seed) / "best.npz")
        env, returns = policy.make_env(), []
        for episode in range(4):
            observation, _ = env.reset(seed=200_000 + episode)
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(policy(observation))
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
        assert policy.seed == seed and np.mean(returns) == job["final/return"]["per_trial"][k]
    assert main([str(job.folder), "--output", str(job.folder / "x.gif"), "--max-steps", "5"]) == 0
    assert (job.folder / "x.gif").stat().st_size > 0


@pytest.mark.slow
def test_the_best_table_reaches_mlflow_and_comes_back(tiny: Callable[..., Any]) -> None:
    from rlexp.tracking.mlflow.deliver import Delivery

    job = tiny("q_learning", "env=frozen_lake", "trials=2")
    uri = f"sqlite:///{job.folder.parents[1] / 'mlflow.db'}"
    delivery = Delivery(job.folder, uri)
    delivery.send()
    assert delivery.finish("done") == [] and {"trials/0/best.npz", "trials/1/best.npz"} <= set(delivery.sent_files)
    policy = rlexp.load_policy(delivery.receipt["trial_runs"]["1"], tracking_uri=uri)
    np.testing.assert_array_equal(policy.model, table_of(job, 1))


def test_a_diverging_trial_is_masked_and_leaves_the_others_untouched(tiny: Callable[..., Any]) -> None:
    options = ["env.id=probes/NaNReward-v0", "env.imports=[tests.probes]", "+env.kwargs.length=1000", "trials=4", "budget.steps=200",
               "evaluation.max_steps=50", "+discretizer=cartpole", "algo.discretizer.dimensions=[0]",
               "algo.discretizer.low=[0]", "algo.discretizer.high=[1]", "algo.discretizer.num_bins=[2]"]  # fmt: skip
    with pytest.raises(Diverged, match="the others finished"):
        tiny("q_learning", *options, "+env.kwargs.after=100")
    healthy = tiny("q_learning", *options, "+env.kwargs.after=100000")
    (sick,) = (f for f in healthy.folder.parent.iterdir() if f != healthy.folder)
    for entry in json.loads((sick / "summary.json").read_text())["trials"]:
        if entry["status"] == "done":
            assert (
                np.load(sick / "trials" / str(entry["seed"]) / "best.npz")["q"].tobytes()
                == table_of(healthy, entry["seed"]).tobytes()
            )
        else:
            assert entry["note"].endswith(", step 101: expected a finite reward, received nan")


@pytest.mark.parametrize("algo", ["sarsa", "double_q_learning", "q_value_iteration"])
def test_resume_equals_undisturbed(algo: str, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from rlexp.engines.bookkeeping import Interrupted, Trials
    from tests.data.test_checkpoint import results

    options = ["trials=3", "env=three_state_mdp", "budget.steps=200"]
    whole = tiny(algo, *options, "study=whole")
    real = Trials.housekeeping

    def stop_at_90(self: Trials, *args: Any) -> None:
        self.services.stop = lambda: signal.SIGTERM if self.t == 90 else None
        real(self, *args)

    monkeypatch.setattr(Trials, "housekeeping", stop_at_90)
    with pytest.raises(Interrupted):
        tiny(algo, *options, "study=parts")
    monkeypatch.undo()
    parts = tiny(algo, *options, "study=parts")
    assert results(whole.folder) == results(parts.folder)


def test_book_presets_keep_the_notebooks_schedules() -> None:
    from rlexp.config.schedules import parse

    def at(value: Any, episode: int) -> float:
        return float(parse(value, "x")({"episode": np.array([episode]), "step": np.array([episode])})[0])

    random, epsilon, alpha, mdp = (
        compose(f"+experiment=book/{name}").algo for name in ("q_random", "q_epsilon", "q_log_alpha", "mdp_q_learning")
    )
    for n in (0, 24, 100, 9_999):
        assert at(random.alpha, n) == at(mdp.alpha, n) == pytest.approx(0.05 / (1 + 0.005 * n))
        assert at(random.epsilon, n) == 1.0
        assert at(epsilon.epsilon, n) == pytest.approx(max(0.1, min(1, 1 - np.log10((n + 1) / 25))), abs=1e-6)
        assert at(alpha.alpha, n) == pytest.approx(max(0.05, min(1, 1 - np.log10((n + 1) / 25))), abs=1e-6)
    assert at(epsilon.alpha, 100) == at(random.alpha, 100) and at(alpha.epsilon, 100) == at(epsilon.epsilon, 100)
    assert random.gamma == 0.9 and random.discretizer == replace(alpha.discretizer)
    assert compose("+experiment=book/q_random").budget.episodes == 10_000
