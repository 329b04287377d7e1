"""A quantity as answer: one number with a unit and a standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from scopegym.answers.base import AMBER, Finding, Kind, adversary, answer_kind
from scopegym.artifacts import Array, Quantity
from scopegym.frozen import FrozenDict
from scopegym.prior import Prior

if TYPE_CHECKING:
    from scopegym.envs.problem import Problem

#: Least relative error of a wrong number.
WRONG = 0.1


@answer_kind
class QuantityKind(Kind[Quantity]):
    """A number, written over its image."""

    artifact = Quantity
    statistic_names = ("magnitude", "relative error")

    def measure(self, truth: Quantity) -> str:
        del truth
        return "1 - relative error"

    def agreement(self, truth: Quantity, found: Quantity, prior: Prior) -> float:
        """1 minus the relative error, at least 0; 0 for another unit or if there is no number."""
        del prior
        if found.unit != truth.unit or found.empty:
            return 0.0
        error = abs(found.value - truth.value)
        return max(0.0, 1 - error / abs(truth.value)) if truth.value else float(error == 0)

    def wrong_below(self, truth: Quantity) -> float:
        del truth
        return 1 - WRONG

    def finding(self, answer: Quantity, problem: Problem) -> Finding:
        known = math.isfinite(answer.standard_error)
        numbers = {
            "value": None if answer.empty else answer.value,
            "unit": answer.unit,
            "standard_error": answer.standard_error if known else None,
        }
        noun = answer.unit or problem.task.nouns.counted
        count = 0 if answer.empty else round(answer.value)
        return Finding(count, noun, numbers=FrozenDict(numbers), said=text(answer, noun))

    def draw(self, answer: Quantity, axes: Any, prior: Prior, zoom: float) -> None:
        """The number in the upper left corner."""
        del prior, zoom
        axes.text(
            0.02,
            0.98,
            text(answer, answer.unit),
            color=AMBER,
            size=14,
            ha="left",
            va="top",
            transform=axes.transAxes,
            bbox={"facecolor": "#000a", "edgecolor": "none", "pad": 3},
        )

    def statistics(self, answer: Quantity, prior: Prior) -> Array:
        del prior
        if answer.empty:
            return np.zeros(2)
        error = answer.standard_error / abs(answer.value) if answer.value else 0.0
        return np.array([np.log10(abs(answer.value) + 1e-12), np.nan_to_num(error)])


def text(answer: Quantity, unit: str) -> str:
    """The number with its error and unit in words, such as ``12.3 ± 0.4 disks``."""
    if answer.empty:
        return "no value"
    known = math.isfinite(answer.standard_error)
    error = f" ± {answer.standard_error:.2g}" if known else ""
    return f"{answer.value:.4g}{error} {unit}".strip()


# Wrong answers ------------------------------------------------------------------------------------


@adversary("blank")
def no_value(problem: Problem, truth: Quantity, rng: np.random.Generator) -> Iterator[Quantity]:
    """Zero."""
    del problem, rng
    yield Quantity(0.0, truth.unit)


@adversary("half and twice")
def multiples(problem: Problem, truth: Quantity, rng: np.random.Generator) -> Iterator[Quantity]:
    """Half the true value and twice the true value."""
    del problem, rng
    for factor in (0.5, 2.0):
        yield Quantity(factor * truth.value, truth.unit)


@adversary("off by a fifth")
def beside(problem: Problem, truth: Quantity, rng: np.random.Generator) -> Iterator[Quantity]:
    """The true value minus 20 % and plus 20 %."""
    del problem, rng
    for factor in (0.8, 1.2):
        yield Quantity(factor * truth.value, truth.unit)
