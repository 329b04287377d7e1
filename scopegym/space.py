"""Parameter spaces: the allowed values of an operator's parameter.

Every space maps its values to the unit interval and back. Random search, Bayesian optimisation,
grids and the bins of an environment share this encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scopegym.errors import ScopegymError, shown


@dataclass(frozen=True, slots=True)
class Real:
    """A real number in [low, high], optionally on a logarithmic scale."""

    low: float
    high: float
    log: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ScopegymError(f"{self} needs low < high, and low > 0 where it is logarithmic.")

    def check(self, value: Any) -> float:
        """The value as a float. Raises ScopegymError for other types and outside the range."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ScopegymError(f"must be a number, not {shown(value)}")
        if not self.low <= value <= self.high:
            raise ScopegymError(f"must lie in {self.low:g}..{self.high:g}, not {shown(value)}")
        return float(value)

    def from_unit(self, u: float) -> float:
        """The value at the fraction u of the range."""
        if self.log:
            value = self.low * (self.high / self.low) ** u
        else:
            value = self.low + (self.high - self.low) * u
        # Six digits keep recipes readable; no image analysis depends on the seventh.
        return min(max(float(f"{value:.6g}"), self.low), self.high)

    def to_unit(self, value: float) -> float:
        """The value's position as a fraction of the range."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def bins(self, count: int) -> tuple[float, ...]:
        """``count`` equidistant values of the range, ends included."""
        return tuple(self.from_unit(i / max(count - 1, 1)) for i in range(count))


@dataclass(frozen=True, slots=True)
class Scale(Real):
    """A length in multiples of ``prior.scale_px``; the operator itself receives pixels."""

    unit: str = "spacing"


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number in [low, high]."""

    low: int
    high: int
    unit: str = ""

    def check(self, value: Any) -> int:
        """The value as an int. Raises ScopegymError for other types and outside the range."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ScopegymError(f"must be a whole number, not {shown(value)}")
        if not self.low <= value <= self.high:
            raise ScopegymError(f"must lie in {self.low}..{self.high}, not {shown(value)}")
        return value

    def from_unit(self, u: float) -> int:
        """The value at u; every value has an equal share of the unit interval."""
        return min(self.low + int(u * (self.high - self.low + 1)), self.high)

    def to_unit(self, value: int) -> float:
        """The centre of the value's share of the unit interval."""
        return (value - self.low + 0.5) / (self.high - self.low + 1)

    def bins(self, count: int) -> tuple[int, ...]:
        """At most ``count`` equidistant values of the range, ends included."""
        last = max(count - 1, 1)
        spread = (round(self.low + (self.high - self.low) * i / last) for i in range(count))
        return tuple(dict.fromkeys(spread))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few named options."""

    options: tuple[Any, ...]
    unit: str = ""

    def check(self, value: Any) -> Any:
        """The value itself. Raises ScopegymError when it is not an option."""
        for option in self.options:
            # To Python True is 1, and 1.0 too.
            if type(option) is type(value) and option == value:
                return option
        raise ScopegymError(f"must be one of {list(self.options)}, not {shown(value)}")

    def from_unit(self, u: float) -> Any:
        """The option at u; every option has an equal share of the unit interval."""
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def to_unit(self, value: Any) -> float:
        """The centre of the option's share of the unit interval."""
        return (self.options.index(value) + 0.5) / len(self.options)

    def bins(self, count: int) -> tuple[Any, ...]:
        """All options: a choice has no coarser version, whatever ``count`` says."""
        del count
        return self.options


Space = Real | Integer | Choice
