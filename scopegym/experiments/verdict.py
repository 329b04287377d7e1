"""Lines of a verdict, of an audit and of a benchmark alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """One statement: the ``value`` that was found held against a ``threshold``, where there are
    figures, and what they mean in words."""

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
