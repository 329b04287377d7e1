"""The contracts of all entries that a user's file registers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scopegym.agents import registry as agents
from scopegym.envs import registry as tasks
from scopegym.operators.base import registry as operators
from scopegym.registry import PluginFile, Registry
from scopegym.rewards.base import registry as terms
from scopegym.testing.agents import check_agent
from scopegym.testing.base import require
from scopegym.testing.operators import check_operator
from scopegym.testing.rewards import check_reward_term
from scopegym.testing.tasks import check_task

#: Kind, registry and check of all that a plug-in can register.
CONTRACTS: tuple[tuple[str, Registry[Any], Callable[[Any], tuple[str, ...]]], ...] = (
    ("operator", operators, check_operator),
    ("reward term", terms, check_reward_term),
    ("task", tasks, check_task),
    ("agent", agents, check_agent),
)


def check_plugin(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Load a user's file, check all entries it registers, and return the checks by entry.

    Raises ScopegymError when the file cannot be loaded, and AssertionError when it registers
    nothing or when an entry breaks its contract.
    """
    before = {kind: dict(registry) for kind, registry, _ in CONTRACTS}
    PluginFile.read(path).load()
    found = {
        f"{kind} {name}": check(entry)
        for kind, registry, check in CONTRACTS
        for name, entry in dict(registry).items()
        if before[kind].get(name) is not entry
    }
    require(found, f"'{path}' registers no operator, reward term, task or agent.")
    return found
