"""Lengths with units, as people and instruments write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping

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


#: No pixel of an electron, probe or light microscope is smaller or larger [nm].
PIXEL_SIZES_NM = (1e-5, 1e5)

#: How the unit of lengths in an image without a scale is written.
PIXELS = {"px": 1.0, "pixel": 1.0, "pixels": 1.0}


def parse_length(text: str | float, what: str = "length") -> float:
    """Read a positive length such as ``35.2 pm``, ``0.0352 nm`` or ``0.352 Å`` and return it [nm].

    Raises ScopegymError when the unit is missing or unknown, or the value is not positive.
    """
    return _parse(text, what, NANOMETRES)


def parse_pixel_size(text: str | float) -> float:
    """Read a pixel size such as ``35.2 pm`` and return it [nm].

    Raises ScopegymError as ``parse_length`` does, and for what no microscope has.
    """
    return check_pixel_size(parse_length(text, "pixel size"), f"The pixel size '{text}'")


def check_pixel_size(size_nm: float, what: str) -> float:
    """The pixel size [nm]. Raises ScopegymError for one that no microscope has."""
    low, high = PIXEL_SIZES_NM
    if not low <= size_nm <= high:
        raise ScopegymError(
            f"{what} must be from {low:g} to {high:g} nm, as microscopes have, not {size_nm:g} nm."
        )
    return size_nm


def parse_pixels(text: str | float, pixel_size_nm: float | None, what: str = "length") -> float:
    """Read a positive length such as ``8 px`` or ``0.28 nm`` and return it [px].

    Raises ScopegymError as ``parse_length`` does, and for a true length where the pixel size [nm]
    is None.
    """
    match = _LENGTH.fullmatch(str(text))
    if match is not None and match[2].casefold() in PIXELS:
        return _parse(text, what, PIXELS)
    length_nm = parse_length(text, what)
    if pixel_size_nm is None:
        raise ScopegymError(
            f"The {what} '{text}' needs the image's pixel size; give both, or the {what} in px."
        )
    return length_nm / check_pixel_size(pixel_size_nm, "The image's pixel size")


def _parse(text: str | float, what: str, units: Mapping[str, float]) -> float:
    match = _LENGTH.fullmatch(str(text))
    if match is None:
        raise ScopegymError(f"The {what} '{text}' is not a length such as '35.2 pm'.")
    number, unit = match.groups()
    unit = unicodedata.normalize("NFC", unit)  # Å may come as A and a ring
    if not unit:
        raise ScopegymError(f"The {what} '{text}' has no unit; write for example '{number} nm'.")
    try:
        value = float(number) * units[unit.casefold()]
    except KeyError:
        raise ScopegymError(
            f"The {what} '{text}' has the unknown unit '{unit}'; use pm, Å, nm or um."
        ) from None
    except ValueError:
        raise ScopegymError(f"The {what} '{text}' is not a number with a unit.") from None
    if not (math.isfinite(value) and value > 0):
        raise ScopegymError(f"The {what} '{text}' must be positive.")
    return value
