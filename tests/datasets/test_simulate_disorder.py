"""Simulated disorder: exact shares, columns that really change inside and only there."""

from __future__ import annotations

import numpy as np
import pytest

from scopegym.artifacts import Labels
from scopegym.datasets.simulate_disorder import simulate_disorder
from scopegym.errors import ScopegymError
from scopegym.sample.crystal import crystal

YBCO = crystal("YBa2Cu3O7").project((1, 0, 0))


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.2, 0.4, 1.0])
def test_the_share_of_the_field_is_exact(fraction: float):
    micrograph = simulate_disorder(YBCO, (120, 140), fraction=fraction, count=2, seed=3)
    assert isinstance(micrograph.truth, Labels) and micrograph.truth.background == 0
    share = np.mean(micrograph.truth.map > 0)
    assert share == pytest.approx(fraction, abs=1 / (120 * 140))


def test_same_seed_same_image_and_other_seed_other_image():
    one, two, three = (simulate_disorder(YBCO, (64, 64), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.data, two.data)
    assert not np.array_equal(one.data, three.data)


def test_disorder_changes_the_inside_and_dims_it_least_where_it_is_bright():
    quiet = {"noise": 0.0, "seed": 4, "count": 1}
    before = simulate_disorder(YBCO, (256, 256), fraction=0.0, **quiet)
    after = simulate_disorder(YBCO, (256, 256), fraction=0.15, **quiet)
    from scipy.ndimage import binary_dilation, binary_erosion

    mask = after.truth.map > 0
    far, deep = ~binary_dilation(mask, iterations=15), binary_erosion(mask, iterations=10)
    scale = np.polyfit(before.data[far], after.data[far], 1)
    assert np.abs(np.polyval(scale, before.data[far]) - after.data[far]).max() < 0.02
    assert np.abs(before.data - after.data)[deep].mean() > 0.05
    # Bright columns stay visible.
    assert 0.5 < after.data[deep].max() / before.data[deep].max() <= 1.3


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"fraction": 1.2}, "share in 0..1, not 1.2"),
        ({"count": 0}, "at least 1 region"),
        ({"noise": -1.0}, "noise must not be negative"),
        ({"displacement": float("nan")}, "displacement must not be negative"),
        ({"shape": (0, 5)}, "at least 1 x 1"),
    ],
)
def test_impossible_figures_are_refused(figures: dict, message: str):
    with pytest.raises(ScopegymError, match=message):
        simulate_disorder(YBCO, **figures)
