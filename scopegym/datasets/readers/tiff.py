"""TIFF images: every strip must be there, and every page that the file declares."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from scopegym.datasets.readers.base import (
    Calibration,
    Content,
    as_text,
    bounded,
    calibration,
    cut_short,
    first,
    grey,
    imageio,
    plausible,
    reader,
)
from scopegym.datasets.readers.frames import Opener, Stored, from_blocks, is_stack
from scopegym.errors import ScopegymError

#: OME, Micro-Manager and NDTiff files can name further files to read.
ALONE: dict[str, Any] = {"_multifile": False, "is_mmstack": False, "is_ndtiff": False}
#: Largest number of pages of one file.
MAX_PAGES = 200_000
#: Largest number of bytes from one stored byte, by the code of the compression. Deflate: 258
#: bytes from 2 bits. LZW: strings of up to 3839 bytes from 12 bits. PackBits: 128 bytes from 2.
#: JPEG: a block of 64 values from one bit, and as much again to spare.
UNFOLDS = {1: 1, 5: 2560, 7: 1024, 8: 1032, 32773: 64, 32946: 1032}
#: The same for all other compressions: a run of 128 KiB from 4 bytes in Zstandard.
UNFOLDS_OTHER = 32768


@reader("a TIFF image", ".tif", ".tiff")
def _read_tiff(path: Path) -> Content:
    import tifffile

    with tifffile.TiffFile(path, **ALONE) as file:
        _check_chain(file, path)
        series = max(file.series, key=lambda series: series.size)  # the others are thumbnails
        found = partial(first, (_titan, _fei, _ome, _imagej, _centimetres), file)
        if (opener := _frames(file, series, path)) is not None:
            bounded(path, series.shape[1:], series.dtype.itemsize)
            _check_pages(file, series, path)
            return Content(Stored.of(series.shape, series.dtype, opener), found())
        bounded(path, series.shape, series.dtype.itemsize)
        _check_pages(file, series, path)
        try:
            pixels, channels = series.asarray(), series.axes.find("S")
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            pixels, channels = _by_pillow(path, series), -1
        if "S" in series.axes:
            pixels = grey(np.moveaxis(pixels, channels, -1), path)
        return Content(pixels, found())


def _frames(file: Any, series: Any, path: Path) -> Opener | None:
    """A reader of single frames of a stack; None if the file is no stack of whole pages."""
    shape = tuple(map(int, series.shape))
    if not (series.axes.endswith(("YX", "YXS")) and is_stack(shape)):
        return None
    if len(series.pages) == 1 and series.size > series.keyframe.size:
        stored = np.dtype(file.byteorder + series.dtype.char)
        return partial(from_blocks, path, shape, stored, series.dataoffset)
    whole = len(series.pages) == shape[0] and series.keyframe.shape == shape[1:]
    return partial(_pages, path, file.series.index(series)) if whole else None


@contextmanager
def _pages(path: Path, number: int) -> Iterator[Callable[[int], NDArray[Any]]]:
    import tifffile

    with tifffile.TiffFile(path, **ALONE) as file, ExitStack() as pillow:
        pages, others = file.series[number].pages, list[Any]()

        def read(index: int) -> NDArray[Any]:
            page = pages[index]
            try:
                if not others:
                    return np.asarray(page.asarray())
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                opened = imageio().imopen(path, "r", plugin="pillow", extension=".tif")
                others.append(pillow.enter_context(opened))
            return np.asarray(others[0].read(index=page.index))

        yield read


def _check_chain(file: Any, path: Path) -> None:
    """Follow the pages from the first to the last: tifffile stops at a bad one silently."""
    handle, form = file.filehandle, file.tiff
    handle.seek(form.offsetsize if form.offsetsize == 8 else 4)
    seen: set[int] = set()
    while offset := struct.unpack(form.offsetformat, handle.read(form.offsetsize))[0]:
        if offset in seen or offset >= handle.size or len(seen) == MAX_PAGES:
            raise ScopegymError(
                f"The pages of '{path.name}' break off after {len(seen)}: the next one is stated "
                f"to be at byte {offset} of {handle.size}; it is damaged or cut short."
            )
        seen.add(offset)
        handle.seek(offset)
        tags = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))[0]
        handle.seek(tags * form.tagsize, 1)


def _check_pages(file: Any, series: Any, path: Path) -> None:
    """Refuse missing strips and pages, which tifffile fills with zeros or leaves out."""
    size, pages = file.filehandle.size, series.pages
    keyframe, stored = series.keyframe, 0
    in_one_block = len(pages) == 1 and series.size > keyframe.size
    held = series.size // keyframe.size
    if in_one_block and (series.dataoffset or 0) + series.nbytes > size:
        raise cut_short(path, held, max(0, size - keyframe.dataoffsets[0]) // keyframe.nbytes)
    if missing := sum(page is None for page in pages):
        raise cut_short(path, len(pages), len(pages) - missing)
    declared = _declared(file, keyframe)
    if declared > max(held, len(file.pages)):
        raise cut_short(path, declared, held)
    for number, page in enumerate(pages, 1):
        stored += _check_strips(page, keyframe, size, f"Page {number} of '{path.name}'")
    if stored > size:
        raise ScopegymError(
            f"'{path.name}' has {size} bytes and its pages use {stored}; they share their strips."
        )


def _check_strips(page: Any, keyframe: Any, size: int, what: str) -> int:
    """The number of bytes of a page in the file. Raises an error if its pixels cannot fit in."""
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    whole = len(places) == 1 and keyframe.is_contiguous
    expected = 1 if whole else math.prod(keyframe.chunked)
    there = sum(1 for at, count in places if at > 0 and count > 0 and at + count <= size)
    if there < len(places) or len(places) != expected:
        raise ScopegymError(
            f"{what} declares {expected} strips or tiles and {there} are in the file; "
            "it is damaged or cut short."
        )
    stored = sum(count for _, count in places)
    bits = keyframe.bitspersample if isinstance(keyframe.bitspersample, int) else 8
    needed = keyframe.size * bits // 8
    if stored * UNFOLDS.get(keyframe.compression, UNFOLDS_OTHER) < needed:
        raise ScopegymError(
            f"{what} declares {needed} bytes of pixels and its {stored} bytes cannot hold "
            "them; it is damaged or cut short."
        )
    return stored


def _declared(file: Any, keyframe: Any) -> int:
    """The number of pages that the description of ImageJ, OME or tifffile states; 0 without one."""
    samples = keyframe.samplesperpixel
    if file.is_imagej:
        return int((file.imagej_metadata or {}).get("images", 0)) // samples
    if file.is_ome:
        planes = [
            math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "CZT")
            for pixels in ElementTree.fromstring(file.ome_metadata).iterfind(".//{*}Pixels")
        ]
        return sum(planes) // samples
    if file.is_shaped:
        tables = [table for table in file.shaped_metadata or () if not table.get("truncated")]
        sizes = [math.prod(map(int, table.get("shape", (0,)))) for table in tables]
        return max(sizes, default=0) // keyframe.size
    return 0


def _by_pillow(path: Path, series: Any) -> NDArray[Any]:
    """The pages, read with Pillow: tifffile needs a further library for LZW and JPEG."""
    with imageio().imopen(path, "r", plugin="pillow", extension=".tif") as file:
        pages = [file.read(index=page.index) for page in series.pages]
    if any(page.shape[:2] != series.keyframe.shape[:2] for page in pages):
        raise ValueError("the two libraries disagree on the shape")
    return pages[0] if len(pages) == 1 else np.stack(pages)


def _titan(file: Any) -> Calibration | None:
    root = ElementTree.fromstring(as_text(file.pages.first.tags[34683].value).strip("\0 \r\n"))
    axes = {axis.tag: axis for axis in root.iterfind("BinaryResult/PixelSize/*")}
    y, x = ((axes[name].text, axes[name].get("unit")) for name in "YX")
    return calibration("FEI_TITAN tag", y, x)


def _fei(file: Any) -> Calibration | None:
    scan = file.fei_metadata["Scan"]
    name = "FEI_HELIOS tag" if 34682 in file.pages.first.tags else "FEI_SFEG tag"
    return calibration(name, (scan["PixelHeight"], "m"), (scan["PixelWidth"], "m"))


def _ome(file: Any) -> Calibration | None:
    pixels = next(ElementTree.fromstring(file.ome_metadata).iterfind(".//{*}Pixels")).attrib
    x = pixels["PhysicalSizeX"], pixels.get("PhysicalSizeXUnit", "µm")
    y = pixels.get("PhysicalSizeY", x[0]), pixels.get("PhysicalSizeYUnit", x[1])
    return calibration("OME-XML", y, x)


def _imagej(file: Any) -> Calibration | None:
    escaped = str(file.imagej_metadata["unit"])
    unit = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), escaped)
    y, x = _resolution(file)
    return calibration("ImageJ tag", (y, unit), (x, unit))


def _centimetres(file: Any) -> Calibration | None:
    if file.pages.first.tags[296].value != 3:  # ResolutionUnit CENTIMETER
        return None
    y, x = _resolution(file)
    return plausible(calibration("TIFF resolution", (y, "cm"), (x, "cm")))


def _resolution(file: Any) -> tuple[float, float]:
    """Units per pixel along y and x."""
    (y, per_y), (x, per_x) = (file.pages.first.tags[code].value for code in (283, 282))
    return per_y / y, per_x / x
