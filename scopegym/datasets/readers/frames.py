"""Stacks and videos: a reader opens the file, and frames are read one by one on demand."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scopegym.artifacts import Array, digest
from scopegym.errors import ScopegymError
from scopegym.frames import FrameSource, checked_index

#: Opens a file and gives the function that reads one frame of it, by its number.
Opener = Callable[[], AbstractContextManager[Callable[[int], NDArray[Any]]]]


class Stored(NamedTuple):
    """Frames as they are stored in a file: ``shape`` ``[T, H, W]``, with colours ``[T, H, W, C]``,
    all checked against the file; ``open`` can be pickled."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Opener

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: DTypeLike, opener: Opener) -> Stored:
        """The same, from values of other types."""
        return cls(tuple(map(int, shape)), np.dtype(dtype), opener)


class FileFrames(FrameSource):
    """Frames of one file, which stays open from the first frame read on.

    ``convert`` makes a frame as stored into a grey one and refuses what is none. A file that
    changes after ``read`` is refused: its hash would belong to other pixels.
    """

    def __init__(
        self,
        path: Path,
        stored: Stored,
        identity: str,
        convert: Callable[[NDArray[Any], Path], NDArray[Any]],
    ) -> None:
        self._path, self._stored, self._identity = path.absolute(), stored, identity
        self._convert = convert
        self._stamp = _stamp(path)
        self._opened: tuple[int, ExitStack, Callable[[int], NDArray[Any]]] | None = None
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, int, int]:
        frames, height, width = self._stored.shape[:3]
        return frames, height, width

    @cached_property
    def key(self) -> str:
        return digest("frames", self._identity, repr(self.shape))

    def __getitem__(self, index: int) -> Array:
        index = checked_index(index, len(self), self._path.name)
        what = f"Frame {index} of '{self._path.name}'"
        with self._lock:
            try:
                stored = self._read(index)
            except (ScopegymError, MemoryError):
                raise
            except Exception as error:  # a damaged file makes the libraries raise anything
                raise ScopegymError(
                    f"{what} cannot be read; the file is damaged or cut short."
                ) from error
        pixels = self._convert(stored, self._path)
        if pixels.shape != self.shape[1:]:
            raise ScopegymError(
                f"{what} is {pixels.shape}, but the first one {self.shape[1:]}; all frames of a "
                "stack must have one size."
            )
        return _readonly_float32(pixels, what)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._path, self._stored, self._identity, self._convert, self._stamp)

    def _read(self, index: int) -> NDArray[Any]:
        """A frame as it is stored."""
        if _stamp(self._path) != self._stamp:
            raise ScopegymError(
                f"'{self._path.name}' was changed after it was opened; load it again."
            )
        # A process that was forked shares the position in the file with its parent.
        if self._opened is None or self._opened[0] != os.getpid():
            opened = ExitStack()
            reader = opened.enter_context(self._stored.open())
            weakref.finalize(self, opened.close)
            self._opened = os.getpid(), opened, reader
        _, opened, reader = self._opened
        try:
            return np.asarray(reader(index))
        except BaseException:  # an alarm may end a reader between two frames
            self._opened = None
            opened.close()
            raise


def _reopened(path: Path, stored: Stored, identity: str, convert: Any, stamp: Any) -> FileFrames:
    frames = FileFrames.__new__(FileFrames)
    frames._path, frames._stored, frames._identity = path, stored, identity
    frames._convert, frames._stamp = convert, stamp
    frames._opened, frames._lock = None, threading.Lock()
    return frames


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _readonly_float32(pixels: NDArray[Any], what: str) -> Array:
    with np.errstate(over="ignore"):  # to infinity, which is refused
        frame = np.array(pixels, np.float32, order="C")
    if not (np.isfinite(frame.min()) and np.isfinite(frame.max())):
        bad = int(np.count_nonzero(~np.isfinite(frame)))
        raise ScopegymError(f"{what} holds {bad} pixels that are NaN or infinite; replace them.")
    frame.flags.writeable = False
    return frame


def is_stack(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is a stack: of grey frames, or of frames whose last axis of 3
    or 4 is taken for colours."""
    in_colour = len(shape) > 2 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4
    return len(shape) == (4 if in_colour else 3)


@contextmanager
def from_blocks(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int
) -> Iterator[Callable[[int], NDArray[Any]]]:
    """Frames that are stored one after the other, from this byte on."""
    size = math.prod(shape[1:])
    with path.open("rb") as stream:

        def read(index: int) -> NDArray[Any]:
            stream.seek(offset + index * size * dtype.itemsize)
            return np.fromfile(stream, dtype, size).reshape(shape[1:])

        yield read


@contextmanager
def in_order(
    start: Callable[[], AbstractContextManager[tuple[Any, Iterator[NDArray[Any]]]]],
) -> Iterator[Callable[[int], NDArray[Any]]]:
    """Frames that can only be read from the first one on: the next one costs one step, an earlier
    one a new ``start``, which gives something about the file and its frames."""
    with ExitStack() as running:
        frames: Iterator[NDArray[Any]] = iter(())
        following = 0

        def read(index: int) -> NDArray[Any]:
            nonlocal frames, following
            if following == 0 or index < following:
                running.close()
                (_, frames), following = running.enter_context(start()), 0
            for frame in frames:
                following += 1
                if following > index:
                    return frame
            raise ValueError("the file ends before this frame")

        yield read
