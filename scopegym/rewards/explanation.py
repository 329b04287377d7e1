"""Claims: nothing that the image shows is left out, and nothing is invented.

The image without noise and background is modelled by a Gaussian at every position, all of one
width, with free amplitudes. The prior gives no more than the scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from scopegym import cache
from scopegym.artifacts import Array, Points, Source, readonly
from scopegym.operators.filters import smooth
from scopegym.operators.peaks import peaks
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term
from scopegym.sample.spectrum import block_level, coarser
from scopegym.strips import tiles

#: Widths of a column's Gaussian that are tried, and width of the background [spacings].
WIDTHS = (0.10, 0.13, 0.165, 0.21, 0.265, 0.33)
BACKGROUND = 0.8
#: Power below this multiple of the noise's level counts as noise; one bin in twenty exceeds it.
ABOVE_NOISE = 3.0
#: A column has at least this share of the median amplitude. Set after looking at images with weak
#: columns: with 0.2 half of the scandium columns beside dysprosium count as invented.
WEAKEST = 0.1
#: What is left nearer to a position than this is an error of its shape, not of its place
#: [spacings].
NEAR = 0.27
#: Columns are at least this far apart [spacings].
APART = 0.35
#: An image of a smaller side [px] has no spectrum to tell noise by.
LEAST_SIDE_PX = 4
#: Pixels per spacing that are enough; finer images are binned. Pixels per side of a tile.
ENOUGH_PX, TILE_PX = 10, 1024


@reward_term(direction="minimize", bounds=(0.0, 1.0))
def left_out(source: Source, points: Points, prior: Prior) -> float:
    """Share of the image's explained variance that only further positions would explain.

    Further positions are the maxima of what the Gaussians at the positions leave of the image, if
    they are as strong as columns. It falls to 0 when nothing that looks like a column is missing;
    1 if the positions explain nothing.
    """
    return _explanation(source, points, prior).left_out


@reward_term(direction="minimize", bounds=(0.0, 1.0))
def invented(source: Source, points: Points, prior: Prior) -> float:
    """Share of the positions where the image has no column of their own: the Gaussian there is
    weaker than a tenth of the median one, when all are fitted together, or it is on the column of a
    stronger one."""
    return _explanation(source, points, prior).invented


class Explanation(NamedTuple):
    """How far positions explain an image."""

    left_out: float
    invented: float


def _explanation(source: Source, points: Points, prior: Prior) -> Explanation:
    if min(source.shape) < LEAST_SIDE_PX:
        return Explanation(math.nan, math.nan)
    known, scale = cache.current(), prior.scale_px
    scene = known.get(("scene", source.key, scale), lambda: Scene.of(source.pixels, scale))
    return known.get(("explanation", source.key, scale, points.key), lambda: scene.by(points.yx))


@dataclass(frozen=True, eq=False)
class Shape:
    """The image of a column: a Gaussian of width ``sigma`` less its background [px]."""

    sigma: float
    background: float

    @cached_property
    def parts(self) -> tuple[tuple[float, float], ...]:
        """Amplitude and width [px] of two Gaussians whose sum it is."""
        share = self.sigma**2 / (self.sigma**2 + self.background**2)
        return (1.0, self.sigma), (-share, math.hypot(self.sigma, self.background))

    def overlap(self, distance: Array | float) -> Array:
        """The integral over the product of two such images at a distance [px]."""
        total: Array = np.zeros(np.shape(distance))
        for (a, v), (b, w) in product(self.parts, repeat=2):
            spread = v**2 + w**2
            height = a * b * 2 * math.pi * (v * w) ** 2 / spread
            total = total + height * np.exp(-np.square(distance) / (2 * spread))
        return total

    @cached_property
    def energy(self) -> float:
        """The integral over the square."""
        return float(self.overlap(0.0))

    def matched(self, pixels: Array) -> Array:
        """The integral over the product of this image, at every place, and pixels ``[H, W]``."""
        total = np.zeros_like(pixels)
        for amplitude, width in self.parts:
            total += np.float32(amplitude * 2 * math.pi * width**2) * smooth(pixels, width)
        return total

    def amplitudes(self, matched: Array, yx: Array) -> Array:
        """Amplitudes ``[N]``, not negative, that fit all positions ``[N, 2]`` together."""
        from scipy.sparse import coo_matrix
        from scipy.spatial import cKDTree

        seen = sampled(matched, yx)
        first, second = cKDTree(yx).query_pairs(REACH * self.background, output_type="ndarray").T
        shared = self.overlap(np.linalg.norm(yx[first] - yx[second], axis=1))
        every = np.arange(len(yx))
        # A little more on the diagonal: the overlap is cut off at the reach.
        values = np.concatenate([shared, shared, np.full(len(yx), 1.03 * self.energy)])
        rows = np.concatenate([first, second, every]), np.concatenate([second, first, every])
        gram = coo_matrix((values, rows), shape=(len(yx), len(yx))).tocsr()
        found = _solved(gram, seen, self.energy)
        kept = np.flatnonzero(found > 0)
        if len(kept) < len(found):
            found = np.zeros(len(yx))
            found[kept] = np.maximum(_solved(gram[kept][:, kept], seen[kept], self.energy), 0.0)
        return found

    def drawn(self, shape: tuple[int, ...], yx: Array, amplitudes: Array) -> Array:
        """The sum ``[H, W]`` of the images at all positions."""
        reach = math.ceil(4 * self.sigma)
        around = np.arange(-reach, reach + 1)
        whole = np.rint(yx).astype(np.intp)
        profiles = np.exp(
            -np.square(whole[..., None] + around - yx[..., None]) / (2 * self.sigma**2)
        )
        patches = (amplitudes[:, None] * profiles[:, 0])[:, :, None] * profiles[:, 1, None, :]
        # A frame takes what lies outside; positions are at most one pixel outside.
        frame = reach + 1
        height, width = (n + 2 * frame for n in shape)
        rows, columns = (whole[:, axis, None] + around + frame for axis in (0, 1))
        places = rows[:, :, None] * width + columns[:, None, :]
        drawn = np.bincount(places.ravel(), patches.ravel(), height * width)
        framed = drawn.reshape(height, width).astype(np.float32)
        model = framed[frame : height - frame, frame : width - frame]
        return np.asarray(model - smooth(model, self.background))


def sampled(field: Array, yx: Array) -> Array:
    """A field ``[H, W]`` at positions ``[N, 2]``, linear between pixels."""
    from scipy.ndimage import map_coordinates

    values: Array = map_coordinates(field, yx.T, np.float64, order=1, mode="nearest")
    return values


#: Overlaps beyond this many widths of the background are left out: they are below 1 %.
REACH = 4.25


def _solved(gram: Any, seen: Array, energy: float, steps: int = 12) -> Array:
    """Least squares by conjugate gradients from what single columns would have."""
    found = seen / energy
    rest = seen - gram @ found
    way, size = rest.copy(), float(rest @ rest)
    least = 1e-6 * float(seen @ seen)
    for _ in range(steps):
        if size <= least:
            break
        bent = gram @ way
        step = size / float(way @ bent)
        found, rest = found + step * way, rest - step * bent
        former, size = size, float(rest @ rest)
        way = rest + size / former * way
    return found


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of an image without noise and background: ``clean`` ``[H, W]`` begins at ``corner``
    [px] and has a margin; ``inner`` is the part that this tile stands for."""

    clean: Array
    matched: Array
    corner: tuple[int, int]
    inner: tuple[slice, slice]

    @cached_property
    def energy(self) -> float:
        return float(np.square(self.clean[self.inner], dtype=np.float64).sum())

    def holds(self, yx: Array) -> Array:
        """Which positions ``[N, 2]`` are in the inner part."""
        (top, bottom), (left, right) = ((s.start, s.stop) for s in self.inner)
        return np.asarray(((yx >= (top, left)) & (yx < (bottom, right))).all(axis=1))

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return self.clean.nbytes + self.matched.nbytes


@dataclass(frozen=True, eq=False)
class Scene:
    """An image without noise and background, in tiles, and the shape of its columns.

    ``binned`` pixels of the image make one here; ``spacing`` is in those [px].
    """

    tiles: tuple[Tile, ...]
    shape: Shape
    spacing: float
    binned: int

    @classmethod
    def of(cls, pixels: Array, spacing_px: float) -> Scene:
        binned = max(1, min(int(spacing_px / ENOUGH_PX), min(pixels.shape) // 16))
        image = coarser(pixels, binned).astype(np.float32)
        spacing = spacing_px / binned
        half = TILE_PX // 4
        centre = image[tuple(slice(max(0, n // 2 - half), n // 2 + half) for n in image.shape)]
        shape = _shape_of(_clean(centre, spacing), spacing)
        parts = (_tile(image, part, spacing, shape) for part in tiles(image.shape, TILE_PX))
        return cls(tuple(parts), shape, spacing, binned)

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return sum(tile.nbytes for tile in self.tiles)

    def by(self, yx: Array) -> Explanation:
        """How far positions ``[N, 2]`` [px] explain the image."""
        yx = (yx - (self.binned - 1) / 2) / self.binned
        area = sum(math.prod(tile.clean[tile.inner].shape) for tile in self.tiles)
        if len(yx) * (APART * self.spacing) ** 2 > 2 * area:
            return Explanation(1.0, 1.0)  # more positions than columns have room
        energy = sum(tile.energy for tile in self.tiles)
        left, more, weak, counted = 0.0, 0.0, 0, 0
        for tile in self.tiles:
            found = self._in_tile(tile, yx - tile.corner)
            left, more = left + found[0], more + found[1]
            weak, counted = weak + found[2], counted + found[3]
        explained = max(energy - left, 0.0)
        if not (explained > 0 and counted):
            return Explanation(1.0, 1.0 if not counted else weak / counted)
        return Explanation(more / (explained + more), weak / counted)

    def _in_tile(self, tile: Tile, yx: Array) -> tuple[float, float, int, int]:
        """Energy that is left, that of further columns in it, and how many positions are weak, of
        how many."""
        from scipy.spatial import cKDTree

        yx = yx[((yx > -1) & (yx < tile.clean.shape)).all(axis=1)]
        if not len(yx):
            return tile.energy, 0.0, 0, 0
        counted = int(tile.holds(yx).sum())
        yx = yx[~self._double(yx, sampled(tile.matched, yx))]
        amplitudes = self.shape.amplitudes(tile.matched, yx)
        rest = tile.clean - self.shape.drawn(tile.clean.shape, yx, amplitudes)
        left = float(np.square(rest[tile.inner], dtype=np.float64).sum())
        inside = tile.holds(yx)
        if not inside.any():
            return left, 0.0, 0, 0
        least = WEAKEST * float(np.median(amplitudes[inside]))
        real = int((amplitudes[inside] > least).sum())
        response = self.shape.matched(rest) / self.shape.energy
        others, heights = peaks(response, APART * self.spacing, max(least, 1e-9))
        new = tile.holds(others)
        if new.any():
            new[new] = cKDTree(yx).query(others[new])[0] > NEAR * self.spacing
        more = float(np.square(heights[new], dtype=np.float64).sum())
        return left, more * self.shape.energy, counted - real, counted

    def _double(self, yx: Array, strength: Array) -> Array:
        """Which positions ``[N]`` are on the column of a stronger one."""
        from scipy.spatial import cKDTree

        pairs = cKDTree(yx).query_pairs(APART * self.spacing, output_type="ndarray")
        second = np.where(strength[pairs[:, 0]] < strength[pairs[:, 1]], *pairs.T)
        doubled = np.zeros(len(yx), bool)
        doubled[second] = True
        return doubled


def _clean(image: Array, spacing: float) -> Array:
    """An image ``[H, W]`` without background and without the frequencies that noise dominates."""
    from scipy.fft import fft2, fftshift, ifft2, ifftshift

    flat = image - smooth(image, BACKGROUND * spacing)
    pad = int(min(2 * spacing, min(flat.shape) - 1))
    spectrum = fft2(np.pad(flat, pad, mode="reflect"))
    power = fftshift(np.abs(spectrum).astype(np.float64) ** 2)
    noise = ABOVE_NOISE * block_level(power) / np.maximum(power, 1e-300)
    spectrum *= ifftshift(np.maximum(1 - noise, 0.0))
    found = ifft2(spectrum).real[pad : pad + image.shape[0], pad : pad + image.shape[1]]
    return readonly(found, np.float32)


def _shape_of(clean: Array, spacing: float) -> Shape:
    """The shape that explains most with columns at the most column-like places of an image."""
    response = smooth(clean, 0.15 * spacing) - smooth(clean, 0.45 * spacing)
    yx, heights = peaks(response, spacing / 2, 0.0)
    shapes = [Shape(width * spacing, BACKGROUND * spacing) for width in WIDTHS]
    if len(yx) < 2:
        return shapes[len(shapes) // 2]
    yx = yx[heights > WEAKEST * np.quantile(heights, 0.9)].astype(np.float64)

    def rest(shape: Shape) -> float:
        amplitudes = shape.amplitudes(shape.matched(clean), yx)
        return float(np.square(clean - shape.drawn(clean.shape, yx, amplitudes)).sum())

    return min(shapes, key=rest)


def _tile(image: Array, part: tuple[slice, slice], spacing: float, shape: Shape) -> Tile:
    margin, half = math.ceil(3 * spacing), int(min(spacing / 2, (min(image.shape) - 1) // 2))
    first = [max(0, s.start - margin) for s in part]
    last = [min(n, s.stop + margin) for n, s in zip(image.shape, part, strict=True)]
    clean = _clean(image[first[0] : last[0], first[1] : last[1]], spacing)
    inner = [
        slice(max(s.start, half) - f, min(s.stop, n - half) - f)
        for s, f, n in zip(part, first, image.shape, strict=True)
    ]
    matched = readonly(shape.matched(clean))
    return Tile(clean, matched, (first[0], first[1]), (inner[0], inner[1]))
