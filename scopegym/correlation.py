"""How an image resembles itself, displaced."""

from __future__ import annotations

import math

import numpy as np

from scopegym.artifacts import Array

#: Where a crystal's image must resemble itself [spacings]: beyond the nearest neighbours, whose
#: distance noise of a narrow band of frequencies imitates.
SHELL = (1.5, 2.6)
#: Correlation there, times the square root of the number of spacings squared in the field, that
#: chance reaches. Measured on 60 fields each: white noise at most 1.6, noise smoothed over a tenth
#: of a spacing 1.9, over three tenths 2.7; simulated crystals with noise up to 0.6 at least 5.7.
BY_CHANCE = 2.5
#: In small fields chance reaches any correlation; beyond this one it is a lattice all the same.
CHANCE_AT_MOST = 0.25


def autocorrelation(values: Array) -> Array:
    """Mean product ``[2 H, 2 W]`` of values ``[H, W]`` with themselves for every displacement, none
    in the middle (H, W).

    Means over less than a quarter of the field are taken over a quarter: they would be chance.
    """
    padded = tuple(2 * n for n in values.shape)
    sums, counts = (
        np.fft.irfft2(np.abs(np.fft.rfft2(what, padded)) ** 2, padded)
        for what in (values, np.ones_like(values))
    )
    mean: Array = np.fft.fftshift(sums / np.maximum(counts, values.size / 4))
    return mean


def periodicity(response: Array, spacing: float) -> float:
    """How far a response ``[H, W]`` repeats itself as no noise does, from 0 to 1.

    Its highest autocorrelation in the second shell of neighbours rises from what chance reaches in
    a field of this size, 0, to twice that, 1. Fields that hold no second shell get 1: there is no
    telling.
    """
    correlation = autocorrelation(response - response.mean())
    offset = np.indices(correlation.shape) - np.array(correlation.shape)[:, None, None] // 2
    distance = np.hypot(*offset)
    near = (np.abs(offset) < np.array(response.shape)[:, None, None] / 2).all(axis=0)
    shell = near & (distance > SHELL[0] * spacing) & (distance < SHELL[1] * spacing)
    variance = correlation[distance == 0]
    if not (shell.any() and variance > 0):
        return 1.0
    chance = min(BY_CHANCE * spacing / math.sqrt(response.size), CHANCE_AT_MOST)
    repeated = float(correlation[shell].max() / variance[0])
    return min(max(repeated / chance - 1, 0.0), 1.0)
