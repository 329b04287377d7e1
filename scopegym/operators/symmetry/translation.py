"""Scores of shifts: each square patch against the patches around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Features, Image
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.operators.symmetry.centres import (
    Grid,
    Patch,
    Stride,
    Window,
    bounded,
    deviations,
    grid,
    inverse_deviation,
    whole,
)
from scopegym.space import Choice
from scopegym.strips import WHOLE, precision


@operator
def translation_symmetry(
    image: Image,
    *,
    window: Window = 1.75,
    patch: Patch = 1.75,
    stride: Stride = 0.25,
    shifts: Annotated[int, Choice((9, 25, 49, 81, 121, 225))] = 81,
) -> Features:
    """Correlate each square patch with patches shifted by up to ``window`` (y and x) [px].

    ``patch`` is half the side of the square and ``stride`` the distance of the centres, rounded
    to whole pixels. ``shifts`` is a square number: that many shifts taken evenly from the window.
    Values ``[N, shifts]`` in -1..1, 0 where either patch is flat. Raises ScopegymError when the
    image is smaller than window and patch. Source: Wang et al., equations 2 and 3.
    """
    reach, half = whole("window", window), whole("patch", patch)
    chosen = even_shifts(reach, shifts)
    step = bounded(image.shape, whole("stride", stride), len(chosen))
    centres = grid("translation_symmetry", image.shape, reach + half, step)
    scores = translation_scores(image.pixels, centres, chosen, half)
    names = tuple(f"shift {m:+d} {n:+d}" for m, n in chosen)
    return Features(scores, centres.yx, image.shape, names)


def even_shifts(reach: int, count: int) -> list[tuple[int, int]]:
    """Shifts (m, n) [px] on an even grid over |m|, |n| <= reach; fewer where the pixels run out."""
    side = math.isqrt(max(count, 0))
    if side < 2 or side * side != count:
        raise ScopegymError(f"shifts must be a square number from 4 on, not {count}.")
    # Odd multiples about zero round alike on both sides, so that each shift has its opposite.
    steps = np.unique(np.rint(np.arange(1 - side, side, 2) * reach / (side - 1)).astype(int))
    return [(m, n) for m in steps.tolist() for n in steps.tolist()]


def translation_scores(
    pixels: Array, centres: Grid, shifts: Sequence[tuple[int, int]], half: int
) -> Array:
    """Scores ``[N, S]`` of the shifts (m, n) for squares of side ``2 half + 1`` [px].

    Box means of the product of the image with its shifted self hold all scores of a shift, at a
    cost that does not depend on the size of the patch.
    """
    deviation = deviations(pixels)
    scores = np.empty((math.prod(centres.shape), len(shifts)), precision(pixels.size))
    # Large images in bands of rows of centres, with the rows that their patches and shifts reach.
    margin = half + max(abs(m) for m, _ in shifts)
    high = len(centres.rows)
    if pixels.size > WHOLE:
        high = max(1, max(4 * WHOLE // pixels.shape[1], 4 * margin) // centres.rows.step)
    for top in range(0, len(centres.rows), high):
        rows = centres.rows[top : top + high]
        first, last = max(0, rows[0] - margin), rows[-1] + margin + 1
        band = Grid(range(rows[0] - first, rows[-1] - first + 1, rows.step), centres.columns)
        part = slice(top * len(centres.columns), (top + len(rows)) * len(centres.columns))
        _band_scores(deviation[first:last], band, shifts, half, scores[part])
    return scores


def _band_scores(
    deviation: Array, centres: Grid, shifts: Sequence[tuple[int, int]], half: int, scores: Array
) -> None:
    """Write the scores ``[N, S]`` of the centres of an image given by its deviations."""
    mean = _box(deviation, half)
    scale = inverse_deviation(_box(deviation**2, half) - mean**2)
    # Strips of rows stay in the processor's cache for all shifts; four patches high, so that few
    # products are taken twice.
    rows = max(16, 4 * (2 * half + 1) // centres.rows.step)
    for top in range(0, len(centres.rows), rows):
        strip = Grid(centres.rows[top : top + rows], centres.columns)
        here = mean[strip.at()], scale[strip.at()]
        block = np.empty((len(shifts), *strip.shape))
        for score, (m, n) in zip(block, shifts, strict=True):
            there = strip.at(m, n)
            np.multiply(here[0], mean[there], out=score)
            np.subtract(_mean_products(deviation, strip, m, n, half), score, out=score)
            score *= here[1]
            score *= scale[there]
        first = top * len(centres.columns)
        flat = block.reshape(len(shifts), -1)
        part = scores[first : first + flat.shape[1]]
        part[:] = np.clip(flat, -1, 1, out=flat).T


def _box(values: Array, half: int) -> Array:
    """Mean over squares of side ``2 half + 1``; at the edges it means nothing.

    A running sum: it keeps the digits that an integral image loses where contrast varies.
    """
    import cv2

    size = (2 * half + 1, 2 * half + 1)
    return cv2.boxFilter(values, cv2.CV_64F, size, borderType=cv2.BORDER_CONSTANT)


def _mean_products(values: Array, centres: Grid, m: int, n: int, half: int) -> Array:
    """Mean of ``values(y, x) values(y + m, x + n)`` over the square about each centre.

    Products are summed over the rows between two centres at once, in one pass through memory;
    whole such bands and the rows that are left over then make up the patches.
    """
    import cv2

    side, step = 2 * half + 1, centres.rows.step
    bands, left_over = divmod(side, step)
    count, top = len(centres.rows), centres.rows[0] - half
    left, right = centres.columns[0] - half, centres.columns[-1] + half + 1

    def sums(first: int, number: int, rows: int) -> Array:
        """Sums over ``rows`` rows from each of ``number`` rows ``step`` apart."""
        if rows == 0:
            return np.zeros((number, right - left))
        # A view of the bands: the last one need not be whole, as long as its rows are.
        shape, strides = (number, rows, right - left), values.strides
        one, other = (
            np.lib.stride_tricks.as_strided(
                values[first + dy :, left + dx :],
                shape,
                (step * strides[0], *strides),
                writeable=False,
            )
            for dy, dx in ((0, 0), (m, n))
        )
        return np.einsum("abc,abc->ac", one, other)

    def slide(sums: Array, size: tuple[int, int]) -> Array:
        return cv2.boxFilter(
            sums, cv2.CV_64F, size, anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT
        )

    columns = sums(top + bands * step, count, left_over)
    if bands:
        columns += slide(sums(top, count + bands - 1, step), (1, bands))[:count]
    return slide(columns, (side, 1))[:, : right - left - side + 1 : step] / side**2
