"""A micrograph: recorded pixels and their calibration."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np

from scopegym.artifacts import (
    Array,
    Artifact,
    Frames,
    Source,
    array_digest,
    digest,
    readonly,
)
from scopegym.cache import current
from scopegym.errors import ScopegymError
from scopegym.frames import FrameSource, checked_index
from scopegym.frozen import FrozenDict
from scopegym.prior import Polarity

#: Percentiles that ``normalized`` maps to 0 and 1: robust against hot and dead pixels.
NORMALIZED_PERCENTILES = (0.1, 99.9)
#: Rows that ``normalized`` computes at once.
BLOCK_ROWS = 64


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One image ``[H, W]`` or one stack ``[T, H, W]``, float32, never rescaled.

    ``data`` is an array, or a ``FrameSource`` that reads frames of a stack on demand.
    ``pixel_size_nm`` is None when unknown. ``truth`` is the exact answer of a simulated or labelled
    image; for a stack it can be ``Frames`` with one truth per frame. The truth is reported beside a
    score and is never part of it.
    """

    data: Any
    pixel_size_nm: float | None = None
    name: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    truth: Artifact | None = None

    def __post_init__(self) -> None:
        data = self.data
        if not (isinstance(data, FrameSource) or _frozen(data)):
            data = np.array(data, dtype=np.float32)
        if data.ndim not in (2, 3) or data.size == 0:
            raise ScopegymError(
                f"A micrograph is an image [H, W] or a stack [T, H, W]; '{self.name}' has shape "
                f"{data.shape}."
            )
        if not isinstance(data, FrameSource):
            _check_finite(data, self.name)
            data = readonly(data)
        frames = len(data) if data.ndim == 3 else 1
        if isinstance(self.truth, Frames) and len(self.truth) != frames:
            raise ScopegymError(
                f"'{self.name}' has {frames} frames, but a truth for {len(self.truth)}."
            )
        size = self.pixel_size_nm
        if size is not None and not (math.isfinite(size) and size > 0):
            raise ScopegymError(f"The pixel size of '{self.name}' must be positive, not {size} nm.")
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "metadata", FrozenDict(self.metadata))

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (T, H, W) [px]."""
        shape: tuple[int, ...] = self.data.shape
        return shape

    @cached_property
    def key(self) -> str:
        """Identity of the pixels for caches."""
        return self.data.key if isinstance(self.data, FrameSource) else array_digest(self.data)

    @cached_property
    def sha256(self) -> str:
        """Hash of the file, or of the pixels if there is no file."""
        recorded = self.metadata.get("file_sha256")
        if recorded:
            return str(recorded)
        h = hashlib.sha256()
        for frame in self.data if self.data.ndim == 3 else (self.data,):
            h.update(frame.data)
        return h.hexdigest()

    @property
    def frames(self) -> int:
        """Number of frames; 1 for an image."""
        return len(self.data) if self.data.ndim == 3 else 1

    @property
    def images(self) -> Sequence[Micrograph]:
        """The image itself, or the frames of a stack, each read on demand."""
        return (self,) if self.data.ndim == 2 else _Images(self)

    def frame(self, index: int) -> Micrograph:
        """One frame of a stack as an image, with its own truth if known.

        Raises ScopegymError when the frame does not exist or cannot be read.
        """
        index = checked_index(index, self.frames, self.name)
        pixels = self.data[index] if self.data.ndim == 3 else self.data
        truth = self.truth[index] if isinstance(self.truth, Frames) else None
        name = f"{self.name}[{index}]"
        metadata = {**self.metadata, "frame": index} if self.data.ndim == 3 else self.metadata
        frame = Micrograph(pixels, self.pixel_size_nm, name, metadata, truth)
        self._frame_keys.setdefault(index, frame.key)
        return frame

    def frame_key(self, index: int) -> str:
        """The ``key`` of a frame. It is computed once, which reads the frame."""
        if index not in self._frame_keys:
            self.frame(index)
        return self._frame_keys[index]

    @cached_property
    def _frame_keys(self) -> dict[int, str]:
        return {}

    def normalized(self, contrast: Polarity = "bright") -> Source:
        """The picture with its percentiles 0.1 and 99.9 mapped to 0 and 1, not clipped; computed
        once. ``dark`` inverts it, so that dark columns are bright.

        Raises ScopegymError for a stack and for an image without contrast.
        """
        return self._source if contrast == "bright" else self._inverted

    def normalized_frames(self, contrast: Polarity = "bright") -> Frames[Source]:
        """The frames of a stack, each ``normalized`` by its own percentiles on demand.

        Raises ScopegymError for an image. Reading a frame without contrast raises it too.
        """
        if self.data.ndim != 3:
            raise ScopegymError(f"'{self.name}' is one image where a stack of frames is needed.")
        key = _normalized(self.key, contrast)
        return Frames[Source](NormalizedFrames(self, contrast), self.shape, derivation=key)

    @cached_property
    def _inverted(self) -> Source:
        return Source(1 - self._source.pixels, derivation=_normalized(self.key, "dark"))

    @cached_property
    def _source(self) -> Source:
        if self.data.ndim != 2:
            raise ScopegymError(
                f"'{self.name}' is a stack of {len(self.data)} frames where one image is needed; "
                "choose a frame (--frame N)."
            )
        low, high = _percentiles(self.data, NORMALIZED_PERCENTILES)
        if not high > low:
            raise ScopegymError(f"'{self.name}' is constant ({low:g}); there is nothing to find.")
        pixels = np.empty_like(self.data)
        for rows in range(0, len(pixels), BLOCK_ROWS):  # in float64, without a copy of the image
            block = self.data[rows : rows + BLOCK_ROWS].astype(np.float64)
            pixels[rows : rows + BLOCK_ROWS] = (block - low) / (high - low)
        return Source(pixels, derivation=_normalized(self.key, "bright"))


@dataclass(frozen=True, eq=False)
class _Images(Sequence[Micrograph]):
    """The frames of a stack as images."""

    stack: Micrograph

    def __len__(self) -> int:
        return self.stack.frames

    @overload
    def __getitem__(self, index: int) -> Micrograph: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Micrograph]: ...
    def __getitem__(self, index: int | slice) -> Micrograph | Sequence[Micrograph]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.stack.frame(index)


@dataclass(frozen=True, eq=False)
class NormalizedFrames:
    """The normalised frames of a stack, kept in the current cache."""

    micrograph: Micrograph
    contrast: Polarity = "bright"

    def __len__(self) -> int:
        return self.micrograph.frames

    def __getitem__(self, index: int) -> Source:
        def compute() -> Source:
            return self.micrograph.frame(index).normalized(self.contrast)

        return current().get(self.key(index), compute)

    def key(self, index: int) -> str:
        """The ``key`` of a normalised frame."""
        return _normalized(self.micrograph.frame_key(index), self.contrast)


def _normalized(key: str, contrast: str) -> str:
    return digest("normalized" if contrast == "bright" else "inverted", key)


def _check_finite(data: Array, name: str) -> None:
    # The extremes show NaN and infinity, and need no mask as large as the image.
    if not (np.isfinite(data.min()) and np.isfinite(data.max())):
        bad = int(np.count_nonzero(~np.isfinite(data)))
        raise ScopegymError(
            f"'{name}' holds {bad} pixels that are NaN or infinite; replace them first."
        )


def _frozen(data: object) -> bool:
    """True for a float32 array that is read-only, as are all its bases."""
    if not (isinstance(data, np.ndarray) and data.dtype == np.float32 and data.flags.c_contiguous):
        return False
    while isinstance(data, np.ndarray):
        if data.flags.writeable:
            return False
        data = data.base
    return data is None or isinstance(data, bytes)


def _percentiles(data: Array, percentiles: tuple[float, ...]) -> list[np.float64]:
    """``np.percentile`` of the values in float64, bit for bit, with one copy in float32.

    Sorting commutes with the conversion, so only the values beside each percentile are converted.
    """
    places = [q / 100 * (data.size - 1) for q in percentiles]
    below = [min(int(place), data.size - 1) for place in places]
    above = [min(index + 1, data.size - 1) for index in below]
    ordered = np.partition(data, [*below, *above], axis=None)
    return [
        _between(np.float64(ordered[i]), np.float64(ordered[j]), place - i)
        for place, i, j in zip(places, below, above, strict=True)
    ]


def _between(low: np.float64, high: np.float64, share: float) -> np.float64:
    """Linear interpolation as NumPy rounds it: from the nearer end."""
    step = high - low
    return high - step * (1 - share) if share >= 0.5 else low + step * share
