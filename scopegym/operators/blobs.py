"""Blob detectors in scale space, exact and cached.

``laplacian_of_gaussian`` gives what ``skimage.feature.blob_log`` gives for the same float32 image,
number for number, in a fraction of its time: the smoothing passes are matrix products in double
precision, rounded where SciPy rounds; the response planes and their local maxima are kept in the
current cache; and only blobs that overlap are looked at when pruning. On a GPU the planes and their
maxima come from ``on_device``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from scopegym import cache, device
from scopegym.artifacts import Array, Image, Points, readonly
from scopegym.errors import ScopegymError
from scopegym.operators import on_device
from scopegym.operators.base import operator
from scopegym.operators.peaks import by_area
from scopegym.operators.pruning import MAX_PAIRS, prune, warn_too_many
from scopegym.space import Integer, Real, Scale
from scopegym.strips import strips

#: Limits that keep pruning below about 400 MB whatever is asked for, in images up to 2048 x 2048
#: px; in larger ones they grow with the area. Such a field at a spacing of 5 px holds 170,000
#: columns.
MAX_CANDIDATES = 200_000

#: Response planes of larger images [px] are computed strip by strip and not kept.
LARGEST_KEPT = 2048 * 2048

#: Rows or columns filtered by one matrix product; small ones waste the least on the band's zeros.
BLOCK = 16

#: Size of such a strip [px].
STRIP = 2**21


@operator
def laplacian_of_gaussian(
    image: Image,
    *,
    min_sigma: Annotated[float, Scale(0.05, 0.25, log=True)] = 0.2,
    max_sigma: Annotated[float, Scale(0.25, 0.5, log=True)] = 0.25,
    num_sigma: Annotated[int, Integer(1, 10)] = 4,
    threshold: Annotated[float, Real(0.005, 0.5, log=True)] = 0.02,
    overlap: Annotated[float, Real(0.0, 1.0)] = 0.3,
) -> Points:
    """Find bright blobs as maxima of the scale-normalised Laplacian of Gaussian.

    ``num_sigma`` scales are tried from ``min_sigma`` to ``max_sigma`` [px]; responses must exceed
    ``threshold`` (in units of the image); of two blobs whose disks of radius sqrt(2) sigma share
    more than the fraction ``overlap``, the smaller one is dropped. ``strength`` is the response.

    Equals ``skimage.feature.blob_log`` on the float32 image. Source: Barakati et al. 2024,
    Physics-based reward driven image analysis in microscopy, figure 1(A).
    """
    sigmas = sigma_list(min_sigma, max_sigma, num_sigma)
    return _blobs(image, "log", sigmas, _log_plane, threshold, overlap, float(sigmas[-1]))


@operator
def difference_of_gaussian(
    image: Image,
    *,
    min_sigma: Annotated[float, Scale(0.05, 0.25, log=True)] = 0.16,
    max_sigma: Annotated[float, Scale(0.25, 0.5, log=True)] = 0.3,
    sigma_ratio: Annotated[float, Real(1.2, 2.0)] = 1.6,
    threshold: Annotated[float, Real(0.005, 0.5, log=True)] = 0.02,
    overlap: Annotated[float, Real(0.0, 1.0)] = 0.3,
) -> Points:
    """Find bright blobs as maxima of differences of Gaussians.

    Scales grow from ``min_sigma`` to ``max_sigma`` [px] by ``sigma_ratio``; ``threshold`` and
    ``overlap`` as in ``laplacian_of_gaussian``. Source: the cascade of
    ``skimage.feature.blob_dog``.
    """
    _check_sigmas(min_sigma, max_sigma)
    if not sigma_ratio > 1:
        raise ScopegymError(f"sigma_ratio must exceed 1, not {sigma_ratio:g}.")
    steps = int(math.log(max_sigma / min_sigma) / math.log(sigma_ratio) + 1)
    sigmas = [min_sigma * sigma_ratio**i for i in range(steps)]

    def plane(pixels: Any, sigma: float) -> Any:
        wide = _gaussian(pixels, sigma * sigma_ratio)
        # The factor makes the response independent of the ratio (it tends to the LoG).
        return (_gaussian(pixels, sigma) - wide) / np.float32(sigma_ratio - 1)

    kind, widest = f"dog{sigma_ratio!r}", sigmas[-1] * sigma_ratio
    return _blobs(image, kind, sigmas, plane, threshold, overlap, widest)


@dataclass(frozen=True)
class Candidates:
    """Local maxima over space and scale, strongest first: ``yx`` ``[N, 2]``, ``sigma`` and
    ``response`` ``[N]``."""

    yx: Array
    sigma: Array
    response: Array

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return self.yx.nbytes + self.sigma.nbytes + self.response.nbytes


def _blobs(
    image: Image,
    kind: str,
    sigmas: Sequence[float] | Array,
    plane: Callable[[Any, float], Any],
    threshold: float,
    overlap: float,
    widest: float,
) -> Points:
    """``widest`` is the standard deviation of the widest Gaussian in any plane [px]."""
    floor = min(threshold, 0.0)
    key = (image.key, kind, "candidates", tuple(map(float, sigmas)), floor)
    found = cache.current().get(key, lambda: _candidates(image, kind, sigmas, plane, floor, widest))
    count = int(np.searchsorted(-found.response, -np.float32(threshold), side="left"))
    most = by_area(MAX_CANDIDATES, image.pixels.size)
    if count > most:
        warn_too_many(f"More than {most}", most)
        count = most
    pairs = by_area(MAX_PAIRS, image.pixels.size)
    kept = prune(found.yx[:count], found.sigma[:count], overlap, pairs)
    return Points(found.yx[kept], image.shape, found.sigma[kept], found.response[kept])


def _candidates(
    image: Image,
    kind: str,
    sigmas: Sequence[float] | Array,
    plane: Callable[[Any, float], Any],
    floor: float,
    widest: float,
) -> Candidates:
    """The local maxima of all planes, computed on the current device."""
    most = by_area(MAX_CANDIDATES, image.pixels.size) + 1
    if device.current() != "cpu":
        # No plane is kept: a GPU computes one faster than it hands it over.
        pixels = on_device.tensor(image.pixels, device.current())
        planes = (plane(pixels, sigma) for sigma in sigmas)
        return _ranked(on_device.local_maxima_in_scale(planes, floor, most), sigmas)
    if image.pixels.size > LARGEST_KEPT:
        return _in_strips(image.pixels, sigmas, plane, floor, widest, most)
    store = cache.current()

    def response(sigma: float) -> Array:
        key = (image.key, kind, float(sigma))
        return store.get(key, lambda: readonly(plane(image.pixels, sigma)))

    return local_maxima_in_scale(response, sigmas, floor)


def _in_strips(
    pixels: Array,
    sigmas: Sequence[float] | Array,
    plane: Callable[[Any, float], Any],
    floor: float,
    widest: float,
    most: int,
) -> Candidates:
    """The same maxima, found in strips of rows that overlap by what the filters reach."""
    found, flat = _NOTHING, True
    margin = int(4 * widest + 0.5) + 1
    for strip in strips(pixels.shape, margin, size=STRIP):
        part, top = pixels[strip.around], strip.around.start
        # One row more on either side, for the neighbours of the outermost.
        inner = slice(max(0, strip.inner.start - 1), strip.inner.stop + 1)

        def response(sigma: float, part: Array = part, inner: slice = inner) -> Array:
            return np.asarray(plane(part, sigma)[inner])

        *maxima, alike = _maxima(response, sigmas, floor, most)
        flat = flat and alike
        maxima[0] += top + inner.start
        own = (maxima[0] >= strip.rows.start) & (maxima[0] < strip.rows.stop)
        both = zip(found, (column[own] for column in maxima), strict=True)
        found = _strongest([np.concatenate(pair) for pair in both], most)
    return _ranked(tuple(column[:0] for column in found) if flat else found, sigmas)


#: Rows y and columns x, scales by number and responses of no maxima.
_NOTHING: tuple[Array, ...] = (*np.empty((3, 0), np.int32), np.empty(0, np.float32))


def sigma_list(min_sigma: float, max_sigma: float, num_sigma: int) -> Array:
    """The scales [px], in the precision in which ``blob_log`` takes them for a float32 image."""
    _check_sigmas(min_sigma, max_sigma)
    if num_sigma < 1:
        raise ScopegymError(f"num_sigma must be at least 1, not {num_sigma}.")
    ends = np.array([min_sigma, max_sigma], dtype=np.float32)
    sigmas: Array = np.linspace(ends[:1], ends[1:], num_sigma)[:, 0]
    return sigmas


def _check_sigmas(min_sigma: float, max_sigma: float) -> None:
    if not 0 < min_sigma <= max_sigma:
        raise ScopegymError(
            f"Scales need 0 < min_sigma <= max_sigma, not {min_sigma:g} and {max_sigma:g} px."
        )


def _gaussian(pixels: Any, sigma: float) -> Any:
    """The smoothed image, where the image is: an array, or a tensor on a device."""
    from scopegym.operators.filters import smooth

    if isinstance(pixels, np.ndarray):
        return smooth(pixels, sigma)
    return on_device.gaussian(pixels, _kernel(sigma, 0))


def _log_plane(pixels: Any, sigma: float) -> Any:
    return -_laplacian(pixels, sigma) * np.float32(sigma) ** 2


def _laplacian(pixels: Any, sigma: float) -> Any:
    """The Laplacian of Gaussian, where the image is: an array, or a tensor on a device."""
    if isinstance(pixels, np.ndarray):
        return gaussian_laplace(pixels, sigma)
    return on_device.gaussian_laplace(pixels, _kernel(sigma, 0), _kernel(sigma, 2))


def gaussian_laplace(pixels: Array, sigma: float) -> Array:
    """``scipy.ndimage.gaussian_laplace`` of a float32 image, as matrix products.

    A 1-D filter is a product with a banded matrix; a block of 16 rows needs one small product,
    which BLAS carries out at several times the speed of a filter loop. Sums are in double
    precision, and rounded to float32 after each pass because SciPy rounds there. So the bits are
    the same, but for the few pixels in a million, on large offsets, whose sum lies so near to the
    middle of two floats that the order of its terms decides.
    """
    smooth, curve = (_kernel(sigma, order) for order in (0, 2))
    radius = len(smooth) // 2
    height, width = pixels.shape
    both = np.vstack([_band(curve), _band(smooth)])
    rows = np.pad(pixels, ((radius, radius + BLOCK), (0, 0)), mode="symmetric").astype(np.float64)
    curved = np.empty((height, width), np.float32)
    smoothed = np.empty((height, width), np.float32)
    for top in range(0, height, BLOCK):
        bottom = min(top + BLOCK, height)
        block = both @ rows[top : top + BLOCK + 2 * radius]
        curved[top:bottom] = block[: bottom - top]
        smoothed[top:bottom] = block[BLOCK : BLOCK + bottom - top]
    return _along_rows(curved, smooth) + _along_rows(smoothed, curve)


def _along_rows(pixels: Array, kernel: Array) -> Array:
    radius = len(kernel) // 2
    width = pixels.shape[1]
    padded = np.pad(pixels, ((0, 0), (radius, radius + BLOCK)), mode="symmetric")
    padded = padded.astype(np.float64)
    band = _band(kernel).T
    result = np.empty(pixels.shape, np.float32)
    for left in range(0, width, BLOCK):
        right = min(left + BLOCK, width)
        block = padded[:, left : left + BLOCK + 2 * radius] @ band
        result[:, left:right] = block[:, : right - left]
    return result


def _kernel(sigma: float, order: int) -> Array:
    """SciPy's own filter weights, read off its answer to an impulse."""
    from scipy.ndimage import gaussian_filter1d

    radius = int(4.0 * float(sigma) + 0.5)
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1.0
    weights: Array = gaussian_filter1d(impulse, sigma, order=order, mode="constant")
    return weights


def _band(kernel: Array) -> Array:
    """The matrix ``[BLOCK, BLOCK + 2 radius]`` that filters one block."""
    band = np.zeros((BLOCK, BLOCK + len(kernel) - 1))
    for row in range(BLOCK):
        band[row, row : row + len(kernel)] = kernel
    return band


def local_maxima_in_scale(
    response: Callable[[float], Array], sigmas: Sequence[float] | Array, floor: float
) -> Candidates:
    """Pixels above ``floor`` that none in their 3 x 3 x 3 surroundings exceeds, strongest first.

    At most one more than can be pruned, and only three planes at a time, so that memory does not
    grow with the number of scales or with the size of flat regions, which equal their surroundings.
    """
    *found, flat = _maxima(response, sigmas, floor)
    # Where everything equals its surroundings nothing is a maximum; scikit-image makes an exception
    # of a lone pixel at a lone scale.
    if flat and response(sigmas[0]).size * len(sigmas) > 1:
        found = [column[:0] for column in found]
    return _ranked(tuple(found), sigmas)


def _maxima(
    response: Callable[[float], Array],
    sigmas: Sequence[float] | Array,
    floor: float,
    most: int | None = None,
) -> tuple[Any, ...]:
    """y, x, level and response ``[N]`` of the maxima, and whether all pixels are some."""
    found, flat = _NOTHING, True
    planes = {0: response(sigmas[0])}
    highest = [_highest(planes[0])]
    for level in range(len(sigmas)):
        if level + 1 < len(sigmas):
            planes[level + 1] = response(sigmas[level + 1])
            highest.append(_highest(planes[level + 1]))
        plane = planes.pop(level)
        top = plane == np.maximum.reduce(highest)
        flat = flat and bool(top.all())
        y, x = np.nonzero(top & (plane > np.float32(floor)))
        more = (y.astype(np.int32), x.astype(np.int32), np.full(len(y), level), plane[y, x])
        found = _strongest([np.concatenate(pair) for pair in zip(found, more, strict=True)], most)
        highest = highest[-2:]
    return *found, flat


def _ranked(found: tuple[Array, ...], sigmas: Sequence[float] | Array) -> Candidates:
    """Maxima given as y, x, level and response ``[N]``, in their order."""
    y, x, levels, value = found
    order = np.lexsort((levels, x, y, -value))
    return Candidates(
        yx=readonly(np.column_stack([y, x])[order], np.int32),
        sigma=readonly(np.asarray(sigmas)[levels[order]], np.float32),
        response=readonly(value[order], np.float32),
    )


def _strongest(columns: list[Array], most: int | None = None) -> tuple[Array, ...]:
    """The rows of the largest last column, the earlier ones of equals; one more than can be pruned
    tells that there were more."""
    value = columns[-1]
    most = MAX_CANDIDATES + 1 if most is None else most
    if len(value) > most:
        weakest = np.partition(value, len(value) - most)[len(value) - most]
        kept = value > weakest
        equals = np.flatnonzero(value == weakest)
        kept[equals[: most - np.count_nonzero(kept)]] = True
        columns = [column[kept] for column in columns]
    return tuple(columns)


def _highest(plane: Array) -> Array:
    """The highest value in each 3 x 3 neighbourhood."""
    import cv2

    return cv2.dilate(plane, np.ones((3, 3), np.uint8))
