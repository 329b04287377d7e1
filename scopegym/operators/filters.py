"""Image to image: denoising, background, contrast.

Intensities are those of ``Micrograph.normalized()``: 0 is dark, 1 is bright, a little beyond
either is allowed.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Image
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.space import Choice, Real, Scale


def smooth(pixels: Array, sigma: float) -> Array:
    """Gaussian of standard deviation sigma [px], truncated at 4 sigma, mirrored at the edges."""
    import cv2

    if not sigma > 0:
        raise ScopegymError(f"A Gaussian needs a positive sigma, not {sigma:g} px.")
    size = 2 * int(4 * sigma + 0.5) + 1
    # OpenCV mirrors only once, so that a kernel wider than the image needs padding by hand.
    if size // 2 > min(pixels.shape):
        from scipy.ndimage import gaussian_filter

        return gaussian_filter(pixels, sigma)
    return cv2.GaussianBlur(pixels, (size, size), sigma, borderType=cv2.BORDER_REFLECT)


@operator
def gaussian(image: Image, *, sigma: Annotated[float, Scale(0.02, 0.4, log=True)] = 0.1) -> Image:
    """Smooth with a Gaussian of standard deviation sigma [px]."""
    return Image(smooth(image.pixels, sigma))


@operator
def median(image: Image, *, size: Annotated[float, Scale(0.05, 0.5, log=True)] = 0.2) -> Image:
    """Replace each pixel by the median of a square of about ``size`` [px], at least 3 x 3."""
    from scipy.ndimage import median_filter

    return Image(median_filter(image.pixels, 2 * max(1, round(size / 2 - 0.5)) + 1))


@operator
def background_subtract(
    image: Image,
    *,
    method: Annotated[str, Choice(("gaussian", "rolling_ball"))] = "gaussian",
    radius: Annotated[float, Scale(0.6, 4.0, log=True)] = 1.5,
) -> Image:
    """Subtract a slowly varying background; the image's mean stays.

    ``gaussian``: a Gaussian of standard deviation ``radius`` [px]. ``rolling_ball``: what a ball
    of that radius, as high as the normalised range, reaches from below (Sternberg 1983).
    """
    if method == "gaussian":
        background = smooth(image.pixels, radius)
    else:
        background = rolling_ball(image.pixels, radius)
    return Image(image.pixels - background + background.mean(dtype=np.float64))


def rolling_ball(pixels: Array, radius: float) -> Array:
    """The background ``[H, W]`` under which a ball of this radius [px] rolls.

    A ball wider than 8 px rolls over the minima of small tiles and its path is interpolated:
    the path is smooth on that scale, and the cost grows with the fourth power otherwise.
    """
    from skimage.measure import block_reduce
    from skimage.restoration import ellipsoid_kernel, rolling_ball
    from skimage.transform import resize

    tile = max(1, int(radius // 8))
    tile = min(tile, *pixels.shape)
    reduced = block_reduce(pixels, (tile, tile), np.min, cval=float(pixels.max()))
    width = 2 * max(1, round(radius / tile)) + 1
    path = rolling_ball(reduced, kernel=ellipsoid_kernel((width, width), 1.0))
    if tile == 1:
        return path.astype(np.float32)
    full = tuple(tile * n for n in reduced.shape)
    wide = resize(path, full, order=1, mode="edge", anti_aliasing=False)
    return wide[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)


@operator
def clahe(
    image: Image,
    *,
    clip_limit: Annotated[float, Real(1.0, 8.0, log=True)] = 2.0,
    tile: Annotated[float, Scale(1.5, 8.0, log=True)] = 4.0,
) -> Image:
    """Equalise contrast locally in tiles of this size [px], with limited amplification.

    Works on intensities clipped to 0..1 (Zuiderveld 1994).
    """
    import cv2

    height, width = image.shape
    tiles = (max(1, round(width / tile)), max(1, round(height / tile)))
    levels = np.round(np.clip(image.pixels, 0, 1) * 65535).astype(np.uint16)
    equalised = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=tiles).apply(levels)
    return Image(equalised.astype(np.float32) / np.float32(65535))


@operator
def bandpass(
    image: Image,
    *,
    small: Annotated[float, Scale(0.03, 0.25, log=True)] = 0.1,
    large: Annotated[float, Scale(0.3, 3.0, log=True)] = 0.8,
) -> Image:
    """Keep features between two Gaussian widths ``small`` and ``large`` [px], and the mean."""
    if not small < large:
        raise ScopegymError(f"bandpass needs small < large, not {small:g} and {large:g} px.")
    band = smooth(image.pixels, small) - smooth(image.pixels, large)
    return Image(band + image.pixels.mean(dtype=np.float64))


@operator
def denoise_tv(image: Image, *, weight: Annotated[float, Real(0.01, 1.0, log=True)] = 0.1) -> Image:
    """Remove noise and keep edges (total variation); a larger weight removes more.

    Source: Chambolle 2004, as in scikit-image.
    """
    from skimage.restoration import denoise_tv_chambolle

    return Image(denoise_tv_chambolle(image.pixels, weight=weight, max_num_iter=50))


@operator
def denoise_nlm(
    image: Image, *, strength: Annotated[float, Real(0.4, 2.0, log=True)] = 0.8
) -> Image:
    """Average similar patches (non-local means): patches of 5 px within 5 px.

    ``strength`` is in multiples of the noise level, which is estimated from the image
    (Buades 2005; Donoho's wavelet estimate of the noise).
    """
    from skimage.restoration import denoise_nl_means

    sigma = noise_level(image.pixels)
    if sigma == 0:
        return image
    return Image(
        denoise_nl_means(
            image.pixels, patch_size=5, patch_distance=5, h=strength * sigma, sigma=sigma
        )
    )


def noise_level(pixels: Array) -> float:
    """Standard deviation of white noise in the image, from its finest diagonal differences.

    Median absolute deviation of the 2 x 2 Haar detail (Donoho and Johnstone 1994).
    """
    even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2].astype(np.float64)
    if even.size == 0:
        return 0.0
    detail = (even[::2, ::2] - even[1::2, ::2] - even[::2, 1::2] + even[1::2, 1::2]) / 2
    return float(np.median(np.abs(detail)) / 0.6745)


@operator
def invert(image: Image) -> Image:
    """Make dark columns bright: 1 minus the normalised intensity."""
    return Image(1 - image.pixels)
