"""Verdicts are as certain as they say: tests by hand and against SciPy, and the rate of false claims by simulation."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from rlexp.jobs.results import Episodes
from rlexp.math import significance
from rlexp.report import compare as module
from rlexp.report.compare import Comparison, Sample, compare

NAN = float("nan")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sample(name: str, *values: object, first_seed: int = 0) -> Sample:
    arrays = [np.asarray(v, np.float64) for v in values]
    return Sample(name, [range(first_seed, first_seed + len(v)) for v in arrays], arrays)


def one(a: object, b: object, second_seed: int = 0) -> Comparison:
    (result,) = compare([sample("a", a), sample("b", b, first_seed=second_seed)], rng())
    return result


def test_a_clear_difference_has_a_verdict_in_both_directions() -> None:
    low, high = np.arange(10.0), np.arange(10.0) + 100
    better, worse = one(high, low), one(low, high)
    assert (better.verdict, better.reason, better.more_trials) == ("better", "better", None)
    assert (worse.verdict, worse.reason) == ("worse", "worse")
    assert (better.difference, better.p, better.paired, better.num_trials) == (100, 2 / 1024, True, 10)
    assert better.improvement[0] == 1 and better.improvement[1] > 0.75
    assert one(high, low, second_seed=50).paired is False
    assert one(high, low, second_seed=50).p < 1e-3


def test_pairs_are_by_seed_whatever_their_order() -> None:
    base = rng(1).normal(0, 100, size=8)
    first = Sample("a", [[3, 1, 2, 0, 7, 6, 5, 4]], [base[[3, 1, 2, 0, 7, 6, 5, 4]] + 1])
    (result,) = compare([first, sample("b", base)], rng())
    assert (result.p, result.verdict) == (2 / 256, "better")  # each is one better than its partner


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("second_seed", [0, 100])
def test_few_trials_decide_nothing(size: int, second_seed: int) -> None:
    result = one(np.arange(size) + 1e6, np.arange(size), second_seed)
    needed = 5  # 2 / (10 over 5) < LEVEL; signs of five pairs alone could not: 2 / 2**5
    trials = "1 trial" if size == 1 else f"{size} trials"
    assert (result.verdict, result.more_trials) == ("undecided", needed - size)
    assert result.reason == f"undecided: {trials} cannot decide it, at least {needed - size} more needed"


def test_pairs_that_are_too_few_for_their_signs_are_taken_apart() -> None:
    """Five pairs have 2**5 signs, but 252 ways to change places; six pairs have enough signs for one comparison."""
    five, six = one(np.arange(5) + 1e6, np.arange(5)), one(np.arange(6) + 1e6, np.arange(6))
    assert (five.p, five.paired, five.verdict) == (2 / 252, False, "better")
    assert (six.p, six.paired, six.verdict) == (2 / 64, True, "better")


def test_ten_trials_decide_a_table_of_eleven_algorithms() -> None:
    """55 comparisons: 2 / 2**10 * 55 is no proof of anything, 1 / 20,001 * 55 is."""
    found = compare([sample(str(k), np.arange(10.0) + 1000 * k) for k in range(11)], rng())
    assert len(found) == 55 and {c.verdict for c in found} == {"worse"} and not any(c.paired for c in found)
    assert {c.minimum for c in found} == {7}


def test_a_table_names_one_minimum_of_trials_for_all_its_pairs() -> None:
    """15 pairs of five trials: 2 / (2 n over n) * 15 <= LEVEL from n = 6 on, whatever Holm's factor of a pair is."""
    found = compare([sample(str(k), np.arange(5.0) + 1000 * k) for k in range(6)], rng())
    assert {c.minimum for c in found} == {6} and {c.more_trials for c in found} == {1}
    assert {c.reason for c in found} == {"undecided: 5 trials cannot decide it, at least 1 more needed"}


def test_equal_results_are_undecided_for_ever() -> None:
    result = one([500.0] * 10, [500.0] * 10)
    assert (result.p, result.more_trials) == (1, None)
    assert result.reason == "undecided: all trials have the same result, and more trials would not help"


def test_a_tiny_difference_asks_for_no_impossible_number() -> None:
    noise = rng(3).normal(size=10)
    result = one(noise - noise.mean() + 1e-4, np.zeros(10))
    assert result.reason == "undecided: no affordable number of trials would show such a difference"
    assert result.more_trials is None


def test_missing_trials_leave_their_pair() -> None:
    result = one([1.0, NAN, 3, 4, 5, 6, 7], [0.0, 1, NAN, 3, 4, 5, 6])
    assert (result.num_trials, result.paired, result.verdict) == (6, False, "undecided")  # the pairs are five
    assert one([NAN] * 3, [1.0, 2, 3]).reason == "undecided: 0 trials cannot decide it, at least 5 more needed"


def test_environments_are_taken_together() -> None:
    a = sample("a", [1.0, 2, 3], [11.0, 12, 13])
    b = sample("b", [0.0, 1, 2], [10.0, 11, 12])
    (result,) = compare([a, b], rng())
    assert (result.p, result.difference, result.num_trials) == (2 / 64, 1, 3)
    assert result.verdict == "undecided"  # three trials an environment are few


def test_a_pair_does_not_depend_on_the_others() -> None:
    samples = [sample(str(i), rng(i).normal(size=20)) for i in range(4)]
    alone = compare(samples[:2], rng(5))[0]
    among = compare(samples, rng(5))[0]
    assert (alone.p, alone.improvement) == (among.p, among.improvement)
    assert [(c.first, c.second) for c in compare(samples, rng())] == list(itertools.combinations("0123", 2))


# Simulated studies.


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer arrangements are drawn; the sign flips of ten trials are still enumerated."""
    for file in (module, significance):
        monkeypatch.setattr(file, "EXACT", 2000)
    significance._permutation_weights.cache_clear()


def verdicts(draw: object, studies: int, algorithms: int, size: int, second_seed: int = 0) -> list[Counter[str]]:
    """The verdicts of many studies of `algorithms` that draw their returns from `draw(generator, k, size)`."""
    found = []
    for study in range(studies):
        g = rng(1000 + study)
        samples = [
            sample(str(k), draw(g, k, size), first_seed=0 if k == 0 else second_seed)  # type: ignore[operator]
            for k in range(algorithms)
        ]
        found.append(Counter(c.verdict for c in compare(samples, rng())))  # the same arrangements: quick
    return found


def bimodal(generator: np.random.Generator, size: int) -> np.ndarray:
    """Solved, or not at all: as returns on CartPole are."""
    return np.where(generator.random(size) < 0.7, 500.0, generator.uniform(10, 300, size))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("second_seed", [0, 100])
@pytest.mark.parametrize("kind", ["normal", "bimodal"])
def test_equal_algorithms_are_told_apart_in_at_most_5_percent_of_1000_studies(kind: str, second_seed: int) -> None:
    draws = {"normal": lambda g, k, size: g.normal(size=size), "bimodal": lambda g, k, size: bimodal(g, size)}
    false = sum(v["better"] + v["worse"] > 0 for v in verdicts(draws[kind], 1000, 2, 10, second_seed))
    assert false <= 50
    assert false >= (25 if kind == "normal" else 5)  # a test that never claims anything would be useless


def test_of_four_equal_algorithms_any_two_are_told_apart_in_at_most_5_percent_of_studies() -> None:
    found = verdicts(lambda g, k, size: g.normal(size=size), 500, 4, 10)
    assert sum(v["better"] + v["worse"] > 0 for v in found) <= 25


def test_pairs_of_trials_that_share_their_luck_are_no_reason_for_false_claims() -> None:
    def draw(g: np.random.Generator, k: int, size: int) -> np.ndarray:
        return rng(size).normal(0, 3, size) + g.normal(size=size)  # the first is the same for both

    found = verdicts(draw, 1000, 2, 10)
    assert 25 <= sum(v["better"] + v["worse"] > 0 for v in found) <= 50
    assert sum(v["better"] + v["worse"] > 0 for v in verdicts(draw, 500, 2, 5)) <= 5  # taken apart: less is claimed


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("size", "algorithms"), [(5, 2), (10, 8)])
def test_pairs_taken_apart_lead_to_false_claims_in_at_most_5_percent_of_studies(size: int, algorithms: int) -> None:
    found = verdicts(lambda g, k, size: g.normal(size=size), 1000 if algorithms == 2 else 200, algorithms, size)
    assert sum(v["better"] + v["worse"] > 0 for v in found) <= 0.05 * len(found)


# Final returns are means over episodes that all trials share, whose luck no pairing of trials takes away.


def one_policy(g: np.random.Generator, size: int, episodes: int) -> np.ndarray:
    """All trials found the same policy, worth .85."""
    return np.repeat((g.random(episodes) < 0.85)[None] * 1.0, size, axis=0)


def luck_of_episodes(g: np.random.Generator, size: int, episodes: int) -> np.ndarray:
    return np.repeat(g.normal(0, 3, episodes)[None], size, axis=0)


def luck_of_both(g: np.random.Generator, size: int, episodes: int) -> np.ndarray:
    return g.normal(size=(size, 1)) + g.normal(0, 3, episodes) + g.normal(0, 3, (size, episodes))


def luck_of_trials(g: np.random.Generator, size: int, episodes: int) -> np.ndarray:
    return g.normal(size=(size, 1)) + g.normal(0, 3, (size, episodes))


NULLS = {f.__name__: f for f in (one_policy, luck_of_episodes, luck_of_both, luck_of_trials)}


def played(name: str, returns: np.ndarray, first_seed: int = 0, known: bool = True, first_episode: int = 0) -> Sample:
    size, num = returns.shape
    episodes = Episodes(tuple(range(first_episode, first_episode + num)), returns) if known else None
    return Sample(name, [range(first_seed, first_seed + size)], [returns.mean(axis=1)], [episodes])


def false_claims(draw: object, studies: int, size: int, episodes: int, known: bool = True, **second: int) -> int:
    claims = 0
    for study in range(studies):
        g = rng(1000 + study)
        a, b = (draw(g, size, episodes) for _ in "ab")  # type: ignore[operator]
        (found,) = compare([played("a", a, known=known), played("b", b, known=known, **second)], rng())
        claims += found.verdict != "undecided"
    return claims


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [10, 100])
@pytest.mark.parametrize(("size", "first_seed"), [(5, 0), (7, 0), (10, 0), (10, 100), (20, 0)])
@pytest.mark.parametrize("name", NULLS)
def test_the_luck_of_episodes_leads_to_false_claims_in_at_most_5_percent_of_1000_studies(
    name: str, size: int, first_seed: int, episodes: int
) -> None:
    assert false_claims(NULLS[name], 1000, size, episodes, first_seed=first_seed) <= 50


@pytest.mark.parametrize("name", ["one_policy", "luck_of_both"])
def test_the_luck_of_episodes_leads_to_few_false_claims(name: str) -> None:
    assert false_claims(NULLS[name], 100, 10, 100) <= 5
    assert false_claims(NULLS[name], 40, 10, 100, first_seed=100, first_episode=500) <= 2  # each has its own episodes


def test_without_the_episodes_their_luck_is_a_claim() -> None:
    """What the test over trials alone says of two policies of equal worth."""
    assert false_claims(one_policy, 50, 10, 100, known=False) >= 35


def test_a_difference_that_new_episodes_would_show_is_found_and_luck_is_told_as_such() -> None:
    g = rng(1)
    good, bad = g.normal(2, 3, 100), g.normal(0, 3, 100)
    a, b = (np.repeat(x[None], 10, axis=0) + g.normal(0, 0.1, (10, 100)) for x in (good, bad))
    (found,) = compare([played("a", a), played("b", b)], rng())
    assert found.verdict == "better" and found.p < 0.01
    (found,) = compare([played("a", a - 1.6), played("b", b)], rng())
    assert found.reason == (
        "undecided: the difference is within the luck of the 100 final episodes, which more trials would not reduce "
        "(evaluation.final_episodes)"
    )


def test_without_shared_luck_p_is_that_of_the_trials() -> None:
    x, y = rng(1).normal(1, 1, 10), rng(2).normal(size=10)
    constant = [np.repeat(v[:, None], 5, axis=1) for v in (x, y)]
    (known,) = compare([played("a", constant[0]), played("b", constant[1])], rng())
    (unknown,) = compare([sample("a", x), sample("b", y)], rng())
    assert known.p == pytest.approx(unknown.p, abs=1e-12) and known.verdict == unknown.verdict


@pytest.mark.usefixtures("quick")
def test_a_real_difference_is_found() -> None:
    found = verdicts(lambda g, k, size: g.normal(1.5 * (k == 0), 1, size), 300, 2, 10)
    assert sum(v["better"] for v in found) >= 240 and sum(v["worse"] for v in found) == 0
    many = verdicts(lambda g, k, size: g.normal(1.5 * (k == 0), 1, size), 100, 2, 20)
    assert sum(v["better"] for v in many) >= 97


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("second_seed", [0, 100])
def test_as_many_more_trials_as_it_says_find_the_difference_in_four_of_five_studies(second_seed: int) -> None:
    # A sample that is exactly as the truth: mean difference 0.9, standard deviation 1 of each (1.41 of a difference).
    z = rng(1).normal(size=8)
    z = (z - z.mean()) / z.std(ddof=1)
    result = one(0.9 + z, z[::-1], second_seed) if second_seed else one(0.9 + z * 2**0.5, np.zeros(8))
    assert result.verdict == "undecided" and result.more_trials is not None
    size = 8 + result.more_trials
    assert 20 <= size <= 25  # (2.05 + 0.84)^2 * 2 / 0.81 = 20.7, and a few for the t distribution
    found = verdicts(lambda g, k, n: g.normal(0.9 * (k == 0), 1, n), 200, 2, size, second_seed)
    assert 0.72 <= sum(v["better"] for v in found) / 200 <= 0.9
