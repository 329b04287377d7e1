"""A prior holds lengths and counts that make sense, and survives being written down."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegym.errors import ScopegymError
from scopegym.prior import Disorder, Lattice, Part, Prior, parts, prior_part
from scopegym.registry import load_plugin
from scopegym.workflow import Recipe, Step, Workflow

positive = st.floats(1e-3, 1e6)
vectors = st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
priors = st.builds(
    Prior,
    scale_px=positive,
    count=st.one_of(st.none(), st.floats(0, 1e9)),
    neighbour_sums_px=st.lists(positive, max_size=5).map(tuple),
    parts=st.tuples(
        st.one_of(st.none(), st.builds(Lattice, st.tuples(vectors, vectors))),
        st.one_of(st.none(), st.just(Disorder(0.1, 0.4))),
    ).map(lambda claimed: tuple(part for part in claimed if part is not None)),
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
    prior = Prior(8, 400, (32.0,), (Lattice(((8, 0), (0, 8))), Disorder(0.1, 0.2)))
    part = prior.cropped((50, 100), of=(100, 200))
    assert part.count == 100
    assert (part.scale_px, part.neighbour_sums_px, part.parts) == (
        prior.scale_px,
        prior.neighbour_sums_px,
        prior.parts,
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
        Lattice((vector, (0.0, 8.0)))


# Parts --------------------------------------------------------------------------------------------

SQUARE = Lattice(((8.0, 0.0), (0.0, 8.0)))
PLUGIN = """
from dataclasses import dataclass, replace
from scopegym.plain import Positive
from scopegym.prior import Part, prior_part

@prior_part
@dataclass(frozen=True)
class Wires(Part):
    width_px: float
    number: float = 1.0
    name = "wires"
    rule = Positive(1e6)

    def stretched(self, zoom):
        return replace(self, width_px=self.width_px * zoom)

    def cropped(self, shape, of):
        return replace(self, number=self.number * shape[0] / of[0])

    def to_plain(self):
        return self.width_px

    @classmethod
    def from_plain(cls, plain):
        return cls(float(plain))
"""


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[Any]:
    """The kind of part that a plug-in defines."""
    file = tmp_path / "wires.py"
    file.write_text(PLUGIN)
    yield load_plugin(file).Wires
    del parts._entries["wires"]


def test_each_part_is_stretched_and_cropped_by_its_own_rule(wires: Any):
    prior = Prior(8.0, 400.0, parts=(SQUARE, Disorder(0.1, 0.2), wires(3.0)))
    zoomed = prior.stretched(2.0)
    assert zoomed.lattice_px == ((16.0, 0.0), (0.0, 16.0))
    assert zoomed.part(Disorder) == Disorder(0.1, 0.2)
    assert zoomed.part(wires) == wires(6.0)
    assert prior.cropped((50, 100), of=(100, 200)).part(wires) == wires(3.0, number=0.5)
    assert prior.cropped((50, 100), of=(100, 200)).part(Lattice) == SQUARE


def test_a_part_of_a_plugin_survives_a_recipe(wires: Any):
    prior = Prior(8.0, parts=(wires(3.0), SQUARE))
    text = Workflow((Step("gaussian"),)).to_yaml(prior=prior, task="atoms")
    back = Recipe.read(text).prior
    assert back == prior and back is not None and back.part(wires) == wires(3.0)
    assert back.key == prior.key != Prior(8.0, parts=(SQUARE,)).key
    with pytest.raises(ScopegymError, match=r"wires must be a positive number .*, not -3"):
        Recipe.read(text.replace("wires: 3.0", "wires: -3.0"))


def test_a_plugin_that_is_loaded_again_still_finds_its_part(wires: Any, tmp_path: Path):
    prior = Prior(8.0, parts=(wires(3.0),))
    again = load_plugin(tmp_path / "wires.py").Wires
    assert again is not wires
    assert prior.part(again).width_px == 3.0


def test_a_recipe_of_former_versions_reads_as_before():
    former = {
        "scale_px": 8.0,
        "count": None,
        "neighbour_sums_px": [32.0],
        "lattice_px": None,
        "contrast": "dark",
        "disordered": [0.1, 0.3],
        "sources": {"scale_px": "given"},
    }
    prior = Prior.from_dict(former)
    assert prior.lattice_px is None and prior.parts == (Disorder(0.1, 0.3),)
    assert Prior.from_dict({**former, "lattice_px": [[8, 0], [0, 8]]}).lattice_px == (
        (8, 0),
        (0, 8),
    )
    assert Prior(8.0).to_dict()["lattice_px"] is None
    assert Prior(8.0, parts=(SQUARE,)).to_dict()["lattice_px"] == [[8.0, 0.0], [0.0, 8.0]]


def test_parts_have_one_order_and_replace_each_other():
    prior = Prior(8.0, parts=(SQUARE, Disorder(0.1, 0.2)))
    other = Prior(8.0, parts=(Disorder(0.1, 0.2), SQUARE))
    assert prior == other and prior.key == other.key
    assert prior.with_part(Disorder(0.3, 0.4)).parts == (Disorder(0.3, 0.4), SQUARE)
    assert Prior(8.0).part(Lattice) is None and Prior(8.0).lattice_px is None
    assert pickle.loads(pickle.dumps(prior)) == prior


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ScopegymError, match="at most one part of a kind, not two 'lattice_px'"):
        Prior(8.0, parts=(SQUARE, SQUARE))
    with pytest.raises(ScopegymError, match="must hold parts such as Lattice, not 'lattice'"):
        Prior(8.0, parts=("lattice",))  # type: ignore[arg-type]
    with pytest.raises(ScopegymError, match="tuple of parts"):
        Prior(8.0, parts=SQUARE)  # type: ignore[arg-type]
    for name, match in (("count", "Every prior has an entry 'count'"), ("lattice_px", "exists")):
        with pytest.raises(ScopegymError, match=match):
            prior_part(type("Claim", (Part,), {"name": name, "rule": Lattice.rule}))
