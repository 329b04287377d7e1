"""What holds for every operator, present and future: a plug-in registers and is covered."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from scopegym.artifacts import (
    Artifact,
    Features,
    Image,
    Labels,
    Points,
    Source,
    State,
    array_digest,
)
from scopegym.cache import Cache, using
from scopegym.datasets.simulate import simulate_crystal
from scopegym.errors import ScopegymError
from scopegym.metrics import match_points
from scopegym.micrograph import Micrograph
from scopegym.operators.base import Operator, registry
from scopegym.prior import Prior
from scopegym.sample.projection import Projection
from scopegym.space import Choice, Integer
from scopegym.testing import OPERATOR_CHECKS
from scopegym.testing.base import Check, full_state
from scopegym.testing.operators import defaults, draws
from scopegym.workflow import Step

OPERATORS = sorted(registry)
#: A square lattice of columns 0.2 nm apart, every second one weaker.
LATTICE = Projection(
    ((0.2, 0.0), (0.0, 0.4)), np.array([[0.0, 0.0], [0.0, 0.5]]), np.array([1.0, 0.6]), ("A", "B")
)
SPACING_NM = 0.2

every_operator = pytest.mark.parametrize("name", OPERATORS)


@every_operator
@pytest.mark.parametrize("check", OPERATOR_CHECKS, ids=lambda check: check.__name__)
def test_contract(name: str, check: Check) -> None:
    check(registry[name])


@cache
def crystal(
    spacing: float = 10.0, noise: float = 0.05, shape: tuple[int, int] = (170, 180)
) -> Micrograph:
    """A lattice of this spacing [px] in a field that holds the largest windows of all operators."""
    return simulate_crystal(
        LATTICE,
        (round(shape[0] * spacing / 10), round(shape[1] * spacing / 10)),
        SPACING_NM / spacing,
        origin_yx=(0.31 * spacing, 0.47 * spacing),
        noise=noise,
    )


def state_of(micrograph: Micrograph, source: Source | None = None) -> State:
    """A state that holds one artifact of every kind, positions a little off the truth."""
    rng = np.random.default_rng(5)
    truth = micrograph.truth
    assert isinstance(truth, Points)
    spread = 0.04 * SPACING_NM / micrograph.pixel_size_nm
    yx = truth.yx + rng.normal(0, spread, truth.yx.shape)
    points = Points(
        yx,
        truth.shape,
        truth.sigma_px,
        0.2 + truth.strength * rng.random(len(yx)),
        np.where((yx < 0.4 * np.array(truth.shape)).all(axis=1), -1, truth.strength < 0.8),
        -np.abs(rng.normal(size=len(yx))),
    )
    source = micrograph.normalized() if source is None else source
    return full_state(source, points[points.inner(0)])


def prior_of(spacing: float) -> Prior:
    return Prior(scale_px=spacing, count=200.0)


def outcome(operator: Operator, state: State, params: dict[str, Any], spacing: float) -> Artifact:
    """What the operator makes of the state, computed afresh."""
    with using(Cache()):
        after = operator.apply(state, params, prior_of(spacing))
    return after.need(operator.output)


def fingerprints() -> dict[str, list[str]]:
    """Hashes of what every operator makes of the same state, for another process to compare."""
    state = state_of(crystal())
    return {
        name: [
            array_digest(a)
            for a in outcome(registry[name], state, defaults(registry[name]), 10.0).arrays
            if a.size
        ]
        for name in OPERATORS
    }


def test_another_process_gives_the_same_output() -> None:
    code = (
        "import json, runpy, sys\n"
        "print(json.dumps(runpy.run_path(sys.argv[1], run_name='other')['fingerprints']()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4321"}
    run = subprocess.run(
        [sys.executable, "-c", code, __file__], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    there = json.loads(run.stdout)
    here = runpy.run_path(__file__, run_name="other")["fingerprints"]()
    assert there == {name: here[name] for name in there}


@every_operator
def test_derivation_tells_inputs_and_parameters_apart(name: str) -> None:
    operator, prior = registry[name], prior_of(10.0)
    state = state_of(crystal())
    other = state_of(crystal(noise=0.1))
    features = state.need(Features)
    for artifact in (
        other.need(Points)[1:],
        Labels(1 - state.need(Labels).map),
        Features(-features.values, features.centres_yx, (170, 180)),
    ):
        other = other.with_artifact(artifact)
    keys = {operator.derivation(s, {}, prior) for s in (state, other)}
    keys |= {operator.derivation(state, {"a": value}, prior) for value in (1.0, 2.0)}
    assert len(keys) == 4


def test_empty_points_made_by_hand_can_be_used() -> None:
    empty = Points(np.empty((0, 2)), (40, 44))
    state = state_of(crystal()).with_artifact(empty)
    assert len(outcome(registry["drop_edge"], state, {}, 10.0)) == 0


def test_same_positions_in_another_field_are_other_points() -> None:
    yx = [[20.0, 20.0]]
    with using(Cache()):
        state = state_of(crystal())
        kept = [
            len(
                registry["drop_edge"].apply(state.with_artifact(p), {}, prior_of(10.0)).need(Points)
            )
            for p in (Points(yx, (21, 40)), Points(yx, (40, 40)))
        ]
    assert kept == [0, 1]


@every_operator
def test_unknown_parameter_is_named(name: str) -> None:
    with pytest.raises(ScopegymError, match=rf"{name} has no parameter no_such_thing; it has"):
        Step(name, {"no_such_thing": 1})


@every_operator
def test_out_of_range_parameter_names_operator_parameter_and_rule(name: str) -> None:
    for parameter in registry[name].parameters.values():
        space, where = parameter.space, rf"{name}\.{parameter.name} "
        if isinstance(space, Choice):
            wrong, rule = "no such option", "must be one of .* not 'no such option'"
        else:
            wrong, rule = space.high + 1, rf"must lie in .*\.\..*, not {space.high + 1:g}"
        with pytest.raises(ScopegymError, match=where + rule):
            Step(name, {parameter.name: wrong})
        if not isinstance(space, Choice):
            noun = "a whole number" if isinstance(space, Integer) else "a number"
            for wrong in ("3", None, True):
                with pytest.raises(ScopegymError, match=where + f"must be {noun}"):
                    Step(name, {parameter.name: wrong})


@every_operator
def test_direct_call_takes_arrays_and_pixels(name: str) -> None:
    operator, prior = registry[name], prior_of(10.0)
    state = state_of(crystal())
    for params in (defaults(operator), *draws(operator, 1, seed=7)):
        step = outcome(operator, state, params, 10.0)
        given = [state.get(kind) for kind in operator.inputs if kind is not Prior]
        plain = [np.array(a.pixels) if isinstance(a, Image) else a for a in given]
        direct = operator(*plain, prior=prior, **operator.in_pixels(params, prior))
        assert type(direct) is operator.output
        for a, b in zip(step.arrays, direct.arrays, strict=True):
            np.testing.assert_array_equal(a, b)


@every_operator
def test_direct_call_refuses_a_wrong_number_of_artifacts(name: str) -> None:
    operator = registry[name]
    with pytest.raises(ScopegymError, match=rf"{name} takes .*, not 0"):
        operator(prior=prior_of(10.0))


@every_operator
def test_direct_call_needs_lengths_or_a_prior(name: str) -> None:
    operator, state = registry[name], state_of(crystal())
    lengths = [p.name for p in operator.parameters.values() if p.space.unit == "spacing"]
    if not lengths:
        pytest.skip("no lengths")
    given = [state.get(kind) for kind in operator.inputs if kind is not Prior]
    with pytest.raises(ScopegymError, match=rf"{name} called directly needs {lengths[0]} \[px\]"):
        operator(*given)


@every_operator
def test_missing_artifact_is_named(name: str) -> None:
    operator = registry[name]
    if Image in operator.inputs and len(operator.inputs) == 1:
        pytest.skip("an image is always there")
    state = State.start(crystal().normalized())
    assert not operator.runs_on(state)
    with pytest.raises(ScopegymError, match=rf"{name} needs \w+.*, which no step made"):
        operator.apply(state, {}, prior_of(10.0))


# --- physics: an operator sees the sample, not the pixels -----------------------------------------

#: Windows of fixed pixels, which the docstring says: patches of 5 px are another length of the
#: sample at another magnification.
FIXED_IN_PIXELS = {"denoise_nlm", "denoise_tv"}


def agreement(operator: Operator, one: Artifact, two: Artifact, spacing: float) -> float:
    """1 where two results on the same field say the same, in their own measure, border left out."""
    if isinstance(one, Points):
        assert isinstance(two, Points)
        return match_points(two, one, 0.2 * spacing, margin_px=2 * spacing).f1
    inner = slice(round(2 * spacing), -round(2 * spacing))
    if isinstance(one, Image):
        assert isinstance(two, Image)
        a, b = (r.pixels[inner, inner].ravel().astype(float) for r in (one, two))
        return float(np.corrcoef(a, b)[0, 1])
    if isinstance(one, Labels):
        assert isinstance(two, Labels)
        return float(np.mean(one.map[inner, inner] == two.map[inner, inner]))
    assert isinstance(one, Features), f"say what it means that two {operator.output} agree"
    assert isinstance(two, Features)
    return min(len(one), len(two)) / max(len(one), len(two))


@every_operator
def test_same_sample_at_twice_the_magnification_gives_the_same(name: str) -> None:
    if name in FIXED_IN_PIXELS:
        pytest.skip("its window is a fixed number of pixels")
    operator = registry[name]
    small, large = (state_of(crystal(s, noise=0.0)) for s in (12.0, 24.0))
    points, features, labels = (small.need(kind) for kind in (Points, Features, Labels))
    shape = large.image.shape
    for artifact in (
        replace(points, yx=2 * points.yx, shape=shape),
        Features(features.values, 2 * features.centres_yx, shape),
        Labels(np.kron(labels.map, np.ones((2, 2), np.int32))),
    ):
        large = large.with_artifact(artifact)
    one = outcome(operator, small, defaults(operator), 12.0)
    two = outcome(operator, large, defaults(operator), 24.0)
    # Pixel (2 y, 2 x) of the larger field shows what pixel (y, x) of the smaller one does.
    if isinstance(two, Points):
        two = Points(two.yx / 2, small.image.shape)
    elif isinstance(two, Image):
        two = Image(two.pixels[::2, ::2])
    elif isinstance(two, Labels):
        two = Labels(two.map[::2, ::2])
    assert agreement(operator, one, two, 12.0) > 0.95


def seen_by_both(features: Features, corner: tuple[int, int], shape: tuple[int, int]) -> Features:
    """The features of points well inside a part of the field: another border cuts others off."""
    inner = Points(features.centres_yx - corner, shape).inner(20.0)
    return Features(features.values[inner], features.centres_yx[inner] - corner, shape)


@every_operator
def test_moved_field_of_view_gives_the_same_in_what_both_show(name: str) -> None:
    operator, (dy, dx) = registry[name], (7, 4)
    whole = state_of(crystal())
    height, width = (170 - dy, 180 - dx)

    def cut(top: int, left: int) -> State:
        source = Source(whole.image.pixels[top : top + height, left : left + width])
        points = whole.need(Points)
        moved = replace(points, yx=points.yx - (top, left), shape=source.shape)
        inside = moved.inner(0)
        labels = Labels(whole.need(Labels).map[top : top + height, left : left + width])
        centres = whole.need(Features).centres_yx - (top, left)
        seen = ((centres >= 0) & (centres < source.shape)).all(axis=1)
        features = Features(whole.need(Features).values[seen], centres[seen], source.shape)
        state = full_state(source, moved[inside])
        return state.with_artifact(labels).with_artifact(features)

    one = outcome(operator, cut(0, 0), defaults(operator), 10.0)
    two = outcome(operator, cut(dy, dx), defaults(operator), 10.0)
    common = (height - dy, width - dx)
    if isinstance(one, Points):
        one = Points(one.yx - (dy, dx), common)
        two = Points(two.yx, common)
        one, two = (p[p.inner(0)] for p in (one, two))
    elif isinstance(one, Image):
        one, two = Image(one.pixels[dy:, dx:]), Image(two.pixels[:-dy, :-dx])
    elif isinstance(one, Labels):
        one, two = Labels(one.map[dy:, dx:]), Labels(two.map[:-dy, :-dx])
    elif isinstance(one, Features) and Points in operator.inputs:
        one, two = seen_by_both(one, (dy, dx), common), seen_by_both(two, (0, 0), common)
    assert agreement(operator, one, two, 10.0) > 0.95
