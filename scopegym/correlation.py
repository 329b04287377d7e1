"""How an image resembles itself, displaced."""

from __future__ import annotations

import numpy as np

from scopegym.artifacts import Array


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
