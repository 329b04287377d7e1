"""Symmetry descriptors against plain references, and what symmetry itself demands of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from scopegym import operators
from scopegym.artifacts import Features, Image
from scopegym.datasets.patterns import lattice, plane_group_pattern
from scopegym.datasets.simulate_patterns import simulate_patterns, two_grains
from scopegym.errors import ScopegymError
from scopegym.operators.base import Operator
from scopegym.operators.symmetry import MIRRORS, ROTATIONS, even_shifts, rings

POOLED = ("rotation_symmetry", "reflection_symmetry")
SCORES = ("translation_symmetry", *POOLED)
ALL = (*SCORES, "power_spectrum", "local_fourier")


def textured(shape: tuple[int, int] = (45, 52), seed: int = 0) -> np.ndarray:
    """A lattice with noise: something of every correlation between -1 and 1."""
    y, x = np.indices(shape)
    noise = np.random.default_rng(seed).normal(0, 0.5, shape)
    return (np.cos(y * 0.9) + np.cos(0.7 * x + 0.2 * y) + noise).astype(np.float32)


def describe(name: str, pixels: np.ndarray, **parameters: Any) -> Features:
    """A descriptor with small sizes, unless told otherwise [px]."""
    sizes = {"window": 4, "patch": 5, "stride": 3, "finest": 3}
    operator: Operator = operators[name]
    chosen = {k: v for k, v in sizes.items() if k in operator.parameters}
    return operator(Image(pixels), **{**chosen, **parameters})


def pearson(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Equation 2 of Wang, Freysoldt and Liebscher as printed, in float64, weighted or not."""
    w = np.ones(a.shape) if weights is None else weights
    a, b = (v.astype(np.float64) - np.average(v.astype(np.float64), weights=w) for v in (a, b))
    spread = np.sqrt(np.sum(w * a**2)) * np.sqrt(np.sum(w * b**2))
    return float(np.sum(w * a * b) / spread) if spread > 0 else 0.0


def translation_reference(pixels: np.ndarray, found: Features, half: int) -> np.ndarray:
    values = np.empty(found.values.shape)
    for i, (y, x) in enumerate(found.centres_yx.astype(int)):
        for j, name in enumerate(found.names):
            m, n = map(int, name.split()[1:])
            one = pixels[y - half : y + half + 1, x - half : x + half + 1]
            other = pixels[y + m - half :, x + n - half :][: 2 * half + 1, : 2 * half + 1]
            values[i, j] = pearson(one, other)
    return values


def circular_reference(
    pixels: np.ndarray, centre: np.ndarray, radius: int, order: int, move: Any
) -> float:
    """Score of one transformation: every polar sample and its partner, looked up one by one."""
    samples = []
    for offsets, weight in rings(radius, order):
        angle = np.arctan2(-offsets[:, 0], offsets[:, 1])
        distance = np.hypot(*offsets.T)
        moved = move(angle)
        partner = np.stack([-distance * np.sin(moved), distance * np.cos(moved)], axis=1)
        here, there = (
            map_coordinates(pixels.astype(np.float64), (centre + o).T, order=1)
            for o in (offsets, partner)
        )
        samples.append(np.stack([here, there, np.full(len(here), weight)]))
    return pearson(*np.concatenate(samples, axis=1))


@pytest.mark.parametrize(("half", "stride"), [(5, 3), (1, 5), (3, 1), (6, 20)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_translation_is_the_papers_equation(half: int, stride: int, offset: float) -> None:
    pixels = (textured() + offset).astype(np.float32)
    found = describe("translation_symmetry", pixels, patch=half, stride=stride, shifts=25)
    expected = translation_reference(pixels, found, half)
    assert len(found) > 1
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


def test_translation_survives_a_step_in_brightness() -> None:
    pixels = textured((60, 60))
    pixels[:, 30:] += 1e3
    found = describe("translation_symmetry", pixels, shifts=9)
    expected = translation_reference(pixels, found, 5)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_rotation_and_reflection_are_the_papers_equation(offset: float) -> None:
    pixels = (textured() + offset).astype(np.float32)
    # A window below the stride pools nothing.
    turned = describe("rotation_symmetry", pixels, window=1, stride=6)
    mirrored = describe("reflection_symmetry", pixels, window=1, stride=6)
    for i, centre in enumerate(turned.centres_yx):
        for j, degrees in enumerate(ROTATIONS):
            score = circular_reference(
                pixels, centre, 5, 12, lambda a, d=degrees: a + np.radians(d)
            )
            assert turned.values[i, j] == pytest.approx(score, abs=1e-6)
        for j, degrees in enumerate(MIRRORS):
            score = circular_reference(
                pixels, centre, 5, 20, lambda a, d=degrees: 2 * np.radians(d) - a
            )
            assert mirrored.values[i, j] == pytest.approx(score, abs=1e-6)


def test_polar_samples_weigh_the_disk_evenly() -> None:
    for radius in (1, 4, 20):
        weights = np.concatenate([np.full(len(o), w) for o, w in rings(radius, 12)])
        offsets = np.concatenate([o for o, _ in rings(radius, 12)])
        assert weights.sum() == pytest.approx(1)
        assert np.hypot(*offsets.T).max() < radius
        # Second moment of a disk, half the square of its radius, by the midpoint rule.
        moment = weights @ np.sum(offsets**2, axis=1)
        assert moment == pytest.approx(radius**2 / 2 - 0.25)


def test_polar_scores_agree_with_whole_pixels_where_both_are_exact() -> None:
    y, x = np.indices((81, 81)) / 6.0
    pixels = (np.cos(y) + 0.5 * np.cos(x + 1) + np.sin(y - 0.7 * x)).astype(np.float32)
    found = describe("rotation_symmetry", pixels, window=1, patch=15, stride=50)
    (cy, cx), radius = found.centres_yx[0].astype(int), 15
    patch = pixels[cy - radius : cy + radius + 1, cx - radius : cx + radius + 1]
    grid = np.arange(-radius, radius + 1)
    disk = (grid[:, None] ** 2 + grid**2) <= radius**2
    for turns, column in ((1, ROTATIONS.index(90)), (2, ROTATIONS.index(180))):
        expected = pearson(patch[disk], np.rot90(patch, turns)[disk])
        assert found.values[0, column] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", POOLED)
def test_pooling_takes_the_best_of_the_window(name: str) -> None:
    pixels = textured((60, 60))
    single = describe(name, pixels, window=2, stride=3)
    pooled = describe(name, pixels, window=7, stride=3)
    at = {tuple(c): v for c, v in zip(single.centres_yx, single.values, strict=True)}
    for centre, value in zip(pooled.centres_yx, pooled.values, strict=True):
        shifts = [(dy, dx) for dy in (-6, -3, 0, 3, 6) for dx in (-6, -3, 0, 3, 6)]
        best = np.max([at[centre[0] + dy, centre[1] + dx] for dy, dx in shifts], axis=0)
        np.testing.assert_allclose(value, best, atol=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_correlations(name: str) -> None:
    values = describe(name, textured()).values
    assert np.abs(values).max() <= 1
    assert values.std() > 0.01


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (-0.5, 2.0), (1e-6, 0.0), (1e8, -1e9)])
def test_gain_and_offset_do_not_matter(name: str, gain: float, offset: float) -> None:
    pixels = textured()
    changed = (pixels * np.float64(gain) + offset).astype(np.float32)
    # What is left is the rounding of float32 pixels.
    np.testing.assert_allclose(
        describe(name, changed).values, describe(name, pixels).values, atol=2e-5
    )


@pytest.mark.parametrize("name", ALL)
def test_moving_the_image_moves_the_descriptors(name: str) -> None:
    pixels = textured((70, 70))
    whole = describe(name, pixels)
    part = describe(name, pixels[6:, 9:])
    at = {tuple(c): v for c, v in zip(whole.centres_yx, whole.values, strict=True)}
    moved = [(y + 6, x + 9) for y, x in part.centres_yx]
    shared = [(at[c], v) for c, v in zip(moved, part.values, strict=True) if c in at]
    assert len(shared) > 20
    a, b = map(np.array, zip(*shared, strict=True))
    np.testing.assert_allclose(a, b, atol=1e-9)


def quarter(found: Features, size: int) -> dict[tuple[float, float], np.ndarray]:
    """Values by the centre as it lies after the image has been turned by ``np.rot90``."""
    centres = ((size - 1 - x, y) for y, x in found.centres_yx)
    return dict(zip(centres, found.values, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_a_quarter_turn_of_the_image_permutes_the_scores(name: str) -> None:
    size = 61
    pixels = textured((size, size))
    before, after = describe(name, pixels), describe(name, np.rot90(pixels))
    column = {n: i for i, n in enumerate(before.names)}

    def moved(label: str) -> int:
        kind, *numbers = label.split()
        if kind == "shift":
            m, n = map(int, numbers)
            return column[f"shift {-n:+d} {m:+d}"]
        if kind == "mirror":
            return column[f"mirror {(int(numbers[0]) + 90) % 180}"]
        if kind == "power":
            ky, kx = map(int, numbers)
            ky, kx = -kx, ky
            sign = 1 if kx > 0 or (kx == 0 and ky > 0) else -1
            return column[f"power {sign * ky:+d} {sign * kx:+d}"]
        return column[label]

    order = [moved(label) for label in before.names]
    expected = quarter(before, size)
    for centre, value in zip(after.centres_yx, after.values, strict=True):
        np.testing.assert_allclose(value[order], expected[tuple(centre)], atol=1e-9)


def test_every_shift_has_its_opposite() -> None:
    for reach, count in ((20, 81), (7, 25), (3, 81), (1, 9), (150, 100)):
        shifts = even_shifts(reach, count)
        assert {(-m, -n) for m, n in shifts} == set(shifts)
        assert max(shifts) == (reach, reach)
        assert len(shifts) <= count
    assert len(even_shifts(150, 100)) == 100
    assert even_shifts(20, 81)[1] == (-20, -15)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("level", [0.0, 1.0, 1e4, -3e38])
def test_a_constant_image_scores_zero(name: str, level: float) -> None:
    values = describe(name, np.full((40, 40), level, np.float32)).values
    assert (values == 0).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("level", [0.0, 1e4])
def test_a_flat_half_scores_zero(name: str, level: float) -> None:
    pixels = textured((40, 90)) + np.float32(level)
    pixels[:, :45] = level
    found = describe(name, pixels)
    flat = found.centres_yx[:, 1] < 45 - 10
    assert flat.sum() > 10
    assert (found.values[flat] == 0).all()
    assert np.isfinite(found.values).all()
    assert (found.values[found.centres_yx[:, 1] > 60] != 0).any(axis=1).all()


@pytest.mark.parametrize("name", ALL)
def test_the_smallest_image_is_named(name: str) -> None:
    smallest = 2 * (5 + (4 if name in SCORES else 0)) + 1
    assert len(describe(name, textured((smallest, smallest)))) == 1
    with pytest.raises(ScopegymError, match=f"{smallest} x {smallest} px"):
        describe(name, textured((smallest, smallest - 1)))
    with pytest.raises(ScopegymError):
        describe(name, textured((1, 1)))


@pytest.mark.parametrize("name", ALL)
def test_sizes_must_be_lengths(name: str) -> None:
    for wrong in (0.0, -3.0, float("nan"), float("inf")):
        with pytest.raises(ScopegymError, match="patch must be a positive length"):
            describe(name, textured(), patch=wrong)
    with pytest.raises(ScopegymError, match="square number"):
        describe("translation_symmetry", textured(), shifts=10)


@pytest.mark.parametrize("name", ALL)
def test_descriptors_are_pure(name: str) -> None:
    pixels = textured()
    image = Image(pixels)
    first, second = describe(name, image.pixels), describe(name, image.pixels)
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert first.values.shape == (len(first.centres_yx), len(first.names))
    assert first.shape == pixels.shape


def test_power_shares_match_a_plain_transform() -> None:
    pixels, half = textured(), 5
    found = describe("power_spectrum", pixels, stride=9)
    position = np.arange(-half, half + 1)
    hann = 0.5 + 0.5 * np.cos(np.pi * position / (half + 1))
    window = np.outer(hann, hann)
    k = np.array([n.split()[1:] for n in found.names], dtype=int)
    for (y, x), value in zip(found.centres_yx.astype(int), found.values, strict=True):
        patch = pixels[y - half : y + half + 1, x - half : x + half + 1].astype(np.float64)
        patch = (patch - np.average(patch, weights=window)) * window
        power = np.abs(np.fft.fft2(patch)) ** 2
        power = power[k[:, 0], k[:, 1]]
        np.testing.assert_allclose(value, power / power.sum(), atol=1e-9)


def test_local_fourier_sees_the_crystal_and_not_its_orientation() -> None:
    def mean(pattern: Any) -> np.ndarray:
        region = np.zeros((128, 128), int)
        image = simulate_patterns(region, [pattern])
        found = describe("local_fourier", image.data, patch=24, stride=8, finest=5)
        return found.values.mean(axis=0)

    square, turned = mean(lattice(10)), mean(lattice(10).rotated(17))
    hexagonal = mean(lattice(10 * (4 / 3) ** 0.25, gamma_deg=120))
    assert np.abs(square - turned).max() < 0.02
    assert np.abs(square - hexagonal).max() > 0.2


@pytest.mark.parametrize(
    ("group", "angle", "other"),
    [("p4", "turn 90", "p2mm"), ("p6", "turn 60", "p3"), ("p3", "turn 120", "p4"),
     ("p2", "turn 180", "p1")],
)  # fmt: skip
def test_rotation_scores_tell_plane_groups_apart(group: str, angle: str, other: str) -> None:
    best = []
    for name in (group, other):
        image = simulate_patterns(np.zeros((150, 150), int), [plane_group_pattern(name, 36)])
        found = describe("rotation_symmetry", image.data, window=36, patch=24, stride=2)
        best.append(np.median(found.values[:, found.names.index(angle)]))
    assert best[0] > 0.9
    assert best[1] < best[0] - 0.1


def accuracy(label: np.ndarray, truth: np.ndarray) -> float:
    """Share of pixels that are right, two labels in either order."""
    same = float((label == truth).mean())
    return max(same, 1 - same)


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_two_grains_are_found(noise: float, seed: int) -> None:
    """Noise is in units of the standard deviation of the clean image."""
    stride = 2
    micrograph = two_grains(
        (256, 256),
        8.0,
        misorientation_deg=25,
        orientation_deg=7 + 10 * seed,
        offset_px=(-13.0, 5.0, 0.0)[seed],
        noise=noise,
        seed=seed,
    )
    features = operators["translation_symmetry"](
        Image(micrograph.data), window=12, patch=12, stride=stride, shifts=225
    )
    labels = operators["kmeans"](operators["pca"](features, components=5), clusters=2).map
    truth = micrograph.truth.map  # type: ignore[union-attr]
    assert accuracy(labels, truth) >= (0.995 if noise == 0 else 0.99)
    if labels[128, 0] != truth[128, 0]:
        labels = 1 - labels
    boundary = (labels == truth[128, 0]).sum(axis=1) - (truth == truth[128, 0]).sum(axis=1)
    assert abs(boundary.mean()) <= stride
