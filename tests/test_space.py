"""Parameter spaces: the way to the unit interval and back, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym.errors import ScopegymError
from scopegym.space import Choice, Integer, Real, Scale, Space

unit = st.floats(0, 1)


@st.composite
def reals(draw: st.DrawFn) -> Real:
    kind = draw(st.sampled_from([Real, Scale]))
    if draw(st.booleans()):
        low = draw(st.floats(1e-3, 1e3))
        return kind(low, low * draw(st.floats(1.01, 1e3)), log=True)
    low = draw(st.floats(-1e3, 1e3))
    return kind(low, low + draw(st.floats(1, 1e3)))


integers = st.tuples(st.integers(-50, 50), st.integers(0, 50)).map(lambda p: Integer(p[0], sum(p)))
choices = st.lists(st.text(max_size=3), min_size=1, max_size=6, unique=True).map(
    lambda options: Choice(tuple(options))
)
spaces = st.one_of(reals(), integers, choices)


@settings(deadline=None, max_examples=200)
@given(spaces, unit)
def test_every_place_of_the_unit_interval_is_a_value_of_the_space(space: Space, u: float) -> None:
    value = space.from_unit(u)
    assert space.check(value) == value
    assert 0 <= space.to_unit(value) <= 1


@settings(deadline=None, max_examples=200)
@given(reals(), unit)
def test_real_round_trip_keeps_six_digits(space: Real, u: float) -> None:
    value = space.from_unit(u)
    again = space.from_unit(space.to_unit(value))
    assert again == pytest.approx(value, rel=2e-6, abs=2e-6 * (space.high - space.low))
    largest = max(abs(space.low), abs(space.high))
    slack = 1e-5 * largest / (space.high - space.low)
    if not space.log:
        assert space.to_unit(value) == pytest.approx(u, abs=slack + 1e-6)
    else:
        assert space.to_unit(value) == pytest.approx(u, abs=1e-5 / math.log(space.high / space.low))


@settings(deadline=None, max_examples=100)
@given(st.one_of(integers, choices), unit)
def test_discrete_round_trip_is_exact(space: Integer | Choice, u: float) -> None:
    value = space.from_unit(u)
    assert space.from_unit(space.to_unit(value)) == value


@settings(deadline=None, max_examples=100)
@given(spaces)
def test_the_ends_of_the_unit_interval_are_the_ends_of_the_space(space: Space) -> None:
    first, last = space.from_unit(0.0), space.from_unit(1.0)
    if isinstance(space, Choice):
        assert (first, last) == (space.options[0], space.options[-1])
    elif isinstance(space, Integer):
        assert (first, last) == (space.low, space.high)
    else:
        assert first == pytest.approx(space.low, rel=1e-5)
        assert last == pytest.approx(space.high, rel=1e-5)


@settings(deadline=None, max_examples=100)
@given(st.one_of(reals(), integers), unit, unit)
def test_order_is_kept(space: Real | Integer, u: float, v: float) -> None:
    low, high = sorted((u, v))
    assert space.from_unit(low) <= space.from_unit(high)


def test_every_value_of_a_discrete_space_has_an_equal_share() -> None:
    for space in (Integer(3, 7), Choice(("a", "b", "c", "d", "e"))):
        values = [space.from_unit((i + 0.5) / 1000) for i in range(1000)]
        assert {values.count(value) for value in values} == {200}


def test_half_way_is_the_geometric_mean_where_logarithmic() -> None:
    assert Real(0.01, 1.0, log=True).from_unit(0.5) == pytest.approx(0.1)
    assert Real(0.0, 1.0).from_unit(0.5) == 0.5


@settings(deadline=None, max_examples=100)
@given(spaces, st.integers(1, 30))
def test_bins_are_distinct_values_in_order(space: Space, count: int) -> None:
    values = space.bins(count)
    assert len(set(values)) == len(values)
    assert all(space.check(value) == value for value in values)
    if isinstance(space, Choice):
        assert values == space.options
    else:
        assert list(values) == sorted(values)
        assert len(values) <= count
        assert values[0] == space.from_unit(0.0)
        if count > 1:
            assert values[-1] == space.from_unit(1.0)
    if isinstance(space, Integer) and count > space.high - space.low:
        assert values == tuple(range(space.low, space.high + 1))


def test_a_length_is_in_spacings() -> None:
    assert Scale(0.1, 0.5).unit == "spacing"
    assert Real(0.1, 0.5).unit == ""
    assert isinstance(Scale(0.1, 0.5), Real)


@pytest.mark.parametrize(
    ("space", "value", "rule"),
    [
        (Real(0.0, 1.0), 1.5, r"must lie in 0\.\.1, not 1.5"),
        (Real(0.0, 1.0), -1e-9, r"must lie in 0\.\.1"),
        (Real(0.0, 1.0), math.nan, "must lie in .* not nan"),
        (Real(0.0, 1.0), math.inf, "must lie in .* not inf"),
        (Real(0.0, 1.0), "0.5", "must be a number, not '0.5'"),
        (Real(0.0, 1.0), True, "must be a number, not True"),
        (Real(0.0, 1.0), None, "must be a number, not None"),
        (Scale(0.1, 0.5), 0.6, r"must lie in 0.1\.\.0.5, not 0.6"),
        (Integer(1, 5), 6, r"must lie in 1\.\.5, not 6"),
        (Integer(1, 5), 2.0, "must be a whole number, not 2.0"),
        (Integer(1, 5), True, "must be a whole number, not True"),
        (Integer(1, 5), "2", "must be a whole number, not '2'"),
        (Choice(("a", "b")), "c", r"must be one of \['a', 'b'\], not 'c'"),
        (Choice(("a", "b")), None, "must be one of"),
        (Choice((9, 25)), [9], "must be one of"),
    ],
)
def test_what_is_not_in_the_space_is_refused(space: Space, value: Any, rule: str) -> None:
    with pytest.raises(ScopegymError, match=rule):
        space.check(value)


def test_the_ends_belong_to_the_space() -> None:
    for space in (Real(0.1, 0.5), Scale(0.1, 0.5), Integer(1, 5)):
        assert space.check(space.low) == space.low
        assert space.check(space.high) == space.high
    value = Real(0.0, 5.0).check(3)
    assert (value, type(value)) == (3.0, float)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0)])
def test_an_empty_range_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ScopegymError, match="needs low < high"):
        Real(*ends)


def test_a_logarithmic_range_starts_above_zero() -> None:
    with pytest.raises(ScopegymError, match="low > 0 where it is logarithmic"):
        Scale(0.0, 1.0, log=True)
