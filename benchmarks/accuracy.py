"""How well ``solve`` finds columns it is never shown: simulated, bundled and real images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import scopegym
from scopegym import operators
from scopegym.artifacts import Points
from scopegym.datasets.bundled import bundled
from scopegym.datasets.simulate import simulate_crystal
from scopegym.experiments.solve import Result
from scopegym.metrics import match_points
from scopegym.sample.crystal import Crystal

SEEDS = 10
BUDGET = 60
#: The bundled images are periodic: a column on the edge shows on both sides [px].
MARGIN = 10.5


def solved(micrograph: scopegym.Micrograph, seed: int = 0) -> Result:
    return scopegym.solve(micrograph, crystal="YBa2Cu3O7", zone=(1, 0, 0), budget=BUDGET, seed=seed)


def simulated() -> None:
    print(f"Simulated YBa2Cu3O7 [100], 256 x 256, {SEEDS} images a level, bayes, budget {BUDGET}")
    print("noise  F1 mean   least   score  mean error px")
    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    for noise in (0.0, 0.1, 0.2, 0.4, 0.6):
        rows = []
        for seed in range(SEEDS):
            micrograph = simulate_crystal(projection, (256, 256), 0.02, noise=noise, seed=seed)
            result = solved(micrograph, seed)
            assert isinstance(micrograph.truth, Points)
            radius = result.problem.prior.scale_px / 4
            match = match_points(result.points, micrograph.truth, radius)
            rows.append((match.f1, result.chosen.score.value, match.mean_error_px))
        f1, score, error = np.array(rows).T
        means = f"{score.mean():6.3f}  {error.mean():.3f}"
        print(f"{noise:5.1f}  {f1.mean():7.3f}  {f1.min():6.3f}  {means}")


def multislice() -> None:
    print(f"Bundled multislice images, inner region ({MARGIN} px), bayes, budget {BUDGET}")
    for name in ("ybco_100", "ybco_100_poisson"):
        micrograph = bundled(name)
        result = solved(micrograph)
        assert isinstance(micrograph.truth, Points)
        radius = result.problem.prior.scale_px / 4
        refined = operators["refine_positions"](
            result.state.image, result.points, prior=result.problem.prior
        )
        match = match_points(refined, micrograph.truth, radius, MARGIN)
        species = np.array(micrograph.metadata["species"])[match.true]
        away = np.linalg.norm(refined.yx[match.found] - micrograph.truth.yx[match.true], axis=1)
        errors = ", ".join(f"{s} {away[species == s].mean():.3f} px" for s in ("Ba", "Y", "Cu"))
        print(f"{name}: F1 {match.f1:.3f} of {len(match.true)} columns; mean error {errors}")


def real(folder: Path) -> None:
    result = solved(scopegym.load(folder / "YBCO_tem.tif"))
    prior, score = result.problem.prior, result.chosen.score
    print(f"Real image: {len(result.points)} columns, {prior.count:.0f} expected at its own scale")
    print(", ".join(f"{name} {value:.3f}" for name, value in score.terms.items()))
    assert result.calibration is not None
    print(result.calibration.message)


def nothing() -> None:
    """What the score says where there is nothing to find."""
    scores = []
    for seed in range(SEEDS):
        noise = np.random.default_rng(seed).normal(size=(256, 256))
        micrograph = scopegym.Micrograph(noise, 0.02, f"noise {seed}")
        result = solved(micrograph, seed)
        assert result.calibration is not None
        scores.append((result.chosen.score.value, result.calibration.status == "unmeasurable"))
    value, told = np.array(scores, dtype=float).T
    print(
        f"Pure noise taken for YBa2Cu3O7: score {value.min():.2f} to {value.max():.2f}; "
        f"the calibration check finds no lattice in {int(told.sum())} of {SEEDS}"
    )


if __name__ == "__main__":
    simulated()
    nothing()
    multislice()
    for argument in sys.argv[1:]:
        real(Path(argument))
