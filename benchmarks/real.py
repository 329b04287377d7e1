"""How far scores and verdicts can be trusted on images that our simulator did not make.

    python benchmarks/real.py DATA [--out FOLDER] [--agent NAME] [--budget N] [--jobs N]

Every image (see ``truth/cases.py``) is solved with right and with wrong premises. A result is right
if its F1 is at least 0.9, columns within a quarter of the spacing. Prints a table, Kendall's tau of
score and F1, and how often the verdict ``ok`` is right and given to right results. The folder
receives all rows and the positions found.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
from scipy.stats import kendalltau
from truth.cases import Case, Premise, cases

import scopegym
from scopegym.errors import ScopegymError

#: Set before any result was seen.
RIGHT_F1 = 0.9


def outcome(case: Case, premise: Premise, agent: str, budget: int) -> dict[str, Any]:
    """One image solved with one premise; a refusal counts as a verdict of its own."""
    import cv2

    cv2.setNumThreads(1)
    row: dict[str, Any] = {
        "image": case.name, "kind": case.kind, "premise": premise.name,
        "premise_right": premise.right, "f1": 0.0, "score": 0.0, "verdict": "refused",
    }  # fmt: skip
    start = time.perf_counter()
    try:
        result = scopegym.solve(
            case.micrograph, agent=agent, budget=budget, seed=0, **premise.options
        )
    except ScopegymError as error:
        return {**row, "said": str(error), "seconds": time.perf_counter() - start}
    summary = result.to_dict()
    return row | {
        "f1": case.f1(result.points.yx),
        "score": result.chosen.score.value, "verdict": summary.get("verdict", "none"),
        "found": len(result.points), "expected": result.problem.prior.count,
        "said": " | ".join(summary.get("reasons", summary["warnings"])),
        "seconds": time.perf_counter() - start,
        **dict(result.chosen.score.terms),
        "prior": result.problem.prior, "yx": result.points.yx,
    }  # fmt: skip


def tuned(case: Case) -> float:
    """The best F1 of scikit-image's maxima of the smoothed image, over settings that are chosen
    with the truth: what a patient hand reaches."""
    from scipy.ndimage import gaussian_filter
    from skimage.feature import peak_local_max

    pixels, spacing = case.micrograph.normalized().pixels, case.spacing_px
    best = 0.0
    for sign in (1, -1):
        for width in (0.1, 0.15, 0.2, 0.25, 0.3):
            smooth = sign * gaussian_filter(pixels, width * spacing)
            smooth -= sign * gaussian_filter(pixels, 3 * width * spacing)
            for apart in (0.4, 0.6):
                found = peak_local_max(
                    smooth, min_distance=max(1, round(apart * spacing)), exclude_border=False
                )
                height = smooth[tuple(found.T)]
                for share in (0.0, 0.1, 0.2, 0.3, 0.45):
                    kept = found[height > share * smooth.max()]
                    best = max(best, case.f1(kept.astype(float)))
    return best


def _tuned(case: Case) -> tuple[str, float]:
    return case.name, tuned(case)


def _run(job: tuple[Case, Premise, str, int]) -> dict[str, Any]:
    return outcome(*job)


def measured(
    data: Path, agent: str, budget: int, jobs: int, only: str | None
) -> Iterable[dict[str, Any]]:
    todo = [
        (case, premise, agent, budget)
        for case in cases(data)
        if only is None or only in case.name
        for premise in case.premises
    ]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for number, row in enumerate(pool.map(_run, todo), start=1):
            if sys.stderr.isatty():
                print(f"\r{number} of {len(todo)}", end="", file=sys.stderr)
            yield row


def tau(rows: list[dict[str, Any]]) -> float:
    return float(kendalltau([r["score"] for r in rows], [r["f1"] for r in rows]).statistic)


def told(rows: list[dict[str, Any]], title: str) -> None:
    """The lines of a group of results."""
    right = [r for r in rows if r["f1"] >= RIGHT_F1]
    ok = [r for r in rows if r["verdict"] == "ok"]
    both = sum(r["f1"] >= RIGHT_F1 for r in ok)
    solved = [r for r in rows if r["verdict"] != "refused"]
    print(
        f"{title:34s} {len(rows):4d} results, {len(rows) - len(solved):3d} refused, "
        f"{len(right):3d} right; tau {tau(solved):5.2f}; ok: {len(ok):3d}, "
        f"right {both / max(len(ok), 1):5.1%}, given to {both / max(len(right), 1):5.1%} of right"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--agent", default="evolution")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="images whose name contains this")
    options = parser.parse_args()
    rows = []
    for row in measured(options.data, options.agent, options.budget, options.jobs, options.only):
        rows.append(row)
        print(f"{row['image'][:26]:26s} {row['premise'][:22]:22s} F1 {row['f1']:.3f}  score "
              f"{row['score']:.3f}  {row['verdict']}", flush=True)  # fmt: skip
    print()
    for kind in dict.fromkeys(row["kind"] for row in rows):
        told([row for row in rows if row["kind"] == kind], kind)
    told([row for row in rows if row["premise_right"]], "right premises")
    told([row for row in rows if not row["premise_right"]], "wrong premises")
    told(rows, "all")
    by_hand(options.data, rows, options.jobs)
    if options.out is not None:
        write(rows, options.out)


def by_hand(data: Path, rows: list[dict[str, Any]], jobs: int) -> None:
    """For every image the F1 by hand, and with each right premise."""
    names = {row["image"] for row in rows}
    chosen = [case for case in cases(data) if case.name in names]
    print(f"\n{'F1':30s} by hand  crystal  estimate  density and spacing")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for name, best in pool.map(_tuned, chosen):
            found = {r["premise"]: r["f1"] for r in rows if r["image"] == name}
            others = [found.get(p) for p in ("crystal", "estimate", "density and spacing")]
            cells = ["     –" if f1 is None else f"{f1:6.3f}" for f1 in others]
            print(f"{name:30s} {best:7.3f}   {'    '.join(cells)}")


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(key for row in rows for key in row if key not in ("prior", "yx")))
    with (folder / "real.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, names, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    found = {f"{r['image']}/{r['premise']}": r["yx"] for r in rows if "yx" in r}
    np.savez_compressed(folder / "found.npz", **found)


if __name__ == "__main__":
    main()
