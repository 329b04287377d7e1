"""Large images in strips of rows, so that what is computed on the way stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from scopegym.artifacts import Array

#: Images up to this size [px] are computed whole and in double precision; of larger ones strips of
#: at least this size are.
WHOLE = 512 * 512


class Strip(NamedTuple):
    """Rows of an image, the same with those ``around`` that a filter reads, and where ``rows`` lie
    in these."""

    rows: slice
    around: slice
    inner: slice


def strips(shape: tuple[int, ...], margin: int = 0, size: int | None = None) -> Iterator[Strip]:
    """The rows of an image, in order: all at once up to ``size`` [px] (default: 512 x 512), else in
    strips of about that size and at least twice the margin high, with ``margin`` rows around as far
    as there are any."""
    size = WHOLE if size is None else size
    height, width = shape[0], shape[1]
    rows = height if height * width <= size else max(size // width, 2 * margin, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - margin), min(height, bottom + margin)
        yield Strip(slice(top, bottom), slice(first, last), slice(top - first, bottom - first))


def in_strips(
    function: Callable[[Array], Array], values: Array, margin: int, dtype: DTypeLike
) -> Array:
    """A local filter ``[H, W]`` that reads ``margin`` rows above and below each place."""
    result = np.empty(values.shape, dtype)
    for strip in strips(values.shape, margin):
        result[strip.rows] = function(values[strip.around])[strip.inner]
    return result


def precision(size: int) -> type[np.floating]:
    """What is kept of an image of this size [px]: double precision up to 512 x 512, then single."""
    return np.float64 if size <= WHOLE else np.float32
