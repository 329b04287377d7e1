"""Pictures, NumPy arrays and videos."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopegym.datasets.readers.base import Content, bounded, cut_short, grey, imageio, reader
from scopegym.datasets.readers.frames import Stored, in_order, is_stack
from scopegym.errors import ScopegymError

#: Largest number of values from one byte of a JPEG: a block of 64 takes one bit, times two.
JPEG_UNFOLDS = 1024
#: The first boxes of a QuickTime or MP4 file.
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}


@reader("a PNG or JPEG picture", ".png", ".jpg", ".jpeg")
def _read_picture(path: Path) -> Content:
    from PIL import Image

    iio = imageio()
    try:
        # Of the formats that Pillow knows, some run other programs.
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            sides = picture.height, picture.width, len(picture.getbands())
            bounded(path, sides, 2)
            jpeg = picture.format != "PNG"
    except Image.DecompressionBombError as error:
        raise ScopegymError(
            f"'{path.name}' claims more pixels than the {2 * Image.MAX_IMAGE_PIXELS} that a "  # type: ignore[operator]
            "picture may have; save it as TIFF."
        ) from error
    if jpeg and math.prod(sides) > JPEG_UNFOLDS * path.stat().st_size:
        raise ValueError("the file cannot hold so many pixels")  # Pillow makes up the rest
    with iio.imopen(path, "r", plugin="pillow") as file:
        mode = {"LA": "RGBA", "CMYK": "RGB"}.get(file.metadata()["mode"])
        pixels = file.read(index=0, mode=mode)
    with path.open("rb") as stream:
        header = stream.read(26)
    if header.startswith(b"\x89PNG") and header[24] == 16 and header[25]:  # 16 bits, in colour
        pixels = iio.imread(path, plugin="opencv", flags=-1)  # of which Pillow keeps 8
    return Content(grey(pixels, path) if pixels.ndim == 3 else pixels)


@reader("a NumPy array", ".npy")
def _read_npy(path: Path) -> Content:
    try:
        # Mapped, so that a header larger than its file allocates nothing.
        pixels = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        if "Python objects" not in str(error):
            raise
        raise ScopegymError(
            f"'{path.name}' holds Python objects, which are never unpickled; save numbers instead."
        ) from error
    if is_stack(pixels.shape):
        bounded(path, pixels.shape[1:], pixels.dtype.itemsize)
        return Content(Stored.of(pixels.shape, pixels.dtype, partial(_mapped, path)))
    bounded(path, pixels.shape, pixels.dtype.itemsize)
    return Content(pixels)


@contextmanager
def _mapped(path: Path) -> Iterator[Callable[[int], NDArray[Any]]]:
    # Mapped anew for every frame: pages of a mapping that stays count as memory of the process.
    yield lambda index: np.array(np.lib.format.open_memmap(path, mode="r")[index])


@reader("a video", ".mp4", ".avi", ".mov")
def _read_video(path: Path) -> Content:
    opener = partial(_decoding, path, _container(path))
    count, size, sides = 0, path.stat().st_size, (0, 0)
    # What a video declares is not its number of frames: they are counted by decoding them.
    with opener() as (about, frames):
        for count, frame in enumerate(frames, 1):
            sides = frame.shape
            if count > size:
                raise ValueError("more frames than bytes")
    if not count:
        raise ValueError("no frames")
    stored = Stored.of((count, *sides), np.uint8, partial(in_order, opener))
    return Content(stored, metadata={"frames_per_second": about["fps"]})


@contextmanager
def _decoding(
    path: Path, container: str
) -> Iterator[tuple[Mapping[str, Any], Iterator[NDArray[Any]]]]:
    """The metadata of a video from ffmpeg, and its frames ``[H, W]``, which must be grey."""
    import imageio_ffmpeg  # type: ignore[import-untyped]

    # A play list under the name of a video would make ffmpeg read the files that it lists.
    only = ["-f", container, "-protocol_whitelist", "file"]
    reading = imageio_ffmpeg.read_frames(f"file:{path}", input_params=only)
    try:
        about = next(reading)
        width, height = about["size"]
        bounded(path, (height, width, 3), 2)
        colours = (np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reading)
        yield about, (grey(frame, path) for frame in colours)
    finally:
        with warnings.catch_warnings(action="ignore"):  # it leaves its pipes open
            reading.close()


def _container(path: Path) -> str:
    """The container by its first bytes. All of its boxes must lie inside the file."""
    size, end = path.stat().st_size, 0
    with path.open("rb") as stream:
        head = stream.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            end = 8 + int.from_bytes(head[4:8], "little")
            name = "avi"
        elif head[4:8] in _BOXES:
            end = _end_of_boxes(stream, size)
            name = "mov"
        else:
            raise ValueError("neither AVI nor QuickTime nor MP4")
    if end > size:
        raise cut_short(path, end, size, "bytes")
    return name


def _end_of_boxes(stream: Any, size: int) -> int:
    end = 0
    while end + 8 <= size:
        stream.seek(end)
        head = stream.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file
            return end
        end += length
    return end
