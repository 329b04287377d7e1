"""The lattice that an image shows, measured in its Fourier transform.

The Fourier transform of a lattice image has peaks at the reciprocal lattice. Pairs of peaks are
tried as pairs of reflections; each reading that leaves the lattice near its nominal size is scored
against the structure factors of the projected columns. The best are refined on the peaks, then on
the pixels, as a sum of waves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.errors import ScopegymError
from scopegym.prior import Vector
from scopegym.sample.crystal import Projection

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]

#: Widest ratio of the principal stretches that is looked for: one axis 12 % long, one 12 % short.
MOST_STRAIN = 1.12 / 0.88
#: Column images are taken as Gaussians this wide in spacings, and no sharper than this [nm]: a
#: probe of 0.1 nm full width at half maximum.
COLUMN_SIGMA_SPACINGS = 0.2
COLUMN_SIGMA_NM = 0.04
#: Reflections weaker than this share of the strongest amplitude are not looked for.
WEAKEST = 0.08
#: Power below this share of the strongest peak is leakage of the window, not a peak.
LEAKAGE = 3e-4
#: Peaks, reflections, guesses and refined readings that are tried: the best first.
MOST_PEAKS, MOST_REFLECTIONS, MOST_GUESSES, MOST_READINGS = 40, 60, 12, 4
#: Guesses that are compared with each other, many of which are the same lattice.
MOST_COMPARED = 1000
#: A peak and a reflection nearer than this [bins] are taken for one: a window's main lobe.
NEAR_BINS = 1.5
#: Beyond this ratio of peak to noise a position is limited by the window, not by noise.
MOST_POWER = 300.0
#: Confidence from which a lattice counts as found. The images of YBa2Cu3O7, BaTiO3 and MoS2 that
#: it was tried on reach 0.74 to 0.92; of 6,110 trials on photographs, noise and blobs two passed.
RELIABLE = 0.64
#: Pixels per characteristic spacing that are enough; finer images are binned.
ENOUGH_PX = 7
#: Pixels per side that are enough; of larger images the centre is read.
LARGEST_PX = 1024


@dataclass(frozen=True)
class LatticeFit:
    """The lattice of a projection as an image shows it.

    ``lattice_px`` [px] and ``ratios`` are in the order of ``Projection.lattice_nm``; a ratio of
    1.07 says that the image's calibration reads that vector 7 % too long. ``rotation_deg`` turns
    the expected lattice onto the measured one, counter-clockwise on the screen, as far as symmetry
    leaves it open the smallest turn. ``angle_error_deg`` is the angle between the vectors less the
    expected one. ``reflections`` counts the peaks on the lattice.

    ``confidence``, 0 to 1, is the product of two likenesses: the cosine between the amplitudes
    predicted and seen, over all reflections of the lattice and all peaks of the spectrum; and
    ``contrast``, the correlation of the mean unit cell with the projected columns, which is
    negative where columns are dark. Unless ``reliable``, nothing was measured: the lattice is
    the nominal one.
    """

    lattice_px: tuple[Vector, Vector]
    ratios: tuple[float, float] = (1.0, 1.0)
    rotation_deg: float = 0.0
    angle_error_deg: float = 0.0
    reflections: int = 0
    contrast: float = 0.0
    confidence: float = 0.0
    reliable: bool = False


def measure_lattice(
    source: ArrayLike, projection: Projection, pixel_size_nm: float, search: float = 0.35
) -> LatticeFit:
    """Find the lattice of a projection in an image ``[H, W]``, at any rotation.

    ``search`` is how far the mean scale may lie from the nominal one, as a share of it. Raises
    ScopegymError for an image that cannot be read or a pixel size that is not positive.
    """
    image = readable(source)
    nominal = np.array(projection.lattice_px(pixel_size_nm))
    nothing = LatticeFit(projection.lattice_px(pixel_size_nm))
    image, binned = _binned(image, projection.spacing_nm / pixel_size_nm * (1 - search))
    if min(image.shape) < 16 or not np.ptp(image) > 0:
        return nothing
    field = Field.of(image)
    reflections = _Reflections.of(projection)
    slowest = reflections.slowest(nominal / binned) / (1 + search)
    search_in = _Search.of(_Spectrum.of(field, slowest), reflections, nominal / binned, search)
    readings = search_in.readings()
    if not readings:
        return nothing
    # few periods in the field: the peaks overlap and only the waves tell the readings apart
    best = max((_Reading.of(search_in, field, r) for r in readings), key=lambda r: r.confidence)
    found = replace(
        nothing,
        reflections=best.found,
        contrast=best.contrast,
        confidence=best.confidence,
        reliable=best.reliable,
    )
    return _located(found, best.upright().lattice_px * binned, nominal) if best.reliable else found


def _located(fit: LatticeFit, lattice: Float, nominal: Float) -> LatticeFit:
    (ay, ax), (by, bx) = lattice.tolist()
    lengths = np.linalg.norm(lattice, axis=1) / np.linalg.norm(nominal, axis=1)
    return replace(
        fit,
        lattice_px=((ay, ax), (by, bx)),
        ratios=(float(lengths[0]), float(lengths[1])),
        rotation_deg=_rotation(np.linalg.inv(nominal) @ lattice)[0],
        angle_error_deg=_angle(lattice) - _angle(nominal),
    )


def readable(source: ArrayLike) -> NDArray[np.floating]:
    """An image ``[H, W]`` in single precision where it comes so, else in double. Raises
    ScopegymError for other shapes and for pixels that are not finite."""
    image = np.asarray(source)
    if image.dtype != np.float32:
        image = image.astype(np.float64)
    if image.ndim != 2 or image.size == 0:
        raise ScopegymError(f"An image has two axes (y, x); this one is {image.shape}.")
    if not np.isfinite(image).all():
        raise ScopegymError("The image holds pixels that are NaN or infinite; replace them first.")
    return image


def _binned(image: NDArray[np.floating], spacing_px: float) -> tuple[Float, int]:
    """The centre of the image at a coarser pixel, where its own is needlessly fine."""
    times = max(1, int(spacing_px / ENOUGH_PX))
    times = max(1, min(times, min(image.shape) // 64))
    return centre(image, times), times


def centre(image: NDArray[np.floating], times: int = 1) -> Float:
    """The middle of an image, at most 1024 pixels of ``times`` by ``times`` of its own a side."""
    sizes = (n // times for n in image.shape)
    firsts = [(max(0, (n - LARGEST_PX) // 2), min(n, (n + LARGEST_PX) // 2)) for n in sizes]
    rows, columns = (slice(times * first, times * last) for first, last in firsts)
    return coarser(image[rows, columns], times)


def coarser(image: NDArray[np.floating], times: int) -> Float:
    """The means over squares of ``times`` by ``times`` pixels, in double precision; what is left
    over at the lower and right edges is left out."""
    if times == 1:
        return image.astype(np.float64)
    h, w = (n // times for n in image.shape)
    blocks = image[: h * times, : w * times].astype(np.float64).reshape(h, times, w, times)
    return np.asarray(blocks.mean(axis=(1, 3)))


def _angle(lattice: Float) -> float:
    """Angle between two vectors [deg]."""
    cosine = lattice[0] @ lattice[1] / np.prod(np.linalg.norm(lattice, axis=1))
    return math.degrees(math.acos(float(np.clip(cosine, -1, 1))))


def _rotation(deformation: Float) -> tuple[float, bool]:
    """The turn [deg] in a deformation of row vectors (y, x), and whether it mirrors."""
    u, _, v = np.linalg.svd(deformation)
    turn = u @ v
    mirrored = bool(np.linalg.det(turn) < 0)
    if mirrored:
        turn = u @ np.diag([1.0, -1.0]) @ v
    return math.degrees(math.atan2(turn[0, 1], turn[0, 0])), mirrored


def _stretch(deformation: Float) -> tuple[Float, Float]:
    """Mean stretch and ratio of the principal stretches of matrices ``[..., 2, 2]``."""
    area = np.abs(np.linalg.det(deformation))
    half = (deformation**2).sum(axis=(-2, -1)) / (2 * np.maximum(area, 1e-300))
    return np.sqrt(area), half + np.sqrt(np.maximum(half**2 - 1, 0.0))


def _reduced(vectors: Float) -> Float:
    """The two shortest vectors of the lattice that two vectors span (Lagrange and Gauss)."""
    first, second = vectors
    for _ in range(30):
        if first @ first > second @ second:
            first, second = second, first
        times = round(float(first @ second / max(first @ first, 1e-300)))
        if times == 0:
            break
        second = second - times * first
    return np.array([first, second])


@dataclass(frozen=True, eq=False)
class Field:
    """An image without its mean and its outliers, and a Hann window per axis of sum 1."""

    image: Float
    windows: tuple[Float, Float]

    @classmethod
    def of(cls, image: Float) -> Field:
        low, high = np.percentile(image, (0.1, 99.9))
        if not high > low:
            low, high = image.min(), image.max()
        wy, wx = (np.hanning(n + 2)[1:-1] for n in image.shape)
        wy, wx = wy / wy.sum(), wx / wx.sum()
        clipped = np.clip(image, low, high)
        return cls(clipped - wy @ clipped @ wx, (wy, wx))


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Power over its background ``[H, W]``, zero frequency in the centre, and its peaks.

    Frequencies are in bins: cycles per field along y and x. Noise is exponentially distributed
    with mean 1, and passes ``threshold`` by chance in one image of 50.
    """

    power: Float
    log_power: Float
    threshold: float
    peaks: Float
    strengths: Float

    @classmethod
    def of(cls, field: Field, slowest: float) -> _Spectrum:
        """Frequencies below ``slowest`` [cycles/px] are left out."""
        from scipy.fft import fft2, fftshift
        from scipy.ndimage import maximum_filter

        windowed = field.image * np.outer(*field.windows)
        power = np.abs(fftshift(fft2(windowed))) ** 2
        y, x = np.ogrid[tuple(slice(-(n // 2), n - n // 2) for n in power.shape)]
        power[np.hypot(y / power.shape[0], x / power.shape[1]) < slowest] = 0.0
        floor = np.maximum(block_level(power), _ring_level(power, np.hypot(y, x)))
        flat = power / np.maximum(floor, LEAKAGE * power.max() + 1e-300)
        threshold = math.log(flat.size / 2 * 50)
        tops = (flat > threshold) & (flat == maximum_filter(flat, 3, mode="wrap"))
        tops[: len(tops) // 2] = False  # the other half holds the same peaks
        where = np.argwhere(tops)
        strengths = flat[tuple(where.T)]
        order = np.argsort(-strengths, kind="stable")[:MOST_PEAKS]
        log = np.log(np.maximum(flat, 1e-3))
        peaks = vertices(log, where[order]) - np.array(flat.shape) // 2
        return cls(flat, log, threshold, peaks, strengths[order])

    @property
    def size(self) -> Float:
        return np.array(self.power.shape, dtype=float)

    @property
    def centre(self) -> Float:
        return self.size // 2

    def tops(self, predicted: Float, radius: float) -> tuple[Float, Float]:
        """The highest point within ``radius`` [bins] of each predicted place, and its power."""
        exact = predicted + self.centre
        start = np.rint(exact).astype(int)
        inside = ((start >= 3) & (start < self.size - 3)).all(axis=1)
        around = start[:, None] + np.array(list(product(range(-2, 3), repeat=2)))
        near = np.linalg.norm(around - exact[:, None], axis=-1) <= max(radius, 0.75)
        around %= np.array(self.power.shape)
        values = np.where(near, self.power[around[..., 0], around[..., 1]], 0.0)
        best = np.argmax(values, axis=1)
        rows = np.arange(len(best))
        places = vertices(self.log_power, around[rows, best]) - self.centre
        return places, np.where(inside, values[rows, best], 0.0)


#: A third of an exponential distribution of mean 1 lies below this; peaks lie above.
LOWER_THIRD = math.log(1.5)


def block_level(power: Float) -> Float:
    """The level of the noise around each frequency: lower third of blocks of 16 x 16 bins."""
    from scipy.ndimage import median_filter

    parts = [max(4, n // 16) for n in power.shape]
    step = [n // p for n, p in zip(power.shape, parts, strict=True)]
    inner = power[: parts[0] * step[0], : parts[1] * step[1]]
    blocks = inner.reshape(parts[0], step[0], parts[1], step[1]).swapaxes(1, 2).reshape(*parts, -1)
    rank = blocks.shape[-1] // 3
    level = np.partition(blocks, rank, axis=-1)[..., rank] / LOWER_THIRD
    smooth = np.log(median_filter(level, 3, mode="nearest") + 1e-300)
    spread = [
        np.stack([np.interp((np.arange(n) + 0.5) / s - 0.5, np.arange(p), e) for e in np.eye(p)])
        for n, s, p in zip(power.shape, step, parts, strict=True)
    ]
    return np.exp(spread[0].T @ smooth @ spread[1])


def _ring_level(power: Float, radius: Float, width: float = 3.0, rings: int = 24) -> Float:
    """The same in rings around zero frequency, where the spectrum of a soft image is steep."""
    inside = radius < width * rings
    ring = (radius[inside] / width).astype(int)
    values = power[inside]
    order = np.argsort(ring, kind="stable")
    parts = np.split(values[order], np.searchsorted(ring[order], np.arange(1, rings)))
    level = [np.quantile(part, 1 / 3) / LOWER_THIRD if len(part) else 0.0 for part in parts]
    log = np.interp(
        radius[inside] / width - 0.5, np.arange(rings), np.log(np.array(level) + 1e-300)
    )
    found = np.zeros_like(power)
    found[inside] = np.exp(log)
    return found


def vertices(height: Float, tops: NDArray[Any]) -> Float:
    """Sub-pixel places of maxima: the vertex of a parabola along each axis."""
    last = np.array(height.shape) - 1
    place = tops.astype(float)
    for axis in (0, 1):
        step = np.eye(2, dtype=int)[axis]
        before, here, after = (
            height[tuple(np.clip(tops + s * step, 0, last).T)] for s in (-1, 0, 1)
        )
        bend = np.minimum(before - 2 * here + after, -1e-12)
        place[:, axis] += np.clip(0.5 * (before - after) / bend, -0.6, 0.6)
    return place


@dataclass(frozen=True, eq=False)
class _Reflections:
    """What a projection should show: ``indices`` ``[K, 2]`` of one half plane and ``amplitudes``
    relative to the strongest, strongest first; ``table`` holds all of them by index, the origin in
    the middle and a frame of zeros around."""

    projection: Projection
    indices: Float
    amplitudes: Float
    table: Float

    @classmethod
    def of(cls, projection: Projection) -> _Reflections:
        lattice = np.array(projection.lattice_nm)
        fastest = math.sqrt(-math.log(WEAKEST / 4) / 2) / (math.pi * _column_sigma(projection))
        reach = np.ceil(fastest * np.linalg.norm(lattice, axis=1)).astype(int)
        grid = np.indices(2 * reach + 1).reshape(2, -1).T - reach
        table = np.abs(_structure_factors(projection, grid))
        table[len(table) // 2] = 0.0
        table /= table.max()
        order = np.argsort(-np.round(table, 6), kind="stable")
        order = order[(grid[order] @ [1.0, 1e-6] > 0) & (table[order] > WEAKEST)]
        order = order[:MOST_REFLECTIONS]
        framed = np.pad(table.reshape(2 * reach + 1), 1)
        return cls(projection, grid[order].astype(float), table[order], framed)

    def strongest(self) -> Float:
        """The strongest eight, and the strongest four that do not lie on a line with the first: in
        a slim cell they may come late."""
        y, x = self.indices.T
        aside = np.flatnonzero(np.abs(y * x[0] - x * y[0]) > 0.5)[:4]
        return self.indices[np.union1d(np.arange(min(8, len(y))), aside)]

    def slowest(self, lattice_px: Float) -> float:
        """The lowest frequency a strained lattice may have [cycles/px]."""
        frequency = np.linalg.norm(self.indices @ np.linalg.inv(lattice_px).T, axis=1)
        return float(frequency.min()) / math.sqrt(MOST_STRAIN)


def _column_sigma(projection: Projection) -> float:
    return max(COLUMN_SIGMA_SPACINGS * projection.spacing_nm, COLUMN_SIGMA_NM)


def _structure_factors(projection: Projection, indices: NDArray[Any]) -> Complex:
    """Of columns as wide as a probe shows them."""
    factors = np.zeros(len(indices), dtype=complex)
    for place, weight in zip(projection.columns, projection.weights, strict=True):
        factors += weight * np.exp(-2j * np.pi * (indices @ place))
    frequency = np.linalg.norm(indices @ np.linalg.inv(np.array(projection.lattice_nm)).T, axis=-1)
    return factors * np.exp(-2 * (np.pi * _column_sigma(projection) * frequency) ** 2)


@dataclass(frozen=True, eq=False)
class _Search:
    """One spectrum and the reflections to look for. Lattices are reciprocal vectors [bins]."""

    spectrum: _Spectrum
    reflections: _Reflections
    heights: Float
    nominal_px: Float
    search: float

    @classmethod
    def of(
        cls, spectrum: _Spectrum, reflections: _Reflections, nominal_px: Float, search: float
    ) -> _Search:
        from scipy.ndimage import maximum_filter

        heights = np.maximum(spectrum.log_power - math.log(spectrum.threshold), 0.0)
        heights = maximum_filter(heights, 3)  # a reading from two peaks is a bin off elsewhere
        return cls(spectrum, reflections, heights, nominal_px, search)

    def lattice_px(self, reciprocal: Float) -> Float:
        """Lattice vectors [px] of reciprocal ones, one or many ``[..., 2, 2]``."""
        return np.swapaxes(np.linalg.inv(reciprocal / self.spectrum.size), -1, -2)

    def deformation(self, reciprocal: Float) -> Float:
        """What makes the measured lattice of the nominal one."""
        return np.linalg.inv(self.nominal_px) @ self.lattice_px(reciprocal)

    def allowed(self, reciprocal: Float) -> NDArray[np.bool_]:
        """Which lattices lie within the search of the nominal scale and are strained little."""
        scale, strain = _stretch(self.deformation(reciprocal))
        return (np.abs(scale - 1) < self.search) & (strain < MOST_STRAIN)

    def readings(self) -> list[Float]:
        """The most likely lattices, refined on the peaks, no two of them alike."""
        refined = [self.refined(guess) for guess in self._best(self._guesses(), MOST_GUESSES)]
        refined = [r for r in refined if self.allowed(r[None])[0]]
        return self._best(np.array(refined), MOST_READINGS, worst=0.75)

    def _best(self, lattices: Float, most: int, worst: float = 0.0) -> list[Float]:
        """The lattices of the highest scores, down to a share of the best, no two alike."""
        kept: list[Float] = []
        if len(lattices) == 0:
            return kept
        scores = self.score(lattices)
        order = np.argsort(-scores, kind="stable")[:MOST_COMPARED]
        lattices = lattices[order[scores[order] >= worst * scores.max()]]
        while len(lattices) and len(kept) < most:
            kept.append(lattices[0])
            lattices = lattices[~_same_lattice(lattices, lattices[0])]
        return kept

    def _guesses(self) -> Float:
        """Every allowed reading of two peaks as two strong reflections ``[C, 2, 2]``."""
        peaks = self.spectrum.peaks[:24]
        if len(peaks) < 2:
            return np.empty((0, 2, 2))
        strongest = self.reflections.strongest()
        pairs = np.array([p for p in combinations(strongest, 2) if np.linalg.matrix_rank(p) == 2])
        both = np.concatenate([peaks, -peaks])
        first, second = (i.ravel() for i in np.indices((len(peaks), len(both))))
        apart = second % len(peaks) != first
        observed = np.stack([peaks[first[apart]], both[second[apart]]], axis=1)
        guesses = np.einsum("rij,ojk->roik", np.linalg.inv(pairs), observed).reshape(-1, 2, 2)
        # in cells of the nominal reciprocal lattice, so that the limit has no unit
        cells = np.linalg.det(guesses / self.spectrum.size @ self.nominal_px.T)
        guesses = guesses[np.abs(cells) > 0.1]
        return guesses[self.allowed(guesses)] if len(guesses) else guesses

    def score(self, reciprocal: Float) -> Float:
        """How alike predicted and observed peaks are ``[C]``: the cosine between amplitudes, over
        all predicted reflections and all observed peaks."""
        spectrum = self.spectrum
        at = self.reflections.indices @ reciprocal + spectrum.centre
        inside = ((at >= 0) & (at <= spectrum.size - 1)).all(axis=-1)
        rows = np.clip(np.rint(at), 0, spectrum.size - 1).astype(int)
        seen = np.where(inside, self.heights[rows[..., 0], rows[..., 1]], 0.0)
        expected = np.where(inside, self.reflections.amplitudes, 0.0)
        missed = np.where(self.on_lattice(reciprocal), 0.0, np.log(self._relative))
        norm = (expected**2).sum(axis=-1) * ((seen**2).sum(axis=-1) + (missed**2).sum(axis=-1))
        return np.asarray((expected * seen).sum(axis=-1) / np.sqrt(np.maximum(norm, 1e-12)))

    @property
    def _relative(self) -> Float:
        return self.spectrum.strengths / self.spectrum.threshold

    def on_lattice(self, reciprocal: Float) -> NDArray[np.bool_]:
        """Which peaks ``[C, P]`` are at a reflection that the columns do not extinguish."""
        indices = self.spectrum.peaks @ np.linalg.inv(reciprocal)
        whole = np.rint(indices)
        near = np.linalg.norm((indices - whole) @ reciprocal, axis=-1) < NEAR_BINS
        table = self.reflections.table
        reach = np.array(table.shape) // 2
        rows = (np.clip(whole, -reach, reach) + reach).astype(int)
        return near & (table[rows[..., 0], rows[..., 1]] > WEAKEST / 4)

    def refined(self, reciprocal: Float) -> Float:
        """Fit the reciprocal vectors to the peaks, low frequencies first."""
        for indices in self.growing(reciprocal, (0.3, 0.6, 1.0, 1.0)):
            # no reflection may be taken for its neighbour
            closest = float(np.linalg.norm(_reduced(reciprocal), axis=1).min())
            radius = min(2.0, 0.45 * closest)
            predicted = indices @ reciprocal
            peaks, power = self.spectrum.tops(predicted, radius)
            apart = np.linalg.norm(peaks - predicted, axis=1)
            good = (power > self.spectrum.threshold) & (apart < radius + 0.7)
            if good.sum() < 2 or np.linalg.matrix_rank(indices[good]) < 2:
                continue
            weight = np.sqrt(np.minimum(power[good], MOST_POWER))
            reciprocal = _robust_fit(indices[good], peaks[good], weight)
        return reciprocal

    def growing(self, reciprocal: Float, shares: tuple[float, ...]) -> list[Float]:
        """The reflections below the highest frequency of the image, in growing parts."""
        places = self.reflections.indices @ reciprocal
        indices = self.reflections.indices[(np.abs(places) < 0.48 * self.spectrum.size).all(axis=1)]
        order = np.argsort(np.linalg.norm(indices @ reciprocal, axis=1), kind="stable")
        return [indices[order[: max(6, round(share * len(order)))]] for share in shares]


def _same_lattice(lattices: Float, other: Float) -> NDArray[np.bool_]:
    """Which of ``[C, 2, 2]`` have, to a few per cent, the same points as another."""
    change = lattices @ np.linalg.inv(other)
    off = np.abs(change - np.rint(change)).max(axis=(-2, -1))
    return (off < 0.04) & (np.abs(np.linalg.det(change)) < 1.5)


def _robust_fit(indices: Float, peaks: Float, weight: Float) -> Float:
    """Least squares in which a peak loses weight as it disagrees with the rest.

    A stacking fault splits some reflections and leaves the others where the lattice puts them.
    """
    trust = np.ones(len(peaks))
    for _ in range(5):
        row = (weight * np.sqrt(trust))[:, None]
        solved = np.linalg.lstsq(indices * row, peaks * row, rcond=None)[0]
        residual = np.linalg.norm(peaks - indices @ solved, axis=1)
        trust = 1 / (1 + (residual / 0.3) ** 2)  # Cauchy's weights, 0.3 bins wide
    return np.asarray(solved)


class _Waves:
    """An image as a sum of waves at the reflections, fitted together under the window.

    Taken one by one, the peaks of a cell that the field holds only a few times lean on each other.
    """

    def __init__(self, field: Field, indices: Float, reciprocal: Float) -> None:
        self.indices = np.concatenate([indices, -indices, np.zeros((1, 2))])
        self.reciprocal = reciprocal
        shape = field.image.shape
        axes = [(np.arange(n) - n / 2)[:, None] / n for n in shape]  # in fields of view
        bins = self.indices @ reciprocal
        waves = [np.exp(2j * np.pi * a * b) for a, b in zip(axes, bins.T, strict=True)]
        weighted = [w[:, None] * e for w, e in zip(field.windows, waves, strict=True)]
        # sums over all pixels of wave x wave x y^m x^n separate into sums per axis
        self._sums = [
            [(a**m * w).conj().T @ e for m in range(3)]
            for a, w, e in zip(axes, weighted, waves, strict=True)
        ]
        plain = field.image @ weighted[1].conj()
        tilted = field.image @ (axes[1] * weighted[1].conj())
        self._seen = (weighted[0].conj() * plain).sum(axis=0)
        self._seen_tilted = (
            (axes[0] * weighted[0].conj() * plain).sum(axis=0),
            (weighted[0].conj() * tilted).sum(axis=0),
        )
        gram = self._moment()
        self._solve = np.linalg.inv(gram + 1e-3 * np.eye(len(gram)))
        self.amplitudes = self._solve @ self._seen

    def _moment(self, *axes: int) -> Complex:
        return np.asarray(self._sums[0][axes.count(0)] * self._sums[1][axes.count(1)])

    def improved(self) -> Float:
        """The reciprocal vectors after one Gauss-Newton step on waves and vectors together."""
        slopes = [2j * np.pi * self.indices[:, j] * self.amplitudes for j in (0, 1)]
        names = list(product((0, 1), repeat=2))  # (reciprocal vector, axis of the image)
        coupling = np.stack([self._moment(a) @ slopes[j] for j, a in names], axis=1)
        normal = np.array(
            [
                [slopes[i].conj() @ self._moment(a, b) @ slopes[j] for j, b in names]
                for i, a in names
            ]
        )
        normal = np.real(normal - coupling.conj().T @ self._solve @ coupling)
        rest = [self._seen_tilted[a] - self._moment(a) @ self.amplitudes for a in (0, 1)]
        slope = np.array([np.real(slopes[j].conj() @ rest[a]) for j, a in names])
        guard = (1e-9 * np.trace(normal) + 1e-30) * np.eye(4)
        step = np.linalg.solve(normal + guard, slope).reshape(2, 2)
        return np.asarray(self.reciprocal + step)


@dataclass(frozen=True, eq=False)
class _Reading:
    """One lattice that an image may show, with its waves."""

    search: _Search
    reciprocal: Float
    indices: Float
    waves: Complex

    @classmethod
    def of(cls, search: _Search, field: Field, reciprocal: Float) -> _Reading:
        """Refined on the pixels: from low frequencies up where peaks overlap."""
        few = float(np.linalg.norm(_reduced(reciprocal), axis=1).min()) < FEW_PERIODS
        shares = (0.3, 0.5, 0.7, 1.0, 1.0, 1.0) if few else (1.0, 1.0)
        refined = reciprocal
        for indices in search.growing(reciprocal, shares):
            waves = _Waves(field, indices, refined)
            refined = waves.improved()
        if not search.allowed(refined[None])[0]:
            refined = reciprocal
        half = len(waves.indices) // 2
        return cls(search, refined, waves.indices[:half], waves.amplitudes[:half])

    @property
    def lattice_px(self) -> Float:
        return self.search.lattice_px(self.reciprocal)

    @cached_property
    def contrast(self) -> float:
        """Correlation of the mean unit cell with the projected columns, at the best shift."""
        expected = _structure_factors(self.search.reflections.projection, self.indices)
        size = 64
        grid = np.zeros((size, size), dtype=complex)
        rows = self.indices.astype(int) % size
        np.add.at(grid, tuple(rows.T), self.waves * expected.conj())
        shifted = np.real(np.fft.ifft2(grid)) * size**2
        norm = max(float(np.linalg.norm(self.waves) * np.linalg.norm(expected)), 1e-300)
        bright, dark = float(shifted.max() / norm), float(shifted.min() / norm)
        return bright if bright >= -dark else dark

    @cached_property
    def confidence(self) -> float:
        return float(self.search.score(self.reciprocal[None])[0]) * abs(self.contrast)

    @cached_property
    def found(self) -> int:
        return int(self.search.on_lattice(self.reciprocal[None]).sum())

    @property
    def reliable(self) -> bool:
        """Found: likely, seen in three reflections, and repeated often enough in the field."""
        periods = float(np.linalg.norm(_reduced(self.reciprocal), axis=1).min())
        return self.confidence >= RELIABLE and self.found >= 3 and periods >= FEWEST_PERIODS

    def upright(self) -> _Reading:
        """The same lattice in the base that is strained least, not mirrored, and turned least."""
        ways = [self.rebased(change) for change in _BASES]
        ways = [w for w in ways if self.search.allowed(w.reciprocal[None])[0]]
        likely = max(w.confidence for w in ways) - 0.03
        return min((w for w in ways if w.confidence >= likely), key=_Reading.oddity)

    def rebased(self, change: Float) -> _Reading:
        reciprocal = np.linalg.inv(change).T @ self.reciprocal
        return replace(self, reciprocal=reciprocal, indices=np.rint(self.indices @ change.T))

    def oddity(self) -> tuple[float, ...]:
        deformation = self.search.deformation(self.reciprocal)
        rotation, mirrored = _rotation(deformation)
        strain = float(_stretch(deformation)[1])
        lengths = [np.linalg.norm(v, axis=1) for v in (self.lattice_px, self.search.nominal_px)]
        worst = float(np.abs(lengths[0] / lengths[1] - 1).max())
        return round(strain / 0.004), mirrored, round(worst / 0.02), round(abs(rotation), 3)


#: Reciprocal spacings [bins] below which peaks overlap, and below which a lattice is not found.
FEW_PERIODS, FEWEST_PERIODS = 6.0, 1.9
_BASES = [
    np.array(entries, dtype=float).reshape(2, 2)
    for entries in product((-1, 0, 1), repeat=4)
    if abs(entries[0] * entries[3] - entries[1] * entries[2]) == 1
]
