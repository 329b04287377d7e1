"""Common parts of all readers: registry, limits and calibrations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scopegym.artifacts import Points
from scopegym.datasets.readers.frames import Stored
from scopegym.errors import ScopegymError
from scopegym.limits import available_bytes
from scopegym.units import NANOMETRES, parse_length

#: Largest pixel size [nm] that is used from a file without an explicit calibration.
PLAUSIBLE_NM = 1e4
#: Largest number of characters that a message repeats from a file.
SHOWN = 80
#: Bytes of a pixel as float32. ``normalized`` holds one frame sorted and one as its result.
FLOAT, FLOAT_FRAMES = 4, 2
#: Units of calibrations. Inches are what printers count in: 72 dpi says nothing of a microscope.
_LENGTHS = {unit: size for unit, size in NANOMETRES.items() if unit != "inch"}


class Calibration(NamedTuple):
    """The size of a pixel [nm] along both axes, and its source."""

    y_nm: float
    x_nm: float
    source: str


class Content(NamedTuple):
    """What a reader finds in a file: the pixels as they are stored, or for a stack how to read its
    frames, and what is said of them."""

    pixels: NDArray[Any] | Stored
    calibration: Calibration | None = None
    metadata: Mapping[str, Any] = {}
    truth: Points | None = None


class Format(NamedTuple):
    """One format of image files; the files of a ``named`` one hold several arrays."""

    label: str
    read: Callable[..., Content]
    named: bool


#: The formats by the suffix of their files.
FORMATS: dict[str, Format] = {}


def reader(label: str, *suffixes: str, named: bool = False) -> Callable[..., Any]:
    """Register a reader. A reader of ``named`` arrays also takes the name of an array."""

    def register(function: Callable[..., Content]) -> Callable[..., Content]:
        FORMATS.update(dict.fromkeys(suffixes, Format(label, function, named)))
        return function

    return register


# Messages


def shown(value: object) -> str:
    """A name or value from a file, shortened for a message."""
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


# Bounds


def bounded(path: Path, shape: Iterable[int], itemsize: int, free: int | None = None) -> None:
    """Refuse an array that needs more memory than is free, including that of its processing.

    That is the array as it is stored, the array in float32, and two more frames in float32. Of a
    stack that is read frame by frame, give the shape of one frame.
    """
    sides = tuple(int(side) for side in shape)
    if min(sides, default=0) < 0:
        raise ScopegymError(f"'{path.name}' claims the shape {sides}; sides are not negative.")
    frame = math.prod(sorted(sides)[-2:])
    needed = math.prod(sides) * (itemsize + FLOAT) + frame * FLOAT * FLOAT_FRAMES
    free = available_bytes() if free is None else free
    if needed > free:
        raise ScopegymError(
            f"'{path.name}' claims the shape {sides}, which needs about {needed / 1e9:.3g} GB of "
            f"memory where {free / 1e9:.3g} GB are free; crop it or use a computer with more."
        )


def cut_short(path: Path, declared: int, held: int, unit: str = "frames") -> ScopegymError:
    """The error for a file that is shorter than it declares."""
    return ScopegymError(
        f"'{path.name}' declares {declared} {unit} and holds {held}; it is cut short, "
        "copy it again or save what is there as a new file."
    )


# Calibration


def calibration(source: str, y: tuple[Any, Any], x: tuple[Any, Any]) -> Calibration | None:
    """The pixel size from (value, unit) of each axis; None unless both are lengths."""
    try:
        y_nm, x_nm = (float(v) * _LENGTHS[as_text(unit).strip().casefold()] for v, unit in (y, x))
    except (KeyError, OverflowError, TypeError, ValueError):
        return None
    return Calibration(y_nm, x_nm, source) if 0 < y_nm < math.inf > x_nm > 0 else None


def first(finders: Iterable[Callable[..., Calibration | None]], of: Any) -> Calibration | None:
    """The first calibration that can be read; errors of the others are ignored."""
    for find in finders:
        with suppress(Exception):
            if found := find(of):
                return found
    return None


def plausible(found: Calibration | None) -> Calibration | None:
    """The calibration, unless its pixels are too large for a microscope."""
    return found if found and max(found.y_nm, found.x_nm) < PLAUSIBLE_NM else None


def as_text(value: Any) -> str:
    """The value as text; bytes are decoded."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def stated(
    table: Mapping[str, Any], shape: tuple[int, ...], path: Path, source: str
) -> Calibration | None:
    """The pixel size, or the field of view over the number of pixels, among named values.

    Keys: ``pixel_size`` as text with its unit or beside ``pixel_size_unit``, ``pixel_size_nm``
    and other units, ``field_of_view_x``, ``_y`` and ``_units``, and ``angstrom_xy``, an attribute
    at the root of the atomagined files: the width of the (square) field [Å].
    """

    def lengths(key: str, unit: Any) -> list[float]:
        given = table.get(key)
        values = given if isinstance(given, list | np.ndarray) else [given]
        values = [] if given is None else list(np.ravel(np.array(values, dtype=object)))[-2:]
        what = f"{key} in '{path.name}',"
        return [
            parse_length(shown(f"{as_text(value)} {as_text(unit)}".rstrip()), what)
            for value in values
        ]

    keys = {f"pixel_size_{unit}": unit for unit in NANOMETRES}
    keys["pixel_size"] = table.get("pixel_size_unit", table.get("pixel_size_units", ""))
    for key, unit in keys.items():
        if sizes := lengths(key, unit):
            return Calibration(sizes[0], sizes[-1], source)
    unit = table.get("field_of_view_units", "")
    x = lengths("field_of_view_x", unit) or lengths("angstrom_xy", "Å")
    y = lengths("field_of_view_y", unit) or [width * shape[-2] / shape[-1] for width in x]
    return Calibration(y[0] / shape[-2], x[0] / shape[-1], source) if x else None


# Pixels


def grey(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """Grey from ``[..., channels]``: all colours equal, the alpha of 2 or 4 channels opaque."""
    colours = pixels.shape[-1] - (pixels.shape[-1] in (2, 4))
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
    if (pixels[..., colours:] != opaque).any():
        raise ScopegymError(f"'{path.name}' is partly transparent; remove its alpha channel.")
    if any((pixels[..., channel] != pixels[..., 0]).any() for channel in range(1, colours)):
        raise ScopegymError(f"'{path.name}' is a colour photograph; convert it to grey first.")
    return np.ascontiguousarray(pixels[..., 0])


def imageio() -> Any:
    """The library as Any, because its types lack some of the plug-ins."""
    import imageio.v3

    return imageio.v3
