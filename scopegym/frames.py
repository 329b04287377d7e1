"""Frames of a stack or a video, read one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from scopegym.artifacts import Array
from scopegym.errors import ScopegymError


class FrameSource(ABC):
    """Frames ``[T, H, W]`` that are read on demand, so memory does not grow with their number.

    ``source[t]`` is a frame, float32 ``[H, W]``, finite and read-only. ``np.asarray(source)`` reads
    all of them.
    """

    dtype: ClassVar = np.dtype(np.float32)
    ndim: ClassVar = 3

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) [px]."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Identity of all frames for caches, known without reading them."""

    @abstractmethod
    def __getitem__(self, index: int) -> Array:
        """One frame, counted from 0. Raises ScopegymError when it cannot be read."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of pixels of all frames."""
        frames, height, width = self.shape
        return frames * height * width

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("frames are read from a file into a new array")
        return np.stack([*self]).astype(dtype or self.dtype, copy=False)


def checked_index(index: int, count: int, name: str) -> int:
    """The index. Raises ScopegymError when the frame does not exist."""
    if not 0 <= index < count:
        raise ScopegymError(f"'{name}' has frames 0..{count - 1}; there is no frame {index}.")
    return int(index)
