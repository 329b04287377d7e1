"""The reward terms, one physical claim per file. Also a mapping from name to term."""

from typing import TYPE_CHECKING

from scopegym.registry import expose
from scopegym.rewards.base import Term, registry

expose(__name__, registry)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Term: ...
