"""How an image resembles itself, displaced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from scopegym.artifacts import Array
from scopegym.strips import precision

#: Where a crystal's image must resemble itself [spacings]: beyond the nearest neighbours, whose
#: distance noise of a narrow band of frequencies imitates.
SHELL = (1.5, 2.6)
#: Correlation there, times the square root of the number of spacings squared in the field, that
#: chance reaches. Measured on 60 fields each: white noise at most 1.6, noise smoothed over a tenth
#: of a spacing 1.9, over three tenths 2.7; simulated crystals with noise up to 0.6 at least 5.7.
BY_CHANCE = 2.5
#: In small fields chance reaches any correlation; beyond this one it is a lattice all the same.
CHANCE_AT_MOST = 0.25
#: Side of the tiles that are transformed at a time [px].
TILE = 1024


def autocorrelation(values: Array, reach: Sequence[int]) -> Array:
    """Mean product ``[2 Y + 1, 2 X + 1]`` of the deviations of values ``[H, W]`` from their mean
    with themselves, for every displacement up to the ``reach`` (Y, X) [px], none in the middle.

    Means over less than a quarter of the field are taken over a quarter: they would be chance. Each
    tile is correlated with itself and what lies within reach, so that no more than a few tiles are
    held as spectra; of images over 512 x 512 px in single precision.
    """
    from scipy.fft import irfft2, next_fast_len

    shape, around = np.array(values.shape), np.array(reach)
    sides = np.minimum(np.maximum(TILE, 2 * around), shape)
    size = [next_fast_len(int(n), real=True) for n in sides + 2 * around]
    kind = np.result_type(precision(values.size), np.complex64)
    spectrum: Array = np.zeros((size[0], size[1] // 2 + 1), kind)
    mean = values.mean(dtype=np.float64)
    for corner in product(*(range(0, n, side) for n, side in zip(shape, sides, strict=True))):
        first = np.maximum(np.subtract(corner, around), 0)
        last = np.minimum(np.add(corner, sides + around), shape)
        low, high = first - corner + around, last - corner + around
        wide = np.zeros(size, spectrum.real.dtype)
        wide[low[0] : high[0], low[1] : high[1]] = (
            values[first[0] : last[0], first[1] : last[1]] - mean
        )
        spectrum += _cross_spectrum(wide, around, sides)
        del wide  # before the next is made
    sums = irfft2(spectrum, size)[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    overlap = (n - np.abs(np.arange(-r, r + 1)) for n, r in zip(shape, reach, strict=True))
    found: Array = sums / np.maximum(np.outer(*overlap), values.size / 4)
    return found


def _cross_spectrum(wide: Array, around: Array, sides: Array) -> Array:
    """Spectrum of the correlation of a tile of these ``sides`` with itself and what is ``around``
    it, ``[H, W / 2 + 1]``."""
    from scipy.fft import rfft2

    (top, left), (bottom, right) = around, around + sides
    spectrum: Array = rfft2(wide[top:bottom, left:right], wide.shape)
    np.conj(spectrum, out=spectrum)
    spectrum *= rfft2(wide)
    return spectrum


def periodicity(response: Array, spacing: float) -> float:
    """How far a response ``[H, W]`` repeats itself as no noise does, from 0 to 1.

    Its highest autocorrelation in the second shell of neighbours rises from what chance reaches in
    a field of this size, 0, to twice that, 1. Fields that hold no second shell get 1: there is no
    telling.
    """
    furthest = math.ceil(SHELL[1] * spacing)
    # No further than half the field.
    reach = [min(furthest, (n - 1) // 2) for n in response.shape]
    correlation = autocorrelation(response, reach)
    y, x = (np.arange(-r, r + 1) for r in reach)
    distance = np.hypot(y[:, None], x)
    shell = (distance > SHELL[0] * spacing) & (distance < SHELL[1] * spacing)
    variance = correlation[reach[0], reach[1]]
    if not (shell.any() and variance > 0):
        return 1.0
    chance = min(BY_CHANCE * spacing / math.sqrt(response.size), CHANCE_AT_MOST)
    repeated = float(correlation[shell].max() / variance)
    return min(max(repeated / chance - 1, 0.0), 1.0)
