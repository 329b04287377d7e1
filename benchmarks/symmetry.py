"""Speed of the symmetry descriptors, one thread, and accuracy on two grains 25 degrees apart."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import uniform_filter

from scopegym import operators
from scopegym.artifacts import Image, Labels
from scopegym.datasets.simulate_patterns import two_grains
from scopegym.metrics import label_accuracy
from scopegym.operators.symmetry import Grid, even_shifts, grid

cv2.setNumThreads(1)
SIZE, STRIDE, REACH, HALF, SHIFTS = 1024, 5, 20, 20, 81
ROUNDS = 7


def lattice(size: int, period: float, seed: int = 0) -> np.ndarray:
    """A square lattice with noise, float32 ``[size, size]``."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / period)
    noise = np.random.default_rng(seed).normal(0, 0.3, (size, size))
    return (np.cos(y) + np.cos(x) + noise).astype(np.float32)


def reference(pixels: np.ndarray, centres: Grid, half: int, shifts: list[Any]) -> np.ndarray:
    """The same translation scores by scipy, in double precision, and no box taken twice."""
    values = pixels.astype(np.float64) - pixels.mean(dtype=np.float64)
    side = 2 * half + 1
    mean = uniform_filter(values, side, mode="constant")
    spread = np.sqrt(uniform_filter(values**2, side, mode="constant") - mean**2)
    height, width = values.shape
    scores = np.empty((len(centres.rows) * len(centres.columns), len(shifts)))
    for i, (m, n) in enumerate(shifts):
        top, left = max(0, -m), max(0, -n)
        here = values[top : height - max(0, m), left : width - max(0, n)]
        there = values[top + m : height - max(0, -m), left + n : width - max(0, -n)]
        product = uniform_filter(here * there, side, mode="constant")[centres.at(-top, -left)]
        one, other = centres.at(), centres.at(m, n)
        score = (product - mean[one] * mean[other]) / (spread[one] * spread[other])
        scores[:, i] = score.ravel()
    return scores


def side_by_side(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Median time of each call [s]; the calls take turns, so that all meet the same load."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    image = Image(lattice(SIZE, 11.3))
    common = {"patch": HALF, "stride": STRIDE}
    moved = {**common, "window": REACH}
    translation = operators["translation_symmetry"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls = {
        "translation, 81 shifts": lambda: translation(image, **moved, shifts=SHIFTS),
        "rotation, 4 angles": lambda: operators["rotation_symmetry"](image, **moved),
        "reflection, 10 planes": lambda: operators["reflection_symmetry"](image, **moved),
        "power spectrum": lambda: operators["power_spectrum"](image, **common, finest=6),
        "local Fourier": lambda: operators["local_fourier"](image, **common, finest=6),
    }
    for call in calls.values():
        call()
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    centres = grid("translation", image.shape, REACH + HALF, STRIDE)
    shifts = even_shifts(REACH, SHIFTS)
    scipy_scores = reference(image.pixels, centres, HALF, shifts)
    error = np.abs(scipy_scores - translation(image, **moved, shifts=SHIFTS).values).max()
    scipy_name = "translation by scipy.ndimage.uniform_filter"
    calls[scipy_name] = lambda: reference(image.pixels, centres, HALF, shifts)

    seconds = side_by_side(calls)
    ours = seconds["translation, 81 shifts"]
    print(f"{SIZE} x {SIZE}, stride {STRIDE}, half-window = half-patch = {HALF}, one thread")
    for name, value in seconds.items():
        print(f"{name:45s}{value:8.3f} s {value / ours:7.2f} x translation")
    print(f"faster than scipy: {seconds[scipy_name] / ours:.1f} x; largest difference {error:.1e}")
    print(f"memory of the five descriptors, one after another: {memory:.0f} MB")

    # The same centres for every patch, so that only the size of the patch differs.
    sizes = {f"half-patch {half}": half for half in (5, 10, 20, 40, 80)}
    field = grid("all sizes", image.shape, REACH + max(sizes.values()), STRIDE)

    def translate(half: int) -> Callable[[], Any]:
        from scopegym.operators.symmetry import translation_scores

        return lambda: translation_scores(image.pixels, field, shifts, half)

    timed = side_by_side({name: translate(half) for name, half in sizes.items()})
    print(f"\ntranslation at the same {len(field.yx)} centres")
    for name, value in timed.items():
        print(f"{name:45s}{value:8.3f} s")
    timed = side_by_side(
        {
            f"{count} shifts": (lambda n=count: translation(image, **moved, shifts=n))
            for count in (25, 49, 81, 121)
        }
    )
    for name, value in timed.items():
        print(f"{name:45s}{value:8.3f} s {1e3 * value / int(name.split()[0]):7.2f} ms each")


def grains() -> None:
    """Pixels right on two grains, noise in units of the clean image's standard deviation."""
    print(
        "\ntwo grains 25 degrees apart, 256 x 256: translation, pca 5, kmeans 2; five images each"
    )
    for noise in (0.0, 1.0, 2.0, 3.0):
        right = []
        for seed in range(5):
            orientation = {"orientation_deg": 7 + 10 * seed, "offset_px": 5.0 * seed - 13}
            micrograph = two_grains(noise=noise, seed=seed, **orientation)
            features = operators["translation_symmetry"](
                Image(micrograph.data), window=12, patch=12, stride=2, shifts=225
            )
            found = operators["kmeans"](operators["pca"](features, components=5), clusters=2)
            assert isinstance(micrograph.truth, Labels)
            right.append(label_accuracy(found, micrograph.truth))
        print(f"noise {noise:.0f}: mean {np.mean(right):.4f}, least {min(right):.4f}")


if __name__ == "__main__":
    main()
    grains()
