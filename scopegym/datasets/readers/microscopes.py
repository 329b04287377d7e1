"""Formats of microscopes: TIA series, Digital Micrograph and MRC."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scopegym.datasets.readers.base import (
    Content,
    bounded,
    calibration,
    cut_short,
    plausible,
    reader,
)
from scopegym.datasets.readers.frames import Stored, from_blocks, is_stack


@reader("a TIA series", ".ser")
def _read_ser(path: Path) -> Content:
    from ncempy.io import ser

    class Series(ser.fileSER):
        def _read_emi(self) -> None:
            """Do not read the .emi file beside the series: the user did not give it."""

    size = path.stat().st_size
    with Series(path) as file:
        declared, count = (
            int(file.head[key]) for key in ("TotalNumberElements", "ValidNumberElements")
        )
        held = min(count, len(file.head["DataOffsetArray"]))
        frame, about = file.getDataset(0)
        held = min(held, size // max(frame.nbytes, 1))
        if held < max(declared, count):
            raise cut_short(path, max(declared, count), held)
        bounded(path, (count, *frame.shape), 2 * frame.dtype.itemsize)  # listed, then stacked
        frames = [frame]
        for index in range(1, count):
            try:
                frames.append(file.getDataset(index)[0])
            except (IndexError, OSError, ValueError) as error:
                raise cut_short(path, count, index) from error
    x, y = (axis["CalibrationDelta"] for axis in about["Calibration"])
    # A diffraction pattern is stored alike, in 1/m.
    found = plausible(calibration("SER", (y, "m"), (x, "m")))
    return Content(np.stack(frames) if count > 1 else frame, found)


@reader("a Digital Micrograph file", ".dm3", ".dm4")
def _read_dm(path: Path) -> Content:
    from ncempy.io import dm

    # Given a stream it does not map the file, which it could not close after an error.
    with path.open("rb") as stream, dm.fileDM(stream, on_memory=False) as file:
        _check_dm(path, file)
        # It skips the first of several images as a thumbnail, even when there is none.
        found = file.getDataset(0 if file.thumbnail or file.numObjects == 1 else -1)
    y, x = list(zip(found["pixelSize"], found["pixelUnit"], strict=True))[-2:]
    return Content(found["data"], calibration(path.suffix[1:].upper(), y, x))


def _check_dm(path: Path, file: Any) -> None:
    """Compare the shape of the image with the file and the memory before it is read."""
    index = int(file.thumbnail and file.numObjects != 1)
    sides = [int(sizes[index]) for sizes in (file.zSize2, file.zSize, file.ySize, file.xSize)]
    itemsize = np.dtype(file._DM2NPDataTypes[int(file.dataType[index])]).itemsize
    bounded(path, sides, itemsize)
    declared = math.prod(sides) * itemsize
    held = path.stat().st_size - int(file.dataOffset[index])
    if declared > held:
        raise cut_short(path, declared, max(0, held), "bytes of pixels")


@reader("an MRC file", ".mrc", ".mrcs")
def _read_mrc(path: Path) -> Content:
    import mrcfile

    with path.open("rb") as stream:
        header = stream.read(1024)
    order: Literal["big", "little"] = "big" if header[212:214] == b"\x11\x11" else "little"
    # mrcfile would allocate the extended header before it looks for it.
    if int.from_bytes(header[92:96], order) > path.stat().st_size:
        raise ValueError("the extended header is longer than the file")
    with mrcfile.mmap(path, mode="r", permissive=True) as file:
        if file.data is None:
            raise _mrc_cut_short(path, file)
        shape, dtype = file.data.shape, file.data.dtype
        if is_stack(shape):
            bounded(path, shape[1:], dtype.itemsize)
            start = file.header.nbytes + int(file.header.nsymbt)
            pixels: Any = Stored.of(shape, dtype, partial(from_blocks, path, shape, dtype, start))
        else:
            bounded(path, shape, dtype.itemsize)
            pixels = np.array(file.data)
        y, x = float(file.voxel_size.y), float(file.voxel_size.x)
    # 0 and exactly 1 Å are what programs write that do not know the size.
    found = None if y == x == 1 else calibration("MRC header", (y, "Å"), (x, "Å"))
    return Content(pixels, found, {"voxel_size_angstrom": [y, x]})


def _mrc_cut_short(path: Path, file: Any) -> Exception:
    from mrcfile.utils import data_dtype_from_header

    header = file.header
    frame = int(header.nx) * int(header.ny) * data_dtype_from_header(header).itemsize
    held = path.stat().st_size - header.nbytes - int(header.nsymbt)
    if not (header.nz > 0 and header.nx > 0 and header.ny > 0 and frame * header.nz > held >= 0):
        return ValueError("the header and the length of the file disagree")
    return cut_short(path, int(header.nz), held // frame)
