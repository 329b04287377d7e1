"""The contract of a reward term."""

from __future__ import annotations

import math

import numpy as np

from scopegym.artifacts import (
    Image,
    Points,
    Source,
    State,
)
from scopegym.cache import Cache, using
from scopegym.errors import ScopegymError
from scopegym.prior import Prior
from scopegym.rewards.base import Term
from scopegym.rewards.base import registry as terms
from scopegym.testing.base import (
    Check,
    carry_out,
    check_declared,
    check_pickle,
    contents,
    crystal,
    full_state,
    hostile_states,
    noise,
    prior_of,
    require,
    state_of,
)


def judged(term: Term, state: State, prior: Prior, where: str = "this state") -> float:
    """The value of a term, required to be finite and within its bounds."""
    try:
        value = term.evaluate(state, prior)
    except ScopegymError as error:
        raise AssertionError(f"On {where}: {error}") from error
    low, high = term.bounds
    inside = isinstance(value, float) and math.isfinite(value) and low <= value <= high
    require(inside, f"{term.name} is {value} on {where}; its bounds are {low} and {high}.")
    require(0 <= term.goodness(value) <= 1, f"The goodness of {term.name} is not in 0..1.")
    return value


def term_is_declared(term: Term) -> None:
    """The docstring begins with one sentence, and the bounds have a better and a worse end."""
    check_declared("reward term", term, terms)
    best = term.bounds[0] if term.direction == "minimize" else term.bounds[1]
    ends = term.goodness(best), term.goodness(term.worst)
    require(ends == (1, 0), f"The bounds of {term.name} have the goodnesses {ends}, not (1, 0).")


def term_is_a_number(term: Term) -> None:
    """On an ordinary result the function itself gives a finite number."""
    state, prior = state_of(crystal()), prior_of(10.0)
    judged(term, state, prior, "a lattice")
    value = term(*(prior if kind is Prior else state.get(kind) for kind in term.inputs))
    require(math.isfinite(value), f"{term.name} is {value} on a lattice with all its columns.")


def term_stays_within_bounds(term: Term) -> None:
    """Hostile images, points and priors give a finite value within the bounds."""
    rng = np.random.default_rng(2)
    vague = Prior(scale_px=0.7, count=None)
    for where, state in hostile_states():
        for prior in (prior_of(8.0), vague):
            judged(term, state, prior, where)
    for count in (2, 30, 5000):
        source = Source(noise(48, 64))
        points = Points(rng.uniform(-0.5, [47.5, 63.5], (count, 2)), source.shape)
        judged(term, full_state(source, points), prior_of(8.0), f"{count} random points")


def term_sees_what_is_missing(term: Term) -> None:
    """Missing and empty results take the worst bound."""
    made = [kind for kind in term.inputs if kind not in (Prior, Source, Image)]
    require(made, f"{term.name} reads nothing that a workflow makes.")
    start = State.start(crystal().normalized())
    value = judged(term, start, prior_of(10.0), "no result")
    require(value == term.worst, f"{term.name} is {value} without result, not {term.worst}.")
    if Points in term.inputs:
        empty = state_of(crystal()).with_artifact(Points(np.empty((0, 2)), start.source.shape))
        value = judged(term, empty, prior_of(10.0), "no points")
        require(value == term.worst, f"{term.name} is {value} without points, not {term.worst}.")


def term_is_pure(term: Term) -> None:
    """Same input, same value; inputs stay as they are."""
    state = state_of(crystal())
    before = contents(state)
    values = set()
    for _ in range(3):
        with using(Cache()):
            values.add(judged(term, state, prior_of(10.0)))
    require(len(values) == 1, f"{term.name} gives other values when it is asked again: {values}.")
    require(contents(state) == before, f"{term.name} changes its input.")


def term_can_travel(term: Term) -> None:
    """A pickle gives the same term again."""
    check_pickle("reward term", term)


TERM_CHECKS: tuple[Check, ...] = (
    term_is_declared,
    term_is_a_number,
    term_stays_within_bounds,
    term_sees_what_is_missing,
    term_is_pure,
    term_can_travel,
)


def check_reward_term(term: Term) -> tuple[str, ...]:
    """Check a reward term's contract and return the names of the checks.

    Raises AssertionError for a broken contract.
    """
    return carry_out(TERM_CHECKS, term)
