"""Rewards: named physical terms of a state and a prior, and one value computed from them.

A term never sees the truth. It has a direction and bounds. Missing, empty or undefined results
take the worst bound, so a reward never returns NaN.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scopegym.artifacts import Source, State, is_kind
from scopegym.errors import FrameError, ScopegymError
from scopegym.frozen import FrozenDict
from scopegym.limits import LimitExceededError
from scopegym.plain import Number, Record, Table, Text, checked
from scopegym.prior import Prior
from scopegym.registry import Registry

Direction = Literal["minimize", "maximize"]
Scalarisation = Literal["linear", "chebyshev", "euclidean", "product"]
#: Entries of a reward in a file.
ENTRIES = Record(
    {"name": Text(), "weights": Table(Number(1e-6, 1e6), 100, least=1), "scalarisation": Text()}
)


@dataclass(frozen=True)
class Term:
    """One physical claim as a function of artifacts and prior."""

    name: str
    function: Callable[..., float]
    inputs: tuple[type[Any], ...]
    direction: Direction
    bounds: tuple[float, float]
    __doc__: str = field(default="", repr=False)
    #: Figures of the prior that the claim requires.
    needs: tuple[str, ...] = ()

    def __call__(self, *arguments: Any) -> float:
        """The claim's value for artifacts and prior in the order of the signature."""
        return float(self.function(*arguments))

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled by name, because the name of the function refers to the term.
        return _named, (self.name,)

    @property
    def worst(self) -> float:
        """The bound of a claim that does not hold at all."""
        return self.bounds[1] if self.direction == "minimize" else self.bounds[0]

    def evaluate(self, state: State, prior: Prior) -> float:
        """The value within the bounds; the worst bound if there is nothing to score."""
        arguments: list[Any] = []
        for kind in self.inputs:
            argument = prior if kind is Prior else state.get(kind)
            if argument is None or getattr(argument, "empty", False):
                return self.worst
            arguments.append(argument)
        try:
            value = float(self.function(*arguments))
        except (LimitExceededError, MemoryError, FrameError):
            raise  # the search goes on: the fault may be the result's
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ScopegymError(f"The reward term {self.name} fails: {reason}.") from error
        return (
            min(max(value, self.bounds[0]), self.bounds[1]) if math.isfinite(value) else self.worst
        )

    def goodness(self, value: float) -> float:
        """The value mapped to 0 (worst bound) .. 1 (best bound)."""
        low, high = self.bounds
        share = (value - low) / (high - low)
        return 1 - share if self.direction == "minimize" else share


#: All reward terms by name.
registry: Registry[Term] = Registry("reward term")


def _named(name: str) -> Term:
    return registry[name]


def reward_term(
    *, direction: Direction, bounds: tuple[float, float], needs: tuple[str, ...] = ()
) -> Callable[[Callable[..., float]], Term]:
    """Register a function of artifacts and prior as a reward term.

    ``needs`` names the required optional figures of the prior, such as ``count``. Raises
    ScopegymError when direction, bounds or signature are invalid.
    """

    def register(function: Callable[..., float]) -> Term:
        name = function.__name__
        if direction not in ("minimize", "maximize"):
            raise ScopegymError(f"{name}: direction is minimize or maximize, not '{direction}'.")
        low, high = bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ScopegymError(f"{name}: bounds must be finite and rising, not {bounds}.")
        hints = typing.get_type_hints(function)
        inputs = tuple(hints.get(argument) for argument in inspect.signature(function).parameters)
        for kind in inputs:
            if not is_kind(kind) and kind not in (Source, Prior):
                raise ScopegymError(
                    f"{name}: every argument must be an artifact, the Source or the Prior; "
                    "the truth is not an input of a reward."
                )
        doc = inspect.getdoc(function) or ""
        term = Term(name, function, inputs, direction, (low, high), doc, needs)  # type: ignore[arg-type]
        return registry.add(term)

    return register


@dataclass(frozen=True)
class Score:
    """The score of a state: ``terms`` by name and one ``value`` in 0..1, 1 is best."""

    terms: Mapping[str, float]
    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", FrozenDict(self.terms))


@dataclass(frozen=True)
class Reward:
    """A named set of terms with weights, and a scalarisation that makes one value of them.

    ``linear``: weighted mean of the goodnesses. ``chebyshev``: the worst goodness; weights below
    the largest reduce the influence of a term. ``euclidean``: one minus the weighted distance to
    the ideal. ``product``: all claims must hold; product of goodnesses with the weights as
    exponents.
    """

    name: str
    weights: Mapping[str, float]
    scalarisation: Scalarisation = "product"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", FrozenDict(self.weights))
        for term, weight in self.weights.items():
            registry[term]
            if not (math.isfinite(weight) and weight > 0):
                raise ScopegymError(f"Reward {self.name}: weight of {term} must be positive.")
        if not self.weights:
            raise ScopegymError(f"Reward {self.name} has no terms.")
        if self.scalarisation not in typing.get_args(Scalarisation):
            raise ScopegymError(
                f"Reward {self.name}: scalarisation is one of "
                f"{', '.join(typing.get_args(Scalarisation))}, not '{self.scalarisation}'."
            )

    def plus(self, term: str, weight: float = 1.0) -> Reward:
        """A copy of this reward with one more term."""
        weights = {**self.weights, term: weight}
        return Reward(f"{self.name}+{term}", weights, self.scalarisation)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for recipes."""
        return {
            "name": self.name,
            "weights": dict(self.weights),
            "scalarisation": self.scalarisation,
        }

    @classmethod
    def from_dict(cls, plain: Any) -> Reward:
        """The inverse of ``to_dict``. Raises ScopegymError on malformed or unknown entries."""
        checked(ENTRIES, plain, "The recipe's reward")
        weights = {term: float(weight) for term, weight in plain["weights"].items()}
        return cls(plain["name"], weights, plain["scalarisation"])

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms in order."""
        return tuple(registry[name] for name in self.weights)

    @property
    def needs(self) -> frozenset[str]:
        """Figures of the prior that some term requires."""
        return frozenset(figure for term in self.terms for figure in term.needs)

    @property
    def worst(self) -> Score:
        """The score of a workflow without a result."""
        return Score({term.name: term.worst for term in self.terms}, 0.0)

    def __call__(self, state: State, prior: Prior) -> Score:
        """Judge a state."""
        values = {term.name: term.evaluate(state, prior) for term in self.terms}
        return Score(values, self.scalarise(values))

    def goodnesses(self, values: Mapping[str, float]) -> dict[str, float]:
        """Every term's value mapped to 0..1, 1 is best."""
        return {term.name: term.goodness(values[term.name]) for term in self.terms}

    def scalarise(self, values: Mapping[str, float]) -> float:
        """The one value of a set of term values."""
        return self.combine(self.goodnesses(values))

    def combine(self, goodness: Mapping[str, float]) -> float:
        """The one value of a set of goodnesses."""
        weights = self.weights
        total, largest = sum(weights.values()), max(weights.values())
        if self.scalarisation == "linear":
            value = sum(w * goodness[t] for t, w in weights.items()) / total
        elif self.scalarisation == "chebyshev":
            value = 1 - max(w / largest * (1 - goodness[t]) for t, w in weights.items())
        elif self.scalarisation == "euclidean":
            value = 1 - math.sqrt(
                sum(w * (1 - goodness[t]) ** 2 for t, w in weights.items()) / total
            )
        else:
            value = math.prod(goodness[t] ** w for t, w in weights.items())
        return min(max(value, 0.0), 1.0)
