"""The micro-steps that write a workflow, numbered in one discrete space."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scopegym.artifacts import Array
from scopegym.errors import ScopegymError
from scopegym.operators.base import registry as operators
from scopegym.workflow import Step

#: Default number of values of a numeric parameter. On a logarithmic range of one decade,
#: neighbours differ by 29 %.
BINS = 10


@dataclass(frozen=True)
class Draft:
    """An unfinished step: an operator and the parameters chosen so far."""

    op: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Actions:
    """Action 0 stops, then comes one action per operator, then one per bin of a parameter.

    An operator without parameters runs when it is chosen, any other with its last parameter.
    """

    operators: tuple[str, ...]
    bins: int = BINS

    STOP = 0

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ScopegymError(f"A parameter needs at least 2 bins, not {self.bins}.")

    @cached_property
    def grids(self) -> dict[str, tuple[tuple[Any, ...], ...]]:
        """The values of every parameter in order, by operator."""
        return {
            name: tuple(p.grid(self.bins) for p in operators[name].parameters.values())
            for name in self.operators
        }

    @cached_property
    def first_bin(self) -> int:
        """The action that means a parameter's first value."""
        return 1 + len(self.operators)

    @cached_property
    def size(self) -> int:
        """Number of actions."""
        return self.first_bin + max(
            (len(values) for grid in self.grids.values() for values in grid), default=0
        )

    @cached_property
    def longest(self) -> int:
        """Micro-steps that the operator with the most parameters takes."""
        return 1 + max(map(len, self.grids.values()))

    def names(self) -> list[str]:
        """The meaning of every action, in order."""
        return ["stop", *self.operators, *(f"bin {i}" for i in range(self.size - self.first_bin))]

    def mask(self, allowed: Container[str], draft: Draft | None) -> Array:
        """Which actions are legal, bool ``[size]``, with these operators; stopping always is."""
        legal = np.zeros(self.size, dtype=bool)
        legal[self.STOP] = True
        if draft is None:
            legal[1 : self.first_bin] = [op in allowed for op in self.operators]
        else:
            pending = self.grids[draft.op][len(draft.values)]
            legal[self.first_bin : self.first_bin + len(pending)] = True
        return legal

    def extend(self, draft: Draft | None, action: int) -> Draft:
        """The draft after a legal action other than stopping."""
        if draft is None:
            return Draft(self.operators[action - 1])
        value = self.grids[draft.op][len(draft.values)][action - self.first_bin]
        return Draft(draft.op, (*draft.values, value))

    def finished(self, draft: Draft) -> bool:
        """True when the draft has all its parameters."""
        return len(draft.values) == len(self.grids[draft.op])

    def step(self, draft: Draft) -> Step:
        """The step of a finished draft."""
        return Step(draft.op, dict(zip(operators[draft.op].parameters, draft.values, strict=True)))

    def encode(self, step: Step) -> list[int]:
        """The micro-steps nearest to a step, value by value.

        Raises ScopegymError when the operator is not one of these.
        """
        if step.op not in self.operators:
            raise ScopegymError(f"{step.op} is none of {', '.join(self.operators)}.")
        chosen = [1 + self.operators.index(step.op)]
        for (name, value), values in zip(step.params.items(), self.grids[step.op], strict=True):
            to_unit = step.operator.parameters[name].space.to_unit
            away = [abs(to_unit(option) - to_unit(value)) for option in values]
            chosen.append(self.first_bin + int(np.argmin(away)))
        return chosen
