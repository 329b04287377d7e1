"""Speed of the Laplacian of Gaussian against scikit-image's, same image, same arguments."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from skimage.feature import blob_log

from scopegym import operators
from scopegym.artifacts import Image
from scopegym.cache import Cache, using

cv2.setNumThreads(1)
ARGUMENTS: dict[str, Any] = {"min_sigma": 2, "max_sigma": 6, "num_sigma": 10, "overlap": 0.5}
ROUNDS = 9


def lattice(size: int, period: float, seed: int = 0) -> np.ndarray:
    """Bright columns on a square lattice with noise, float32 ``[size, size]``."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / period)
    noise = np.random.default_rng(seed).normal(0, 0.1, (size, size))
    return (((np.cos(y) + 1) * (np.cos(x) + 1) / 4) ** 3 + noise).astype(np.float32)


def seconds(call: Callable[[], Any]) -> float:
    """Median time of a call."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    image = Image(lattice(512, 16))
    ours = operators["laplacian_of_gaussian"]

    def first() -> Any:
        with using(Cache()):
            return ours(image, **ARGUMENTS, threshold=0.1)

    def again() -> Any:
        return ours(image, **{**ARGUMENTS, "overlap": 0.4}, threshold=0.12)

    def theirs() -> Any:
        return blob_log(image.pixels, **ARGUMENTS, threshold=0.1)

    found = theirs()
    same = np.array_equal(np.asarray(first()), found)
    ours(image, **ARGUMENTS, threshold=0.1)  # fills the cache of the process
    reference, cold, warm = seconds(theirs), seconds(first), seconds(again)
    print(f"512 x 512, 10 sigmas, {len(found)} blobs, one thread; identical blobs: {same}")
    print(f"scikit-image            {1e3 * reference:8.2f} ms")
    print(f"scopegym, first call    {1e3 * cold:8.2f} ms   {reference / cold:6.1f} x faster")
    print(f"scopegym, new threshold {1e3 * warm:8.2f} ms   {reference / warm:6.1f} x faster")


if __name__ == "__main__":
    main()
