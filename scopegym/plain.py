"""Untrusted files: bounded reading, and one declarative check of plain values.

A rule says what a value must be; ``rule.check(value, where)`` returns it or raises ScopegymError
with one sentence that names the place, the rule and the value.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

from scopegym.errors import ScopegymError, one_line, shown


class Rule(Protocol):
    """A rule for a plain value."""

    def check(self, value: Any, where: str) -> Any:
        """The value itself. Raises ScopegymError when it breaks the rule."""


def _refuse(where: str, rule: str, value: Any) -> NoReturn:
    raise ScopegymError(f"{where} must be {rule}, not {shown(value)}.".lstrip())


@dataclass(frozen=True)
class Number:
    """A finite number in [low, high]."""

    low: float
    high: float

    def check(self, value: Any, where: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and self.low <= value <= self.high):
            _refuse(where, f"a number from {self.low:g} to {self.high:g}", value)
        return value


@dataclass(frozen=True)
class Positive:
    """A number above 0 and at most ``high``."""

    high: float

    def check(self, value: Any, where: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value <= self.high):
            _refuse(where, f"a positive number of at most {self.high:g}", value)
        return value


@dataclass(frozen=True)
class Whole:
    """A whole number in [low, high]."""

    low: int
    high: int

    def check(self, value: Any, where: str) -> int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole and self.low <= value <= self.high):
            _refuse(where, f"a whole number from {self.low} to {self.high}", value)
        return value


class Anything:
    """No rule: the code that reads the value checks it."""

    def check(self, value: Any, where: str) -> Any:
        del where
        return value


@dataclass(frozen=True)
class Text:
    """Text of a bounded length."""

    most: int = 200

    def check(self, value: Any, where: str) -> str:
        if not (isinstance(value, str) and len(value) <= self.most):
            _refuse(where, f"text of at most {self.most} characters", value)
        return value


@dataclass(frozen=True)
class Items:
    """A list of ``least`` to ``most`` entries that all follow one rule."""

    of: Rule
    least: int
    most: int

    def check(self, value: Any, where: str) -> Sequence[Any]:
        if not (isinstance(value, list | tuple) and self.least <= len(value) <= self.most):
            count = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            _refuse(where, f"a list of {count} entries", value)
        for number, entry in enumerate(value):
            self.of.check(entry, f"{where}[{number}]")
        return value


@dataclass(frozen=True)
class Table:
    """A mapping of at most ``most`` names to values that all follow one rule."""

    of: Rule
    most: int
    least: int = 0

    def check(self, value: Any, where: str) -> Mapping[str, Any]:
        if not (isinstance(value, Mapping) and self.least <= len(value) <= self.most):
            _refuse(where, f"a mapping of {self.least} to {self.most} names", value)
        for name, entry in value.items():
            Text().check(name, f"A name in {where}")
            self.of.check(entry, f"{where}.{name}")
        return value


@dataclass(frozen=True)
class Record:
    """A mapping with these entries. Those in ``optional`` can be absent or None. Other entries are
    allowed if it is ``open``."""

    entries: Mapping[str, Rule]
    optional: Mapping[str, Rule] = field(default_factory=dict)
    open: bool = True

    def check(self, value: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            _refuse(where, "a mapping", value)
        for name, rule in self.entries.items():
            if name not in value:
                raise ScopegymError(f"{where or 'it'} lacks the entry '{name}'.")
            rule.check(value[name], _within(where, name))
        for name, rule in self.optional.items():
            if value.get(name) is not None:
                rule.check(value[name], _within(where, name))
        odd = [name for name in value if name not in {*self.entries, *self.optional}]
        if odd and not self.open:
            raise ScopegymError(f"{where or 'it'} has the unknown entry {shown(odd[0])}.")
        return value


def _within(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def checked(rule: Rule, value: Any, what: str) -> Any:
    """The value, which a file gave for ``what``. Raises ScopegymError as ``rule.check`` does."""
    try:
        return rule.check(value, "")
    except ScopegymError as error:
        reason = str(error).rstrip(".")
        reason = f"it {reason}" if reason.startswith("must be") else reason
        raise ScopegymError(f"{what} is malformed: {reason}.") from None


#: A share or a score.
SHARE = Number(0, 1)
#: Flags to open a file: without waiting for the writer of a pipe, and in binary on Windows.
READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_bytes(path: str | Path, most: int, what: str) -> bytes:
    """The content of a regular file of at most ``most`` bytes; ``what`` names its kind.

    Raises ScopegymError when it cannot be read, is larger, or is a device, a pipe or a folder.
    """
    try:
        # A pipe without a writer would be waited for.
        handle = os.open(path, READING)
        try:
            found = os.fstat(handle)
            reason = _unreadable(found, most)
            if not reason:
                with open(handle, "rb", closefd=False) as file:
                    return file.read(most)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:  # ValueError: no possible path
        reason = getattr(error, "strerror", None) or "no possible path"
    raise ScopegymError(f"{what} '{one_line(str(path), 300)}' cannot be read: {reason}.")


def _unreadable(found: os.stat_result, most: int) -> str:
    if stat.S_ISDIR(found.st_mode):
        return "it is a folder"
    if not stat.S_ISREG(found.st_mode):
        return "it is a device or a pipe, not a file"
    too_large = found.st_size > most
    return f"it has {found.st_size:,} bytes, more than {most:,}" if too_large else ""


def read_json(content: bytes) -> Any:
    """JSON with finite numbers and without repeated names. Raises ValueError otherwise."""
    try:
        return json.loads(
            content.decode("utf-8"),
            parse_constant=_not_finite,
            parse_float=_finite,
            object_pairs_hook=without_repeats,
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def without_repeats(pairs: Sequence[tuple[Hashable, Any]]) -> dict[Any, Any]:
    """The mapping of these pairs. Raises ValueError when a name comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {shown(twice)} comes twice")
    return found
