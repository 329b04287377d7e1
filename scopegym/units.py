"""Lengths with units, as people and instruments write them."""

from __future__ import annotations

import math
import re
import unicodedata

from scopegym.errors import ScopegymError

#: Nanometres in one unit.
NANOMETRES = {
    "pm": 1e-3,
    "å": 0.1,
    "angstrom": 0.1,
    "angstroms": 0.1,
    "a": 0.1,
    "nm": 1.0,
    "um": 1e3,
    "µm": 1e3,  # micro sign
    "μm": 1e3,  # Greek mu
    "micron": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
    "inch": 2.54e7,
}

_LENGTH = re.compile(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*([^\d\s/]*)(?:\s*/\s*(?:px|pixel))?\s*")


def parse_length(text: str | float, what: str = "length") -> float:
    """Read a positive length such as ``35.2 pm``, ``0.0352 nm`` or ``0.352 Å`` and return it [nm].

    Raises ScopegymError when the unit is missing or unknown, or the value is not positive.
    """
    match = _LENGTH.fullmatch(str(text))
    if match is None:
        raise ScopegymError(f"The {what} '{text}' is not a length such as '35.2 pm'.")
    number, unit = match.groups()
    unit = unicodedata.normalize("NFC", unit)  # Å may come as A and a ring
    if not unit:
        raise ScopegymError(f"The {what} '{text}' has no unit; write for example '{number} nm'.")
    try:
        value = float(number) * NANOMETRES[unit.casefold()]
    except KeyError:
        raise ScopegymError(
            f"The {what} '{text}' has the unknown unit '{unit}'; use pm, Å, nm or um."
        ) from None
    except ValueError:
        raise ScopegymError(f"The {what} '{text}' is not a number with a unit.") from None
    if not (math.isfinite(value) and value > 0):
        raise ScopegymError(f"The {what} '{text}' must be positive.")
    return value
