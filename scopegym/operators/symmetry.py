"""Image to features: how well each place agrees with its own shifted, turned or mirrored self.

Scores are Pearson correlations of a patch with its transformed self (paper 003, equation 2).
A descriptor carries the centres it was computed at, because patch and window keep a margin. The
stride is a length in spacings like the sizes: it is the precision of a boundary, which physics
sets in spacings, and so the number of centres does not change with magnification.

Memory is bounded: of images beyond 512 x 512 px values are kept in single precision, and where the
values of all centres would take more than four float32 images and 128 MB, the stride grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np

from scopegym.artifacts import Array, Features, Image
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.space import Choice, Integer, Scale
from scopegym.strips import WHOLE, precision

#: Rotations scored [degrees] (paper 003, section II.A.2).
ROTATIONS = (60, 90, 120, 180)
#: Mirror lines scored [degrees from the x axis, counter-clockwise on the screen].
MIRRORS = tuple(range(0, 180, 18))
#: A patch whose variance is below this share of the image's largest squared deviation is flat:
#: rounding of double precision reaches 1e-14 of it in an image of 10,000 pixels' width.
FLAT = 1e-12
#: Values of all centres together, at least this many and four per pixel. An image of 512 x 512 px
#: keeps its centres however many values each has, and no larger image gets fewer.
MOST_VALUES = 2**25
#: Centres treated at a time, so that the samples of one ring stay in the processor's cache.
CHUNK = 4096

#: Sum over the angles (axis 0) of a ring's samples [A, C] times the samples they are mapped to.
RingProduct = Callable[[Array], Array]


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


@operator
def translation_symmetry(
    image: Image,
    *,
    window: Annotated[float, Scale(0.5, 4.0, log=True)] = 1.75,
    patch: Annotated[float, Scale(0.5, 4.0, log=True)] = 1.75,
    stride: Annotated[float, Scale(0.1, 1.0, log=True)] = 0.25,
    shifts: Annotated[int, Choice((9, 25, 49, 81, 121, 225))] = 81,
) -> Features:
    """Correlate each square patch with the patches shifted by up to ``window`` (y and x) [px].

    ``patch`` is half the side of the square and ``stride`` the distance of the centres, rounded
    to whole pixels. ``shifts`` is a square number: that many shifts taken evenly from the window.
    Values ``[N, shifts]`` in -1..1, 0 where either patch is flat. Raises ScopegymError when the
    image is smaller than window and patch. Source: paper 003, equations 2 and 3.
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
    scale = _inverse(_box(deviation**2, half) - mean**2)
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


def _inverse(variance: Array) -> Array:
    """One over the standard deviation, 0 where the patch is flat."""
    flat = variance <= FLAT
    return np.where(flat, 0.0, 1 / np.sqrt(np.where(flat, 1.0, variance)))


@operator
def rotation_symmetry(
    image: Image,
    *,
    window: Annotated[float, Scale(0.5, 4.0, log=True)] = 1.75,
    patch: Annotated[float, Scale(0.5, 4.0, log=True)] = 1.75,
    stride: Annotated[float, Scale(0.1, 1.0, log=True)] = 0.25,
) -> Features:
    """Correlate each circular patch with itself turned by 60, 90, 120 and 180 degrees.

    ``patch`` is the radius of the disk [px]. The best score among the centres within ``window``
    (y and x) [px] stands for a place, so that the values ``[N, 4]`` do not depend on where in the
    cell a centre falls. Values in -1..1, 0 where patches are flat. Raises ScopegymError when the
    image is smaller than window and patch. Source: paper 003, equation 2 and section II.A.2.
    """
    operations = [partial(turned, degrees=angle) for angle in ROTATIONS]
    names = tuple(f"turn {angle}" for angle in ROTATIONS)
    return _pooled("rotation_symmetry", image, window, patch, stride, 12, operations, names)


@operator
def reflection_symmetry(
    image: Image,
    *,
    window: Annotated[float, Scale(0.5, 4.0, log=True)] = 1.75,
    patch: Annotated[float, Scale(0.5, 4.0, log=True)] = 1.75,
    stride: Annotated[float, Scale(0.1, 1.0, log=True)] = 0.25,
) -> Features:
    """Correlate each circular patch with itself mirrored in ten lines, one every 18 degrees.

    ``patch`` is the radius of the disk [px]. The best score among the centres within ``window``
    (y and x) [px] stands for a place. Values ``[N, 10]`` in -1..1, 0 where patches are flat.
    Raises ScopegymError when the image is smaller than window and patch. Source: paper 003,
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
        products *= _inverse(square - mean**2) ** 2
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


@operator
def power_spectrum(
    image: Image,
    *,
    patch: Annotated[float, Scale(0.5, 4.0, log=True)] = 2.0,
    stride: Annotated[float, Scale(0.1, 1.0, log=True)] = 0.25,
    finest: Annotated[float, Scale(0.3, 1.0, log=True)] = 0.5,
) -> Features:
    """Share of each frequency in the power of a square patch under a Hann window.

    ``patch`` is half the side of the square, ``finest`` the shortest period kept [px]. Values
    ``[N, D]`` are shares of the power that is kept, mean excluded: they sum to 1, or are all 0
    where the patch is flat. Raises ScopegymError when the image is smaller than the patch.
    """
    half = whole("patch", patch)
    frequencies = _half_plane(half, finest)
    step = bounded(image.shape, whole("stride", stride), len(frequencies))
    centres = grid("power_spectrum", image.shape, half, step)
    power = local_power(image.pixels, centres, half, frequencies)
    names = tuple(f"power {ky:+d} {kx:+d}" for ky, kx in frequencies.tolist())
    return Features(power, centres.yx, image.shape, names)


@operator
def local_fourier(
    image: Image,
    *,
    patch: Annotated[float, Scale(0.5, 4.0, log=True)] = 2.0,
    stride: Annotated[float, Scale(0.1, 1.0, log=True)] = 0.25,
    finest: Annotated[float, Scale(0.3, 1.0, log=True)] = 0.5,
    harmonics: Annotated[int, Integer(0, 3)] = 3,
) -> Features:
    """Describe the local power spectrum independently of orientation: rings and their harmonics.

    For each ring of frequencies: its share of the power, and the strength of its 2-, 4-, .. fold
    angular modulation up to twice ``harmonics`` (a power spectrum has even folds only). Grains of
    one crystal look alike, other crystals do not. ``patch``, ``finest`` and the errors are those
    of ``power_spectrum``. Values ``[N, D]`` in 0..1.
    """
    half = whole("patch", patch)
    frequencies = _half_plane(half, finest)
    step = bounded(image.shape, whole("stride", stride), len(frequencies))
    centres = grid("local_fourier", image.shape, half, step)
    power = local_power(image.pixels, centres, half, frequencies)
    radius, angle = np.hypot(*frequencies.T), np.arctan2(-frequencies[:, 0], frequencies[:, 1])
    ring = np.arange(1, math.ceil(radius.max()) + 1)
    # Rings as soft as a peak under the Hann window is wide: sharper ones see the frequency grid.
    share = np.exp(-((radius[:, None] - ring) ** 2) / 2)
    share /= share.sum(axis=1, keepdims=True)
    folds = 2 * np.arange(harmonics + 1)
    weights = [
        [(share * wave(fold * angle)[:, None]).astype(power.dtype) for wave in (np.cos, np.sin)]
        for fold in folds
    ]
    values = [np.hypot(power @ cosine, power @ sine) for cosine, sine in weights]
    names = tuple(f"ring {k} fold {fold}" for fold in folds for k in ring)
    return Features(np.concatenate(values, axis=1), centres.yx, image.shape, names)


def _half_plane(half: int, finest: float) -> Array:
    """Frequencies (ky, kx) ``[D, 2]`` [cycles per patch] of periods from ``finest`` [px] on, one
    of each opposite pair and without the mean."""
    most = int(np.clip((2 * half + 1) / whole("finest", finest), 1, half))
    k = np.arange(-most, most + 1)
    ky, kx = (axis.ravel() for axis in np.meshgrid(k, k, indexing="ij"))
    upper = (kx > 0) | ((kx == 0) & (ky > 0))
    return np.stack([ky[upper], kx[upper]], axis=1)


def local_power(pixels: Array, centres: Grid, half: int, frequencies: Array) -> Array:
    """Shares ``[N, D]`` of the frequencies (ky, kx) [cycles per patch] in the windowed patches.

    The transform is separable, and rows transformed once serve every patch they cross.
    """
    most = int(frequencies.max())
    side = 2 * half + 1
    position = np.arange(side) - half
    hann = 0.5 + 0.5 * np.cos(np.pi * position / (half + 1))
    waves = np.exp(-2j * np.pi / side * np.outer(position, np.arange(-most, most + 1)))
    kernel = hann[:, None] * waves / hann.sum()
    window = kernel.sum(axis=0)
    iy, ix = (frequencies + most).T
    deviation = deviations(pixels)
    power = np.empty((math.prod(centres.shape), len(frequencies)), precision(pixels.size))
    rows = max(1, CHUNK // (4 * len(centres.columns)))
    for top in range(0, len(centres.rows), rows):
        block = Grid(centres.rows[top : top + rows], centres.columns)
        spectra = _transform(deviation, block, half, kernel[:, most:], kernel)
        # The mean under the window leaks into its neighbours in frequency: take it out exactly.
        spectra = spectra[:, iy, ix - most] - spectra[:, [most], [0]] * window[iy] * window[ix]
        first = top * len(centres.columns)
        found = np.abs(spectra) ** 2
        total = found.sum(axis=1, keepdims=True)
        flat = total <= FLAT
        power[first : first + len(found)] = np.where(flat, 0.0, found / np.where(flat, 1.0, total))
    return power


def _transform(values: Array, block: Grid, half: int, across: Array, down: Array) -> Array:
    """Local transforms ``[N, KY, KX]`` with kernels ``[side, KX]`` and ``[side, KY]``."""
    from numpy.lib.stride_tricks import sliding_window_view

    side, step = 2 * half + 1, block.rows.step
    left, last = block.columns[0] - half, block.columns[-1] - half
    strip = values[block.rows[0] - half : block.rows[-1] + half + 1]
    patches = sliding_window_view(strip, side, axis=1)[:, left : last + 1 : step]
    lines = patches @ across.real + 1j * (patches @ across.imag)  # [R, columns, KX]
    stacked = sliding_window_view(lines, side, axis=0)[::step]  # [rows, columns, KX, side]
    return np.swapaxes(stacked @ down, -1, -2).reshape(-1, down.shape[1], across.shape[1])
