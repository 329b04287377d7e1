"""Scores of turns and mirrors: each disk against itself, sampled in polar coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from scopegym.artifacts import Array, Features, Image
from scopegym.operators.base import operator
from scopegym.operators.symmetry.centres import (
    CHUNK,
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

#: Rotations scored [degrees] (Wang et al., section II.A.2).
ROTATIONS = (60, 90, 120, 180)

#: Mirror lines scored [degrees from the x axis, counter-clockwise on the screen].
MIRRORS = tuple(range(0, 180, 18))

#: Sum over the angles (axis 0) of a ring's samples [A, C] times the samples they are mapped to.
RingProduct = Callable[[Array], Array]


@operator
def rotation_symmetry(
    image: Image,
    *,
    window: Window = 1.75,
    patch: Patch = 1.75,
    stride: Stride = 0.25,
) -> Features:
    """Correlate each circular patch with itself rotated by 60, 90, 120 and 180 degrees.

    ``patch`` is the radius of the disk [px]. The best score among the centres within ``window``
    (y and x) [px] is the score of a place, so the values ``[N, 4]`` do not depend on where in the
    cell a centre lies. Values in -1..1, 0 where patches are flat. Raises ScopegymError when the
    image is smaller than window and patch. Source: Wang et al., equation 2 and section II.A.2.
    """
    operations = [partial(turned, degrees=angle) for angle in ROTATIONS]
    names = tuple(f"turn {angle}" for angle in ROTATIONS)
    return _pooled("rotation_symmetry", image, window, patch, stride, 12, operations, names)


@operator
def reflection_symmetry(
    image: Image,
    *,
    window: Window = 1.75,
    patch: Patch = 1.75,
    stride: Stride = 0.25,
) -> Features:
    """Correlate each circular patch with itself mirrored in ten lines, one every 18 degrees.

    ``patch`` is the radius of the disk [px]. The best score among the centres within ``window``
    (y and x) [px] is the score of a place. Values ``[N, 10]`` in -1..1, 0 where patches are flat.
    Raises ScopegymError when the image is smaller than window and patch. Source: Wang et al.,
    equation 2 and section II.A.2.
    """
    operations = [partial(mirrored, degrees=angle) for angle in MIRRORS]
    names = tuple(f"mirror {angle}" for angle in MIRRORS)
    return _pooled("reflection_symmetry", image, window, patch, stride, 20, operations, names)


def _pooled(
    name: str,
    image: Image,
    window: float,
    patch: float,
    stride: float,
    order: int,
    operations: Sequence[RingProduct],
    names: tuple[str, ...],
) -> Features:
    """Best scores among the centres of the grid within the window about each centre."""
    import cv2

    reach, radius = whole("window", window), whole("patch", patch)
    # In double precision, and once more while the best are chosen.
    step = bounded(image.shape, whole("stride", stride), 4 * len(operations))
    centres = grid(name, image.shape, reach + radius, step)
    around = reach // step
    wide = Grid(*(range(a[0] - around * step, a[-1] + around * step + 1, step) for a in centres))
    scores = circular_scores(image.pixels, wide, radius, order, operations)
    square = np.ones((2 * around + 1, 2 * around + 1), np.uint8)
    inner = tuple(slice(around, around + n) for n in centres.shape)
    best = [cv2.dilate(score, square)[inner].ravel() for score in scores]
    return Features(np.stack(best, axis=1), centres.yx, image.shape, names)


def rings(radius: int, order: int) -> Iterator[tuple[Array, float]]:
    """Polar samples of a disk: offsets (y, x) ``[A, 2]`` [px] and the weight of each, ring by ring.

    Rings one pixel wide tile the disk; each has about one sample per pixel of its area, in a
    multiple of ``order`` so that the transformations map samples to samples. A sample weighs its
    area r dr dtheta: without that, the middle of a patch would count more than its rim.
    """
    for r in np.arange(radius) + 0.5:
        count = order * max(1, round(2 * np.pi * r / order))
        angle = (np.arange(count) + 0.5) * (2 * np.pi / count)
        # Rounded, so that quarter turns map the interpolation weights exactly.
        offsets = np.round(r * np.stack([-np.sin(angle), np.cos(angle)], axis=1), 12)
        yield offsets, 2 * r / (count * radius**2)


def turned(ring: Array, *, degrees: int) -> Array:
    """Sum of products of samples ``[A, C]`` with those ``degrees`` further on."""
    lag = len(ring) * degrees // 360
    return _dot(ring[:-lag], ring[lag:]) + _dot(ring[-lag:], ring[:lag])


def mirrored(ring: Array, *, degrees: int) -> Array:
    """Sum of products of samples ``[A, C]`` with their images in the line at ``degrees``.

    The line runs between samples ``cut - 1`` and ``cut``: half of the pairs, counted twice.
    """
    cut, half = len(ring) * degrees // 360, len(ring) // 2
    near = _dot(ring[cut : 2 * cut], ring[:cut][::-1])
    far = _dot(ring[2 * cut : cut + half], ring[cut + half :][::-1])
    return 2 * (near + far)


def _dot(a: Array, b: Array) -> Array:
    return np.einsum("ac,ac->c", a, b)


def circular_scores(
    pixels: Array, centres: Grid, radius: int, order: int, operations: Sequence[RingProduct]
) -> Array:
    """Scores ``[S, rows, columns]`` of transformations about each centre, on disks [px].

    Polar samples are bilinear; a sample has the same weights at every centre, so that it is four
    scaled copies of the image. All transformations share the samples. The weighted mean and
    variance of a patch do not change when its samples trade places within their ring.
    """
    samples = Samples(deviations(pixels), centres)
    scores = np.empty((len(operations), *centres.shape))
    rows = max(1, CHUNK // samples.pitch)
    for top in range(0, len(centres.rows), rows):
        count = min(rows, len(centres.rows) - top)
        mean, square = np.zeros((2, count * samples.pitch))
        products = np.zeros((len(operations), count * samples.pitch))
        for offsets, weight in rings(radius, order):
            ring = samples.at(offsets, top, count)
            mean += weight * ring.sum(axis=0)
            square += weight * _dot(ring, ring)
            for total, operation in zip(products, operations, strict=True):
                total += weight * operation(ring)
        products -= mean**2
        products *= inverse_deviation(square - mean**2) ** 2
        block = products.reshape(len(operations), count, samples.pitch)
        scores[:, top : top + count] = block[:, :, : len(centres.columns)]
    return np.clip(scores, -1, 1, out=scores)


class Samples:
    """Values of an image between its pixels, at the same offset from many centres.

    The image is held as one image per phase of the centres' step, in which neighbouring centres
    are neighbours in memory. ``pitch`` is the length of their rows; what lies in a row behind the
    last centre belongs to none.
    """

    def __init__(self, values: Array, centres: Grid) -> None:
        self.step = step = centres.rows.step
        self.origin = centres.rows[0], centres.columns[0]
        # One row and column more than needed, so that whole rows may be read from any offset.
        height, self.pitch = (n // step + 2 for n in values.shape)
        padded = np.zeros((height * step, self.pitch * step))
        padded[: values.shape[0], : values.shape[1]] = values
        phases = padded.reshape(height, step, self.pitch, step).transpose(1, 3, 0, 2)
        self.phases = phases.reshape(step, step, -1)
        self.buffer = np.empty(0)

    def at(self, offsets: Array, top: int, count: int) -> Array:
        """Bilinear samples ``[A, count * pitch]`` at the offsets (y, x) ``[A, 2]`` [px] from the
        centres of ``count`` rows from the row ``top`` on; the next call overwrites them."""
        from scipy.linalg.blas import daxpy

        size = count * self.pitch
        if self.buffer.size < len(offsets) * size:
            self.buffer = np.empty(len(offsets) * size)
        samples = self.buffer[: len(offsets) * size].reshape(len(offsets), size)
        corner = np.floor(offsets)
        corners, fractions = corner.astype(int).tolist(), (offsets - corner).tolist()
        for out, (y, x), (v, u) in zip(samples, corners, fractions, strict=True):
            phase, start = self._find(y, x, top)
            np.multiply(phase[start : start + size], (1 - v) * (1 - u), out=out)
            for dy, dx, weight in ((0, 1, (1 - v) * u), (1, 0, v * (1 - u)), (1, 1, v * u)):
                phase, start = self._find(y + dy, x + dx, top)
                daxpy(phase, out, n=size, a=weight, offx=start)
        return samples

    def _find(self, dy: int, dx: int, top: int) -> tuple[Array, int]:
        """The phase that holds the pixels at this offset, and where the row ``top`` starts."""
        row, a = divmod(self.origin[0] + dy, self.step)
        column, b = divmod(self.origin[1] + dx, self.step)
        return self.phases[a, b], (top + row) * self.pitch + column
