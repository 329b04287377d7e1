"""Large images in strips of rows or in tiles, so that intermediate results stay small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from scopegym.artifacts import Array

#: Images up to this size [px] are computed whole and in double precision; larger ones in strips of
#: at least this size.
WHOLE = 512 * 512


class Strip(NamedTuple):
    """Rows of an image, the same rows with a margin ``around`` for a filter, and the position of
    ``rows`` within these."""

    rows: slice
    around: slice
    inner: slice


def strips(shape: tuple[int, ...], margin: int = 0, size: int | None = None) -> Iterator[Strip]:
    """The rows of an image, in order.

    Images up to ``size`` [px] (default: 512 x 512) are one strip. Others have strips of about that
    size, at least twice the margin high, with up to ``margin`` rows on each side.
    """
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
    """Apply a local filter that reads ``margin`` rows above and below each pixel, ``[H, W]``."""
    result = np.empty(values.shape, dtype)
    for strip in strips(values.shape, margin):
        result[strip.rows] = function(values[strip.around])[strip.inner]
    return result


def precision(size: int) -> type[np.floating]:
    """Type of results for an image of this size [px]: float64 up to 512 x 512, then float32."""
    return np.float64 if size <= WHOLE else np.float32


def tiles(shape: tuple[int, ...], largest: int) -> list[tuple[slice, slice]]:
    """Tiles of equal size, at most ``largest`` a side [px]."""
    edges = [np.linspace(0, n, -(-n // largest) + 1).astype(int).tolist() for n in shape]
    rows, columns = ([slice(a, b) for a, b in pairwise(axis)] for axis in edges)
    return list(product(rows, columns))
