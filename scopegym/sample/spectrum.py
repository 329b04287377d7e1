"""The Fourier transform of a lattice image: its noise level and its peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.errors import ScopegymError

Float = NDArray[np.float64]
#: Power below this share of the strongest peak is leakage of the window, not a peak.
LEAKAGE = 3e-4
#: Peaks that are kept: the highest first.
MOST_PEAKS = 40
#: Peaks of at least this power over the noise are sharp: those of a lattice, not of chance.
SHARP = 60.0
#: Sufficient number of pixels per side; of larger images the centre is used.
LARGEST_PX = 1024


def readable(source: ArrayLike) -> NDArray[np.floating]:
    """An image ``[H, W]`` as float32 if it already is, otherwise as float64.

    Raises ScopegymError for other shapes and for pixels that are not finite.
    """
    image = np.asarray(source)
    if image.dtype != np.float32:
        image = image.astype(np.float64)
    if image.ndim != 2 or image.size == 0:
        raise ScopegymError(f"An image has two axes (y, x); this one is {image.shape}.")
    if not np.isfinite(image).all():
        raise ScopegymError("The image holds pixels that are NaN or infinite; replace them first.")
    return image


def centre(image: NDArray[np.floating], times: int = 1) -> Float:
    """The centre of an image, at most 1024 binned pixels per side; a bin has ``times`` x ``times``
    pixels."""
    sizes = (n // times for n in image.shape)
    firsts = [(max(0, (n - LARGEST_PX) // 2), min(n, (n + LARGEST_PX) // 2)) for n in sizes]
    rows, columns = (slice(times * first, times * last) for first, last in firsts)
    return coarser(image[rows, columns], times)


def coarser(image: NDArray[np.floating], times: int) -> Float:
    """The means over squares of ``times`` x ``times`` pixels, float64. Incomplete squares at the
    lower and right edges are dropped."""
    if times == 1:
        return image.astype(np.float64)
    h, w = (n // times for n in image.shape)
    blocks = image[: h * times, : w * times].astype(np.float64).reshape(h, times, w, times)
    return np.asarray(blocks.mean(axis=(1, 3)))


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
class Spectrum:
    """Power over its background ``[H, W]``, zero frequency in the centre, and its peaks.

    Frequencies are in bins: cycles per field along y and x. Noise has an exponential distribution
    of mean 1. It exceeds ``threshold`` in one image of 50.
    """

    power: Float
    log_power: Float
    threshold: float
    peaks: Float
    strengths: Float

    @classmethod
    def of(cls, field: Field, slowest: float) -> Spectrum:
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
    def sharp(self) -> NDArray[np.bool_]:
        """Which peaks are sharp."""
        return self.strengths >= SHARP

    @property
    def size(self) -> Float:
        return np.array(self.power.shape, dtype=float)

    @property
    def centre(self) -> Float:
        return self.size // 2

    def tops(self, predicted: Float, radius: float) -> tuple[Float, Float]:
        """The maximum within ``radius`` [bins] of each predicted position, and its power."""
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
    """The noise level in rings around zero frequency, where the spectrum of a blurred image is
    steep."""
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
    """Sub-pixel positions of maxima: the vertex of a parabola along each axis."""
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
