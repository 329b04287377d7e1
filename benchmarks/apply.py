"""`apply` on 500 simulated images: two workers against one, and a run whose worker and then driver
are killed against an undisturbed one.

    python benchmarks/apply.py [--images N] [--backend ray|processes]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from scopegym.datasets.simulate import simulate_crystal
from scopegym.sample.crystal import Crystal

PIXEL_NM = 0.02


def write_images(folder: Path, count: int, side: int = 256) -> None:
    folder.mkdir()
    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    for seed in range(count):
        noise = float(np.random.default_rng(seed).uniform(0, 0.4))
        image = simulate_crystal(projection, (side, side), PIXEL_NM, noise=noise, seed=seed)
        tifffile.imwrite(folder / f"{seed:04d}.tif", image.data)


def command(images: Path, out: Path, workers: int, backend: str) -> list[str]:
    scopegym = Path(sys.executable).with_name("scopegym")
    known = ["--crystal", "YBa2Cu3O7", "--pixel-size", f"{PIXEL_NM} nm"]
    many = ["--workers", str(workers), "--backend", backend]
    return [str(scopegym), "apply", "atoms", str(images), *known, "--out", str(out), *many]


def timed(images: Path, out: Path, workers: int, backend: str) -> float:
    start = time.perf_counter()
    subprocess.run(command(images, out, workers, backend), check=True, capture_output=True)
    return time.perf_counter() - start


def disturbed(images: Path, out: Path, backend: str, count: int) -> None:
    """Kill a worker at a quarter and the driver at half of the images, then run it again."""
    driver = subprocess.Popen(
        command(images, out, 2, backend), stdout=subprocess.DEVNULL, start_new_session=True
    )

    def until(done: int) -> None:
        while driver.poll() is None and len(list(out.glob("*/result.json"))) < done:
            time.sleep(0.05)

    until(count // 4)
    os.kill(a_worker(driver.pid, backend), signal.SIGKILL)
    until(count // 2)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    print(f"killed with {len(list(out.glob('*/result.json')))} of {count} images done")
    subprocess.run(command(images, out, 2, backend), check=True, capture_output=True)


def a_worker(driver: int, backend: str) -> int:
    mark = "spawn_main" if backend == "processes" else "ray::Holder"
    lines = subprocess.run(
        ["ps", "-wweo", "pid,sid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for line in lines[1:]:
        pid, session, *args = line.split(None, 2)
        if args and mark in args[0] and (backend == "ray" or int(session) == driver):
            return int(pid)
    raise SystemExit("no worker is running")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--backend", default="ray")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = folder / "images"
        write_images(images, given.images)
        one = timed(images, folder / "one", 1, given.backend)
        two = timed(images, folder / "two", 2, given.backend)
        print(
            f"{given.images} images, {given.backend}, start included: one worker {one:.0f} s, "
            f"two {two:.0f} s, ratio {one / two:.2f}; {1000 * one / given.images:.0f} ms an image"
        )
        disturbed(images, folder / "killed", given.backend, given.images)
        tables = {n: pd.read_parquet(folder / n / "results.parquet") for n in ("one", "killed")}
        rows = len(tables["killed"])
        print(f"{rows} results, {tables['killed'].image.nunique()} images")
        print("as undisturbed:", tables["killed"].equals(tables["one"]))


if __name__ == "__main__":
    main()
