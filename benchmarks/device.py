"""Time of the Laplacian of Gaussian on a device against that on the processor, one thread each."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from scopegym import device, operators
from scopegym.artifacts import Image, Points
from scopegym.cache import Cache, using

cv2.setNumThreads(1)
ARGUMENTS: dict[str, Any] = {"min_sigma": 2, "max_sigma": 6, "num_sigma": 10, "overlap": 0.5}
ROUNDS = 5
#: The call that is not timed loads PyTorch and the GPU's kernels.
WARM_UP = 1


def lattice(size: int, period: float, seed: int = 0) -> np.ndarray:
    """Bright columns on a square lattice with noise, float32 ``[size, size]``."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / period)
    noise = np.random.default_rng(seed).normal(0, 0.1, (size, size))
    return (((np.cos(y) + 1) * (np.cos(x) + 1) / 4) ** 3 + noise).astype(np.float32)


def detect(image: Image, threshold: float) -> Points:
    points: Points = operators["laplacian_of_gaussian"](image, **ARGUMENTS, threshold=threshold)
    return points


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def times(name: str, image: Image) -> tuple[float, float, Points]:
    """Median time of the first call and of one with another threshold [s], and what was found.

    Points come back as arrays, so that no work is left on the device when a call returns.
    """
    first, again = [], []
    with device.using(name):
        for _ in range(WARM_UP + ROUNDS):
            with using(Cache()):
                first.append(seconds(lambda: detect(image, 0.1)))
                again.append(seconds(lambda: detect(image, 0.12)))
                points = detect(image, 0.1)
    return statistics.median(first[WARM_UP:]), statistics.median(again[WARM_UP:]), points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    chosen = device.check(parser.parse_args().device)
    print("size   blobs  same   first: cpu ms  device ms  ratio   again: cpu ms  device ms  ratio")
    for size in (256, 1024, 2048):
        image = Image(lattice(size, 16))
        cpu, cpu_again, theirs = times("cpu", image)
        other, other_again, ours = times(chosen, image)
        same = np.array_equal(ours.yx, theirs.yx) and np.allclose(
            ours.strength, theirs.strength, rtol=0, atol=1e-4
        )
        print(
            f"{size:4d}  {len(ours):6d}  {same!s:5}"
            f"  {1e3 * cpu:13.1f}  {1e3 * other:9.1f}  {cpu / other:5.1f}"
            f"  {1e3 * cpu_again:14.1f}  {1e3 * other_again:9.1f}  {cpu_again / other_again:5.1f}"
        )


if __name__ == "__main__":
    main()
