"""Multi-objective Bayesian optimisation with BoTorch over the task's whole space of workflows.

Balandat et al. 2020, BoTorch: A Framework for Efficient Monte-Carlo Bayesian Optimization.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from scopegym.agents.base import Budget, Front, agent
from scopegym.agents.bayes import starting_points
from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Array
from scopegym.envs.problem import Problem, Trial
from scopegym.errors import ScopegymError
from scopegym.rewards.base import Reward, Score
from scopegym.workflow import Workflow

#: Trials before the model proposes: starting points, then random workflows.
STARTUP = 5
#: Numbers of candidates: uniform draws, and neighbours of the front's workflows. A gradient is
#: useless for coordinates that choose operators.
DRAWS, NEIGHBOURS = 200, 200
#: Draws from the model for the expected growth. They and the front's boxes take most of the time:
#: with four terms, 64 take four times as long.
SAMPLES = 16
#: Most objectives: the cost of the hypervolume grows exponentially with their number.
MOST_OBJECTIVES = 4
#: Variance of repeated measurements. Workflows are deterministic; this keeps the model's matrices
#: regular.
NOISE = 1e-6


@agent
def botorch(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Bayesian optimisation of BoTorch: Gaussian processes predict where the front grows most.

    Growth is the hypervolume of the terms' goodnesses above 0: qLogNEHVI (Daulton et al. 2021,
    Parallel Bayesian Optimization of Multiple Noisy Objectives; Ament et al. 2023). Of more than
    four terms the lightest are joined.
    """
    _check_installed()
    encoding = Encoding(problem.task)
    front = Front(problem.reward)
    points: list[Array] = []
    goodnesses: list[list[float]] = []
    starts = deque(starting_points(problem.task))
    while True:
        if starts:
            workflow = starts.popleft()
        elif len(points) < STARTUP:
            workflow = encoding.sample(rng)
        else:
            workflow = _propose(encoding, np.array(points), np.array(goodnesses), front, rng)
        trial = budget.evaluate(workflow)
        if trial is None:
            return
        points.append(_point(encoding, workflow))
        goodnesses.append(_objectives(problem.reward, trial.score))
        front.add(trial)
        yield trial


def _objectives(reward: Reward, score: Score) -> list[float]:
    """The goodnesses of the terms, the heaviest first; those of the lightest are multiplied where
    there would be too many."""
    goodness = reward.goodnesses(score.terms)
    heaviest = sorted(goodness, key=lambda term: -reward.weights[term])
    kept, light = heaviest[: MOST_OBJECTIVES - 1], heaviest[MOST_OBJECTIVES - 1 :]
    joined = [math.prod(goodness[term] for term in light)] if light else []
    return [goodness[term] for term in kept] + joined


def _propose(
    encoding: Encoding, points: Array, goodnesses: Array, front: Front, rng: np.random.Generator
) -> Workflow:
    """The workflow of most expected growth among uniform draws and neighbours of the front."""
    candidates = [rng.random(encoding.dimensions) for _ in range(DRAWS)]
    parents = [_point(encoding, trial.workflow) for trial in front]
    if parents:
        chosen = rng.integers(len(parents), size=NEIGHBOURS)
        candidates += [encoding.mutate(parents[i], rng) for i in chosen]
    cube = np.array([encoding.canonical(candidate) for candidate in candidates])
    growth = _expected_growth(points, goodnesses, cube, int(rng.integers(2**31)))
    # A workflow and its encoding differ because parameters have six digits.
    tried = (np.abs(cube[:, None] - points).max(axis=2) < 1e-4).any(axis=1)
    growth[tried] = -np.inf
    return encoding.decode(cube[int(np.argmax(growth))])


def _expected_growth(points: Array, goodnesses: Array, cube: Array, seed: int) -> Array:
    """Logarithm of the hypervolume ``[C]`` that each of ``cube`` ``[C, D]`` is expected to add to
    the front of goodnesses ``[N, M]`` at ``points`` ``[N, D]``."""
    import torch
    from botorch.acquisition.multi_objective import logei
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.sampling import manual_seed
    from linear_operator.utils.warnings import NumericalWarning

    # BoTorch would compile a kernel on first use: this takes minutes and needs a compiler.
    logei._load_attempted = True
    with manual_seed(seed), warnings.catch_warnings(), torch.no_grad():
        # Neighbours make a covariance nearly singular; gpytorch corrects that with a warning.
        warnings.simplefilter("ignore", NumericalWarning)
        # Torch warns once that it does not check the sparse matrices of gpytorch.
        warnings.filterwarnings("ignore", "Sparse invariant checks", UserWarning)
        acquisition = logei.qLogNoisyExpectedHypervolumeImprovement(
            _fitted(points, goodnesses),
            ref_point=[0.0] * goodnesses.shape[1],
            X_baseline=torch.from_numpy(points),
            sampler=SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=seed),
            prune_baseline=True,
        )
        growth: Array = acquisition(torch.from_numpy(cube)[:, None]).numpy()
    return growth


def _fitted(points: Array, goodnesses: Array) -> Any:
    """Independent Gaussian processes for all terms, with fitted length scales where the fit
    succeeds."""
    import torch
    from botorch.exceptions import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.settings import validate_input_scaling
    from gpytorch.mlls import ExactMarginalLogLikelihood

    seen = torch.from_numpy(goodnesses)
    # A constant term has no variance to standardise by; that needs no warning.
    with validate_input_scaling(False):
        model = SingleTaskGP(
            torch.from_numpy(points),
            seen,
            train_Yvar=torch.full_like(seen, NOISE),
            outcome_transform=Standardize(seen.shape[1]),
        )
    with torch.enable_grad(), suppress(ModelFittingError):
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def _point(encoding: Encoding, workflow: Workflow) -> Array:
    point = encoding.encode(workflow)
    assert point is not None  # starting points, samples and proposals all fit the slots
    return point


def _check_installed() -> None:
    try:
        with warnings.catch_warnings():
            # What BoTorch imports still uses torch.jit.script.
            warnings.filterwarnings("ignore", ".*torch.jit.script", FutureWarning)
            import botorch  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ScopegymError(
            f"The agent botorch needs BoTorch, which does not load ({error}): "
            'pip install "scopegym[botorch]".'
        ) from error
