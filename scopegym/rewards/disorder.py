"""Claims: what is called disordered has lost the lattice and nothing else has; it is compact, has a
short outline, and is no more of the field than it can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scopegym import cache
from scopegym.artifacts import Array, Labels, Source, readonly
from scopegym.operators.filters import smooth
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term

#: Half the side of the squares that are compared, smoothing before, and what is too wide to be of
#: the lattice and is taken out [spacings]: squares of two spacings hold about four columns.
SQUARE, FINEST, WIDEST = 1.0, 0.15, 2.0
#: Repeats of the lattice that are compared with, each with its opposite; the nearest peaks of the
#: autocorrelation beyond this distance [spacings] among those at least this similar to the best.
REPEATS, NEAREST, SIMILAR = 4, 0.7, 0.85
#: Disorder is told from order at least at this ratio of squared differences (natural logarithm):
#: noise alone scatters by a tenth of that.
LEAST_CONTRAST = 0.5
#: A place counts in proportion to how far it is beyond this limit, up to this much.
CERTAIN = 1.0
#: What an empty mask is credited beside its agreement: as much as a certain region of this side
#: [spacings], below which there is no telling a disordered region from a few odd columns.
CREDIT = 3.0
#: Worst outline in sides of the image; the bound sets how much a shorter outline is worth.
LONGEST = 30.0
#: Where more than this share of the field is disordered, no lattice is left to compare with.
MOST = 0.5


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def disorder_evidence(source: Source, labels: Labels, prior: Prior) -> float:
    """How well the regions agree with where the untouched image departs from its own repeats.

    A column that is displaced, blurred or dimmed differs from those one lattice vector away.
    Squared differences to the nearest repeats, averaged over about four columns, are held against
    those of the rest of the image; the limit lies half-way to the highest ones, on a logarithmic
    scale.
    Agreement is intersection over union, where places count by their distance from the limit. Both
    sides get what three by three certain spacings weigh wherever the regions are empty: so calling
    nothing disordered is right where hardly anything is.
    """
    departure = cache.current().get(
        ("departure", source.key, prior.scale_px), lambda: _Departure.of(source, prior.scale_px)
    )
    return departure.agreement(disordered(labels), (CREDIT * prior.scale_px) ** 2)


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def compactness(labels: Labels, prior: Prior) -> float:
    """4 pi A / P^2 of all regions together (paper 000, equation 3): 1 for a single disk.

    Area and outline are summed over the regions. The exponent is 2, as only that has no unit: it
    does not depend on the size of the image or of the regions. Where nothing is disordered nothing
    is spread out: 1.
    """
    del prior
    mask = disordered(labels)
    outline = outline_length(mask)
    return min(4 * np.pi * float(np.count_nonzero(mask)) / outline**2, 1.0) if outline else 1.0


@reward_term(direction="minimize", bounds=(0.0, LONGEST))
def perimeter(labels: Labels, prior: Prior) -> float:
    """Length of the outlines of all regions in units of the mean side of the image (paper 000).

    The image's own border counts where a region reaches it: so the whole image is no way out.
    """
    del prior
    mask = disordered(labels)
    return outline_length(mask) / (sum(mask.shape) / 2)


@reward_term(direction="minimize", bounds=(0.0, 0.5))
def disordered_fraction(labels: Labels, prior: Prior) -> float:
    """By how much the share of the field in regions lies outside its range: the prior's, or 0 to a
    half."""
    low, high = prior.disordered or (0.0, MOST)
    share = float(disordered(labels).mean())
    return max(low - share, share - high, 0.0)


def disordered(labels: Labels) -> Array:
    """Which pixels ``[H, W]`` are in a region: those that are not background."""
    return labels.map != (0 if labels.background is None else labels.background)


def outline_length(mask: Array) -> float:
    """Length of the outline of a mask [px], the image's border included: edges between pixels,
    corrected for their staircase (pi / 4 is the mean over angles)."""
    padded = np.pad(mask, 1)
    edges = np.count_nonzero(padded[1:] != padded[:-1])
    edges += np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return edges * np.pi / 4


@dataclass(frozen=True)
class _Departure:
    """How far ``excess`` ``[H, W]`` each place is beyond the limit of order, clipped to +- 1."""

    excess: Array

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return self.excess.nbytes

    @classmethod
    def of(cls, source: Source, spacing: float) -> _Departure:
        level = np.log(departures(source.pixels, spacing))
        ordered, highest = np.percentile(level, (25, 98))
        limit = ordered + max(LEAST_CONTRAST, (highest - ordered) / 2)
        excess = np.clip((level - limit) / CERTAIN, -1, 1)
        return cls(readonly(excess, np.float32))

    def agreement(self, mask: Array, credit: float) -> float:
        """Weighted intersection over union of the mask and what lies beyond the limit."""
        beyond = np.maximum(self.excess, 0)
        both = float(beyond[mask].sum())
        either = float(beyond.sum() - np.minimum(self.excess, 0)[mask].sum())
        return (both if mask.any() else credit) / (either + credit)


def departures(pixels: Array, spacing: float) -> Array:
    """Mean squared difference ``[H, W]`` of each place from its nearest repeats in the lattice.

    Of the repeats inside the image the more similar half counts: at the edge of a region one half
    lies in it, and the other does not.
    """
    fine = smooth(pixels.astype(np.float64), FINEST * spacing)
    fine -= smooth(fine, WIDEST * spacing)
    half = max(1, round(SQUARE * spacing))
    found = []
    for dy, dx in repeats(fine, spacing):
        here, there = _shifted(fine.shape, dy, dx), _shifted(fine.shape, -dy, -dx)
        difference = _box((fine[here] - fine[there]) ** 2, half)
        for at in (here, there):
            found.append(np.full(fine.shape, np.inf))
            found[-1][at] = difference
    stack = np.sort(found, axis=0)
    inside = np.isfinite(stack)
    counted = np.arange(len(stack))[:, None, None] < (inside.sum(axis=0) + 1) // 2
    total = np.where(counted, np.where(inside, stack, 0), 0).sum(axis=0)
    # A flat image departs from nothing; the floor keeps its logarithm finite.
    return total / np.maximum(counted.sum(axis=0), 1) + 1e-12


def repeats(pixels: Array, spacing: float) -> Array:
    """Shifts (y, x) ``[S, 2]`` [px] at which the image resembles itself, one of each two opposite,
    nearest first, within a third of the field."""
    from scipy.ndimage import maximum_filter

    shape = np.array(pixels.shape)
    correlation = _autocorrelation(pixels - pixels.mean())
    reach = shape // 3
    window = tuple(slice(n - r, n + r + 1) for n, r in zip(shape, reach, strict=True))
    near = correlation[window]
    shifts = np.moveaxis(np.indices(near.shape), 0, -1) - reach
    distance = np.hypot(*np.moveaxis(shifts, -1, 0))
    peak = near == maximum_filter(near, 2 * max(1, round(NEAREST * spacing / 2)) + 1)
    upper = (shifts[..., 0] > 0) | ((shifts[..., 0] == 0) & (shifts[..., 1] > 0))
    peak &= upper & (distance > NEAREST * spacing)
    if not peak.any():
        return np.empty((0, 2), np.intp)
    peak &= near >= SIMILAR * near[peak].max()
    return shifts[peak][np.argsort(distance[peak], kind="stable")][:REPEATS]


def _autocorrelation(values: Array) -> Array:
    """Mean product ``[2 H, 2 W]`` of the values with themselves, no shift in the middle."""
    padded = tuple(2 * n for n in values.shape)
    sums, counts = (
        np.fft.irfft2(np.abs(np.fft.rfft2(what, padded)) ** 2, padded)
        for what in (values, np.ones_like(values))
    )
    return np.fft.fftshift(sums / np.maximum(counts, values.size / 4))


def _shifted(shape: tuple[int, ...], dy: int, dx: int) -> tuple[slice, slice]:
    """Where the image lies whose place displaced by (dy, dx) is still inside."""
    rows, columns = (slice(max(0, -d), n - max(0, d)) for d, n in zip((dy, dx), shape, strict=True))
    return rows, columns


def _box(values: Array, half: int) -> Array:
    import cv2

    half = min(half, *((n - 1) // 2 for n in values.shape)) if min(values.shape) > 2 else 0
    size = (2 * half + 1, 2 * half + 1)
    return np.maximum(cv2.blur(values, size, borderType=cv2.BORDER_REFLECT), 0)
