"""Whether columns are brighter or darker than the gaps between them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from numpy.typing import ArrayLike

from scopegym.prior import Polarity, Prior
from scopegym.sample.lattice import LatticeFit
from scopegym.sample.spectrum import centre, readable

#: Widths of the difference of Gaussians that shows columns [spacings].
NARROW, WIDE = 0.15, 0.6
#: Pixels per spacing that show a column; finer ones are binned.
ENOUGH_PX = 16
#: Skewness below which an image shows no polarity, set after looking at these images: simulated
#: crystals with noise up to 0.5 and published images of crystals have at least 0.5, a noisy
#: honeycomb of graphene has 0.02.
LEAST_SKEWNESS = 0.15


def skewness(source: ArrayLike, spacing_px: float) -> float:
    """Skewness of a difference of Gaussians of the centre of an image ``[H, W]``.

    Columns are narrower than the gaps between them. So the skewness is positive for bright columns
    and negative for dark ones, whatever the crystal. An image of less than two spacings shows none.
    """
    from scipy.ndimage import gaussian_filter
    from scipy.stats import skew

    whole = readable(source)
    if 2 * spacing_px > min(whole.shape):
        return 0.0
    times = max(1, int(spacing_px / ENOUGH_PX))
    image, spacing_px = centre(whole, times), spacing_px / times
    response = gaussian_filter(image, NARROW * spacing_px)
    response -= gaussian_filter(image, WIDE * spacing_px)
    # Both filters need a margin.
    margin = min(round(2 * WIDE * spacing_px), (min(image.shape) - 1) // 4)
    inner = response[margin : image.shape[0] - margin, margin : image.shape[1] - margin]
    return float(skew(inner, axis=None)) if inner.std() > 0 else 0.0


def polarity_at(source: ArrayLike, spacing_px: float) -> Polarity | None:
    """The polarity of columns with this spacing [px]; None if the image does not show it."""
    return _of(skewness(source, spacing_px))


def polarity_of_lattice(fit: LatticeFit) -> Polarity | None:
    """The polarity of the mean unit cell; None if the lattice was not found."""
    if not fit.reliable:
        return None
    return "bright" if fit.contrast > 0 else "dark"


def polarity_alone(source: ArrayLike, priors: Mapping[Polarity, Prior]) -> Polarity | None:
    """The polarity of columns of unknown spacing; None if the image does not show it.

    The spacing follows from the polarity, so ``priors`` are estimates for both, and the stronger
    one decides.
    """
    return _of(fmean(skewness(source, prior.scale_px) for prior in priors.values()))


def _of(value: float) -> Polarity | None:
    if abs(value) < LEAST_SKEWNESS:
        return None
    return "bright" if value > 0 else "dark"
