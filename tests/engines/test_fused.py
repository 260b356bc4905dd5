"""The fused engine: the host engine's promises and its order of things, and what only it can get wrong."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tests.probes as probes
from rlexp.config import registry, schedules
from rlexp.data import seeding
from rlexp.data.replay_ring import ReplayRing
from rlexp.engines import vectorized
from rlexp.engines.bookkeeping import Interrupted, Trials
from rlexp.engines.fused import base, evaluation, replay, replay_program
from rlexp.engines.fused.shards import Shards, num_cores
from rlexp.engines.services import Services
from rlexp.engines.vectorized import Recent
from rlexp.envs import tensor
from rlexp.envs.spec import Box, Discrete
from rlexp.envs.tensor.base import TensorEnv
from rlexp.jobs.job import Job
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose
from rlexp.system.errors import Diverged, Refusal
from tests.conftest import records
from tests.data.test_checkpoint import results
from tests.engines.test_engines import trial
from tests.engines.test_probe_learning import LEARN, q_values

FUSED = ("engine=fused", "network.hidden_units=[8]", "evaluation.max_steps=100")
SAME = ("algo.n_step=3", "algo.replay_size=60", "evaluation.selection=train_episode")  # tests share its programs
EPISODES = ("budget.episodes=12", "algo.learn_unit=episode", "algo.learn_start=3", "algo.learn_period=1",
            "evaluation.selection=train_episode", "algo.target=soft")  # fmt: skip
CLIFF = (
    "env.id=CliffWalking-v1",
    "env.max_episode_steps=15",
    "budget.steps=120",
    "log.points=6",
    "algo.learn_start=20",
    "evaluation.period=60",
    "algo.replay_size=70",
    "algo.n_step=3",
)  # fmt: skip  (the ring wraps round)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (("budget.steps=50000",), 256),  # a record every 200 steps
        (("budget.steps=250000", "evaluation.period=5000"), 1024),  # every 1,000
        (("budget.steps=250000", "evaluation.period=500"), 512),
        (("budget.steps=10000000", "evaluation.period=100000"), 2048),
        (("budget.steps=250",), 256),
    ],
)
def test_what_a_call_is_given_is_made_for_the_steps_between_two_records_or_evaluations(
    options: tuple[str, ...], size: int
) -> None:
    settings, info = resolve(compose("algo=dqn", *options))
    assert base.call_size(settings, info) == size


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "options"), [("ddqn", SAME), ("dueling_ddqn", EPISODES)])
def test_a_trial_alone_equals_the_trial_in_a_batch(
    algo: str, options: tuple[str, ...], tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the ring wraps round, where trials end at different steps, where they fill vector registers, and where
    they are dealt out to two cores."""
    monkeypatch.setattr(replay, "num_cores", lambda: 2)
    many, two, one = (
        tiny(algo, *FUSED, f"seed={seed}", f"trials={n}", *options) for seed, n in ((0, 21), (2, 2), (3, 1))
    )
    assert many["engine"] == "fused"
    assert trial(many, 3) == trial(two, 3) == trial(one, 3)
    assert trial(many, 2) == trial(two, 2) != trial(many, 4)
    for seed in (10, 11, 20):  # the last of one shard, the first of the other, and its last
        assert trial(many, seed) == trial(tiny(algo, *FUSED, f"seed={seed}", "trials=1", *options), seed)
    if options is EPISODES:
        assert many["episodes"] == [12] * 21 and len({trial["steps"] for trial in many["trials"]}) > 1
        assert many["updates"] == [9] * 21  # one after each of the episodes 3 to 11


@pytest.mark.slow
@pytest.mark.parametrize("work", [0, replay_program.MAPPED_WORK])
def test_cores_move_no_bit_however_updates_are_made(
    work: int, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updates of large networks are made one after another, those of small ones together: no trial sees the others."""
    monkeypatch.setattr(replay_program, "MAPPED_WORK", work)
    monkeypatch.setattr(base, "_PROGRAMS", Recent(base.MAX_PROGRAMS))
    job = ("ddqn", *FUSED, *SAME, "algo.target=hard", "algo.target_period=7")
    monkeypatch.setattr(replay, "num_cores", lambda: 1)
    whole = tiny(*job, "trials=5", "study=one")
    monkeypatch.setattr(replay, "num_cores", lambda: 64)
    assert replay.Shards(5, 5, 64).sizes == [3, 2]
    shared = tiny(*job, "trials=5", "study=two")
    assert records(whole.folder) == records(shared.folder)
    assert trial(whole, 4) == trial(shared, 4) == trial(tiny(*job, "trials=1", "seed=4"), 4)


@pytest.mark.parametrize(
    ("trials", "lanes", "most", "sizes", "num_lanes"),
    [(1, 2, 4, [1], 2), (1, 1, 4, [1], 1), (2, 2, 4, [2], 2), (3, 3, 4, [3], 3), (10, 10, 2, [5, 5], 5),
     (7, 7, 3, [3, 3, 1], 3), (100, 100, 1, [100], 100), (9, 9, 4, [3, 3, 3], 3)],
)  # fmt: skip
def test_lanes_are_dealt_out(trials: int, lanes: int, most: int, sizes: list[int], num_lanes: int) -> None:
    shards = Shards(trials, lanes, most)
    assert (shards.sizes, shards.num_lanes) == (sizes, num_lanes)
    rows = np.arange(lanes * 2).reshape(lanes, 2)
    parts = [shards.part({"x": tf.constant(rows)}, i) for i in range(len(sizes))]
    assert all(part["x"].shape == (num_lanes, 2) for part in parts)
    assert (np.asarray(shards.join(parts)["x"]) == rows).all()
    assert shards.run(lambda i: i * i) == [i * i for i in range(len(sizes))]
    columns = shards.columns([np.arange(num_lanes)[None] + 100 * i for i in range(len(sizes))])
    assert columns[0].tolist() == [100 * i + k for i, size in enumerate(sizes) for k in range(size)]


def test_a_job_beside_others_has_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert num_cores() == 6
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert num_cores() == 1


@pytest.mark.slow
def test_the_same_command_gives_the_same_records_and_a_sweep_compiles_once(tiny: Callable[..., Any]) -> None:
    job = ("ddqn", *FUSED, *SAME, "trials=2")
    first = tiny(*job, "study=a")
    programs = len(base._PROGRAMS)
    again = tiny(*job, "study=b")
    assert records(first.folder) == records(again.folder)
    other = tiny(*job, "seed=5", "algo.optimizer.lr=3e-3", "algo.gamma=0.9", "algo.epsilon=0.2")
    assert len(base._PROGRAMS) == programs and records(other.folder) != records(first.folder)
    tiny(*job, "algo.epsilon.unit=episode", "budget.steps=20")
    assert len(base._PROGRAMS) == programs + 2  # the loop and the evaluation
    wider = tiny(*job, "evaluation.num_episodes=7")  # the same graph with other shapes
    assert len(base._PROGRAMS) == programs + 2 and wider["status"] == "done"


@pytest.mark.slow
def test_jobs_that_differ_in_numbers_alone_build_their_networks_once(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    build = seeding.with_keras_seed
    monkeypatch.setattr(seeding, "with_keras_seed", lambda seed, model: built.append(seed) or build(seed, model))
    monkeypatch.setattr(vectorized, "INITIAL_PARAMS", Recent(4))
    job = ("ddqn", *FUSED, *SAME)
    first = tiny(*job, "trials=2")
    assert built == [0, 0, 1]  # one network; its weights are drawn for each seed
    other = tiny(*job, "trials=2", "algo.epsilon=0.2")
    assert built == [0, 0, 1, 0]  # the one that weights are saved with
    again = tiny(*job, "trials=1", "seed=1", "algo.epsilon=0.2")
    assert built == [0, 0, 1, 0, 1, 1] and trial(again, 1) == trial(other, 1) != trial(first, 1)


def test_the_evaluation_program_is_compiled_when_it_is_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[list[bool]] = []

    def fake(kind: str, key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: chosen.append(args[-1].numpy().tolist()) or (np.ones((3, 4)), np.full((3, 4), 9))

    monkeypatch.setattr(evaluation, "program", fake)
    settings, info = resolve(compose("algo=ddqn", "evaluation.num_episodes=4"))
    services = Services(settings, info, *[SimpleNamespace(say=pytest.fail)] * 3, lambda: None, lambda: 0.0)
    evaluator = evaluation.FusedEvaluator(tensor.build(settings.env), None, 3, services, "key", lambda _: _)
    assert chosen == []
    scores = evaluator.periodic(tf.zeros((3, 1)), np.array([True, False]))
    assert chosen == [[False, False, False], [True, False, False]]  # nobody plays while it is compiled
    assert scores.returns[0].tolist() == [1.0] * 4 and np.isnan(scores.returns[1]).all()
    evaluator.periodic(tf.zeros((3, 1)), np.array([True, True]))
    assert chosen[2:] == [[True, True, False]]


def test_programs_of_the_last_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_PROGRAMS", Recent(base.MAX_PROGRAMS))
    first = base.program("replay", "0", tf.identity)
    for i in range(1, 100):
        base.program("replay", str(i), tf.identity)
        assert len(base._PROGRAMS) <= 32
        assert base.program("replay", "0", tf.negative) is first  # asked for again and again, it stays
    kept = [i for i in range(100) if ("replay", str(i)) in base._PROGRAMS]
    assert kept == [0, *range(69, 100)]
    last = base.program("replay", "99", tf.negative)
    assert float(last(tf.constant(2.0))) == 2.0  # as it was compiled first
    assert base.program("evaluate", "99", tf.negative) is not last


def test_graphs_of_lanes_are_bounded_and_a_dropped_one_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectorized, "_PROGRAMS", Recent(2))
    agent: Any = SimpleNamespace(
        init=lambda params: params, acting=lambda state: state, greedy=lambda params, o_t: params["q"][:1] * o_t[:, 0]
    )
    ones = {"q": np.ones((2, 3), np.float32)}
    made = {}
    for graph in ("a", "b", "a", "c"):
        made[graph] = vectorized.Lanes(agent, ones, True, False, graph)
        made[graph].greedy(made[graph].acting, np.ones((2, 1, 4), np.float32))
    assert [(graph, 2, False) in vectorized._PROGRAMS for graph in "abc"] == [True, False, True]
    assert made["b"].greedy(made["b"].acting, np.full((2, 1, 4), 3.0)).tolist() == [
        [3],
        [3],
    ]  # while it is used
    again = vectorized.Lanes(agent, ones, True, False, "b")
    assert again.greedy(again.acting, np.full((2, 1, 4), 5.0)).tolist() == [[5], [5]]


@pytest.mark.parametrize(
    "options",
    [
        ("algo.epsilon={kind: linear, initial: 1, final: 0.5, duration: 100}",
         "algo.optimizer.lr={kind: linear, initial: 1e-2, final: 1e-3, duration: 60, unit: update}",
         "algo.num_updates=2", "algo.target_period=7", "budget.steps=120"),
        pytest.param(
            ("algo.epsilon={kind: linear, initial: 1, final: 0.5, duration: 8, unit: episode}", "budget.episodes=8",
             "algo.learn_unit=episode", "algo.learn_start=2", "algo.learn_period=1", "algo.target_unit=episode",
             "algo.target_period=2", "evaluation.selection=train_episode", "algo.truncation=terminate"),
            marks=pytest.mark.slow),
    ],
    ids=["steps", "episodes"],
)  # fmt: skip
def test_it_does_what_the_host_engine_does(options: tuple[str, ...], tiny: Callable[..., Any]) -> None:
    """Where chance has no part in the environment (a table without slips) both engines see the same numbers: the same
    actions, episodes, batches, schedules, updates, copies and records; losses to rounding."""
    chosen = {option.split("=")[0] for option in options} | {"budget.steps"}
    cliff = [option for option in CLIFF if option.split("=")[0] not in chosen]
    host, ours = (tiny("ddqn", f"engine={engine}", "trials=2", *cliff, *options) for engine in ("host", "fused"))
    assert (host["engine"], ours["engine"]) == ("host", "fused") and host["config_id"] != ours["config_id"]
    for key in ("steps", "episodes", "updates", "seeds"):
        assert host[key] == ours[key]
    for theirs, mine in zip(records(host.folder), records(ours.folder), strict=True):
        assert theirs["step"] == mine["step"] and sorted(theirs["metrics"]) == sorted(mine["metrics"])
        for name, values in theirs["metrics"].items():
            np.testing.assert_allclose(
                np.array(mine["metrics"][name], float), np.array(values, float), rtol=1e-3, err_msg=name
            )
    episodes = [np.load(job.folder / "episodes.npz") for job in (host, ours)]
    for name in episodes[0].files:
        assert (episodes[0][name] == episodes[1][name]).all()
    assert [t["best_step"] for t in host["trials"]] == [t["best_step"] for t in ours["trials"]]


@pytest.fixture
def resumed(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a job whole, and once more stopped between two records, with calls of other lengths, and resumed: both leave
    the same. Returns the whole one."""

    def run(algo: str, *options: str, call: int) -> Any:
        whole = tiny(algo, *options, "study=whole")
        real = Trials.housekeeping

        def stop(self: Trials, *args: Any) -> None:
            self.services.stop = lambda: signal.SIGTERM if 160 < self.t < 180 else None
            real(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Trials, "housekeeping", stop)
            patch.setattr(base.Pace, "stop", lambda self, steps: setattr(self, "steps", call))
            with pytest.raises(Interrupted):
                tiny(algo, *options, "study=parts")
        parts = tiny(algo, *options, "study=parts")
        assert records(whole.folder) == records(parts.folder)
        assert results(whole.folder) == results(parts.folder)
        return whole

    return run


@pytest.mark.parametrize("algo", ["ddqn", pytest.param("rainbow", marks=pytest.mark.slow)])
def test_a_job_resumes_to_the_same_bits(
    algo: str, resumed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "num_cores", lambda: 2)
    resumed(algo, *FUSED, *SAME, "trials=5", call=17)


class NaNReward(TensorEnv):
    """Reward 1 a step, but NaN after `after` steps of an episode whose reset number is below a half."""

    state_size, reset_width = 2, 1

    def __init__(self, after: int) -> None:
        self.after = after

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.cast(u[0] < 0.5, tf.float32), 0.0])

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        bad = (state[0] > 0) & (state[1] >= self.after)
        return state + tf.constant([0.0, 1.0]), tf.where(bad, float("nan"), 1.0), tf.constant(False)

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        return tf.ones(1)


NAN_REWARD = registry.Dynamics(f"{__name__}:NaNReward", ("after",))


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("probes/NaNReward-v0", f"{__name__}:NAN_REWARD", "rlexp.envs")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "rlexp.envs" else [])
    assert sys.modules[__name__].NAN_REWARD is NAN_REWARD


@pytest.mark.slow
@pytest.mark.usefixtures("third_party")
def test_a_third_partys_dynamics_and_a_diverging_trial_that_leaves_the_others_untouched(
    tiny: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["engine=auto", "env.id=probes/NaNReward-v0", "env.imports=[tests.probes]", "trials=6", "budget.steps=200",
               "evaluation.max_steps=50", "network.hidden_units=[8]"]  # fmt: skip
    first = seeding.Uniforms(range(6), "reset", 1).rows(np.zeros(6, np.int64))[:, 0]
    sick = {k for k in range(6) if first[k] < 0.5}
    assert 0 < len(sick) < 6
    with pytest.raises(Diverged, match=f"{len(sick)} of 6 trials diverged"):
        tiny("ddqn", *options, "+env.kwargs.after=100")
    healthy = tiny("ddqn", *options, "+env.kwargs.after=100000")
    (folder,) = (f for f in healthy.folder.parent.iterdir() if f != healthy.folder)
    job = Job(folder)
    assert job["status"] == "failed" and job["engine"] == "fused"
    for seed, entry in enumerate(job["trials"]):
        assert entry["status"] == ("diverged" if seed in sick else "done")
        if seed in sick:
            assert re.match(r"the loss is not finite at env step 1\d\d$", entry["note"]) and entry["steps"] < 200
        else:
            assert trial(job, seed) == trial(healthy, seed)
    monkeypatch.setattr(replay, "num_cores", lambda: 3)
    monkeypatch.setattr(base.Pace, "stop", lambda self, steps: setattr(self, "steps", 17))
    with pytest.raises(Diverged):
        tiny("ddqn", *options, "+env.kwargs.after=100", "study=again")
    (again,) = (f for f in (healthy.folder.parent.parent / "again").iterdir() if f.is_dir())
    assert records(again) == records(folder)  # wherever calls end, and whoever is beside it
    assert [t["note"] for t in Job(again)["trials"]] == [t["note"] for t in job["trials"]]


@pytest.mark.slow
@pytest.mark.usefixtures("third_party")
def test_a_job_ends_where_its_last_trial_diverges(
    tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the end of the call in which that is."""
    first = seeding.Uniforms(range(6), "reset", 1).rows(np.zeros(6, np.int64))[:, 0]
    sick = int(np.flatnonzero(first < 0.5)[0])
    left = []
    for call in (7, 64):
        monkeypatch.setattr(base.Pace, "stop", lambda self, steps, call=call: setattr(self, "steps", call))
        with pytest.raises(Diverged):
            tiny("ddqn", "env.id=probes/NaNReward-v0", "env.imports=[tests.probes]", "+env.kwargs.after=100", "trials=1",
                 f"seed={sick}", "budget.steps=200", "evaluation.max_steps=50", "network.hidden_units=[8]",
                 f"study=call_{call}", "engine=fused")  # fmt: skip
        (folder,) = (f for f in (tmp_path / f"call_{call}").iterdir() if f.is_dir())
        left.append((records(folder), Job(folder)["steps"], Job(folder)["trials"][0]["note"]))
    assert left[0] == left[1] and 100 < left[0][1] < 200


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["algo=random"], "algo random has no fused loop"),
        (["algo=dqn", "env.id=Blackjack-v1"], r"Blackjack-v1 has neither tensor dynamics .* nor a transition table P"),
        (["algo=dqn", "env.id=Taxi-v4", "+env.kwargs.fickle_passenger=true"], "Taxi-v4 has neither tensor dynamics"),
        (["algo=dqn", "env=mountain_car", "+env.kwargs.goal_velocity=1"], "do not know env.kwargs.goal_velocity"),
        (["algo=dqn", "network=cnn"], "network cnn is convolutional"),
    ],
)
def test_what_cannot_be_fused_is_refused_and_auto_takes_the_host(
    overrides: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlexp.envs.inspection import inspect
    from rlexp.jobs.engine_choice import choose_engine

    narrow = registry.Dynamics("rlexp.envs.tensor.mountain_car:MountainCar")
    monkeypatch.setitem(registry.DYNAMICS, "MountainCar-v0", narrow)

    def choice(*overrides: str) -> str:
        settings = compose(*overrides)
        return choose_engine(settings, inspect(settings.env))

    with pytest.raises(Refusal, match=f"engine: expected auto or host, received 'fused', but .*{reason}") as caught:
        choice(*overrides, "engine=fused")
    assert len(str(caught.value).splitlines()) == 2
    assert choice(*overrides) == "host"
    assert choice("algo=dqn", "env.id=FrozenLake-v1") == "fused"
    assert choice("algo=dqn", "engine=host") == "host"


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["dqn", "dueling_ddqn"])
def test_known_q_values(algo: str, tiny: Callable[..., Any]) -> None:
    chain = probes.TableChain
    job = tiny(algo, "engine=fused", "env.id=probes/TableChain-v0", f"algo.gamma={chain.gamma}", *LEARN)
    for q in q_values(job, np.eye(2, dtype=np.float32)):
        np.testing.assert_allclose(q, chain.q_star, atol=0.15)


@pytest.mark.parametrize("unit", schedules.UNITS)
@pytest.mark.parametrize(
    "value",
    [0.25, {"kind": "linear", "initial": 1, "final": 0.1, "duration": 7},
     {"kind": "log10", "initial": 1, "final": 0.1, "duration": 5},
     {"kind": "inverse_time", "initial": 1, "decay": 0.3},
     {"kind": "exponential", "initial": 1, "decay": 0.9}],
)  # fmt: skip
def test_schedules_inside_equal_schedules_outside(value: Any, unit: str) -> None:
    schedule = schedules.parse({**value, "unit": unit} if isinstance(value, dict) else value, "x")
    tables = base.Tables({"x": schedule}, {"step": 10, "episode": 10, "update": 10})
    first = {name: np.array([0, 3, 100]) for name in schedules.UNITS}
    for since in range(11):
        inside = base.look_up(
            {name: tf.constant(rows) for name, rows in tables.rows(first).items()},
            tables.units,
            {name: tf.constant([since] * 3) for name in schedules.UNITS},
        )
        outside = schedule({name: count + since for name, count in first.items()})
        assert inside["x"].numpy().tobytes() == outside.tobytes()


@pytest.mark.parametrize("action", [Discrete(5), Box((2, 1), "float32")], ids=str)
@pytest.mark.parametrize("n_step", [1, 4])
@pytest.mark.parametrize("added", [1, 5, 20, 21, 57])
def test_batches_are_what_the_hosts_ring_gives(n_step: int, added: int, action: Discrete | Box) -> None:
    """Before the ring is full, when it just is, and after it has wrapped round."""
    n, size, batch = 3, 20, 400
    rng = np.random.default_rng(added)
    ring = ReplayRing(n, size, Box((2,), "float32"), action, n_step)
    numbers = math.prod(action.shape)
    rows = np.zeros((n, size, 7 + numbers), np.float32)
    for t in range(added):
        o = rng.random((2, n, 2), np.float32)
        step = {"a_tm1": rng.integers(0, 5, (n, *action.shape)), "r_t": rng.random(n, np.float32)}
        step |= {"terminated": rng.random(n) < 0.2, "truncated": rng.random(n) < 0.2}
        ring.add(np.ones(n, bool), o_tm1=o[0], o_t=o[1], **step)
        columns = [value.reshape(n, -1) for value in step.values()]
        rows[:, t % size] = np.concatenate([o[0], o[1], *columns], axis=1)
    u, gamma = rng.random((n, batch), np.float32), np.array([0.9, 0.5, 1.0], np.float32)
    expected = ring.sample(u, gamma)
    program = object.__new__(replay_program.ReplayProgram)
    program.config = SimpleNamespace(replay_size=size, n_step=n_step)
    program.action, program.action_size = action, numbers
    program.env = SimpleNamespace(state_size=2, observe=lambda state: state)
    slots = program.draw(tf.constant(u), tf.constant(added))
    got = program.batch(tf.constant(rows), slots, tf.constant(added), tf.constant(gamma))
    assert sorted(got) == sorted(expected)
    for name, values in expected.items():
        assert got[name].shape == values.shape
        np.testing.assert_allclose(got[name].numpy(), values, rtol=1e-6, err_msg=name)


def test_spans_of_random_numbers_are_the_rows() -> None:
    one, many = seeding.Uniforms([3, 4], "act", 2), seeding.Uniforms([3, 4], "act", 2)
    for first in (np.array([0, 250]), np.array([255, 251]), np.array([700, 300])):
        span = many.span(first, 600, 700)
        assert span.shape == (2, 700, 2) and not span[:, 600:].any()
        for i in (0, 5, 6, 300, 599):
            assert (span[:, i] == one.rows(first + i)).all()


@pytest.mark.slow
def test_it_learns_as_the_host_engine_does(tmp_path: Any) -> None:
    """DQN on CartPole, 20 trials each: the differences of final return and of area under the curve are chance."""
    import rlexp

    jobs = [
        rlexp.run("algo=dqn", "trials=20", f"engine={engine}", f"output_dir={tmp_path}", "tracking=files",
                  "budget.steps=20000", "animation.enabled=false", quiet=True)
        for engine in ("host", "fused")
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for values in (
        [np.array(job["final/return"]["per_trial"]) for job in jobs],
        [job.curves["eval/return"].values.mean(axis=0) for job in jobs],
    ):
        means = [rng.choice(v, (10_000, len(v))).mean(axis=1) for v in values]
        low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
        assert low <= 0 <= high, values
