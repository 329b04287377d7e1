"""Image files: one function per format, chosen by the suffix of the file.

A reader returns the stored pixels and the calibration the file states. What all formats share
(checks, colour, the sidecar, hash and metadata) is in ``read``; a new format is one function.

Files are not trusted: only the given file and its sidecar are opened. Declared sizes are checked
against the file and the free memory before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import stat
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Each of these registers its readers.
from scopegym.datasets.readers import microscopes, named, plain, tiff
from scopegym.datasets.readers.base import (
    FORMATS,
    Calibration,
    Content,
    Format,
    grey,
    shown,
    stated,
)
from scopegym.datasets.readers.frames import FileFrames, Stored
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.units import parse_pixel_size

__all__ = ["SUFFIXES", "load", "microscopes", "named", "plain", "read", "tiff"]

#: The suffixes that can be read.
SUFFIXES = tuple(sorted(FORMATS))
#: Largest relative difference of the two sides of a square pixel.
SQUARE = 0.02
#: Most bytes of a sidecar.
MAX_SIDECAR = 1_000_000


def load(path: str | Path, pixel_size: str | None = None) -> Micrograph:
    """Read an image file: TIFF, PNG, JPEG, NPY, HDF5/EMD, SER, DM3/DM4, MRC, MAT or video.

    ``pixel_size`` with its unit (``"35.2 pm"``) overrides the calibration stored in the file.
    Without either the pixel size is None. Raises ScopegymError when the file cannot be
    read as an image.
    """
    size_nm = None if pixel_size is None else parse_pixel_size(pixel_size)
    return read(Path(path), pixel_size_nm=size_nm)


def read(
    path: Path, *, dataset: str | None = None, pixel_size_nm: float | None = None
) -> Micrograph:
    """Read an image file as it is stored, with the calibration it states.

    ``dataset`` names one array of an HDF5 or MAT file, as does ``file.h5:group/name``;
    ``pixel_size_nm`` replaces what the file states. Raises ScopegymError for all bad input.
    """
    try:
        return _read(*_address(Path(path), dataset), pixel_size_nm)
    except MemoryError as error:
        raise ScopegymError(
            f"'{path}' needs more memory than is free; crop it or use a computer with more."
        ) from error


def _read(path: Path, dataset: str | None, pixel_size_nm: float | None) -> Micrograph:
    form, sha256 = _format(path), _sha256(path)
    if dataset and not form.named:
        raise ScopegymError(
            f"'{path.name}' is {form.label} and has no dataset '{shown(dataset)}' in it."
        )
    with _quiet():
        content = _content(path, form, dataset)
        stored = content.pixels
        if not isinstance(stored, Stored):
            stored = _numbers(stored, path)
            pixels: Any = np.ascontiguousarray(stored, np.float32)
        else:
            _check_real(stored.dtype, path)
            identity = f"{sha256} {content.metadata.get('dataset', '')}"
            pixels = FileFrames(path, stored, identity, _numbers)
    calibration = (
        Calibration(pixel_size_nm, pixel_size_nm, "given")
        if pixel_size_nm is not None
        else content.calibration or _sidecar(path, pixels.shape)
    )
    metadata = {
        **content.metadata,
        "file_sha256": sha256,
        "reader": form.read.__name__.removeprefix("_read_"),
        "dtype": stored.dtype.name,
    }
    if calibration:
        metadata["pixel_size_source"] = calibration.source
    truth = content.truth
    del content, stored  # the pixels as they were stored are no longer needed
    owner: Any = pixels
    while isinstance(owner, np.ndarray):  # so that the micrograph takes them without a copy
        owner.flags.writeable = False
        owner = owner.base
    return Micrograph(pixels, _square(calibration, path), path.name, metadata, truth)


def _address(path: Path, dataset: str | None) -> tuple[Path, str | None]:
    """Split ``file.h5:group/name``, unless a file of that very name exists."""
    suffixes = "|".join(re.escape(suffix) for suffix, form in FORMATS.items() if form.named)
    match = re.fullmatch(rf"(.+(?:{suffixes})):(.+)", str(path), re.IGNORECASE | re.DOTALL)
    if match is None or _mode(path):
        return path, dataset
    return Path(match[1]), dataset or match[2]


def _mode(path: Path) -> int:
    """The kind of a file, 0 if there is none. Does not open a FIFO or a device."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _format(path: Path) -> Format:
    mode = _mode(path)
    if not mode:
        raise ScopegymError(f"There is no file '{path}'.")
    if not stat.S_ISREG(mode):
        raise ScopegymError(f"'{path}' is a folder or a device; give one image file.")
    suffix = path.suffix.casefold()
    if suffix not in FORMATS:
        near = get_close_matches(suffix, FORMATS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ScopegymError(
            f"'{path.name}' has the unsupported suffix '{suffix}'{hint}; "
            f"supported are {', '.join(SUFFIXES)}."
        )
    return FORMATS[suffix]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            if not stream.read(1):
                raise ScopegymError(f"'{path.name}' is empty (0 bytes).")
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ScopegymError(f"'{path}' cannot be opened ({error.strerror}).") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries: an error is reported once, by this package."""
    loggers = [logging.getLogger(name) for name in ("tifffile", "imageio_ffmpeg")]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            yield
    finally:
        for logger in loggers:
            logger.disabled = False


def _content(path: Path, form: Format, dataset: str | None) -> Content:
    try:
        return form.read(path, dataset) if form.named else form.read(path)
    except (ScopegymError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes the libraries raise anything
        traceback.clear_frames(error.__traceback__)  # and lets go of what they left open
        raise ScopegymError(
            f"'{path.name}' cannot be read as {form.label}; it is damaged, cut short or of "
            "another format."
        ) from error


def _check_real(dtype: np.dtype[Any], path: Path) -> None:
    if dtype.kind not in "biuf":
        held = "complex numbers" if dtype.kind == "c" else f"'{shown(dtype)}'"
        raise ScopegymError(f"'{path.name}' holds {held}; an image is of real numbers.")


def _numbers(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """The array, grey and real. A last axis of 3 or 4 is an axis of colours."""
    _check_real(pixels.dtype, path)
    in_colour = pixels.ndim in (3, 4) and pixels.shape[-1] in (3, 4)
    return grey(pixels, path) if in_colour and min(pixels.shape[-3:-1]) > 4 else pixels


def _square(calibration: Calibration | None, path: Path) -> float | None:
    if calibration is None:
        return None
    y, x, _ = calibration
    if abs(y - x) > SQUARE * max(y, x):
        raise ScopegymError(
            f"The pixels of '{path.name}' are not square: {y:g} nm high and {x:g} nm wide; "
            "resample the image or give its pixel size."
        )
    return (y + x) / 2


def _sidecar(path: Path, shape: tuple[int, ...]) -> Calibration | None:
    """The values in ``image.json`` beside ``image.*``, at any depth."""
    beside = path.with_suffix(".json")
    mode = _mode(beside)
    if not mode or len(shape) < 2 or 0 in shape:
        return None
    if not stat.S_ISREG(mode):
        raise ScopegymError(f"The sidecar '{beside.name}' is no regular file; remove it.")
    if (size := beside.stat().st_size) > MAX_SIDECAR:
        raise ScopegymError(
            f"The sidecar '{beside.name}' has {size} bytes, more than the {MAX_SIDECAR} allowed."
        )
    try:
        tables = list(_tables(json.loads(beside.read_text("utf-8"))))
    except (OSError, ValueError, RecursionError) as error:
        raise ScopegymError(f"The sidecar '{beside.name}' is not valid JSON.") from error
    found = (stated(table, shape, beside, "JSON sidecar") for table in tables)
    return next(filter(None, found), None)


def _tables(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from _tables(child)
