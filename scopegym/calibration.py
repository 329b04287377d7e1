"""The lattice in an image, held against the one that a crystal should show.

The Fourier transform of a lattice image has peaks at the reciprocal lattice. Peaks are indexed in
pairs, every pairing that leaves the lattice near its nominal size is scored against the structure
factors of the projected columns, and the best are refined with the peaks' sub-pixel positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.artifacts import readonly
from scopegym.crystal import Projection, axis_name
from scopegym.errors import ScopegymError
from scopegym.prior import Prior, Vector

Float = NDArray[np.float64]

#: Widest ratio between the longest and the shortest stretch of the lattice that is looked for: one
#: axis 12 % long and the other 12 % short.
MOST_STRAIN = 1.12 / 0.88
#: Column images are taken as Gaussians this wide in spacings, and no sharper than this [nm]: a
#: probe of 0.1 nm full width at half maximum.
COLUMN_SIGMA_SPACINGS = 0.2
COLUMN_SIGMA_NM = 0.04
#: Reflections weaker than this share of the strongest amplitude are not looked for.
WEAKEST = 0.08
#: Power below this share of the strongest peak is taken as leakage, not as a peak.
LEAKAGE = 3e-4


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Power over its local background ``[H, W]``, zero frequency at ``centre``, and its peaks.

    Frequencies are in bins: cycles per field of view along y and x. In noise the power is
    exponentially distributed with mean 1, so ``threshold`` is passed by chance once in 50 images.
    """

    power: Float
    threshold: float
    peaks: Float
    strengths: Float

    @property
    def size(self) -> Float:
        return np.array(self.power.shape, dtype=float)

    @property
    def centre(self) -> Float:
        return self.size // 2


def _interpolation(full: int, parts: int) -> Float:
    """Linear interpolation ``[full, parts]`` from the centres of equal parts."""
    at = (np.arange(full) + 0.5) * parts / full - 0.5
    return np.stack([np.interp(at, np.arange(parts), row) for row in np.eye(parts)], axis=1)


def _background(power: Float) -> Float:
    """The level of the noise around each frequency, from the lower third of blocks of bins."""
    from scipy.ndimage import median_filter

    parts = [max(4, n // 16) for n in power.shape]
    edges = [np.linspace(0, n, p + 1).astype(int) for n, p in zip(power.shape, parts, strict=True)]
    step = [int(np.diff(e).min()) for e in edges]
    rows = edges[0][:-1, None] + np.arange(step[0])
    columns = edges[1][:-1, None] + np.arange(step[1])
    blocks = power[rows[:, None, :, None], columns[None, :, None, :]].reshape(*parts, -1)
    # a third of an exponential distribution of mean 1 lies below ln(3 / 2); peaks lie above
    level = np.quantile(blocks, 1 / 3, axis=-1) / math.log(1.5)
    smooth = np.log(median_filter(level, 3, mode="nearest") + np.finfo(float).tiny)
    (h, w), (n, m) = power.shape, smooth.shape
    return np.exp(_interpolation(h, n) @ smooth @ _interpolation(w, m).T)


def _radial(power: Float) -> Float:
    h, w = power.shape
    axes = np.ogrid[-(h // 2) : h - h // 2, -(w // 2) : w - w // 2]
    radius = np.hypot(*axes)
    ring = np.minimum(radius / 3, 25).astype(int).ravel()
    order = np.argsort(ring, kind="stable")
    edges = np.searchsorted(ring[order], np.arange(26))
    flat = power.ravel()[order]
    level = [np.quantile(part, 1 / 3) / math.log(1.5) for part in np.split(flat, edges[1:])[:25]]
    log = np.log(np.array(level) + np.finfo(float).tiny)
    return np.where(radius < 73, np.exp(np.interp(radius / 3 - 0.5, np.arange(25), log)), 0.0)


def _spectrum(image: Float, slowest: float) -> _Spectrum:
    """Power spectrum of an image; frequencies below ``slowest`` [cycles/px] are left out."""
    from scipy.fft import fft2, fftshift
    from scipy.ndimage import maximum_filter

    low, high = np.percentile(image, (0.1, 99.9))
    clipped = np.clip(image, low, high)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    level = (clipped * window).sum() / window.sum()
    power = np.abs(fftshift(fft2((clipped - level) * window))) ** 2
    axes = np.ogrid[tuple(slice(-(n // 2), n - n // 2) for n in image.shape)]
    frequency = np.hypot(*(a / n for a, n in zip(axes, image.shape, strict=True)))
    power[frequency < slowest] = 0.0
    floor = np.maximum(_background(power), LEAKAGE * power.max())
    floor = np.maximum(floor, _radial(power))
    flat = power / np.maximum(floor, np.finfo(float).tiny)
    threshold = math.log(flat.size / 2 * 50)
    tops = (flat > threshold) & (flat == maximum_filter(flat, 3, mode="wrap"))
    tops[: image.shape[0] // 2] = False  # the other half holds the same peaks
    where = np.argwhere(tops)
    strengths = flat[tuple(where.T)]
    order = np.argsort(-strengths)[:MOST_PEAKS]
    where = where[order]
    bins = _sharpen(flat, where) - np.array(flat.shape) // 2
    return _Spectrum(flat, threshold, bins, strengths[order])


MOST_PEAKS = 40


def _sharpen(power: Float, tops: NDArray[Any]) -> Float:
    """Sub-bin positions of maxima: the vertex of a parabola through the logarithm, per axis."""
    log = np.log(np.maximum(power, 1e-3))
    size = np.array(power.shape)
    place = tops.astype(float)
    for axis in (0, 1):
        step = np.eye(2, dtype=int)[axis]
        before, here, after = (log[tuple(((tops + s * step) % size).T)] for s in (-1, 0, 1))
        bend = before - 2 * here + after
        shift = np.where(bend < -1e-6, 0.5 * (before - after) / np.minimum(bend, -1e-6), 0.0)
        place[:, axis] += np.clip(shift, -0.6, 0.6)
    return place


@dataclass(frozen=True, eq=False)
class _Reflections:
    """What the projected columns should show: ``indices`` ``[K, 2]`` in one half plane and their
    ``amplitudes`` relative to the strongest, strongest first."""

    indices: Float
    amplitudes: Float


def _amplitudes(projection: Projection, indices: Float) -> Float:
    """|structure factor| of columns as wide as a probe makes them."""
    phases = np.exp(-2j * np.pi * indices @ projection.columns.T)
    lattice = np.array(projection.lattice_nm)
    frequency = np.linalg.norm(indices @ np.linalg.inv(lattice).T, axis=-1)  # [1/nm]
    sigma = max(COLUMN_SIGMA_SPACINGS * projection.spacing_nm, COLUMN_SIGMA_NM)
    return np.abs(phases @ projection.weights) * np.exp(-2 * (np.pi * sigma * frequency) ** 2)


def _reflections(projection: Projection) -> _Reflections:
    lattice = np.array(projection.lattice_nm)
    sigma = max(COLUMN_SIGMA_SPACINGS * projection.spacing_nm, COLUMN_SIGMA_NM)
    fastest = math.sqrt(-math.log(WEAKEST / 4) / 2) / (math.pi * sigma)  # [1/nm]
    reach = np.ceil(fastest * np.linalg.norm(lattice, axis=1)).astype(int)
    indices = np.array(list(product(*(range(-n, n + 1) for n in reach))), dtype=float)
    upper = (indices[:, 0] > 0) | ((indices[:, 0] == 0) & (indices[:, 1] > 0))
    indices = indices[upper]
    amplitudes = _amplitudes(projection, indices)
    order = np.argsort(-np.round(amplitudes / amplitudes.max(), 6), kind="stable")
    order = order[amplitudes[order] > WEAKEST * amplitudes.max()][:60]
    return _Reflections(indices[order], amplitudes[order] / amplitudes.max())


@dataclass(frozen=True, eq=False)
class _Search:
    """One image's spectrum and one projection's reflections, ready to compare."""

    spectrum: _Spectrum
    reflections: _Reflections
    heights: Float
    table: Float
    nominal_px: Float

    @classmethod
    def of(cls, spectrum: _Spectrum, projection: Projection, nominal_px: Float) -> _Search:
        from scipy.ndimage import maximum_filter

        reflections = _reflections(projection)
        heights = np.log(np.maximum(maximum_filter(spectrum.power, 3), spectrum.threshold))
        heights -= math.log(spectrum.threshold)
        reach = int(np.abs(reflections.indices).max())
        axis = np.arange(-reach, reach + 1)
        grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        table = np.zeros((2 * reach + 3, 2 * reach + 3))
        amplitudes = _amplitudes(projection, grid.astype(float)).reshape(len(axis), len(axis))
        amplitudes[reach, reach] = 0.0
        table[1:-1, 1:-1] = amplitudes / amplitudes.max()
        return cls(spectrum, reflections, heights, table, nominal_px)

    def lattice_px(self, reciprocal: Float) -> Float:
        """Lattice vectors [px] from reciprocal ones [bins]."""
        return np.swapaxes(np.linalg.inv(reciprocal / self.spectrum.size), -1, -2)

    def candidates(self, search: float) -> Float:
        """Reciprocal vectors ``[C, 2, 2]`` [bins] that pairs of peaks allow."""
        peaks = self.spectrum.peaks[:24]
        both = np.concatenate([peaks, -peaks])
        strongest = self.reflections.indices[:8]
        pairs = np.array(
            [p for p in combinations(strongest, 2) if abs(np.linalg.det(np.array(p))) > 0.5]
        )
        first, second = np.meshgrid(np.arange(len(peaks)), np.arange(len(both)), indexing="ij")
        observed = np.stack([peaks[first.ravel()], both[second.ravel()]], axis=1)
        reciprocal = np.einsum("rij,ojk->roik", np.linalg.inv(pairs), observed).reshape(-1, 2, 2)
        return reciprocal[self.allowed(reciprocal, search)]

    def allowed(self, reciprocal: Float, search: float) -> NDArray[np.bool_]:
        """Which lattices lie within the search of the nominal size and are strained little."""
        solid = np.abs(np.linalg.det(reciprocal)) > 1e-6
        deformation = np.full_like(reciprocal, np.nan)
        deformation[solid] = np.linalg.inv(self.nominal_px) @ self.lattice_px(reciprocal[solid])
        scale, strain = _stretch(deformation)
        return (scale > 1 - search) & (scale < 1 + search) & (strain < MOST_STRAIN)

    def score(self, reciprocal: Float) -> Float:
        """How alike predicted and observed peaks are ``[C]``: the cosine between amplitudes, over
        all predicted reflections and all observed peaks."""
        spectrum = self.spectrum
        at = self.reflections.indices @ reciprocal + spectrum.centre
        inside = ((at >= 0) & (at <= spectrum.size - 1)).all(axis=-1)
        rows = np.clip(np.rint(at), 0, spectrum.size - 1).astype(int)
        seen = np.where(inside, self.heights[rows[..., 0], rows[..., 1]], 0.0)
        expected = np.where(inside, self.reflections.amplitudes, 0.0)
        missed = np.where(
            self._expected_at_peaks(reciprocal) > WEAKEST / 4,
            0.0,
            np.log(spectrum.strengths / spectrum.threshold),
        )
        norm = (expected**2).sum(axis=-1) * ((seen**2).sum(axis=-1) + (missed**2).sum(axis=-1))
        return (expected * seen).sum(axis=-1) / np.sqrt(np.maximum(norm, 1e-12))

    def _expected_at_peaks(self, reciprocal: Float) -> Float:
        """Amplitude ``[C, P]`` of the reflection nearest to each peak, 0 if none is near."""
        indices = self.spectrum.peaks @ np.linalg.inv(reciprocal)
        whole = np.rint(indices)
        near = np.linalg.norm((indices - whole) @ reciprocal, axis=-1) < NEAR_BINS
        reach = len(self.table) // 2
        rows = (np.clip(whole, -reach, reach) + reach).astype(int)
        return np.where(near, self.table[rows[..., 0], rows[..., 1]], 0.0)

    def refine(self, reciprocal: Float) -> Float:
        """Fit the reciprocal vectors [bins] to the peaks, near ones first.

        Peaks that disagree with the rest lose their weight: a stacking fault splits some
        reflections and leaves others where the undisturbed lattice puts them.
        """
        order = np.argsort(np.linalg.norm(self.reflections.indices @ reciprocal, axis=1))
        # no reflection may be taken for its neighbour
        radius = min(2.0, 0.45 * float(np.linalg.norm(_reduced(reciprocal), axis=1).min()))
        for share in (0.3, 0.6, 1.0, 1.0, 1.0):
            indices = self.reflections.indices[order[: max(6, int(share * len(order)))]]
            predicted = indices @ reciprocal
            peaks, power = self._tops(predicted, radius)
            apart = np.linalg.norm(peaks - predicted, axis=1)
            good = (power > self.spectrum.threshold) & (apart < radius + 0.7)
            if np.linalg.matrix_rank(indices[good]) < 2:
                continue
            weight = np.sqrt(np.minimum(power[good], MOST_POWER))
            reciprocal = _robust_fit(indices[good], peaks[good], weight)
        return reciprocal

    def _tops(self, predicted: Float, radius: float) -> tuple[Float, Float]:
        """The highest point within ``radius`` [bins] of each predicted place, and its power."""
        power = self.spectrum.power
        size = np.array(power.shape)
        reach = np.arange(-2, 3)
        offsets = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
        exact = predicted + self.spectrum.centre
        start = np.rint(exact).astype(int)
        inside = ((start >= 3) & (start < size - 3)).all(axis=1)
        around = start[:, None] + offsets
        near = np.linalg.norm(around - exact[:, None], axis=-1) <= max(radius, 0.75)
        around = around % size
        values = np.where(near, power[around[..., 0], around[..., 1]], 0.0)
        best = np.argmax(values, axis=1)
        tops = around[np.arange(len(start)), best]
        heights = np.where(inside, values[np.arange(len(start)), best], 0.0)
        return _sharpen(power, tops) - self.spectrum.centre, heights


def _reduced(vectors: Float) -> Float:
    """The two shortest vectors of the lattice that two vectors span."""
    first, second = vectors
    for _ in range(20):
        if first @ first > second @ second:
            first, second = second, first
        times = round(float(first @ second / (first @ first)))
        if times == 0:
            break
        second = second - times * first
    return np.array([first, second])


def _robust_fit(indices: Float, peaks: Float, weight: Float) -> Float:
    """Least squares with weights that fall off where a peak disagrees (Cauchy, half a bin)."""
    trust = np.ones(len(peaks))
    for _ in range(6):
        row = (weight * np.sqrt(trust))[:, None]
        solved = np.linalg.lstsq(indices * row, peaks * row, rcond=None)[0]
        residual = np.linalg.norm(peaks - indices @ solved, axis=1)
        trust = 1 / (1 + (residual / 0.3) ** 2)
    return np.asarray(solved)


NEAR_BINS = 1.5
MOST_POWER = 300.0


def _stretch(deformation: Float) -> tuple[Float, Float]:
    """Mean stretch and ratio of the principal stretches of matrices ``[..., 2, 2]``."""
    square = (deformation**2).sum(axis=(-2, -1))
    area = np.abs(np.linalg.det(deformation))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = square / (2 * area)
        return np.sqrt(area), half + np.sqrt(np.maximum(half**2 - 1, 0.0))


@dataclass(frozen=True, eq=False)
class _Field:
    """An image without its mean, and its window per axis, for sums over pixels."""

    image: Float
    windows: tuple[Float, Float]

    @classmethod
    def of(cls, image: Float) -> _Field:
        low, high = np.percentile(image, (0.1, 99.9))
        wy, wx = (np.hanning(n + 2)[1:-1] for n in image.shape)
        wy, wx = wy / wy.sum(), wx / wx.sum()
        clipped = np.clip(image, low, high)
        return cls(clipped - wy @ clipped @ wx, (wy, wx))

    def harmonics(self, indices: Float, reciprocal: Float) -> _Harmonics:
        return _Harmonics(self, np.concatenate([indices, -indices, [[0.0, 0.0]]]), reciprocal)


class _Harmonics:
    """The image as a sum of waves at the reflections, fitted together by least squares.

    Fitted one by one, peaks of a cell that the field holds only a few times would lean on each
    other.
    """

    def __init__(self, field: _Field, indices: Float, reciprocal: Float) -> None:
        self.indices, self.reciprocal = indices, reciprocal
        bins = indices @ reciprocal
        axes = [np.linspace(-0.5, 0.5, n, endpoint=False) + 0.5 / n for n in field.image.shape]
        waves = [np.exp(2j * np.pi * np.outer(a, b)) for a, b in zip(axes, bins.T, strict=True)]
        weighted = [w[:, None] * e for w, e in zip(field.windows, waves, strict=True)]
        # moments 0, 1, 2 of position between pairs of waves, per axis: the sums separate
        self.grams = [
            [(a[:, None] ** m * w).conj().T @ e for m in range(3)]
            for a, w, e in zip(axes, weighted, waves, strict=True)
        ]
        across = [field.image @ np.concatenate([(axes[1][:, None] ** m * weighted[1]).conj() for m in (0, 1)], axis=1)]
        plain, moved = np.split(across[0], 2, axis=1)
        self.seen = (weighted[0].conj() * plain).sum(axis=0)
        self.seen_moment = np.stack(
            [
                (axes[0][:, None] * weighted[0].conj() * plain).sum(axis=0),
                (weighted[0].conj() * moved).sum(axis=0),
            ]
        )
        self.gram = self.grams[0][0] * self.grams[1][0]
        ridge = 1e-3 * np.eye(len(indices))
        self.solve = np.linalg.inv(self.gram + ridge)
        self.waves = self.solve @ self.seen
        total = field.windows[0] @ field.image**2 @ field.windows[1]
        self.explained = float(np.real(self.seen.conj() @ self.waves) / total)

    def _moment(self, a: int, b: int | None = None) -> Float:
        order = [0, 0]
        order[a] += 1
        if b is not None:
            order[b] += 1
        return self.grams[0][order[0]] * self.grams[1][order[1]]

    def improved(self) -> Float:
        """The reciprocal vectors after one Gauss-Newton step on all waves at once."""
        tilt = [2j * np.pi * self.indices[:, j] * self.waves for j in (0, 1)]
        names = [(j, a) for j in (0, 1) for a in (0, 1)]
        coupling = np.stack([self._moment(a) @ tilt[j] for j, a in names], axis=1)
        normal = np.array([[np.real(tilt[i].conj() @ self._moment(a, b) @ tilt[j]) for j, b in names] for i, a in names])
        residual = [self.seen_moment[a] - self._moment(a) @ self.waves for a in (0, 1)]
        slope = np.array([np.real(tilt[j].conj() @ residual[a]) for j, a in names])
        normal = normal - np.real(coupling.conj().T @ self.solve @ coupling)
        step = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(4), slope)
        return self.reciprocal + step.reshape(2, 2)


def polish(field, reflections, reciprocal, steps=8):
    order = np.argsort(np.linalg.norm(reflections.indices @ reciprocal, axis=1))
    for share in np.linspace(0.3, 1, 4).tolist() + [1.0] * 4 if steps > 2 else [1.0] * steps:
        idx = reflections.indices[order[: max(6, int(share * len(order)))]]
        size = np.array(field.image.shape)
        idx = idx[(np.abs(idx @ reciprocal) < 0.48 * size).all(axis=1)]
        h = field.harmonics(idx, reciprocal)
        reciprocal = h.improved()
    return reciprocal, h


def agreement(h, projection):
    n = len(h.indices) // 2
    hk = h.indices[:n].astype(int)
    F = np.exp(-2j * np.pi * hk @ projection.columns.T) @ projection.weights
    lattice = np.array(projection.lattice_nm)
    g = np.linalg.norm(hk @ np.linalg.inv(lattice).T, axis=-1)
    sigma = max(COLUMN_SIGMA_SPACINGS * projection.spacing_nm, COLUMN_SIGMA_NM)
    F = F * np.exp(-2 * (np.pi * sigma * g) ** 2)
    c = h.waves[:n]
    N = 64
    grid = np.zeros((N, N), complex)
    np.add.at(grid, (hk[:, 0] % N, hk[:, 1] % N), c * F.conj())
    corr = np.real(np.fft.ifft2(grid)) * N * N / (np.linalg.norm(c) * np.linalg.norm(F))
    return corr.max(), corr.min()


def prototype(image, projection, pixel_size_nm, search=0.35, pol=4, full=False):
    nominal = np.array(projection.lattice_px(pixel_size_nm))
    g = np.linalg.inv(nominal).T
    slowest = 0.6 * np.linalg.norm(_reflections(projection).indices @ g, axis=1).min()
    image = np.asarray(image, float)
    sp = _spectrum(image, slowest)
    s = _Search.of(sp, projection, nominal)
    if len(sp.peaks) < 2:
        return None
    c = s.candidates(search)
    if not len(c):
        return None
    sc = s.score(c)
    order = np.argsort(-sc)
    taken = []
    for i in order:
        if all(min(np.abs(c[i] - t).max(),np.abs(c[i] + t).max()) > 0.03 * np.abs(t).max() for t in taken):
            taken.append(c[i])
            if len(taken) >= 12:
                break
    best = []
    for t in taken:
        r = s.refine(t)
        best.append((float(s.score(r[None])[0]), r))
    best.sort(key=lambda b: -b[0])
    field = _Field.of(image)
    out = []
    for sc, r in best[:pol]:
        if sc < 0.75 * best[0][0]:
            break
        if np.linalg.norm(_reduced(r), axis=1).min() < 6:
            r, h = polish(field, s.reflections, r)
        else:
            r2, h = polish(field, s.reflections, r, 2)
        ag = agreement(h, projection)
        out.append((max(ag[0], -ag[1]), r, h.explained, sc, ag))
    out.sort(key=lambda b: -b[0])
    return s, out
