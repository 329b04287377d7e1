"""What there is to choose from, as rows of plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scopegym.agents import registry as agents
from scopegym.datasets.bundled import BUNDLED
from scopegym.envs import registry as tasks
from scopegym.errors import unknown
from scopegym.operators import registry as operators
from scopegym.rewards import registry as rewards
from scopegym.sample.crystal import CRYSTALS
from scopegym.space import Choice, Space

Row = dict[str, Any]


def catalogue(kind: str) -> list[Row]:
    """One row per entry of a kind. Raises ScopegymError for an unknown kind."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    return KINDS[kind]()


def _operators() -> list[Row]:
    return [
        {
            "name": operator.name,
            "takes": " + ".join(kind.__name__ for kind in operator.inputs),
            "gives": operator.output.__name__,
            "parameters": {
                p.name: f"{_range(p.space)}, default {p.default}"
                for p in operator.parameters.values()
            },
            "version": operator.version,
            "about": _first_sentence(operator.__doc__),
        }
        for operator in operators.values()
    ]


def _range(space: Space) -> str:
    if isinstance(space, Choice):
        return " | ".join(map(str, space.options))
    return f"{space.low:g}..{space.high:g} {space.unit}".strip()


def _rewards() -> list[Row]:
    return [
        {
            "name": term.name,
            "direction": term.direction,
            "bounds": list(term.bounds),
            "reads": " + ".join(kind.__name__ for kind in term.inputs),
            "about": _first_sentence(term.__doc__),
        }
        for term in rewards.values()
    ]


def _tasks() -> list[Row]:
    return [
        {
            "name": task.name,
            "environment": task.env_id,
            "reward": task.reward.name,
            "operators": list(task.operators),
            "expert": str(task.expert),
            "about": _first_sentence(task.__doc__),
        }
        for task in tasks.values()
    ]


def _agents() -> list[Row]:
    return [
        {"name": agent.name, "about": _first_sentence(agent.__doc__)} for agent in agents.values()
    ]


def _datasets() -> list[Row]:
    bundled = [{"name": name, "about": about} for name, (_, about) in BUNDLED.items()]
    simulated = [
        {"name": f"{task.name} (simulated)", "about": _first_sentence(task.sample.__doc__)}
        for task in tasks.values()
    ]
    return bundled + simulated


def _crystals() -> list[Row]:
    return [{"name": name, "about": crystal.source} for name, crystal in _named(CRYSTALS).items()]


def _named(crystals: Any) -> Mapping[str, Any]:
    from scopegym.sample.crystal import Crystal

    return {name: Crystal.named(name) for name in crystals}


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


KINDS: dict[str, Callable[[], list[Row]]] = {
    "operators": _operators,
    "rewards": _rewards,
    "tasks": _tasks,
    "agents": _agents,
    "datasets": _datasets,
    "crystals": _crystals,
}
