"""The power spectrum of each patch, and its part that does not depend on orientation."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Features, Image
from scopegym.operators.base import operator
from scopegym.operators.symmetry.centres import (
    CHUNK,
    FLAT,
    Grid,
    Patch,
    Stride,
    bounded,
    deviations,
    grid,
    whole,
)
from scopegym.space import Integer, Scale
from scopegym.strips import precision


@operator
def power_spectrum(
    image: Image,
    *,
    patch: Patch = 2.0,
    stride: Stride = 0.25,
    finest: Annotated[float, Scale(0.3, 1.0, log=True)] = 0.5,
) -> Features:
    """Share of each frequency in the power of a square patch under a Hann window.

    ``patch`` is half the side of the square, ``finest`` the shortest period kept [px]. Values
    ``[N, D]`` are shares of the power that is kept, mean excluded: they sum to 1, or are all 0
    where the patch is flat. Raises ScopegymError when the image is smaller than the patch.
    """
    half = whole("patch", patch)
    frequencies = _half_plane(half, finest)
    step = bounded(image.shape, whole("stride", stride), len(frequencies))
    centres = grid("power_spectrum", image.shape, half, step)
    power = local_power(image.pixels, centres, half, frequencies)
    names = tuple(f"power {ky:+d} {kx:+d}" for ky, kx in frequencies.tolist())
    return Features(power, centres.yx, image.shape, names)


@operator
def local_fourier(
    image: Image,
    *,
    patch: Patch = 2.0,
    stride: Stride = 0.25,
    finest: Annotated[float, Scale(0.3, 1.0, log=True)] = 0.5,
    harmonics: Annotated[int, Integer(0, 3)] = 3,
) -> Features:
    """Describe the local power spectrum independently of orientation: rings and their harmonics.

    For each ring of frequencies: its share of the power, and the strength of its 2-, 4-, .. fold
    angular modulation up to twice ``harmonics`` (a power spectrum has even folds only). Grains of
    one crystal look the same, other crystals do not. ``patch``, ``finest`` and the errors are those
    of ``power_spectrum``. Values ``[N, D]`` in 0..1.
    """
    half = whole("patch", patch)
    frequencies = _half_plane(half, finest)
    step = bounded(image.shape, whole("stride", stride), len(frequencies))
    centres = grid("local_fourier", image.shape, half, step)
    power = local_power(image.pixels, centres, half, frequencies)
    radius, angle = np.hypot(*frequencies.T), np.arctan2(-frequencies[:, 0], frequencies[:, 1])
    ring = np.arange(1, math.ceil(radius.max()) + 1)
    # Rings as soft as a peak under the Hann window is wide: sharper ones see the frequency grid.
    share = np.exp(-((radius[:, None] - ring) ** 2) / 2)
    share /= share.sum(axis=1, keepdims=True)
    folds = 2 * np.arange(harmonics + 1)
    weights = [
        [(share * wave(fold * angle)[:, None]).astype(power.dtype) for wave in (np.cos, np.sin)]
        for fold in folds
    ]
    values = [np.hypot(power @ cosine, power @ sine) for cosine, sine in weights]
    names = tuple(f"ring {k} fold {fold}" for fold in folds for k in ring)
    return Features(np.concatenate(values, axis=1), centres.yx, image.shape, names)


def _half_plane(half: int, finest: float) -> Array:
    """Frequencies (ky, kx) ``[D, 2]`` [cycles per patch] of periods from ``finest`` [px] on, one
    of each opposite pair and without the mean."""
    most = int(np.clip((2 * half + 1) / whole("finest", finest), 1, half))
    k = np.arange(-most, most + 1)
    ky, kx = (axis.ravel() for axis in np.meshgrid(k, k, indexing="ij"))
    upper = (kx > 0) | ((kx == 0) & (ky > 0))
    return np.stack([ky[upper], kx[upper]], axis=1)


def local_power(pixels: Array, centres: Grid, half: int, frequencies: Array) -> Array:
    """Shares ``[N, D]`` of the frequencies (ky, kx) [cycles per patch] in the windowed patches.

    The transform is separable, and rows transformed once serve every patch they cross.
    """
    most = int(frequencies.max())
    side = 2 * half + 1
    position = np.arange(side) - half
    hann = 0.5 + 0.5 * np.cos(np.pi * position / (half + 1))
    waves = np.exp(-2j * np.pi / side * np.outer(position, np.arange(-most, most + 1)))
    kernel = hann[:, None] * waves / hann.sum()
    window = kernel.sum(axis=0)
    iy, ix = (frequencies + most).T
    deviation = deviations(pixels)
    power = np.empty((math.prod(centres.shape), len(frequencies)), precision(pixels.size))
    rows = max(1, CHUNK // (4 * len(centres.columns)))
    for top in range(0, len(centres.rows), rows):
        block = Grid(centres.rows[top : top + rows], centres.columns)
        spectra = _transform(deviation, block, half, kernel[:, most:], kernel)
        # The mean under the window leaks into its neighbours in frequency: take it out exactly.
        spectra = spectra[:, iy, ix - most] - spectra[:, [most], [0]] * window[iy] * window[ix]
        first = top * len(centres.columns)
        found = np.abs(spectra) ** 2
        total = found.sum(axis=1, keepdims=True)
        flat = total <= FLAT
        power[first : first + len(found)] = np.where(flat, 0.0, found / np.where(flat, 1.0, total))
    return power


def _transform(values: Array, block: Grid, half: int, across: Array, down: Array) -> Array:
    """Local transforms ``[N, KY, KX]`` with kernels ``[side, KX]`` and ``[side, KY]``."""
    from numpy.lib.stride_tricks import sliding_window_view

    side, step = 2 * half + 1, block.rows.step
    left, last = block.columns[0] - half, block.columns[-1] - half
    strip = values[block.rows[0] - half : block.rows[-1] + half + 1]
    patches = sliding_window_view(strip, side, axis=1)[:, left : last + 1 : step]
    lines = patches @ across.real + 1j * (patches @ across.imag)  # [R, columns, KX]
    stacked = sliding_window_view(lines, side, axis=0)[::step]  # [rows, columns, KX, side]
    return np.swapaxes(stacked @ down, -1, -2).reshape(-1, down.shape[1], across.shape[1])
