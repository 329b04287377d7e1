"""Where descriptors are computed: centres on a grid, and what all descriptors share."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np

from scopegym.artifacts import Array
from scopegym.errors import ScopegymError
from scopegym.space import Scale
from scopegym.strips import WHOLE

#: What several descriptors can be set to [spacings]: within which distance of a place the best
#: centre counts, the size of a patch, and the distance of centres.
Window = Annotated[float, Scale(0.5, 4.0, log=True)]
Patch = Annotated[float, Scale(0.5, 4.0, log=True)]
Stride = Annotated[float, Scale(0.1, 1.0, log=True)]

#: A patch whose variance is below this share of the image's largest squared deviation is flat:
#: rounding of double precision reaches 1e-14 of it in an image of 10,000 pixels' width.
FLAT = 1e-12

#: Values of all centres together, at least this many and four per pixel. An image of 512 x 512 px
#: keeps its centres however many values each has, and no larger image gets fewer.
MOST_VALUES = 2**25

#: Centres treated at a time, so that the samples of one ring stay in the processor's cache.
CHUNK = 4096


class Grid(NamedTuple):
    """Centres on a regular grid: the rows and the columns they lie in [px]."""

    rows: range
    columns: range

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and of columns."""
        return len(self.rows), len(self.columns)

    @property
    def yx(self) -> Array:
        """Centres ``[N, 2]``, row by row."""
        return np.stack(np.meshgrid(self.rows, self.columns, indexing="ij"), -1).reshape(-1, 2)

    def at(self, dy: int = 0, dx: int = 0) -> tuple[slice, slice]:
        """The index that takes, from a map of the image, the values at the centres displaced."""
        (top, bottom, step), (left, right, _) = map(_bounds, self)
        return slice(top + dy, bottom + dy, step), slice(left + dx, right + dx, step)


def _bounds(axis: range) -> tuple[int, int, int]:
    return axis[0], axis[-1] + 1, axis.step


def grid(name: str, shape: tuple[int, int], margin: int, stride: int) -> Grid:
    """Centres every ``stride`` that keep ``margin`` from the edges [px], centred in the field.

    Raises ScopegymError when the image is too small to hold one.
    """
    if min(shape) < 2 * margin + 1:
        raise ScopegymError(
            f"{name} needs an image of at least {2 * margin + 1} x {2 * margin + 1} px for this "
            f"window and patch, not {shape[0]} x {shape[1]}; make them smaller."
        )
    rows, columns = (
        range(margin + (n - 1 - 2 * margin) % stride // 2, n - margin, stride) for n in shape
    )
    return Grid(rows, columns)


def bounded(shape: tuple[int, int], stride: int, values: int) -> int:
    """The least stride [px] from this one on at which ``values`` per centre can be held."""
    pixels = math.prod(shape)
    most = max(MOST_VALUES, 4 * pixels) / values
    least = math.ceil(math.sqrt(pixels / max(most, WHOLE / stride**2)))
    return max(stride, least)


def whole(name: str, length: float) -> int:
    """A length rounded to whole pixels, at least 1. Raises ScopegymError unless it is positive."""
    if not (math.isfinite(length) and length > 0):
        raise ScopegymError(f"{name} must be a positive length, not {length:g} px.")
    return max(1, round(length))


def deviations(pixels: Array) -> Array:
    """Deviations from the image's mean in units of the largest, float64 ``[H, W]``.

    Pearson scores do not change, and large offsets no longer cost digits.
    """
    deviation = pixels.astype(np.float64)
    deviation -= deviation.mean()
    largest = max(float(deviation.max()), -float(deviation.min()))
    if largest > 0:
        deviation /= largest
    return deviation


def inverse_deviation(variance: Array) -> Array:
    """One over the standard deviation, 0 where the patch is flat."""
    flat = variance <= FLAT
    return np.where(flat, 0.0, 1 / np.sqrt(np.where(flat, 1.0, variance)))
