"""A prior holds lengths and counts that make sense, and survives being written down."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegym.errors import ScopegymError
from scopegym.prior import Prior

positive = st.floats(1e-3, 1e6)
vectors = st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
priors = st.builds(
    Prior,
    scale_px=positive,
    count=st.one_of(st.none(), st.floats(0, 1e9)),
    neighbour_sums_px=st.lists(positive, max_size=5).map(tuple),
    lattice_px=st.one_of(st.none(), st.tuples(vectors, vectors)),
    contrast=st.sampled_from(["bright", "dark"]),
    sources=st.dictionaries(st.sampled_from(["scale_px", "count"]), st.just("given")),
)


@given(priors)
def test_round_trip_through_plain_values_and_json(prior: Prior):
    back = Prior.from_dict(json.loads(json.dumps(prior.to_dict())))
    assert back == prior
    assert back.key == prior.key and hash(back) == hash(prior)
    assert back.sources == prior.sources


@given(priors, priors)
def test_keys_tell_priors_apart(first: Prior, second: Prior):
    assert (first.key == second.key) == (first.to_dict() == second.to_dict())


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
def test_scale_must_be_a_positive_length(scale: float):
    with pytest.raises(ScopegymError, match=r"Prior\.scale_px must be a positive length"):
        Prior(scale)


@pytest.mark.parametrize("count", [-1, math.nan, math.inf])
def test_count_must_not_be_negative(count: float):
    with pytest.raises(ScopegymError, match=r"Prior\.count"):
        Prior(8, count)


def test_contrast_is_bright_or_dark():
    with pytest.raises(ScopegymError, match="'bright' or 'dark', not 'grey'"):
        Prior(8, contrast="grey")  # type: ignore[arg-type]


def test_crop_keeps_lengths_and_shares_the_count():
    prior = Prior(8, 400, (32.0,), ((8, 0), (0, 8)))
    part = prior.cropped((50, 100), of=(100, 200))
    assert part.count == 100
    assert (part.scale_px, part.neighbour_sums_px, part.lattice_px) == (
        prior.scale_px,
        prior.neighbour_sums_px,
        prior.lattice_px,
    )
    assert Prior(8).cropped((5, 5), of=(10, 10)).count is None


def test_prior_cannot_be_changed():
    sources = {"count": "given"}
    prior = Prior(8, 4, sources=sources)
    sources["count"] = "estimated"
    assert prior.sources["count"] == "given"
    with pytest.raises(TypeError):
        prior.sources["count"] = "estimated"  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        prior.count = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"scale_px": None},
        {"scale_px": "8"},
        {"scale_px": 8, "spacing": 3},
        {"scale_px": 8, "count": "many"},
        {"scale_px": 8, "neighbour_sums_px": 3},
        {"scale_px": 8, "neighbour_sums_px": ["far"]},
        {"scale_px": 8, "lattice_px": [[1, 2]]},
        {"scale_px": 8, "lattice_px": [[1], [2]]},
        {"scale_px": 8, "lattice_px": "ab"},
        {"scale_px": 8, "sources": 5},
        {"scale_px": 8, "contrast": ["bright"]},
    ],
)
def test_malformed_entries_are_refused(plain: dict):
    with pytest.raises(ScopegymError):
        Prior.from_dict(plain)


@pytest.mark.parametrize("sums", [(math.nan,), (0.0,), (-3.0,), (math.inf,)])
def test_neighbour_sums_must_be_positive_lengths(sums: tuple[float, ...]):
    with pytest.raises(ScopegymError, match="neighbour_sums_px"):
        Prior(8, neighbour_sums_px=sums)


@pytest.mark.parametrize("vector", [(math.nan, 0.0), (math.inf, 0.0)])
def test_lattice_must_be_finite(vector: tuple[float, float]):
    with pytest.raises(ScopegymError, match="lattice_px"):
        Prior(8, lattice_px=(vector, (0.0, 8.0)))
