"""Workflows of a task as points of a unit cube, shared by all searchers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from scopegym.artifacts import Array
from scopegym.envs.grammar import Grammar, Slot
from scopegym.envs.problem import Task
from scopegym.operators.base import registry as operators
from scopegym.workflow import Step, Workflow


@dataclass(frozen=True)
class Encoding:
    """One coordinate per slot selects its operator (or none); the next coordinates are that
    operator's parameters, in order. The operators of a slot share coordinates, which keeps the cube
    small. Unused coordinates are 0.5.
    """

    task: Task

    @cached_property
    def grammar(self) -> Grammar:
        """The slots, including operators of plug-ins."""
        return self.task.grammar

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in order."""
        return self.grammar.slots

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Index of the first coordinate of each slot, and the total number."""
        widths = [
            1 + max(len(operators[name].parameters) for name in slot.operators)
            for slot in self.slots
        ]
        return tuple(int(n) for n in np.cumsum([0, *widths]))

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return self.starts[-1]

    def decode(self, point: Array) -> Workflow:
        """The workflow at a point of the cube."""
        steps = []
        for slot, (start, _) in zip(self.slots, pairwise(self.starts), strict=True):
            name = _chosen(slot, point[start])
            if name is not None:
                spaces = [(p.name, p.space) for p in operators[name].parameters.values()]
                values = {
                    key: space.from_unit(float(point[start + 1 + i]))
                    for i, (key, space) in enumerate(spaces)
                }
                steps.append(Step(name, values))
        return Workflow(tuple(steps))

    def encode(self, workflow: Workflow) -> Array | None:
        """The point of a workflow; None when its steps do not fit the slots in order."""
        filled = self.grammar.filled(workflow)
        if filled is None:
            return None
        point = np.full(self.dimensions, 0.5)
        for slot, step, start in zip(self.slots, filled, self.starts, strict=False):
            chosen = None if step is None else step.op
            point[start] = (slot.options.index(chosen) + 0.5) / len(slot.options)
            if step is not None:
                for i, (key, value) in enumerate(step.params.items(), start + 1):
                    point[i] = step.operator.parameters[key].space.to_unit(value)
        return point

    def canonical(self, point: Array) -> Array:
        """The point of the same workflow with unused coordinates at 0.5."""
        encoded = self.encode(self.decode(point))
        assert encoded is not None  # a decoded workflow fits its own slots
        return encoded

    def sample(self, rng: np.random.Generator) -> Workflow:
        """A workflow drawn uniformly over structures and parameter ranges."""
        return self.decode(rng.random(self.dimensions))

    def mutate(self, point: Array, rng: np.random.Generator, width: float = 0.15) -> Array:
        """A neighbour in which one to three slots change: their parameters by a Gaussian step of
        this width, and sometimes the operator."""
        moved = point.copy()
        count = int(rng.integers(1, min(3, len(self.slots)) + 1))
        for index in rng.choice(len(self.slots), size=count, replace=False):
            start, end = self.starts[index], self.starts[index + 1]
            if rng.random() < 0.25:
                moved[start:end] = rng.random(end - start)
            else:
                step = rng.normal(0, width, end - start - 1)
                moved[start + 1 : end] = np.clip(moved[start + 1 : end] + step, 0, 1)
        return moved


def _chosen(slot: Slot, u: float) -> str | None:
    """The option of a slot at a coordinate."""
    return slot.options[min(int(u * len(slot.options)), len(slot.options) - 1)]
