"""From features to labels: clusters, their number, and a label for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scopegym import operators
from scopegym.artifacts import Features, Image, Labels
from scopegym.datasets.patterns import PLANE_GROUPS, lattice, plane_group_pattern
from scopegym.datasets.simulate_patterns import disk, halves, simulate_patterns, two_grains
from scopegym.errors import ScopegymError
from scopegym.operators.label_maps import connected_regions

CLUSTERINGS = ("kmeans", "gmm", "agglomerative")
CHOOSING = (("kmeans", "silhouette"), ("gmm", "bic"))


def places(rows: int = 20, columns: int = 30, stride: int = 4, margin: int = 10) -> np.ndarray:
    """Centres on a grid, row by row [px]."""
    grid = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return np.stack(grid, -1).reshape(-1, 2) * stride + margin


def features(values: Any, centres: np.ndarray | None = None) -> Features:
    """Values at the centres of a grid, in a field that just holds them and their margin."""
    yx = places() if centres is None else centres
    return Features(np.asarray(values, float), yx, tuple(yx.max(axis=0) + 11))


def two_sides(distance: float = 4.0, at: float = 60.0, seed: int = 0) -> Features:
    """Two blobs in five dimensions, one left and one right of the column ``at`` [px]."""
    noise = np.random.default_rng(seed).normal(0, 0.2, (600, 5))
    noise[:, 0] += distance * (places()[:, 1] > at)
    return features(noise)


def descriptors(
    pattern_map: np.ndarray, patterns: list[Any], noise: float, **sizes: Any
) -> Features:
    image = simulate_patterns(pattern_map, patterns, noise=noise, seed=1)
    sizes = {"window": 12, "patch": 12, "stride": 3, **sizes}
    found = operators["translation_symmetry"](Image(image.data), **sizes)
    return operators["pca"](found, components=5)


def test_pca_keeps_what_varies() -> None:
    given = features(np.random.default_rng(0).normal(size=(600, 6)) * [9, 5, 3, 2, 1, 0.1] + 1e4)
    found = operators["pca"](given, components=3)
    deviation = given.values - given.values.mean(axis=0)
    _, singular, axes = np.linalg.svd(deviation, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.values), np.abs(deviation @ axes[:3].T), atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=0), singular[:3])
    assert found.names == ("component 1", "component 2", "component 3")
    assert found.shape == given.shape
    np.testing.assert_array_equal(found.centres_yx, given.centres_yx)


def test_pca_has_fixed_signs() -> None:
    values = np.random.default_rng(0).normal(size=(600, 4)) * [9, 5, 3, 2]
    one, other = (operators["pca"](features(v), components=4).values for v in (values, -values))
    np.testing.assert_allclose(one, -other, atol=1e-9)
    assert operators["pca"](features(values), components=9).values.shape == (600, 4)


def test_standardize_gives_unit_spread() -> None:
    values = np.random.default_rng(0).normal(size=(600, 3)) * [1e-9, 1, 1e9] + [0, 1e3, 0]
    found = operators["standardize"](features(np.column_stack([values, np.full(600, 0.1)])))
    np.testing.assert_allclose(found.values.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.values.std(axis=0), [1, 1, 1, 0])


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_clusters_cover_the_image_with_the_boundary_between_centres(name: str) -> None:
    for at in (30, 60, 90):
        given = two_sides(at=at)
        labels = operators[name](given, clusters=2).map
        assert labels.shape == given.shape
        centres = np.unique(given.centres_yx[:, 1])
        edge = (centres[centres <= at].max() + centres[centres > at].min()) / 2
        expected = np.arange(labels.shape[1]) > edge
        wrong = labels != np.where(expected == (at < 65), 0, 1)
        # Half a stride from the nearest centre on either side, borders included.
        assert not wrong.any()


@pytest.mark.parametrize("name", CLUSTERINGS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_labels_are_numbered_by_area(name: str, count: int) -> None:
    values = np.random.default_rng(0).normal(0, 0.1, (600, 2))
    third = np.searchsorted([40, 100], places()[:, 1], side="right")
    values[:, 0] += 5 * np.array([2, 0, 1])[np.minimum(third, count - 1)]
    area = np.bincount(operators[name](features(values), clusters=count).map.ravel())
    assert len(area) == count
    assert (np.diff(area) <= 0).all()


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_clustering_is_deterministic_and_free_of_units(name: str) -> None:
    given = two_sides(distance=1.0)
    first = operators[name](given, clusters=3).map
    np.testing.assert_array_equal(first, operators[name](given, clusters=3).map)
    scaled = features(given.values * 1e-7 + 3)
    np.testing.assert_array_equal(first, operators[name](scaled, clusters=3).map)


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_impossible_numbers_of_clusters(name: str) -> None:
    few = features(np.eye(3), places(1, 3))
    assert operators[name](few, clusters=3).map.max() == 2
    with pytest.raises(ScopegymError, match="4 clusters of 3 centres"):
        operators[name](few, clusters=4)
    with pytest.raises(ScopegymError, match="0 clusters"):
        operators[name](few, clusters=0)


@pytest.mark.parametrize("name", [*CLUSTERINGS, "pca", "standardize"])
def test_no_features_are_an_error(name: str) -> None:
    for values in (np.empty((0, 3)), np.empty((4, 0))):
        empty = Features(values, np.zeros((len(values), 2)), (9, 9))
        with pytest.raises(ScopegymError, match="no features"):
            operators[name](empty)


@pytest.mark.parametrize("name", CLUSTERINGS)
@pytest.mark.parametrize("level", [0.0, 1e9])
def test_features_that_are_all_alike_are_one_region(name: str, level: float) -> None:
    alike = features(np.full((600, 4), level))
    assert (operators[name](alike, clusters=3).map == 0).all()
    assert (operators[name](operators["standardize"](alike), clusters=3).map == 0).all()
    assert (operators[name](operators["pca"](alike), clusters=3).map == 0).all()


def test_scattered_centres_reach_their_nearest_pixels() -> None:
    yx = np.random.default_rng(0).uniform(0, 40, (50, 2))
    given = Features((yx[:, :1] > 20) * 5.0, yx, (40, 40))
    labels = operators["kmeans"](given, clusters=2).map
    pixels = np.indices((40, 40)).reshape(2, -1).T
    nearest = np.linalg.norm(pixels[:, None] - yx, axis=-1).argmin(axis=1)
    low = (yx[nearest, 0] > 20).reshape(40, 40)
    assert np.array_equal(labels, low) or np.array_equal(labels, ~low)


@pytest.mark.parametrize(("name", "choose"), CHOOSING)
@pytest.mark.parametrize("seed", range(3))
def test_one_blob_is_one_region(name: str, choose: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = rng.normal(size=(600, 5)) * [5, 1, 1, 1, 1]
    flat = rng.uniform(size=(600, 1)) * [[1, 0, 0]]
    wave = np.sin(places()[:, 1:] * 0.37) + rng.normal(0, 0.01, (600, 1))
    for values in (line, flat, wave):
        assert operators[name](features(values), clusters=5, choose=choose).map.max() == 0


@pytest.mark.parametrize(("name", "choose"), CHOOSING)
def test_the_number_of_blobs_is_found(name: str, choose: str) -> None:
    assert operators[name](two_sides(), clusters=6, choose=choose).map.max() == 1
    noise = np.random.default_rng(0).normal(0, 0.2, (600, 3))
    third = np.searchsorted([45, 85], places()[:, 1])
    noise += 4 * np.eye(3)[third]
    assert operators[name](features(noise), clusters=6, choose=choose).map.max() == 2


@pytest.mark.parametrize(("name", "choose"), CHOOSING)
@pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
def test_one_pattern_is_one_region(name: str, choose: str, noise: float) -> None:
    one = np.zeros((200, 200), int)
    patterns = [lattice(8), lattice(10), lattice(9.3).rotated(13)]
    patterns += [plane_group_pattern(group, 22) for group in PLANE_GROUPS[::5]]
    for pattern in patterns:
        found = descriptors(one, [pattern], noise, window=16, patch=16, stride=4)
        assert operators[name](found, clusters=4, choose=choose).map.max() == 0, pattern.name


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_number_of_patterns_is_found(noise: float) -> None:
    square, turned = lattice(8), lattice(8).rotated(25)
    hexagonal = lattice(8, gamma_deg=120)
    cases = (
        (halves((256, 256)), [square, turned], 2),
        (disk((256, 256), 50), [square, hexagonal], 2),
        (halves((256, 256), 90, -40) + halves((256, 256), 90, 40), [square, turned, hexagonal], 3),
    )
    for regions, patterns, count in cases:
        found = descriptors(regions, patterns, noise)
        labels = operators["kmeans"](found, clusters=4, choose="silhouette")
        assert labels.map.max() + 1 == count


def speckled(share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Two halves, and the same with wrong pixels."""
    truth = np.zeros((60, 80), int)
    truth[:, 40:] = 1
    wrong = np.random.default_rng(0).random(truth.shape) < share
    return truth, np.where(wrong, 1 - truth, truth)


def test_majority_removes_speckles() -> None:
    truth, noisy = speckled()
    smooth = operators["majority_smooth"](Labels(noisy), radius=2).map
    assert (smooth != truth).mean() < 0.1 * (noisy != truth).mean()
    np.testing.assert_array_equal(operators["majority_smooth"](Labels(truth), radius=9).map, truth)


def test_majority_is_a_plain_count() -> None:
    given = np.random.default_rng(0).integers(0, 3, (12, 15))
    found = operators["majority_smooth"](Labels(given), radius=2).map
    for (y, x), label in np.ndenumerate(found):
        around = given[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        count = np.bincount(around.ravel(), minlength=3) + 0.5 * (np.arange(3) == given[y, x])
        assert count[label] == count.max()


def test_drop_small_gives_regions_to_their_neighbours() -> None:
    truth, _ = speckled()
    given = truth.copy()
    given[5:8, 5:8], given[20:30, 60:70] = 2, 3
    found = operators["drop_small"](Labels(given), size=5).map
    expected = given.copy()
    expected[5:8, 5:8] = 0
    np.testing.assert_array_equal(found, expected)
    everything = operators["drop_small"](Labels(given), size=1000).map
    assert len(np.unique(everything)) == 1


def test_regions_are_connected_and_of_one_label() -> None:
    given = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    regions = connected_regions(given)
    assert len(np.unique(regions)) == 4
    assert regions.min() == 0
    assert regions[0, 2] == regions[2, 1] != regions[1, 0]


@pytest.mark.parametrize("name", ["majority_smooth", "drop_small"])
def test_label_operators_on_hostile_input(name: str) -> None:
    size = "radius" if name == "majority_smooth" else "size"
    for given in (np.zeros((1, 1)), np.arange(9).reshape(3, 3), np.full((1, 7), -3)):
        found = operators[name](Labels(given), **{size: 50.0})
        assert found.map.shape == given.shape
        assert set(np.unique(found.map)) <= set(np.unique(given))
    empty = Labels(np.empty((0, 0)))
    assert operators[name](empty, **{size: 2.0}).map.size == 0
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ScopegymError, match=size):
            operators[name](Labels(np.zeros((3, 3))), **{size: wrong})


def test_a_constant_image_is_one_region() -> None:
    found = operators["translation_symmetry"](Image(np.ones((60, 60))), window=5, patch=5, stride=4)
    for name in CLUSTERINGS:
        assert (operators[name](operators["pca"](found), clusters=2).map == 0).all()


def test_features_say_what_they_need() -> None:
    with pytest.raises(ScopegymError, match="N centres"):
        Features(np.zeros((3, 2)), np.zeros((4, 2)), (9, 9))
    with pytest.raises(ScopegymError, match="N centres"):
        Features(np.zeros(3), np.zeros((3, 2)), (9, 9))


def test_smoothing_and_dropping_help_at_high_noise() -> None:
    micrograph = two_grains(noise=3.0, seed=2)
    found = operators["translation_symmetry"](
        Image(micrograph.data), window=10, patch=8, stride=2, shifts=49
    )
    labels = operators["kmeans"](operators["pca"](found), clusters=2)
    better = operators["drop_small"](operators["majority_smooth"](labels, radius=5), size=30)
    truth = micrograph.truth.map  # type: ignore[union-attr]

    def wrong(given: Labels) -> float:
        share = float((given.map != truth).mean())
        return min(share, 1 - share)

    assert wrong(better) <= wrong(labels)
