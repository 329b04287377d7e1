"""Claims: the mask covers the regions without lattice order, and only those; they are compact, have
a short outline, and cover a plausible share of the field of view."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scopegym import cache
from scopegym.artifacts import Array, Labels, Source, readonly
from scopegym.correlation import autocorrelation, periodicity
from scopegym.operators.filters import smooth
from scopegym.prior import Disorder, Prior
from scopegym.rewards.base import reward_term
from scopegym.strips import precision, strips

#: Half the side of the squares that are compared, smoothing before, and what is too wide to be of
#: the lattice and is taken out [spacings]: squares of two spacings hold about four columns.
SQUARE, FINEST, WIDEST = 1.0, 0.15, 2.0
#: Repeats of the lattice that are compared with, each with its opposite; the nearest peaks of the
#: autocorrelation beyond this distance [spacings] among those at least this similar to the best.
REPEATS, NEAREST, SIMILAR = 4, 0.7, 0.85
#: Repeats further away than both are not looked for [spacings, px: a third of 1024].
FURTHEST, FURTHEST_PX = 16.0, 341
#: The first repeat at least this far off the direction of the nearest one (sine of the angle) leads
#: across it: a fault along the nearest direction shows in no other.
ACROSS = 0.5
#: Differences count in units of the contrast within this distance [spacings]: noise grows with the
#: signal, and where columns fade into each other little is left to differ.
CONTRAST = 4.0
#: Disorder is told from order at least at this ratio of squared differences (natural logarithm),
#: and at this many times the way between the lowest twentieth and the lowest quarter of all places.
#: These are ordered ones; for normal noise the limit is 2.2 standard deviations above their mean.
LEAST_CONTRAST, LEAST_SPREADS = 0.5, 3.0
#: How far from ordered to highest the limit lies. A square that only reaches into a region departs
#: as well: of the places within ``EDGE`` [spacings] the least departure counts. Over 30 simulated
#: images what lies beyond the limit then overlaps the truth by 0.84 (0.82 half-way and without);
#: with twice the distance it would be 0.86, but planar faults would vanish, one spacing wide.
LIMIT, EDGE = 0.4, 0.25
#: A place counts in proportion to how far it is beyond this limit, up to this much.
CERTAIN = 1.0
#: What an empty mask is credited beside its agreement: as much as a certain region of this side
#: [spacings], below which there is no telling a disordered region from a few odd columns.
CREDIT = 3.0
#: Worst outline in sides of the image; the bound sets how much a shorter outline is worth.
LONGEST = 30.0
#: Squared contrast below which there is none; the image runs from 0 to 1.
FLOOR = 1e-12
#: Where more than this share of the field is disordered, no lattice is left to compare with.
MOST = 0.5


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def disorder_evidence(source: Source, labels: Labels, prior: Prior) -> float:
    """Overlap of the regions with the places where the original image departs from its own repeats.

    A column that is displaced, blurred or dimmed differs from those one lattice vector away.
    Squared differences to the nearest repeats, averaged over about four columns and in units of the
    local contrast, are compared with those of the rest of the image. The limit lies part of the way
    to the highest ones, on a logarithmic scale, and above the effect of noise. Agreement is
    intersection over union, where places count by their distance from the limit. An empty map is
    credited with the weight of three by three certain spacings; the credit falls as more departs.
    So an empty map is right where hardly anything is disordered. Without a lattice in the image
    nothing can be said: 0.
    """
    departure = cache.current().get(
        ("departure", source.key, prior.scale_px), lambda: _Departure.of(source, prior.scale_px)
    )
    agreement = departure.agreement(disordered(labels), (CREDIT * prior.scale_px) ** 2)
    return agreement * departure.periodic


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def compactness(labels: Labels, prior: Prior) -> float:
    """Compactness of all regions together, 4 pi A / P^2: 1 for a single disk.

    Area A and outline P are summed over the regions. The exponent is 2, because only then the value
    has no unit: it does not depend on the size of the image or of the regions. Without regions it
    is 1. Source: Barakati et al. 2024, Physics-based reward driven image analysis in microscopy,
    equation 3.
    """
    del prior
    mask = disordered(labels)
    outline = outline_length(mask)
    return min(4 * np.pi * float(np.count_nonzero(mask)) / outline**2, 1.0) if outline else 1.0


@reward_term(direction="minimize", bounds=(0.0, LONGEST))
def perimeter(labels: Labels, prior: Prior) -> float:
    """Length of the outlines of all regions in units of the mean side of the image.

    The image's own border counts where a region touches it, so that marking everything is
    penalised. Source: Barakati et al. 2024, Physics-based reward driven image analysis in
    microscopy.
    """
    del prior
    mask = disordered(labels)
    return outline_length(mask) / (sum(mask.shape) / 2)


@reward_term(direction="minimize", bounds=(0.0, 0.5))
def disordered_fraction(labels: Labels, prior: Prior) -> float:
    """Distance of the disordered share of the field of view from its expected range.

    The range is that of the prior, or 0 to a half.
    """
    expected = prior.part(Disorder) or Disorder(0.0, MOST)
    share = float(disordered(labels).mean())
    return max(expected.low - share, share - expected.high, 0.0)


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
    """How far ``excess`` ``[H, W]`` each place is beyond the limit of order, clipped to +- 1, and
    how far the image is that of a lattice."""

    excess: Array
    periodic: float

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return self.excess.nbytes

    @classmethod
    def of(cls, source: Source, spacing: float) -> _Departure:
        departed = departures(source.pixels, spacing)
        level = _least(np.log(departed, out=departed), EDGE * spacing)
        del departed
        lowest, ordered, highest = np.percentile(level, (5, 25, 98)).tolist()
        noise = LEAST_SPREADS * (ordered - lowest)
        limit = ordered + max(LEAST_CONTRAST, noise, LIMIT * (highest - ordered))
        level -= limit
        level /= CERTAIN
        excess = np.clip(level, -1, 1, out=level)
        periodic = periodicity(_banded(source.pixels, spacing), spacing)
        return cls(readonly(excess, np.float32), periodic)

    def agreement(self, mask: Array, credit: float) -> float:
        """Weighted intersection over union of the mask and what lies beyond the limit."""
        beyond = np.maximum(self.excess, 0)
        all_beyond = float(beyond.sum())
        # The credit fades as more departs: finding a little must beat finding nothing.
        both = float(beyond[mask].sum()) if mask.any() else credit**2 / (all_beyond + credit)
        either = all_beyond - float(np.minimum(self.excess, 0)[mask].sum())
        return both / (either + credit)


def departures(pixels: Array, spacing: float) -> Array:
    """Mean squared difference ``[H, W]`` of each place from its repeats in the lattice, in units of
    the contrast around.

    Of the nearest repeats inside the image the more similar half counts: at the edge of a region
    one half lies in it, and the other does not. These may all lie in one direction, along which a
    planar fault repeats itself; where the image reaches far enough to both sides, the more similar
    of two repeats across it counts as much as they do.
    """
    fine = _banded(pixels, spacing)
    half = max(1, round(SQUARE * spacing))
    shifts = repeats(fine, spacing)
    found = np.empty_like(fine)
    margin = half + int(np.abs(shifts[:REPEATS]).max(initial=0))
    for strip in strips(fine.shape, margin):
        found[strip.rows] = _departed(fine, shifts, half, strip.rows)
    # A flat image departs from nothing; the floor keeps its logarithm finite.
    found += FLOOR
    contrast = smooth(fine**2, CONTRAST * spacing)
    contrast += FLOOR
    found /= contrast
    return found


def _banded(pixels: Array, spacing: float) -> Array:
    """What may be of the lattice: neither noise of single pixels nor what is wider than it."""
    fine = smooth(pixels.astype(precision(pixels.size), copy=False), FINEST * spacing)
    fine -= smooth(fine, WIDEST * spacing)
    return fine


def _departed(fine: Array, shifts: Array, half: int, rows: slice) -> Array:
    """Mean squared difference of these rows from their repeats."""
    nearest = [_differences(fine, shift, half, rows) for shift in shifts[:REPEATS]]
    none = np.empty((0, rows.stop - rows.start, fine.shape[1]), fine.dtype)
    found = _lower_half(np.concatenate([none, *nearest]))
    for shift in across(shifts)[:1]:
        ahead, behind = _differences(fine, shift, half, rows)
        both = np.isfinite(ahead) & np.isfinite(behind)
        found[both] = (found[both] + np.minimum(ahead, behind)[both]) / 2
    return found


def _differences(fine: Array, shift: Array, half: int, rows: slice) -> Array:
    """Squared differences ``[2, rows, W]`` of these rows from the places ahead and behind by a
    shift, averaged over squares; infinite where those are outside the image."""
    dy, dx = (int(part) for part in shift)
    found = np.full((2, rows.stop - rows.start, fine.shape[1]), np.inf, fine.dtype)
    here, there = _shifted(fine.shape, dy, dx), _shifted(fine.shape, -dy, -dx)
    one, other = fine[here], fine[there]
    half = min(half, *((n - 1) // 2 for n in one.shape)) if min(one.shape) > 2 else 0
    # The rows that are asked for, ahead or behind, and what their squares reach.
    first, last = max(0, rows.start - abs(dy)), min(len(one), rows.stop)
    around = slice(max(0, first - half), min(len(one), last + half))
    if around.stop <= around.start:
        return found
    means = _box((one[around] - other[around]) ** 2, half)
    for out, (down, across) in zip(found, (here, there), strict=True):
        top, bottom = max(rows.start, down.start), min(rows.stop, down.stop)
        if top < bottom:
            begin = top - down.start - around.start
            out[top - rows.start : bottom - rows.start, across] = means[begin:][: bottom - top]
    return found


def _lower_half(stack: Array) -> Array:
    """Mean ``[H, W]`` of the lower half of the finite values ``[N, H, W]``, 0 without any."""
    stack = np.sort(stack, axis=0)
    inside = np.isfinite(stack)
    counted = np.arange(len(stack))[:, None, None] < (inside.sum(axis=0) + 1) // 2
    total = np.where(counted & inside, stack, 0).sum(axis=0)
    mean: Array = total / np.maximum(counted.sum(axis=0), 1)
    return mean


def across(shifts: Array) -> Array:
    """Those of the shifts (y, x) ``[S, 2]`` that lead away from the direction of the first."""
    first = shifts[:1]
    off = np.abs(shifts[:, 0] * first[:, 1] - shifts[:, 1] * first[:, 0])
    return shifts[off >= ACROSS * np.hypot(*shifts.T) * np.hypot(*first.T)]


def repeats(pixels: Array, spacing: float) -> Array:
    """Shifts (y, x) ``[S, 2]`` [px] at which the image resembles itself, one of each two opposite,
    nearest first, within a third of the field and, in large fields, 341 px or 16 spacings."""
    from scipy.ndimage import maximum_filter

    furthest = max(FURTHEST_PX, math.ceil(FURTHEST * spacing))
    reach = np.minimum(np.array(pixels.shape) // 3, furthest)
    near = autocorrelation(pixels, reach.tolist())
    shifts = np.moveaxis(np.indices(near.shape), 0, -1) - reach
    distance = np.hypot(*np.moveaxis(shifts, -1, 0))
    peak = near == maximum_filter(near, 2 * max(1, round(NEAREST * spacing / 2)) + 1)
    upper = (shifts[..., 0] > 0) | ((shifts[..., 0] == 0) & (shifts[..., 1] > 0))
    peak &= upper & (distance > NEAREST * spacing)
    if not peak.any():
        return np.empty((0, 2), np.intp)
    peak &= near >= SIMILAR * near[peak].max()
    return shifts[peak][np.argsort(distance[peak], kind="stable")]


def _shifted(shape: tuple[int, ...], dy: int, dx: int) -> tuple[slice, slice]:
    """Where the image lies whose place displaced by (dy, dx) is still inside."""
    rows, columns = (slice(max(0, -d), n - max(0, d)) for d, n in zip((dy, dx), shape, strict=True))
    return rows, columns


def _least(values: Array, radius: float) -> Array:
    """The least value within a radius [px] of each place."""
    import cv2

    width = 2 * max(1, round(radius)) + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.erode(values, disk, borderType=cv2.BORDER_REFLECT))


def _box(values: Array, half: int) -> Array:
    import cv2

    size = (2 * half + 1, 2 * half + 1)
    return np.maximum(cv2.blur(values, size, borderType=cv2.BORDER_REFLECT), 0)
