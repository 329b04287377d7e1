"""Refinement of a lattice on the pixels of an image, as a sum of waves at its reflections."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from scopegym.sample.reflections import (
    NEAR_BINS,
    Complex,
    Search,
    reduced,
    stretch,
    structure_factors,
)
from scopegym.sample.spectrum import Field, Float

#: Least confidence of a found lattice. Test images of YBa2Cu3O7, BaTiO3 and MoS2 reach 0.74 to
#: 0.92; of 6,110 trials on photographs, noise and blobs two passed.
RELIABLE = 0.64
#: Reciprocal spacings [bins] below which peaks overlap, and below which a lattice is not found.
FEW_PERIODS, FEWEST_PERIODS = 6.0, 1.9
_BASES = [
    np.array(entries, dtype=float).reshape(2, 2)
    for entries in product((-1, 0, 1), repeat=4)
    if abs(entries[0] * entries[3] - entries[1] * entries[2]) == 1
]


class _Waves:
    """An image as a sum of waves at the reflections, fitted together under the window.

    With few periods in the field the peaks overlap, so a fit of single peaks would be biased.
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
class Reading:
    """One lattice that an image may show, with its waves."""

    search: Search
    reciprocal: Float
    indices: Float
    waves: Complex

    @classmethod
    def of(cls, search: Search, field: Field, reciprocal: Float) -> Reading:
        """Refined on the pixels: from low frequencies up where peaks overlap."""
        few = float(np.linalg.norm(reduced(reciprocal), axis=1).min()) < FEW_PERIODS
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
        expected = structure_factors(self.search.reflections.projection, self.indices)
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
    def unindexed(self) -> float:
        """Share of the amplitude of the image's sharp peaks that are not on the lattice."""
        spectrum = self.search.spectrum
        amplitudes = np.sqrt(spectrum.strengths[spectrum.sharp])
        missed = ~self.search.on_lattice(self.reciprocal[None])[0][spectrum.sharp]
        return float(amplitudes[missed].sum() / max(amplitudes.sum(), 1e-300))

    @property
    def absent(self) -> float:
        """Share of the predicted amplitude that the image lacks, up to its fastest sharp peak."""
        search, spectrum = self.search, self.search.spectrum
        if not spectrum.sharp.any():
            return 1.0
        places = search.reflections.indices @ self.reciprocal
        fastest = np.linalg.norm(spectrum.peaks[spectrum.sharp], axis=1).max() + NEAR_BINS
        seen = np.linalg.norm(places, axis=1) <= fastest
        power = spectrum.tops(places[seen], NEAR_BINS)[1]
        amplitudes = search.reflections.amplitudes[seen]
        lacking = amplitudes[power < spectrum.threshold].sum()
        return float(lacking / max(amplitudes.sum(), 1e-300))

    @property
    def reliable(self) -> bool:
        """True for a high confidence, at least three reflections, and enough periods in the
        field."""
        periods = float(np.linalg.norm(reduced(self.reciprocal), axis=1).min())
        return self.confidence >= RELIABLE and self.found >= 3 and periods >= FEWEST_PERIODS

    def upright(self) -> Reading:
        """The same lattice in the basis with least strain, no reflection and least rotation."""
        ways = [self.rebased(change) for change in _BASES]
        ways = [w for w in ways if self.search.allowed(w.reciprocal[None])[0]]
        likely = max(w.confidence for w in ways) - 0.03
        return min((w for w in ways if w.confidence >= likely), key=Reading.oddity)

    def rebased(self, change: Float) -> Reading:
        reciprocal = np.linalg.inv(change).T @ self.reciprocal
        return replace(self, reciprocal=reciprocal, indices=np.rint(self.indices @ change.T))

    def oddity(self) -> tuple[float, ...]:
        deformation = self.search.deformation(self.reciprocal)
        rotation, mirrored = turn_of(deformation)
        strain = float(stretch(deformation)[1])
        lengths = [np.linalg.norm(v, axis=1) for v in (self.lattice_px, self.search.nominal_px)]
        worst = float(np.abs(lengths[0] / lengths[1] - 1).max())
        return round(strain / 0.004), mirrored, round(worst / 0.02), round(abs(rotation), 3)


def turn_of(deformation: Float) -> tuple[float, bool]:
    """The rotation [deg] in a deformation of row vectors (y, x), and whether it reflects."""
    u, _, v = np.linalg.svd(deformation)
    turn = u @ v
    mirrored = bool(np.linalg.det(turn) < 0)
    if mirrored:
        turn = u @ np.diag([1.0, -1.0]) @ v
    return math.degrees(math.atan2(turn[0, 1], turn[0, 0])), mirrored
