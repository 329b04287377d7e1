"""Search for the reflections of a projection among the peaks of a spectrum.

Pairs of peaks are tested as pairs of reflections. Each lattice near the nominal size is scored
against the structure factors of the projected columns. The best are refined on the peaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopegym.sample.projection import Projection
from scopegym.sample.spectrum import Float, Spectrum

Complex = NDArray[np.complex128]
#: Largest ratio of the principal stretches: one axis 12 % longer, the other 12 % shorter.
MOST_STRAIN = 1.12 / 0.88
#: Width of the Gaussian image of a column [spacings], and its least width [nm], that of a probe of
#: 0.1 nm full width at half maximum.
COLUMN_SIGMA_SPACINGS = 0.2
COLUMN_SIGMA_NM = 0.04
#: Reflections weaker than this share of the strongest amplitude are ignored.
WEAKEST = 0.08
#: Numbers of reflections, candidates and refined lattices that are tested, the best first.
MOST_REFLECTIONS, MOST_GUESSES, MOST_READINGS = 60, 12, 4
#: Number of candidates that are compared with each other; many are the same lattice.
MOST_COMPARED = 1000
#: A peak matches a reflection within this distance [bins], the main lobe of the window.
NEAR_BINS = 1.5
#: Beyond this ratio of peak to noise a position is limited by the window, not by noise.
MOST_POWER = 300.0


@dataclass(frozen=True, eq=False)
class Reflections:
    """The reflections of a projection: ``indices`` ``[K, 2]`` of one half plane, and
    ``amplitudes`` relative to the strongest, which is first. ``table`` holds all amplitudes by
    index, with the origin in the middle and a border of zeros."""

    projection: Projection
    indices: Float
    amplitudes: Float
    table: Float

    @classmethod
    def of(cls, projection: Projection) -> Reflections:
        lattice = np.array(projection.lattice_nm)
        fastest = math.sqrt(-math.log(WEAKEST / 4) / 2) / (math.pi * _column_sigma(projection))
        reach = np.ceil(fastest * np.linalg.norm(lattice, axis=1)).astype(int)
        grid = np.indices(2 * reach + 1).reshape(2, -1).T - reach
        table = np.abs(structure_factors(projection, grid))
        table[len(table) // 2] = 0.0
        table /= table.max()
        order = np.argsort(-np.round(table, 6), kind="stable")
        order = order[(grid[order] @ [1.0, 1e-6] > 0) & (table[order] > WEAKEST)]
        order = order[:MOST_REFLECTIONS]
        framed = np.pad(table.reshape(2 * reach + 1), 1)
        return cls(projection, grid[order].astype(float), table[order], framed)

    def strongest(self) -> Float:
        """The strongest eight, and the strongest four that are not collinear with the first. In a
        narrow cell these may be weak."""
        y, x = self.indices.T
        aside = np.flatnonzero(np.abs(y * x[0] - x * y[0]) > 0.5)[:4]
        return self.indices[np.union1d(np.arange(min(8, len(y))), aside)]

    def slowest(self, lattice_px: Float) -> float:
        """The lowest frequency a strained lattice may have [cycles/px]."""
        frequency = np.linalg.norm(self.indices @ np.linalg.inv(lattice_px).T, axis=1)
        return float(frequency.min()) / math.sqrt(MOST_STRAIN)


def _column_sigma(projection: Projection) -> float:
    return max(COLUMN_SIGMA_SPACINGS * projection.spacing_nm, COLUMN_SIGMA_NM)


def structure_factors(projection: Projection, indices: NDArray[Any]) -> Complex:
    """The reflections of columns with the width of the probe."""
    factors = np.zeros(len(indices), dtype=complex)
    for place, weight in zip(projection.columns, projection.weights, strict=True):
        factors += weight * np.exp(-2j * np.pi * (indices @ place))
    frequency = np.linalg.norm(indices @ np.linalg.inv(np.array(projection.lattice_nm)).T, axis=-1)
    return factors * np.exp(-2 * (np.pi * _column_sigma(projection) * frequency) ** 2)


@dataclass(frozen=True, eq=False)
class Search:
    """One spectrum and the reflections to look for. Lattices are reciprocal vectors [bins]."""

    spectrum: Spectrum
    reflections: Reflections
    heights: Float
    nominal_px: Float
    search: float

    @classmethod
    def of(
        cls, spectrum: Spectrum, reflections: Reflections, nominal_px: Float, search: float
    ) -> Search:
        from scipy.ndimage import maximum_filter

        heights = np.maximum(spectrum.log_power - math.log(spectrum.threshold), 0.0)
        heights = maximum_filter(heights, 3)  # a guess can be a bin off elsewhere
        return cls(spectrum, reflections, heights, nominal_px, search)

    def lattice_px(self, reciprocal: Float) -> Float:
        """Lattice vectors [px] of reciprocal ones, one or many ``[..., 2, 2]``."""
        return np.swapaxes(np.linalg.inv(reciprocal / self.spectrum.size), -1, -2)

    def deformation(self, reciprocal: Float) -> Float:
        """The matrices that map the nominal lattice to the measured ones."""
        return np.linalg.inv(self.nominal_px) @ self.lattice_px(reciprocal)

    def allowed(self, reciprocal: Float) -> NDArray[np.bool_]:
        """Which lattices lie within the search of the nominal scale and are strained little."""
        scale, strain = stretch(self.deformation(reciprocal))
        return (np.abs(scale - 1) < self.search) & (strain < MOST_STRAIN)

    def readings(self) -> list[Float]:
        """The most likely distinct lattices, refined on the peaks."""
        refined = [self.refined(guess) for guess in self._best(self._guesses(), MOST_GUESSES)]
        refined = [r for r in refined if self.allowed(r[None])[0]]
        return self._best(np.array(refined), MOST_READINGS, worst=0.75)

    def _best(self, lattices: Float, most: int, worst: float = 0.0) -> list[Float]:
        """The distinct lattices of the highest scores, down to a share of the best."""
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
        """All allowed lattices with two peaks as two strong reflections ``[C, 2, 2]``."""
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
        """Similarity ``[C]`` of predicted and observed peaks: the cosine between amplitudes, over
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
        """Which peaks ``[C, P]`` are at a reflection that is not extinct."""
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
            # no reflection may be confused with its neighbour
            closest = float(np.linalg.norm(reduced(reciprocal), axis=1).min())
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
        """The reflections below the highest frequency of the image, in sets of growing size."""
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
    """Robust least squares: a peak far from the fit has less weight.

    A stacking fault splits some reflections and leaves the others in place.
    """
    trust = np.ones(len(peaks))
    for _ in range(5):
        row = (weight * np.sqrt(trust))[:, None]
        solved = np.linalg.lstsq(indices * row, peaks * row, rcond=None)[0]
        residual = np.linalg.norm(peaks - indices @ solved, axis=1)
        trust = 1 / (1 + (residual / 0.3) ** 2)  # Cauchy's weights, 0.3 bins wide
    return np.asarray(solved)


def stretch(deformation: Float) -> tuple[Float, Float]:
    """Mean stretch and ratio of the principal stretches of matrices ``[..., 2, 2]``."""
    area = np.abs(np.linalg.det(deformation))
    half = (deformation**2).sum(axis=(-2, -1)) / (2 * np.maximum(area, 1e-300))
    return np.sqrt(area), half + np.sqrt(np.maximum(half**2 - 1, 0.0))


def reduced(vectors: Float) -> Float:
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
