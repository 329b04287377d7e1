"""The order in which agents, policies and the environment write the workflows of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from scopegym.errors import ScopegymError
from scopegym.operators.base import Operator
from scopegym.operators.base import registry as operators
from scopegym.workflow import Step


@dataclass(frozen=True)
class Slot:
    """A position in the task's workflows: one of a few operators, or none if optional.

    A slot is mandatory if the answer needs it, or if the reward cannot measure its effect.
    """

    name: str
    operators: tuple[str, ...]
    optional: bool = True

    @property
    def options(self) -> tuple[str | None, ...]:
        """What can be in the slot: one of the operators, or nothing (None, first) if optional."""
        return (None, *self.operators) if self.optional else self.operators


def joined(slots: Sequence[Slot], others: Iterable[Operator]) -> tuple[Slot, ...]:
    """The slots with further operators, each in the first slot whose operators read and return the
    same kinds. Raises ScopegymError for one that fits no slot."""
    waiting, opened = list(others), []
    for slot in slots:
        kinds = {(operators[name].inputs, operators[name].output) for name in slot.operators}
        joining = [o for o in waiting if (o.inputs, o.output) in kinds]
        waiting = [o for o in waiting if o not in joining]
        opened.append(replace(slot, operators=(*slot.operators, *(o.name for o in joining))))
    for operator in waiting:
        read = " and ".join(kind.__name__ for kind in operator.inputs)
        raise ScopegymError(
            f"The operator '{operator.name}' reads {read} and gives {operator.output.__name__}; no "
            f"slot of the task does ({', '.join(slot.name for slot in slots)})."
        )
    return tuple(opened)


@dataclass(frozen=True)
class Grammar:
    """Slots that are filled in this order, each with one step at most.

    ``fallbacks`` holds a step per slot. It fills a mandatory slot that an episode leaves open.
    """

    slots: tuple[Slot, ...]
    fallbacks: tuple[Step, ...]

    @classmethod
    def of(cls, slots: Sequence[Slot], expert: Iterable[Step] = ()) -> Grammar:
        """These slots, with the expert's steps as fallbacks; elsewhere the slot's first operator
        with its defaults."""
        bare = cls(tuple(slots), tuple(Step(slot.operators[0]) for slot in slots))
        filled = bare.filled(expert) or bare.fallbacks
        steps = (step or default for step, default in zip(filled, bare.fallbacks, strict=True))
        return replace(bare, fallbacks=tuple(steps))

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Names of all operators, in order of first appearance."""
        return tuple(dict.fromkeys(name for slot in self.slots for name in slot.operators))

    def only(self, names: Sequence[str]) -> Grammar:
        """The slots with these operators alone, without those that have none of them. Operators of
        no slot join one.

        Raises ScopegymError without names, and for an operator that fits no slot.
        """
        if not names:
            raise ScopegymError("An environment needs at least one operator.")
        others = [operators[name] for name in dict.fromkeys(names) if name not in self.operators]
        slots, steps = [], []
        for slot, fallback in zip(joined(self.slots, others), self.fallbacks, strict=True):
            left = tuple(name for name in slot.operators if name in names)
            if left:
                slots.append(replace(slot, operators=left))
                steps.append(fallback if fallback.op in left else Step(left[0]))
        return Grammar(tuple(slots), tuple(steps))

    def following(self, position: int) -> dict[str, int]:
        """The operators that may be next when all slots before ``position`` are passed, and the
        slot that each of them fills. Mandatory slots are not passed over."""
        found: dict[str, int] = {}
        for at, slot in islice(enumerate(self.slots), position, None):
            for name in slot.operators:
                found.setdefault(name, at)
            if not slot.optional:
                break
        return found

    def missing(self, position: int) -> list[int]:
        """The mandatory slots from ``position`` on."""
        return [at for at in range(position, len(self.slots)) if not self.slots[at].optional]

    def filled(self, workflow: Iterable[Step]) -> list[Step | None] | None:
        """The step in every slot; None when a workflow does not fit them."""
        return self._filled(0, list(workflow))

    def _filled(self, at: int, steps: list[Step]) -> list[Step | None] | None:
        if at == len(self.slots):
            return None if steps else []
        slot = self.slots[at]
        if steps and steps[0].op in slot.operators:
            rest = self._filled(at + 1, steps[1:])
            if rest is not None:
                return [steps[0], *rest]
        if slot.optional:
            rest = self._filled(at + 1, steps)
            return None if rest is None else [None, *rest]
        return None
