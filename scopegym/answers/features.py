"""Descriptors of positions, for the observation of a policy. They answer no task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scopegym.answers.base import Finding, Kind, answer_kind
from scopegym.artifacts import Array, Features
from scopegym.prior import Prior

if TYPE_CHECKING:
    from scopegym.envs.problem import Problem


@answer_kind
class FeaturesKind(Kind[Features]):
    """Descriptors: an intermediate result."""

    artifact = Features
    statistic_names = ("places", "length")

    def agreement(self, truth: Features, found: Features, prior: Prior) -> float:
        """NaN: descriptors have no truth."""
        del truth, found, prior
        return float("nan")

    def finding(self, answer: Features, problem: Problem) -> Finding:
        del problem
        return Finding(len(answer), "places")

    def statistics(self, answer: Features, prior: Prior) -> Array:
        del prior
        return np.array([np.log10(max(len(answer), 1)) / 5, answer.values.shape[1] / 100])
