"""What a workflow has found, in numbers and in words: one function per kind of artifact."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, TypeVar

import numpy as np

from scopegym.artifacts import Array, Artifact, Labels, Points, State
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.frozen import FrozenDict
from scopegym.operators.label_maps import connected_regions
from scopegym.operators.regions import regions

A = TypeVar("A", bound=Artifact)

#: What the prior of a task counts.
NOUNS = {
    "atoms": "columns",
    "disorder": "columns",
    "symmetry": "columns",
    "speckle": "speckles",
}


def noun(problem: Problem) -> str:
    """What the prior of this problem counts, in the plural."""
    return NOUNS.get(problem.task.name, "points")


@dataclass(frozen=True)
class Finding:
    """What an answer amounts to: so many of something, where, and more in ``detail``.

    ``expected`` is how many the prior expects, None where it says nothing of their number.
    ``numbers`` go into ``result.json``.
    """

    count: int
    noun: str
    where: str = ""
    detail: str = ""
    expected: float | None = None
    numbers: Mapping[str, Any] = field(default_factory=lambda: FrozenDict({}))

    @property
    def text(self) -> str:
        """The finding in a few words, such as ``2 patterns in 3 regions``."""
        return f"{counted(self.count, self.noun)} {self.where}".strip()


class Outcome(ABC):
    """What can be asked of a problem once a workflow for it is chosen."""

    problem: Problem

    @property
    @abstractmethod
    def state(self) -> State:
        """The state that the chosen workflow leaves."""

    @property
    def answer(self) -> Artifact:
        """The artifact that answers the task. Raises ScopegymError when the state has none."""
        return self._held(self.problem.task.answer)

    @property
    def points(self) -> Points:
        """The positions found. Raises ScopegymError when the task is about something else."""
        return self._held(Points)

    @property
    def labels(self) -> Labels:
        """The label of every pixel. Raises ScopegymError when the task is about something else."""
        return self._held(Labels)

    @property
    def found(self) -> Finding:
        """The answer in numbers and words."""
        return found(self.answer, self.problem)

    def _held(self, kind: type[A]) -> A:
        artifact = self.state.get(kind)
        if artifact is None:
            raise ScopegymError(
                f"The workflow for task {self.problem.task.name} makes no {kind.__name__}."
            )
        return artifact


@singledispatch
def found(answer: object, problem: Problem) -> Finding:
    """What an answer amounts to; a kind that has no words of its own, and None, are nothing."""
    del answer
    return Finding(0, noun(problem))


@found.register
def _(answer: Points, problem: Problem) -> Finding:
    count = len(answer)
    numbers = FrozenDict({"points": count})
    return Finding(count, noun(problem), expected=problem.prior.count, numbers=numbers)


@found.register
def _(answer: Labels, problem: Problem) -> Finding:
    del problem
    if answer.background is not None:
        return _regions(answer)
    patterns = by_area(answer.map)
    shares = area_shares(patterns)
    regions = int(connected_regions(patterns).max()) + 1
    where = f"in {counted(regions, 'regions')}"
    detail = f"{' / '.join(f'{100 * share:.0f} %' for share in shares)} of the area"
    numbers = {"patterns": len(shares), "regions": regions, "area_shares": shares}
    return Finding(len(shares), "patterns", where, detail, numbers=FrozenDict(numbers))


def _regions(answer: Labels) -> Finding:
    """Regions on a background: how many, and how much of the field."""
    numbers = region_numbers(answer)
    count, share = int(numbers.max()), float(np.mean(numbers > 0))
    detail = f"{100 * share:.1f} % of the area"
    plain = FrozenDict({"regions": count, "area_fraction": share})
    return Finding(count, "disordered regions", detail=detail, numbers=plain)


def region_numbers(answer: Labels) -> Array:
    """The connected regions of labels on a background, from 1 by area, uint16 ``[H, W]``; 0 on the
    background."""
    return regions(answer.map != answer.background).map.astype(np.uint16)


def by_area(labels: Array) -> Array:
    """Labels ``[H, W]`` numbered anew from 0 without gaps, uint16, by area, the largest first."""
    _, inverse, area = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(area), np.uint16)
    rank[np.argsort(-area, kind="stable")] = np.arange(len(area))
    return rank[inverse.reshape(labels.shape)]


def area_shares(patterns: Array) -> list[float]:
    """Share of the area of each pattern from 0."""
    shares: list[float] = (np.bincount(patterns.ravel()) / patterns.size).tolist()
    return shares


def counted(count: int, plural: str) -> str:
    """A number and what it counts, in the singular where it is one."""
    return f"{count:,} {plural if count != 1 else plural.removesuffix('s')}"
