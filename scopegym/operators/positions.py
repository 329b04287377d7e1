"""Points to points: refining, merging and dropping positions."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Image, Points
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.space import Choice, Real, Scale

#: Points fitted together; 2,000 windows of 25 x 25 px take about 100 MB.
BATCH = 2000
#: Levenberg-Marquardt steps at most; five do on noise-free columns.
ITERATIONS = 12
#: A step below this ends a fit: a tenth of what counting noise leaves uncertain at best [px].
SETTLED_PX = 1e-3


@operator
def refine_positions(
    image: Image,
    points: Points,
    *,
    method: Annotated[str, Choice(("gaussian", "centre_of_mass"))] = "gaussian",
    radius: Annotated[float, Scale(0.2, 0.5)] = 0.3,
) -> Points:
    """Move each position to the centre of its column, to a fraction of a pixel.

    ``gaussian`` fits a round 2-D Gaussian on a constant background by least squares within
    ``radius`` [px]; ``centre_of_mass`` takes the centroid of the intensity above the window's
    minimum. A position that would leave its window, or whose column would be a hole, is not moved.
    A position outside the image is dropped, before or after refining.
    """
    if not radius > 0:
        raise ScopegymError(f"refine_positions needs a positive radius, not {radius:g} px.")
    fit = fit_gaussians if method == "gaussian" else centres_of_mass
    # Five parameters need more pixels than the smallest windows hold.
    radius = max(radius, 1.5)
    points = Points(points.yx, image.shape, points.sigma_px, points.strength)
    points = points[points.inner(0)]
    yx, sigma = points.yx.copy(), points.sigma_px.copy()
    for start in range(0, len(points), BATCH):
        batch = slice(start, start + BATCH)
        yx[batch], sigma[batch] = fit(image.pixels, points.yx[batch], radius)
    # Only a window that crosses the border can hold the flank of a column beyond it.
    outside = ((yx < -0.5) | (yx > np.array(points.shape) - 0.5)).any(axis=1)
    outside &= ~points.inner(radius)
    good = np.linalg.norm(yx - points.yx, axis=1) <= radius  # False for NaN
    yx = np.where(good[:, None], yx, points.yx)
    sigma = np.where(good & np.isfinite(sigma), sigma, points.sigma_px)
    return Points(yx, points.shape, sigma, points.strength)[~outside]


def _windows(pixels: Array, yx: Array, radius: float) -> tuple[Array, ...]:
    """Pixel values and weights ``[N, P]`` around each point's nearest pixel, and offsets dy, dx
    ``[P]`` from there; pixels outside the image or beyond ``radius`` of the point weigh nothing.
    """
    half = int(np.ceil(radius))
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1).astype(np.float64)
    # Half a pixel's diagonal: the most that a point is away from the pixel it is in.
    reachable = np.hypot(dy, dx) <= radius + np.sqrt(0.5)
    dy, dx = dy[reachable], dx[reachable]
    centre = np.rint(yx)
    away_y, away_x = dy - (yx - centre)[:, :1], dx - (yx - centre)[:, 1:]
    y, x = (centre[:, :1] + dy).astype(np.intp), (centre[:, 1:] + dx).astype(np.intp)
    height, width = pixels.shape
    weight = (away_y**2 + away_x**2 <= radius**2) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    values = pixels[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return values.astype(np.float64), weight.astype(np.float64), dy, dx


def centres_of_mass(pixels: Array, yx: Array, radius: float) -> tuple[Array, Array]:
    """Centroids ``[N, 2]`` of windows that follow the centroid, and widths (NaN) ``[N]``."""
    found = yx.copy()
    for _ in range(4):
        values, weight, dy, dx = _windows(pixels, found, radius)
        lowest = np.min(np.where(weight > 0, values, np.inf), axis=1, keepdims=True)
        mass = np.where(weight > 0, values - lowest, 0)
        total = mass.sum(axis=1, keepdims=True)
        moved = np.rint(found) + np.column_stack([mass @ dy, mass @ dx]) / np.where(
            total > 0, total, np.inf
        )
        near = (total[:, 0] > 0) & (np.linalg.norm(moved - yx, axis=1) <= radius)
        found = np.where(near[:, None], moved, found)
    return found, np.full(len(yx), np.nan)


def fit_gaussians(pixels: Array, yx: Array, radius: float) -> tuple[Array, Array]:
    """Least-squares Gaussians for all points together: centres ``[N, 2]`` and sigmas ``[N]`` [px].

    Levenberg-Marquardt with a damping factor per point; points that have settled drop out. NaN
    where the column is not a maximum.
    """
    values, weight, dy, dx = _windows(pixels, yx, radius)
    low = np.min(np.where(weight > 0, values, np.inf), axis=1)
    high = np.max(np.where(weight > 0, values, -np.inf), axis=1)
    # amplitude, y, x, log sigma (so that it stays positive), background
    log_sigma = np.full(len(yx), np.log(radius / 1.5))
    best = np.column_stack([high - low, yx - np.rint(yx), log_sigma, low])
    damping = np.full(len(best), 1e-2)
    moving = np.arange(len(best))
    for _ in range(ITERATIONS):
        window = (values[moving], weight[moving], dy, dx)
        cost, hessian, gradient = _normal_equations(best[moving], *window)
        diagonal = np.einsum("nii->ni", hessian)
        # Relative damping, and a floor that keeps windows without contrast solvable.
        hessian[:, range(5), range(5)] += damping[moving, None] * diagonal + 1e-12
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        trial = best[moving] - step
        trial[:, 3] = np.clip(trial[:, 3], np.log(0.3), np.log(4 * radius))
        better = _cost(trial, *window) < cost
        best[moving[better]] = trial[better]
        damping[moving] *= np.where(better, 0.2, 5)
        settled = np.abs(step[:, 1:3]).max(axis=1) < SETTLED_PX
        moving = moving[~settled]
        if not len(moving):
            break
    found = np.where(best[:, :1] > 0, np.rint(yx) + best[:, 1:3], np.nan)
    return found, np.where(best[:, 0] > 0, np.exp(best[:, 3]), np.nan)


def _bell(p: Array, dy: Array, dx: Array) -> tuple[Array, ...]:
    """The unit Gaussian ``[N, P]``, and the offsets from its centre in units of sigma."""
    inverse = np.exp(-p[:, 3:4])
    away_y, away_x = (dy - p[:, 1:2]) * inverse, (dx - p[:, 2:3]) * inverse
    return np.exp(-(away_y**2 + away_x**2) / 2), away_y, away_x


def _cost(
    p: Array,
    values: Array,
    weight: Array,
    dy: Array,
    dx: Array,
) -> Array:
    """Squared error of the model ``[N]``."""
    residual = p[:, :1] * _bell(p, dy, dx)[0] + p[:, 4:5] - values
    cost: Array = np.sum(weight * residual**2, axis=1)
    return cost


def _normal_equations(
    p: Array,
    values: Array,
    weight: Array,
    dy: Array,
    dx: Array,
) -> tuple[Array, Array, Array]:
    """Squared error ``[N]``, its approximate Hessian ``[N, 5, 5]`` and half gradient ``[N, 5]``."""
    bell, away_y, away_x = _bell(p, dy, dx)
    slope = p[:, :1] * bell
    per_px = slope * np.exp(-p[:, 3:4])
    jacobian = np.stack(
        [
            bell,
            per_px * away_y,
            per_px * away_x,
            slope * (away_y**2 + away_x**2),
            np.ones_like(bell),
        ],
        axis=1,
    )
    residual = slope + p[:, 4:5] - values
    weighted = jacobian * weight[:, None]
    hessian = weighted @ jacobian.transpose(0, 2, 1)
    gradient = (weighted @ residual[..., None])[..., 0]
    return np.sum(weight * residual**2, axis=1), hessian, gradient


@operator
def merge_close(points: Points, *, distance: Annotated[float, Scale(0.1, 0.9)] = 0.4) -> Points:
    """Merge points closer than ``distance`` [px] to a stronger point into their mean position."""
    from scipy.spatial import KDTree

    if len(points) < 2:
        return points
    order = np.argsort(-_rank(points), kind="stable")
    yx = points.yx[order]
    pairs = KDTree(yx).query_pairs(distance, output_type="ndarray")
    leader = np.arange(len(yx))
    # In order of strength, so that who leads is settled before anyone follows.
    for strong, weak in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if leader[strong] == strong and leader[weak] == weak:
            leader[weak] = strong
    heads = np.flatnonzero(leader == np.arange(len(yx)))
    members = np.bincount(leader, minlength=len(yx))[heads]
    means = [np.bincount(leader, axis, minlength=len(yx))[heads] / members for axis in yx.T]
    kept = points[order[heads]]
    return Points(np.column_stack(means), points.shape, kept.sigma_px, kept.strength)


@operator
def drop_weak(points: Points, *, fraction: Annotated[float, Real(0.05, 0.9)] = 0.3) -> Points:
    """Drop points whose strength is below this fraction of the median strength."""
    strength = _rank(points)
    if not len(points):
        return points
    return points[strength >= fraction * np.median(strength)]


@operator
def drop_edge(points: Points, *, margin: Annotated[float, Scale(0.05, 1.0)] = 0.5) -> Points:
    """Drop points within ``margin`` [px] of the image's border."""
    return points[points.inner(margin)]


def _rank(points: Points) -> Array:
    """Strengths, with 0 where a detector gave none."""
    return np.nan_to_num(points.strength, nan=0.0)
