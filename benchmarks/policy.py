"""One episode of a policy against `expert` and `bayes`: unseen simulated images, then real ones.

    python benchmarks/policy.py [--data FOLDER] [--images N] [--keep FILE.csv] [--without-search]
                                POLICY...

POLICY is a bundle's folder or a task's name; FOLDER holds the published data sets. What FILE.csv
holds already is not computed again.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

import scopegym
from scopegym.agents.base import registry as agents
from scopegym.agents.policy import SHIPPED, Policy
from scopegym.answers import agreement
from scopegym.artifacts import Points
from scopegym.datasets.bundled import bundled
from scopegym.envs.problem import Problem, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.solve import break_ties
from scopegym.metrics import match_points
from scopegym.sample import Sample

#: The stream of the unseen images: neither training nor validation draws from it.
UNSEEN = 9001
EVALUATIONS = 30
ATOMS = tasks["atoms"]


def searched(problem: Problem, evaluations: int) -> tuple[Trial, int]:
    """What `bayes` chooses after so many evaluations, and the operator executions it spent."""
    unlimited = agents["bayes"].search(problem, 2**31, 0)
    trials = list(islice(unlimited, evaluations))
    best = max(trials, key=lambda trial: trial.score.value)
    return break_ties(trials, best, ATOMS.expert, ATOMS.tie), sum(
        trial.executions for trial in trials
    )


def unseen(name: str, index: int) -> tuple[float, ...]:
    """F1, score, executions and seconds of `expert`, `bayes` or a policy on one image."""
    problem = ATOMS.sample(np.random.default_rng([UNSEEN, index]))
    start = time.perf_counter()
    if name == "expert":
        trial, spent = problem.evaluate(ATOMS.expert), len(ATOMS.expert)
    elif name == "bayes":
        trial, spent = searched(problem, EVALUATIONS)
    else:
        trial = Policy.load(folder(name)).propose(problem)
        spent = trial.executions
    seconds = time.perf_counter() - start
    found = problem.run(trial.workflow).need(Points)
    f1 = agreement(problem.micrograph.truth, found, problem.prior)
    return f1, trial.score.value, spent, seconds


def folder(name: str) -> Path:
    return SHIPPED / name if (SHIPPED / name).is_dir() else Path(name)


def simulated(count: int, policies: list[str], keep: Path | None, search: bool) -> None:
    names = ("expert", *(["bayes"] if search else []), *policies)
    rows: dict[tuple[str, int], tuple[float, ...]] = {}
    if keep is not None and keep.exists():
        with keep.open() as lines:
            for name, index, *values in csv.reader(lines):
                rows[name, int(index)] = tuple(map(float, values))
    missing = [(n, i) for n in names for i in range(count) if (n, i) not in rows]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for task, row in zip(
            missing, pool.map(unseen, [n for n, _ in missing], [i for _, i in missing]), strict=True
        ):
            rows[task] = row
            if keep is not None:
                with keep.open("a") as lines:
                    csv.writer(lines).writerow([*task, *row])
    print(f"{count} unseen simulated images; bayes with {EVALUATIONS} evaluations each")
    print("                       F1   5 %    score   5 %   executions  s per image")
    table = {name: np.array([rows[name, i] for i in range(count)]).T for name in names}
    for name, (f1, score, spent, seconds) in table.items():
        print(
            f"{Path(name).name:20s} {f1.mean():.4f} {np.percentile(f1, 5):.3f}  {score.mean():.4f} "
            f"{np.percentile(score, 5):.3f}  {spent.mean():7.1f}     {seconds.mean():.2f}"
        )
    if len(policies) > 1:
        for what, column in (("F1", 0), ("score", 1)):
            means = np.array([table[name][column].mean() for name in policies])
            print(f"{what} over policies: {means.mean():.4f} ± {means.std(ddof=1):.4f}")


# Real images and other simulations ---------------------------------------------------------------


def published(data: Path) -> Iterator[tuple[str, scopegym.Micrograph, dict, Points | None, float]]:
    """Name, image, what is known of it, truth if there is one, and margin [px]."""
    ybco = {"crystal": "YBa2Cu3O7", "zone": (1, 0, 0)}
    for name in ("ybco_100", "ybco_100_poisson"):
        image = bundled(name)
        assert isinstance(image.truth, Points)
        yield f"abTEM {name}", image, ybco, image.truth, 10.5
    atoms = data / "atom_finding"
    yield "YBa2Cu3O7", load(atoms / "scilink_ybco_haadf" / "YBCO_tem.tif"), ybco, None, 0
    batio3 = {"crystal": "BaTiO3", "zone": (1, 0, 0)}
    yield "BaTiO3", load(atoms / "baghizadeh_batio3" / "BTO_crystal_1.dm4"), batio3, None, 0
    mos2 = load(next((atoms / "scilink_mos2_haadf").glob("*.npy")))
    yield "MoS2", mos2, {"crystal": "MoS2", "zone": (0, 0, 1)}, None, 0
    yield "MoS2, estimated", mos2, {"estimate": True}, None, 0
    for file in sorted((atoms / "acstem_pt_single_atoms" / "tif_data").glob("*.tif")):
        labels = file.parents[1] / "label_coordinates" / f"{file.name[:3]}_Results.csv"
        image = load(file)
        yield f"Pt atoms {file.name[:3]}", image, {"estimate": True}, labelled(labels, image), 0
    for file in sorted((atoms / "sjeon_re_pt_molecular_catalysts").rglob("*.png")):
        labels = file.parents[1] / "label_coordinates" / f"{file.stem}.csv"
        image = load(file)
        yield f"Re atoms {file.stem}", image, {"estimate": True}, labelled(labels, image), 0
    for file in sorted((atoms / "atomagined_prism_sim").rglob("*.h5")):
        yield from atomagined(file)


def load(file: Path) -> scopegym.Micrograph:
    return scopegym.load(file)


def labelled(file: Path, image: scopegym.Micrograph) -> Points:
    rows = np.genfromtxt(file, delimiter=",", skip_header=1)
    return Points(rows[:, [-1, -2]], image.shape)


def atomagined(file: Path) -> Iterator[tuple[str, scopegym.Micrograph, dict, Points | None, float]]:
    import h5py

    with h5py.File(file) as content:
        levels = {k: v[()] for k, v in content["haadf"].items() if k.startswith(("raw", "stem"))}
        truth = Points(np.argwhere(content["haadf/peak_map_clean"][()]), (256, 256))
    for level, pixels in levels.items():
        image = scopegym.Micrograph(pixels, 0.01016, f"{file.stem} {level}")
        yield f"atomagined {image.name}", image, {"estimate": True}, truth, 3


def real(data: Path, policies: list[str]) -> None:
    print(
        "image                               columns expected: score and F1 of expert, "
        "bayes 60, then the policies"
    )
    for name, image, known, truth, margin in published(data):
        try:
            expectation = Sample(**known, calibration="report").expect(image)
            problem = Problem(image, expectation.prior, ATOMS)
            problem.check()
            trials = [problem.evaluate(ATOMS.expert), searched(problem, 60)[0]]
        except ScopegymError as error:
            print(f"{name:34s} {error}")
            continue
        trials += [Policy.load(folder(policy)).propose(problem) for policy in policies]
        cells = []
        for trial in trials:
            points = problem.run(trial.workflow).need(Points)
            said = f"{trial.score.value:.3f}"
            if truth is not None:
                radius = expectation.prior.scale_px / 4
                said += f" F1 {match_points(points, truth, radius, margin).f1:.3f}"
            cells.append(f"{said} ({len(points)})")
        print(f"{name:34s} {expectation.prior.count:7.0f}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("policies", nargs="*", default=["atoms"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--without-search", action="store_true", help="without bayes")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    simulated(given.images, given.policies, given.keep, not given.without_search)
    if given.data is not None:
        real(given.data, given.policies)
