"""The space of a search: Hydra's override grammar, and what cannot be searched."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rlexp.sweeps.search.space import Dimension, split
from rlexp.system.errors import Refusal


def parsed(*overrides: str) -> tuple[list[str], list[Dimension]]:
    return split(OverridesParser.create().parse_overrides(list(overrides)))


@pytest.mark.parametrize(
    ("override", "dimension"),
    [
        ("algo.gamma=0.9,0.99", Dimension("algo.gamma", ("0.9", "0.99"))),
        ("algo=choice(dqn,ddqn)", Dimension("algo", ("dqn", "ddqn"))),
        ("algo.reward_clip=null,1", Dimension("algo.reward_clip", ("null", "1"))),
        ("network.hidden_units=[8,8],[16]", Dimension("network.hidden_units", ("[8,8]", "[16]"))),
        ("algo.n_step=range(1,11)", Dimension("algo.n_step", low=1, high=10, step=1)),
        ("algo.batch_size=range(32,129,32)", Dimension("algo.batch_size", low=32, high=128, step=32)),
        ("algo.batch_size=tag(log,range(1,65))", Dimension("algo.batch_size", low=1, high=64, log=True)),
        ("+env.kwargs.x=interval(0,1)", Dimension("+env.kwargs.x", low=0.0, high=1.0)),
        ("algo.lr=tag(log,interval(1e-4,1e-2))", Dimension("algo.lr", low=1e-4, high=1e-2, log=True)),
        ("algo.n=int(tag(log,interval(16,256)))", Dimension("algo.n", low=16, high=256, log=True)),
    ],
)
def test_dimensions(override: str, dimension: Dimension) -> None:
    assert parsed(override) == ([], [dimension])


def test_fixed_values_stay_and_the_last_of_a_key_counts() -> None:
    fixed, space = parsed("algo.gamma=0.9,0.99", "algo.n_step=1,2", "~env.imports", "study=s", "algo.gamma=0.5")
    assert fixed == ["algo.gamma=0.5", "~env.imports", "study=s"]
    assert space == [Dimension("algo.n_step", ("1", "2"))]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algo.gamma=0.9", "a search: expected keys with several values, received none."),
        ("seed=0,1", "seed: expected a key of algo, network, discretizer or env (but not env itself) to search, received"),
        ("env=cartpole,acrobot", "env: expected a key of algo"),
        ("evaluation.num_episodes=1,2", "evaluation.num_episodes: expected a key of algo"),
        ("algo.lr=tag(log,interval(0,1))", "algo.lr: expected numbers above 0 with tag(log, ...), received"),
        ("algo.lr=interval(1,1)", "algo.lr: expected a lower end below the upper one, received algo.lr=interval(1,1)."),
        ("algo.lr=tag(lin,interval(0,1))", "algo.lr: expected the tag log of numbers, received lin."),
        ("algo=tag(log,choice(a,b))", "algo: expected no tag on a choice, received log."),
        ("algo.n=shuffle(range(1,5))", "algo.n: expected values in any order, received shuffle(...)."),
        ("algo.n=range(5,1)", "algo.n: expected a range with numbers in it, received algo.n=range(5,1)."),
        ("algo.n=tag(log,range(1,9,2))", "algo.n: expected no step with tag(log, ...), received a step of 2."),
        ("algo=choice(dqn)", "algo: expected two values or more to choose from, received algo=choice(dqn)."),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_searched_are_refused(override: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        parsed(override)
    assert str(refused.value).startswith(words)


def test_examples_are_every_choice_and_both_ends() -> None:
    choice, number = Dimension("a", ("x", "y", "z")), Dimension("b", low=1, high=8)
    assert [choice.example(i) for i in range(choice.num_examples)] == ["x", "y", "z"]
    assert [number.example(i) for i in range(number.num_examples)] == [1, 8]
    assert choice.override("y") == "a=y" and number.override(8) == "b=8"
