"""Spacing and count of columns, estimated from an image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.errors import ScopegymError
from scopegym.prior import Polarity, Prior
from scopegym.sample.spectrum import (
    LARGEST_PX,
    Field,
    block_level,
    centre,
    coarser,
    readable,
    vertices,
)
from scopegym.strips import tiles

Float = NDArray[np.float64]

#: Widths [spacings] of the two Gaussians whose difference shows columns. The inner one is as wide
#: as a column. The outer one excludes neighbours, so that bright Ba does not hide Ti.
INNER, OUTER = 0.15, 0.3
#: Largest share of noise among the columns, least height of a column [standard deviations of the
#: noise], and least height as a share of the strong columns.
FALSE_SHARE, FAINTEST_SIGMA, FAINTEST_SHARE = 0.1, 2.0, 0.1
#: The refinement starts below the dominant period: weak columns lie between strong ones.
START = 0.65
#: Least number of spacings across the centre of an image that is larger than its centre.
FEW = 16


def estimate_prior(source: ArrayLike, contrast: Polarity = "bright") -> Prior:
    """Expectations from the image ``[H, W]`` alone: nearest-neighbour spacing and column count.

    The first scale is the maximum of the energy of the normalised Laplacian of Gaussian above the
    noise (Lindeberg, Int. J. Comput. Vis. 30, 79 (1998)). It is refined until it equals the spacing
    of the columns found with it. In images beyond 1024 px the spacing is measured in the centre,
    with coarser pixels if it shows few columns. Columns are counted tile by tile. Raises
    ScopegymError for an image without contrast.
    """
    image = readable(source)
    if min(image.shape) < 16 or not np.ptp(image) > 0:
        raise ScopegymError("The image is constant or under 16 px; no spacing can be estimated.")
    sign = 1.0 if contrast == "bright" else -1.0
    times = 1
    seen = _Seen.of(sign * centre(image))
    while seen.few and times * LARGEST_PX < max(image.shape):
        times *= 2
        seen = _Seen.of(sign * centre(image, times))
    regions = tiles(image.shape, times * LARGEST_PX)
    if len(regions) == 1:
        count = _count(seen.found, seen.spacing, seen.shape)
    else:
        parts = (sign * coarser(image[tile], times) for tile in regions)
        count = sum(seen.count(part) for part in parts)
    sums = () if seen.nearest is None else (float(np.median(seen.nearest.sum(axis=1))),)
    return Prior(
        scale_px=times * seen.spacing,
        count=count,
        neighbour_sums_px=tuple(times * total for total in sums),
        contrast=contrast,
        sources=dict.fromkeys(("scale_px", "count", "neighbour_sums_px"), "estimated"),
    )


def _count(found: Float, spacing: float, shape: tuple[int, ...]) -> float:
    """The number of columns in a field, from those ``[N, 2]`` away from its border."""
    inner = (found >= spacing / 2) & (found <= np.array(shape) - 1 - spacing / 2)
    area = np.prod(np.maximum(np.array(shape) - spacing, 1.0))
    return float(inner.all(axis=1).sum() / area * math.prod(shape))


@dataclass(frozen=True, eq=False)
class _Seen:
    """Measured in an image: the spacing of its columns [px], the columns ``found`` ``[N, 2]`` and
    their distances to the ``nearest`` four."""

    spacing: float
    found: Float
    nearest: Float | None
    noise: _Noise
    shape: tuple[int, ...]

    @classmethod
    def of(cls, image: Float) -> _Seen:
        """Refine the spacing until it equals that of the columns found with it."""
        field = Field.of(image)
        noise = _Noise.of(field)
        spacing = max(START * noise.dominant_period_px(), 3.0)
        for _ in range(12):
            found = _columns(field.image, spacing, noise)
            nearest = _nearest(found, spacing, image.shape)
            if nearest is None:
                break
            former, spacing = spacing, float(np.median(nearest[:, 0]))
            if abs(spacing / former - 1) < 0.01:
                break
        return cls(spacing, found, nearest, noise, image.shape)

    @property
    def few(self) -> bool:
        """True if there are too few columns to measure."""
        return self.nearest is None or self.spacing > LARGEST_PX / FEW

    def count(self, other: Float) -> float:
        """The number of columns in another part of the same image."""
        found = _columns(Field.of(other).image, self.spacing, self.noise)
        return _count(found, self.spacing, other.shape)


@dataclass(frozen=True, eq=False)
class _Noise:
    """Spectra of an image [variance per pixel]: ``power`` and the ``level`` of its noise, at
    ``frequency`` [cycles/px]."""

    power: Float
    level: Float
    frequency: Float

    @classmethod
    def of(cls, field: Field) -> _Noise:
        from scipy.fft import fft2, fftfreq, fftshift

        window = np.outer(*field.windows)
        power = np.abs(fftshift(fft2(field.image * window))) ** 2 / (window**2).sum()
        axes = [fftshift(fftfreq(n)) for n in power.shape]
        return cls(power, block_level(power), np.hypot(axes[0][:, None], axes[1]))

    def dominant_period_px(self) -> float:
        """The period at which the normalised Laplacian has most energy [px]."""
        slowest = 6 / min(self.power.shape)
        use = (self.frequency > slowest) & (self.frequency < 0.4)
        excess = np.maximum(self.power - 2 * self.level, 0.0)[use]
        frequency = self.frequency[use]
        edges = np.geomspace(slowest, 0.4, 81)
        ring = np.clip(np.searchsorted(edges, frequency), 1, 80) - 1
        energy = np.bincount(ring, excess, minlength=80)
        centre = np.sqrt(edges[1:] * edges[:-1])
        # sigma^2 q^2 exp(-sigma^2 q^2 / 2), squared, has its maximum at sigma q = sqrt(2)
        relative = 2 * (centre / centre[:, None]) ** 2
        response = (relative**2 * np.exp(-relative)) @ energy
        return float(1 / centre[np.argmax(response)])

    def of_difference(self, spacing: float) -> tuple[float, float]:
        """What the noise leaves in the difference of Gaussians: its standard deviation, and how
        many maxima it has per pixel and unit of u exp(-u^2 / 2) above u standard deviations (Rice;
        R. J. Adler, The Geometry of Random Fields, 1981, section 6.9)."""
        q2 = (2 * np.pi * self.frequency * spacing) ** 2
        passed = self.level * (np.exp(-q2 * INNER**2 / 2) - np.exp(-q2 * OUTER**2 / 2)) ** 2
        slope = float((passed * q2).sum() / passed.sum()) / (2 * spacing**2)
        return float(np.sqrt(passed.mean())), slope / (2 * np.pi) ** 1.5


def _columns(image: Float, spacing: float, noise: _Noise) -> Float:
    """Maxima ``[N, 2]`` [px] of the difference of Gaussians that stand out of the noise."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    response = gaussian_filter(image, INNER * spacing, mode="reflect", truncate=3.0)
    response -= gaussian_filter(image, OUTER * spacing, mode="reflect", truncate=3.0)
    reach = 2 * max(1, round(0.3 * spacing)) + 1
    tops = np.argwhere((response == maximum_filter(response, reach)) & (response > 0))
    height = response[tuple(tops.T)]
    order = np.argsort(-height, kind="stable")
    tops, height = tops[order], height[order]
    deviation, rate = noise.of_difference(spacing)
    sigmas = height / max(deviation, 1e-300)
    # noise makes maxima only between columns, in a small part of the field
    count = np.arange(1, len(height) + 1)
    free = np.maximum(image.size - count * math.pi / 4 * spacing**2, 0.0)
    false = free * rate * sigmas * np.exp(-(np.minimum(sigmas, 30.0) ** 2) / 2)
    likely = (false <= FALSE_SHARE * count) & (sigmas >= FAINTEST_SIGMA)
    last = int(np.flatnonzero(likely)[-1]) + 1 if likely.any() else 0
    strong = float(np.quantile(height[:last], 0.9)) if last else 0.0
    return vertices(response, tops[:last][height[:last] >= FAINTEST_SHARE * strong])


def _nearest(found: Float, spacing: float, shape: tuple[int, ...]) -> Float | None:
    """Distances ``[N, 4]`` [px] to the nearest four, of the points away from the border."""
    from scipy.spatial import cKDTree

    inner = ((found > spacing) & (found < np.array(shape) - 1 - spacing)).all(axis=1)
    if inner.sum() < 5:
        return None
    distances, _ = cKDTree(found).query(found[inner], k=5)
    return np.asarray(distances)[:, 1:]
