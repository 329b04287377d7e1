"""The operators, one family per file. The package is also a mapping from name to operator."""

from typing import TYPE_CHECKING

from scopegym.operators.base import Operator, registry
from scopegym.registry import expose

expose(__name__, registry)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Operator: ...
