"""Positions explain an image: what is missing and what is invented is seen without any prior but
the scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from scopegym.artifacts import Points, Source
from scopegym.datasets.bundled import bundled
from scopegym.datasets.simulate import simulate_crystal
from scopegym.prior import Prior
from scopegym.rewards.explanation import TILE_PX, Scene, Shape, invented, left_out
from scopegym.sample.crystal import Crystal

STO = Crystal.named("SrTiO3").project((0, 0, 1))
SPACING = 12.0


def picture(noise: float = 0.2, side: int = 192, spacing: float = SPACING, **more: float):
    micrograph = simulate_crystal(
        STO, (side, side), STO.spacing_nm / spacing, seed=1, noise=noise, **more
    )
    return micrograph.normalized(), micrograph.truth


def explained(source: Source, points: Points, spacing: float = SPACING) -> tuple[float, float]:
    prior = Prior(scale_px=spacing)
    return left_out(source, points, prior), invented(source, points, prior)


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("spacing", [5.0, 12.0, 33.0])
def test_the_truth_leaves_nothing_out_and_invents_nothing(noise, spacing):
    source, truth = picture(noise, spacing=spacing)
    missing, made_up = explained(source, truth, spacing)
    assert missing < 0.03
    assert made_up < 0.01


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_left_out_grows_with_the_columns_that_are_left_out(share):
    source, truth = picture()
    kept = np.random.default_rng(0).permutation(len(truth))[round(share * len(truth)) :]
    missing, made_up = explained(source, truth[kept])
    assert missing == pytest.approx(share, abs=0.35 * share + 0.02)
    assert made_up < 0.05


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_positions_between_columns_are_invented(share):
    source, truth = picture()
    a, b = np.array(STO.lattice_px(STO.spacing_nm / SPACING))
    between = truth.yx + 0.25 * (a + b) + 0.25 * (a - b)
    extra = between[np.random.default_rng(0).permutation(len(between))[: round(share * len(truth))]]
    _, made_up = explained(source, Points(np.vstack([truth.yx, extra]), source.shape))
    assert made_up == pytest.approx(share / (1 + share), rel=0.25)


def test_a_second_position_on_a_column_is_invented():
    source, truth = picture()
    twice = Points(np.vstack([truth.yx, truth.yx + 0.4]), source.shape)
    assert explained(source, twice)[1] == pytest.approx(0.5, abs=0.02)


def test_the_lattice_shifted_to_the_gaps_explains_little():
    source, truth = picture()
    a, _ = np.array(STO.lattice_px(STO.spacing_nm / SPACING))
    missing, _ = explained(source, Points(truth.yx + a / 2, source.shape))
    assert missing > 0.4


def test_a_displaced_answer_leaves_more_out():
    source, truth = picture()
    values = [
        explained(source, Points(truth.yx + np.array([shift * SPACING, 0]), source.shape))[0]
        for shift in (0.0, 0.15, 0.3)
    ]
    assert values[0] < values[1] < values[2]
    assert values[2] > 0.15


def test_noise_and_smooth_noise_are_not_explained_like_a_lattice():
    rng, grid = np.random.default_rng(0), np.arange(6, 192, SPACING)
    points = Points(np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2), (192, 192))
    for width in (0, 2):
        noise = rng.normal(size=(192, 192))
        noise = gaussian_filter(noise, width) if width else noise
        missing, made_up = explained(Source(noise), points)
        assert (1 - missing) * (1 - made_up) < 0.5


@settings(max_examples=15, deadline=None)
@given(gain=st.floats(0.05, 20), offset=st.floats(-5, 5), turns=st.integers(0, 3))
def test_brightness_and_quarter_turns_do_not_matter(gain, offset, turns):
    source, truth = picture()
    some = truth[np.arange(0, len(truth), 3)]
    yx = some.yx
    pixels = source.pixels
    for _ in range(turns):
        pixels = np.rot90(pixels)
        yx = np.column_stack([source.shape[0] - 1 - yx[:, 1], yx[:, 0]])
    before = explained(source, some)
    after = explained(
        Source(np.ascontiguousarray(gain * pixels + offset)), Points(yx, source.shape)
    )
    assert after == pytest.approx(before, abs=0.02)


def test_a_field_of_many_tiles_is_explained_like_a_small_one():
    side = TILE_PX + 200
    source, truth = picture(0.3, side)
    kept = truth[np.arange(len(truth)) % 4 != 0]
    crop = (slice(0, 512),) * 2
    inside = (kept.yx < 512).all(axis=1)
    whole = explained(source, kept)
    part = explained(Source(source.pixels[crop]), Points(kept.yx[inside], (512, 512)))
    assert len(Scene.of(source.pixels, SPACING).tiles) == 4
    assert whole == pytest.approx(part, abs=0.03)


def test_the_overlap_of_two_columns_is_that_of_their_pictures():
    shape = Shape(2.0, 9.0)
    y, x = np.mgrid[:121, :121]

    def drawn(at):
        square = (y - 60) ** 2 + (x - 60 - at) ** 2
        return sum(a * np.exp(-square / (2 * w**2)) for a, w in shape.parts)

    for distance in (0, 3, 11):
        pictures = drawn(0) * drawn(distance)
        assert shape.overlap(float(distance)) == pytest.approx(pictures.sum(), rel=1e-3)


def test_amplitudes_of_overlapping_columns_are_found_together():
    shape, yx = Shape(2.0, 9.0), np.array([(40.0, 40.0), (40.0, 44.5), (70.3, 20.2)])
    image = shape.drawn((100, 90), yx, np.array([1.0, 0.3, 0.7]))
    found = shape.amplitudes(shape.matched(image), yx)
    np.testing.assert_allclose(found, [1.0, 0.3, 0.7], rtol=0.1)


def test_multislice_images_are_explained_by_their_columns():
    micrograph = bundled("ybco_100")
    source = micrograph.normalized()
    spacing = 0.19 / micrograph.pixel_size_nm
    missing, made_up = explained(source, micrograph.truth, spacing)
    assert missing < 0.02
    assert made_up < 0.02
    half = micrograph.truth[np.arange(0, len(micrograph.truth), 2)]
    assert explained(source, half, spacing)[0] > 0.1
