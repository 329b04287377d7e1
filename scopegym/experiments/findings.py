"""What can be asked of a problem once a workflow for it is chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from scopegym.answers import Finding
from scopegym.artifacts import Artifact, Labels, Points, State
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError

A = TypeVar("A", bound=Artifact)


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


def found(answer: Artifact | None, problem: Problem) -> Finding:
    """What an answer amounts to; no answer is none of what the task counts."""
    if answer is None:
        return Finding(0, problem.task.nouns.counted)
    return problem.task.kind.finding(answer, problem)
