"""Peak memory and time of every task's expert workflow, of ``apply atoms``, and of filters.

Each row is a fresh process that reads an image file, makes the prior and evaluates. Its peak is
that of the whole process, the interpreter and its libraries included. The bound is 12 times the
float32 image and 0.5 GB.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

#: Side of the image that is simulated and then repeated [px]: 64 cells of 16 px, or 128 of 8 px.
TILE = 1024
#: Standard deviation of the noise that is added to the whole image, of a contrast of 1.
NOISE = 0.1
PIXEL_SIZE_NM = 0.3905 / 16
FILTERS = ("median", "clahe", "denoise_tv", "denoise_nlm", "background_subtract", "bandpass")
EXPERTS = ("atoms", "disorder", "symmetry")


def image(kind: str, size: int, folder: Path) -> Path:
    """An image of SrTiO3 [001], of that with disordered regions, or of two patterns; as a file."""
    from scopegym.datasets.simulate import simulate_crystal
    from scopegym.datasets.simulate_disorder import simulate_disorder
    from scopegym.datasets.simulate_patterns import two_phases
    from scopegym.sample.crystal import Crystal

    path = folder / f"{kind}-{size}.npy"
    if path.exists():
        return path
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    tile = (TILE, TILE)
    if kind == "disorder":
        clean = simulate_disorder(projection, tile, PIXEL_SIZE_NM, noise=0.0, seed=1)
    elif kind == "symmetry":
        clean = two_phases(tile, 8.0, noise=0.0)
    else:
        clean = simulate_crystal(projection, tile, PIXEL_SIZE_NM, seed=1)
    times = -(-size // TILE)
    pixels = np.tile(clean.data, (times, times))[:size, :size]
    noise = np.random.default_rng(0).standard_normal(pixels.shape, dtype=np.float32)
    np.save(path, pixels + np.float32(NOISE) * noise)
    return path


def measured(kind: str, path: Path) -> dict[str, float | str]:
    """What a child process reports: seconds, peak memory [bytes] and what came of it."""
    from scopegym.datasets.readers import load
    from scopegym.envs.problem import Problem
    from scopegym.envs.problem import registry as tasks
    from scopegym.sample import Sample
    from scopegym.sample.crystal import Crystal
    from scopegym.workflow import Step, Workflow

    start = time.perf_counter()
    micrograph = load(path, f"{PIXEL_SIZE_NM} nm")
    if kind == "estimate":
        said = f"spacing {Sample(estimate=True).expect(micrograph).prior.scale_px:.2f} px"
    else:
        task = tasks[kind if kind in EXPERTS else "atoms"]
        if kind == "symmetry":
            prior = Sample(spacing="8 px").expect(micrograph, counted=False).prior
        else:
            crystal = Crystal.named("SrTiO3")
            prior = Sample(crystal=crystal, zone=(0, 0, 1)).expect(micrograph).prior
        problem = Problem(micrograph, prior, task)
        if kind == "apply":
            from scopegym.agents.policy import Policy

            policy = Policy.shipped("atoms")
            trial = policy.propose(problem)
            policy.out_of_domain_features(problem)
            problem.run(trial.workflow)
        elif kind in EXPERTS:
            trial = problem.evaluate(task.expert)
        else:
            trial = problem.evaluate(Workflow((Step(kind),)))
        said = trial.failure or f"score {trial.score.value:.3f}"
    seconds = time.perf_counter() - start
    # Of this process alone: what ``resource`` tells may be the parent's.
    peak = 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
    return {"seconds": seconds, "peak": peak, "said": said}


def row(kind: str, size: int, folder: Path, most_gb: float) -> str:
    """One line of the table."""
    path = image(kind if kind in EXPERTS else "atoms", size, folder)
    bound = 12 * 4 * size**2 / 1e9 + 0.5

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (int(most_gb * 1e9),) * 2)

    command = [sys.executable, __file__, "--child", kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return f"| {size} | {kind} | more than {most_gb:g} | {bound:.2f} | | {last[:80]} |"
    told = json.loads(done.stdout.strip().splitlines()[-1])
    peak = told["peak"] / 1e9
    return (
        f"| {size} | {kind} | {peak:.2f} | {bound:.2f} | {told['seconds']:.1f} | {told['said']} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 4096, 8192])
    kinds = (*EXPERTS, "apply", "estimate", *FILTERS)
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--folder", type=Path, help="where images are kept for the next run")
    parser.add_argument("--most-gb", type=float, default=16.0, help="addresses a child may take")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.child[0], Path(given.child[1]))))
        return
    print("| size [px] | what | peak [GB] | bound [GB] | seconds | result |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        for size in given.sizes:
            for kind in given.kinds:
                print(row(kind, size, folder, given.most_gb), flush=True)


if __name__ == "__main__":
    main()
