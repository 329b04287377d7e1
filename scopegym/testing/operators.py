"""The contract of an operator."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scopegym.artifacts import Artifact, Image, Labels, Points, State
from scopegym.cache import Cache, using
from scopegym.errors import ScopegymError
from scopegym.operators.base import Operator
from scopegym.operators.base import registry as operators
from scopegym.operators.pruning import TooManyCandidates
from scopegym.prior import Prior
from scopegym.testing.base import (
    Check,
    carry_out,
    check_declared,
    check_pickle,
    contents,
    crystal,
    hostile_states,
    prior_of,
    require,
    state_of,
)
from scopegym.workflow import Step, Workflow

#: Spacings of columns at which operators have to run [px].
SPACINGS = (4.0, 9.0, 20.0, 40.0)


def defaults(operator: Operator) -> dict[str, Any]:
    """The default of every parameter."""
    return {name: parameter.default for name, parameter in operator.parameters.items()}


def draws(operator: Operator, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Parameters at random places of their spaces."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {name: p.space.from_unit(rng.random()) for name, p in operator.parameters.items()}


def _corners(operator: Operator) -> Iterator[dict[str, Any]]:
    yield defaults(operator)
    for u in (0.0, 1.0):
        yield {name: p.space.from_unit(u) for name, p in operator.parameters.items()}


def outcome(
    operator: Operator, state: State, params: Mapping[str, Any], spacing: float
) -> Artifact:
    """The operator's result for the state, without the cache."""
    given = [state.get(kind) for kind in operator.inputs if kind is not Prior]
    pixels = operator.in_pixels(operator.check(params), prior_of(spacing))
    result: Artifact = operator(*given, prior=prior_of(spacing), **pixels)
    return result


def check_sound(operator: Operator, result: Any, where: str) -> None:
    """The declared kind, read-only, numbers only; NaN stands for "no such notion" in Points."""
    said = f"{operator.name} on {where}"
    require(
        isinstance(result, operator.output),
        f"{said} gives {type(result).__name__}, and declares {operator.output.__name__}.",
    )
    for array in result.arrays:
        require(not array.flags.writeable, f"{said} gives an array that can be written to.")
        require(array.dtype.kind in "fib", f"{said} gives an array of {array.dtype}.")
        require(not np.isinf(array).any(), f"{said} gives infinite values.")
    if isinstance(result, Points):
        require(result.inner(0).all(), f"{said} gives positions outside of the field.")
    else:
        numbers = all(np.isfinite(array).all() for array in result.arrays)
        require(numbers, f"{said} gives values that are NaN.")


def _tried(
    operator: Operator, state: State, params: Mapping[str, Any], spacing: float, where: str
) -> ScopegymError | None:
    """Require a sound result, or a ScopegymError of one sentence, which is returned."""
    try:
        with warnings.catch_warnings():
            # Rounding at an offset of 1e6 is as large as a threshold: everything is a blob.
            warnings.simplefilter("ignore", TooManyCandidates)
            result = outcome(operator, state, params, spacing)
    except ScopegymError as error:
        sentence = re.fullmatch(r".{20,}\.", str(error))
        require(sentence, f"The error of {operator.name} on {where} is no sentence: '{error}'")
        return error
    except Exception as error:
        raise AssertionError(
            f"{operator.name} on {where} with {dict(params)} raises {type(error).__name__}: "
            f"{error}. An operator that has no result raises a ScopegymError of one sentence."
        ) from error
    check_sound(operator, result, where)
    field = state.source.shape
    if isinstance(result, Image | Labels):
        shape = result.shape if isinstance(result, Image) else result.map.shape
        require(
            shape == field,
            f"{operator.name} on {where} gives a field of {shape} px, not of {field} px.",
        )
    return None


def _must_run(operator: Operator, state: State, params: Mapping[str, Any], spacing: float) -> None:
    error = _tried(operator, state, params, spacing, f"a lattice of {spacing:g} px")
    require(error is None, f"{operator.name} has no result on a lattice of {spacing:g} px: {error}")


def operator_is_declared(operator: Operator) -> None:
    """The docstring begins with one sentence, and defaults lie in their spaces."""
    check_declared("operator", operator, operators)
    version = operator.version
    require(isinstance(version, int) and version >= 1, f"{operator.name} has version {version!r}.")
    operator.check({})


def operator_is_pure(operator: Operator) -> None:
    """Inputs stay as they are."""
    state = state_of(crystal())
    before = contents(state)
    _must_run(operator, state, defaults(operator), 10.0)
    for name, content in contents(state).items():
        require(content == before[name], f"{operator.name} changes its input ({name}).")


def operator_is_deterministic(operator: Operator) -> None:
    """Same inputs and parameters, same output, to the last bit."""
    for params in (defaults(operator), *draws(operator, 1, seed=3)):
        _must_run(operator, state_of(crystal()), params, 10.0)
        one, two = (outcome(operator, state_of(crystal()), params, 10.0) for _ in range(2))
        same = all(a.tobytes() == b.tobytes() for a, b in zip(one.arrays, two.arrays, strict=True))
        require(same, f"{operator.name} gives another result when it runs again.")


def operator_runs_at_every_magnification(operator: Operator) -> None:
    """Defaults and random parameters give a result on lattices of 4 to 40 px."""
    for spacing in SPACINGS:
        side = round(9 * spacing)
        state = state_of(crystal(spacing, (side, side + round(spacing))))
        _must_run(operator, state, defaults(operator), spacing)
    for spacing in (4.0, 10.0):
        state = state_of(crystal(spacing, (round(17 * spacing), round(18 * spacing))))
        for params in draws(operator, 4, seed=int(spacing)):
            _must_run(operator, state, params, spacing)


def operator_survives_hostile_input(operator: Operator) -> None:
    """Hostile images and points give a result, or a ScopegymError of one sentence."""
    for where, state in hostile_states():
        if where.startswith("the points") and Points not in operator.inputs:
            continue
        for params in (*_corners(operator), *draws(operator, 2)):
            for spacing in (2.0, 10.0):
                _tried(operator, state, params, spacing, where)


def operator_makes_round_trips(operator: Operator) -> None:
    """Recipes and pickles give the same step again, and a cache the same result."""
    check_pickle("operator", operator)
    prior, state = prior_of(10.0), state_of(crystal())
    for params in draws(operator, 5, seed=1):
        workflow = Workflow((Step(operator.name, params),))
        read = Workflow.from_yaml(workflow.to_yaml(prior=prior))
        same = read == workflow and read.key == workflow.key
        require(same, f"A recipe with {operator.name} gives another workflow: {read}.")
        keys = {
            operator.derivation(state, operator.in_pixels(w.steps[0].params, prior), prior)
            for w in (workflow, read)
        }
        require(len(keys) == 1, f"A recipe with {operator.name} gives results of another name.")
    with using(Cache()):
        one, two = (operator.apply(state, defaults(operator), prior) for _ in range(2))
    again = one.get(operator.output) is two.get(operator.output)
    require(again, f"{operator.name} is not found in the cache.")
    fresh = outcome(operator, state, defaults(operator), 10.0)
    pairs = zip(one.get(operator.output).arrays, fresh.arrays, strict=True)  # type: ignore[union-attr]
    require(
        all(np.array_equal(a, b, equal_nan=True) for a, b in pairs),
        f"{operator.name} gives another result when it is called directly.",
    )


OPERATOR_CHECKS: tuple[Check, ...] = (
    operator_is_declared,
    operator_is_pure,
    operator_is_deterministic,
    operator_runs_at_every_magnification,
    operator_survives_hostile_input,
    operator_makes_round_trips,
)


def check_operator(operator: Operator) -> tuple[str, ...]:
    """Check an operator's contract and return the names of the checks.

    Raises AssertionError for a broken contract.
    """
    return carry_out(OPERATOR_CHECKS, operator)
