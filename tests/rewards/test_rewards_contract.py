"""What holds for every reward term, present and future, and for how terms become one value."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scopegym.artifacts import Points, Source, State
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.prior import Lattice, Prior
from scopegym.rewards.base import Reward, registry, reward_term
from scopegym.testing import TERM_CHECKS
from scopegym.testing.base import Check
from scopegym.testing.rewards import judged

TERMS = sorted(registry)
SHAPE = (48, 64)
SCALE = 8.0
PRIOR = Prior(
    scale_px=SCALE,
    count=48.0,
    neighbour_sums_px=(4 * SCALE,),
    parts=(Lattice(((SCALE, 0.0), (0.0, SCALE))),),
)
SOURCE = Source(np.random.default_rng(0).random(SHAPE))

inside = st.tuples(st.floats(-0.5, SHAPE[0] - 0.5), st.floats(-0.5, SHAPE[1] - 0.5))
corners = st.sampled_from([(y, x) for y in (-0.5, 0, 47, 47.5) for x in (-0.5, 0, 63, 63.5)])
positions = st.one_of(
    st.lists(st.one_of(inside, corners), max_size=40),
    st.tuples(inside, st.integers(1, 30)).map(lambda pair: [pair[0]] * pair[1]),
)
priors = st.builds(
    Prior,
    scale_px=st.floats(0.5, 100),
    count=st.one_of(st.none(), st.floats(0, 1e5)),
    neighbour_sums_px=st.lists(st.floats(1, 500), max_size=3).map(tuple),
    parts=st.sampled_from(
        [(), (Lattice(((8.0, 0.0), (3.0, 9.0))),), (Lattice(((0.0, 0.0), (0.0, 0.0))),)]
    ),
    contrast=st.sampled_from(["bright", "dark"]),
)


@pytest.fixture
def scratch() -> Iterator[None]:
    """Terms registered inside a test are forgotten after it."""
    before = dict(registry._entries)
    yield
    registry._entries.clear()
    registry._entries.update(before)


def state(yx: object = None, source: Source = SOURCE) -> State:
    start = State.start(source)
    return start if yx is None else start.with_artifact(Points(np.array(yx, float), source.shape))


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("check", TERM_CHECKS, ids=lambda check: check.__name__)
def test_contract(name: str, check: Check):
    check(registry[name])


@pytest.mark.parametrize("name", TERMS)
@settings(max_examples=60, deadline=None)
@given(yx=positions, prior=priors)
def test_value_is_finite_and_within_bounds_for_any_points(name: str, yx: list, prior: Prior):
    judged(registry[name], state(yx), prior)


@pytest.mark.parametrize("name", TERMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_value_is_finite_and_within_bounds_on_any_image(name: str, data: st.DataObject):
    shape = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    values = st.floats(-1e6, 1e6, width=32)
    pixels = data.draw(arrays(np.float32, shape, elements=values, fill=values))
    rows = data.draw(st.lists(st.tuples(*(st.floats(-0.5, n - 0.5) for n in shape)), max_size=20))
    judged(registry[name], state(rows, Source(pixels)), data.draw(priors))


@pytest.mark.usefixtures("scratch")
def test_a_term_that_raises_is_named():
    @reward_term(direction="minimize", bounds=(0, 1))
    def broken_claim(points: Points) -> float:
        """Never holds."""
        raise ZeroDivisionError(f"{len(points)} atoms")

    with pytest.raises(ScopegymError, match=r"broken_claim.*ZeroDivisionError: 1 atoms"):
        broken_claim.evaluate(state([(1, 1)]), PRIOR)


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("direction", "worst"), [("minimize", 3.0), ("maximize", 1.0)])
def test_what_is_not_finite_takes_the_worst_bound(value: float, direction: str, worst: float):
    @reward_term(direction=direction, bounds=(1, 3))
    def undefined_claim(points: Points) -> float:
        """Undefined."""
        del points
        return value

    assert undefined_claim.evaluate(state([(1, 1)]), PRIOR) == worst


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(("value", "expected"), [(-7.0, 1.0), (2.5, 2.5), (9.0, 3.0)])
def test_values_beyond_a_bound_are_clipped_to_it(value: float, expected: float):
    @reward_term(direction="minimize", bounds=(1, 3))
    def overshooting_claim(points: Points) -> float:
        """Beyond."""
        del points
        return value

    assert overshooting_claim.evaluate(state([(1, 1)]), PRIOR) == expected


def with_truth(truth: Micrograph) -> float:
    return float(len(truth.shape))


def with_number(points: Points, expected: int) -> float:
    return float(len(points) - expected)


def unannotated(points) -> float:
    return float(len(points))


def harmless(points: Points) -> float:
    return float(len(points))


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("function", [with_truth, with_number, unannotated])
def test_only_artifacts_and_the_prior_may_be_inputs(function):
    with pytest.raises(ScopegymError, match=rf"{function.__name__}.*truth is not an input"):
        reward_term(direction="minimize", bounds=(0, 1))(function)
    assert function.__name__ not in registry


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, math.inf), (math.nan, 1)])
def test_bounds_must_be_finite_and_rising(bounds: tuple[float, float]):
    with pytest.raises(ScopegymError, match=r"harmless.*bounds"):
        reward_term(direction="minimize", bounds=bounds)(harmless)


@pytest.mark.usefixtures("scratch")
def test_direction_must_be_known():
    with pytest.raises(ScopegymError, match=r"harmless.*direction"):
        reward_term(direction="upwards", bounds=(0, 1))(harmless)


# How terms become one value -----------------------------------------------------------------

SCALARISATIONS = ("linear", "chebyshev", "euclidean", "product")


@pytest.fixture(scope="module")
def two_terms() -> Iterator[None]:
    """``up`` in 0..10, the more the better, and ``down`` in 0..2, the less the better."""
    before = dict(registry._entries)

    @reward_term(direction="maximize", bounds=(0, 10))
    def up(points: Points) -> float:
        """Rises."""
        return float(len(points))

    @reward_term(direction="minimize", bounds=(0, 2))
    def down(points: Points) -> float:
        """Falls."""
        return float(len(points))

    yield
    registry._entries.clear()
    registry._entries.update(before)


@pytest.mark.usefixtures("two_terms")
class TestScalarisation:
    # Goodness of up: 5 / 10 = 0.5; of down: 1 - 0.5 / 2 = 0.75.
    VALUES = {"up": 5.0, "down": 0.5}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("how", "weights", "expected"),
        [
            ("linear", (1, 1), 0.625),
            ("linear", (3, 1), (3 * 0.5 + 0.75) / 4),
            ("chebyshev", (1, 1), 0.5),
            ("chebyshev", (1, 4), min(1 - 0.25 * 0.5, 1 - 0.25)),
            ("euclidean", (1, 1), 1 - math.sqrt((0.25 + 0.0625) / 2)),
            ("euclidean", (1, 3), 1 - math.sqrt((0.25 + 3 * 0.0625) / 4)),
            ("product", (1, 1), 0.375),
            ("product", (2, 0.5), 0.25 * math.sqrt(0.75)),
        ],
    )
    def test_value_is_the_one_computed_by_hand(self, how, weights, expected):
        reward = Reward("two", dict(zip(("up", "down"), weights, strict=True)), how)
        assert reward.goodnesses(self.VALUES) == {"up": 0.5, "down": 0.75}
        assert reward.scalarise(self.VALUES) == pytest.approx(expected, abs=1e-12)

    @settings(max_examples=60, deadline=None)
    @given(
        how=st.sampled_from(SCALARISATIONS),
        weights=st.tuples(st.floats(0.01, 50), st.floats(0.01, 50)),
        up=st.floats(0, 10),
        down=st.floats(0, 2),
        gain=st.floats(0, 1),
    )
    def test_better_terms_never_lower_the_value(self, how, weights, up, down, gain):
        reward = Reward("two", dict(zip(("up", "down"), weights, strict=True)), how)
        value = reward.scalarise({"up": up, "down": down})
        assert 0 <= value <= 1
        assert reward.scalarise({"up": up + gain * (10 - up), "down": down}) >= value - 1e-12
        assert reward.scalarise({"up": up, "down": down * (1 - gain)}) >= value - 1e-12

    @pytest.mark.parametrize("how", SCALARISATIONS)
    @pytest.mark.parametrize("weights", [(1, 1), (0.3, 7)])
    def test_ideal_is_one_and_the_worst_is_zero(self, how, weights):
        reward = Reward("two", dict(zip(("up", "down"), weights, strict=True)), how)
        assert reward.scalarise({"up": 10, "down": 0}) == pytest.approx(1)
        assert reward.scalarise({"up": 0, "down": 2}) == pytest.approx(0, abs=1e-9)
        assert reward.worst.value == 0
        assert dict(reward.worst.terms) == {"up": 0, "down": 2}

    @pytest.mark.parametrize("how", ["chebyshev", "product"])
    def test_one_failing_claim_cannot_be_bought_off(self, how):
        reward = Reward("two", {"up": 1, "down": 1}, how)
        assert reward.scalarise({"up": 10, "down": 2}) == 0

    @pytest.mark.parametrize(
        ("weights", "how", "rule"),
        [
            ({"up": 0}, "linear", "weight of up must be positive"),
            ({"up": -1}, "linear", "weight of up must be positive"),
            ({"up": math.nan}, "linear", "weight of up must be positive"),
            ({}, "linear", "no terms"),
            ({"up": 1}, "geometric", "scalarisation is one of"),
            ({"upp": 1}, "linear", "did you mean up"),
        ],
    )
    def test_a_malformed_reward_is_refused(self, weights, how, rule):
        with pytest.raises(ScopegymError, match=rule):
            Reward("bad", weights, how)

    def test_round_trip_through_plain_values(self):
        reward = Reward("two", {"up": 2, "down": 0.5}, "euclidean")
        assert Reward.from_dict(reward.to_dict()) == reward

    @pytest.mark.parametrize(
        "plain",
        [
            None,
            "two",
            {},
            {"name": "two", "weights": ["up"], "scalarisation": "linear"},
            {"name": "two", "weights": {"up": "much"}, "scalarisation": "linear"},
            {"name": "two", "weights": {"up": None}, "scalarisation": "linear"},
            {"name": "two", "weights": {"upp": 1}, "scalarisation": "linear"},
            {"name": "two", "weights": {"up": 1}, "scalarisation": ["linear"]},
        ],
    )
    def test_malformed_plain_values_are_refused_in_one_sentence(self, plain):
        with pytest.raises(ScopegymError):
            Reward.from_dict(plain)

    def test_weights_cannot_be_changed_afterwards(self):
        weights = {"up": 1.0}
        reward = Reward("two", weights, "linear")
        weights["up"] = 5.0
        assert reward.weights["up"] == 1
        with pytest.raises(TypeError):
            reward.weights["up"] = 5.0
