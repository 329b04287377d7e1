"""The front is the set of trials that none beats; picks follow their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym.agents.base import Front
from scopegym.artifacts import Points
from scopegym.envs.problem import Trial
from scopegym.errors import ScopegymError
from scopegym.rewards.base import Reward, Score, registry, reward_term
from scopegym.workflow import Workflow


@pytest.fixture(scope="module", autouse=True)
def terms() -> Iterator[None]:
    """``gain`` in 0..10 rises, ``loss`` in 0..2 and ``cost`` in 1..5 fall."""
    before = dict(registry._entries)

    @reward_term(direction="maximize", bounds=(0, 10))
    def gain(points: Points) -> float:
        """Rises."""
        return float(len(points))

    @reward_term(direction="minimize", bounds=(0, 2))
    def loss(points: Points) -> float:
        """Falls."""
        return float(len(points))

    @reward_term(direction="minimize", bounds=(1, 5))
    def cost(points: Points) -> float:
        """Falls too."""
        return float(len(points))

    yield
    registry._entries.clear()
    registry._entries.update(before)


def trial(gain: float, loss: float, cost: float = 1, failure: str | None = None) -> Trial:
    terms = {"gain": gain, "loss": loss, "cost": cost}
    return Trial(Workflow(), Score(terms, reward().scalarise(terms)), 1, 0.0, 0.0, failure)


def reward() -> Reward:
    return Reward("three", {"gain": 1, "loss": 1, "cost": 1}, "linear")


def beats(a: Trial, b: Trial) -> bool:
    better = (
        a.score.terms["gain"] - b.score.terms["gain"],
        b.score.terms["loss"] - a.score.terms["loss"],
        b.score.terms["cost"] - a.score.terms["cost"],
    )
    return min(better) >= 0 and max(better) > 0


# Few levels, so that ties and duplicates are common.
trials = st.builds(
    trial,
    gain=st.sampled_from([0, 2.5, 5, 10]),
    loss=st.sampled_from([0, 0.5, 1, 2]),
    cost=st.sampled_from([1, 2, 3, 5]),
    failure=st.sampled_from([None, None, None, "broken"]),
)


@settings(max_examples=200)
@given(st.lists(trials, max_size=25))
def test_front_is_the_non_dominated_set(tried: list[Trial]):
    front = Front(reward(), tried)
    succeeded = [t for t in tried if t.failure is None]
    expected = [t for t in succeeded if not any(beats(other, t) for other in succeeded)]
    assert {tuple(t.score.terms.items()) for t in front} == {
        tuple(t.score.terms.items()) for t in expected
    }
    assert len(front) == len({tuple(t.score.terms.items()) for t in front})
    assert all(any(kept is t for t in tried) for kept in front)


@given(st.lists(trials, max_size=15), st.randoms(use_true_random=False))
def test_order_of_trials_does_not_change_the_front(tried: list[Trial], random):
    shuffled = random.sample(tried, len(tried))
    first, second = Front(reward(), tried), Front(reward(), shuffled)
    assert {tuple(t.score.terms.items()) for t in first} == {
        tuple(t.score.terms.items()) for t in second
    }


def test_of_equal_trials_the_first_is_kept():
    first, second = trial(5, 1), trial(5, 1)
    front = Front(reward())
    assert front.add(first) and not front.add(second)
    assert front.trials[0] is first


def test_failed_trials_never_enter():
    front = Front(reward(), [trial(10, 0, failure="broken")])
    assert len(front) == 0
    with pytest.raises(ScopegymError, match="No workflow succeeded"):
        front.best()


#: Goodness (gain, loss, cost): a (0.5, 0.5, 1), b (1, 0.2, 0.95), c (0.9, 0.25, 0.5).
TERMS = {"a": (5, 1.0, 1), "b": (10, 1.6, 1.2), "c": (9, 1.5, 3)}


@pytest.mark.parametrize(
    ("pick", "expected", "figure"),
    [
        ("value", "b", (1 + 0.2 + 0.95) / 3),
        ("euclidean", "a", math.sqrt(0.5**2 + 0.5**2)),
        ("chebyshev", "a", 0.5),
    ],
)
def test_picks_follow_their_definition(pick: str, expected: str, figure: float):
    tried = {name: trial(*terms) for name, terms in TERMS.items()}
    best = Front(reward(), reversed(tried.values())).best(pick)
    assert best is tried[expected]
    gaps = [1 - g for g in reward().goodnesses(best.score.terms).values()]
    by_hand = {
        "value": best.score.value,
        "euclidean": math.sqrt(sum(gap**2 for gap in gaps)),
        "chebyshev": max(gaps),
    }
    assert by_hand[pick] == pytest.approx(figure)


@settings(max_examples=100)
@given(st.lists(trials, min_size=1, max_size=20))
def test_no_trial_on_the_front_is_nearer_to_the_ideal_than_the_pick(tried: list[Trial]):
    front = Front(reward(), tried)
    if not len(front):
        return
    gaps = [[1 - g for g in reward().goodnesses(t.score.terms).values()] for t in front]
    chosen = {
        pick: [1 - g for g in reward().goodnesses(front.best(pick).score.terms).values()]
        for pick in ("euclidean", "chebyshev")
    }
    assert math.hypot(*chosen["euclidean"]) == pytest.approx(min(math.hypot(*g) for g in gaps))
    assert max(chosen["chebyshev"]) == pytest.approx(min(map(max, gaps)))
    assert front.best("value").score.value == max(t.score.value for t in front)


def test_unknown_pick_is_refused():
    with pytest.raises(ScopegymError, match="value, euclidean or chebyshev, not 'best'"):
        Front(reward(), [trial(5, 1)]).best("best")  # type: ignore[arg-type]
