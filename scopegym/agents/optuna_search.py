"""The samplers of Optuna over the task's whole space of workflows.

Akiba et al. 2019, Optuna: A Next-generation Hyperparameter Optimization Framework.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.agents.bayes import starting_points
from scopegym.agents.encoding import Encoding
from scopegym.envs.grammar import Grammar, Slot
from scopegym.envs.problem import Problem, Trial
from scopegym.errors import ScopegymError
from scopegym.operators.base import registry as operators
from scopegym.space import Choice, Integer, Space
from scopegym.workflow import Step, Workflow

#: Trials before a model proposes, starting points included. Optuna's default of 10 uses much of a
#: small budget; with 120 executions (about 32 trials) the two do not differ significantly.
STARTUP = 5
#: Workflows per generation of NSGA-II: few, so that a small budget allows several generations. With
#: 120 executions 6 and 10 do not differ significantly.
POPULATION = 6
#: Most consecutive proposals that were tested before; in a small space no others are left.
PATIENCE = 5


@agent
def optuna(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Tree-structured Parzen estimator of Optuna.

    It proposes values that are frequent among the best workflows and rare among the others
    (Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; Watanabe 2023).
    """
    # Independent parameters allow conditional ones. Joint modelling is experimental in Optuna, did
    # not score higher (0.924 with either) and took twice as long.
    sampler = _library().samplers.TPESampler(
        seed=_seed(rng), n_startup_trials=STARTUP, multivariate=False
    )
    yield from _search(problem, budget, rng, sampler)


@agent
def optuna_nsga2(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """NSGA-II of Optuna: cross and mutate the workflows on the Pareto front.

    The objectives are the goodnesses of all terms (Deb et al. 2002, A Fast and Elitist
    Multiobjective Genetic Algorithm).
    """
    sampler = _library().samplers.NSGAIISampler(seed=_seed(rng), population_size=POPULATION)
    yield from _search(problem, budget, rng, sampler, by_terms=True, whole=True)


@agent
def optuna_gp(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Bayesian optimisation of Optuna: a Gaussian process predicts where improvement is expected.

    Its GP sampler over numbers and choices: logarithm of the expected improvement (Ament et al.
    2023, Unexpected Improvements to Expected Improvement for Bayesian Optimization).
    """
    library = _library()
    with warnings.catch_warnings():
        # Optuna warns that deterministic objectives are experimental.
        warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
        sampler = library.samplers.GPSampler(
            seed=_seed(rng),
            n_startup_trials=STARTUP,
            deterministic_objective=True,
            warn_independent_sampling=False,
        )
    yield from _search(problem, budget, rng, sampler, whole=True)


def _search(
    problem: Problem,
    budget: Budget,
    rng: np.random.Generator,
    sampler: Any,
    *,
    by_terms: bool = False,
    whole: bool = False,
) -> Iterator[Trial]:
    """Ask the sampler for workflows and report their goodnesses ``by_terms``, or their values.

    A repeated workflow gets its known score, and the next proposal is random.
    """
    encoding, library = Encoding(problem.task), _library()
    directions = ["maximize"] * (len(problem.reward.terms) if by_terms else 1)
    with _quiet(library):
        study = library.create_study(directions=directions, sampler=sampler)
    for workflow in starting_points(problem.task):
        study.enqueue_trial(_choices(workflow, encoding.grammar))
    known: dict[str, Trial] = {}
    repeats = 0
    while True:
        with _quiet(library):
            asked = study.ask()
            workflow = _proposed(asked, encoding.slots, whole)
        trial = known.get(workflow.key)
        if trial is not None and repeats < PATIENCE:
            repeats += 1
            study.enqueue_trial(_choices(encoding.sample(rng), encoding.grammar))
        else:
            trial = budget.evaluate(workflow)
            if trial is None:
                return
            known[workflow.key], repeats = trial, 0
            yield trial
        goodnesses = problem.reward.goodnesses(trial.score.terms)
        study.tell(asked, list(goodnesses.values()) if by_terms else trial.score.value)


def _proposed(asked: Any, slots: Sequence[Slot], whole: bool) -> Workflow:
    """The workflow of a trial of Optuna: an operator or none for every slot, and the operator's
    parameters.

    ``whole`` suggests the parameters of all operators, used or not. Samplers without conditional
    parameters draw at random those that are not always suggested.
    """
    steps = []
    for slot in slots:
        chosen = asked.suggest_categorical(slot.name, slot.options)
        for name in slot.operators:
            if whole or name == chosen:
                values = {
                    key: _suggested(asked, f"{slot.name}.{name}.{key}", parameter.space)
                    for key, parameter in operators[name].parameters.items()
                }
                steps += [Step(name, values)] if name == chosen else []
    return Workflow(tuple(steps))


def _suggested(asked: Any, name: str, space: Space) -> Any:
    if isinstance(space, Choice):
        return asked.suggest_categorical(name, space.options)
    if isinstance(space, Integer):
        return asked.suggest_int(name, space.low, space.high)
    value = asked.suggest_float(name, space.low, space.high, log=space.log)
    # Round to as many digits as in the other searches.
    return space.from_unit(space.to_unit(value))


def _choices(workflow: Workflow, grammar: Grammar) -> dict[str, Any]:
    """The suggestions that produce a workflow."""
    choices: dict[str, Any] = {}
    for slot, step in zip(grammar.slots, grammar.filled(workflow) or (), strict=False):
        choices[slot.name] = None if step is None else step.op
        if step is not None:
            choices |= {f"{slot.name}.{step.op}.{key}": v for key, v in step.params.items()}
    return choices


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Log errors only."""
    before = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.ERROR)
    try:
        yield
    finally:
        library.logging.set_verbosity(before)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _library() -> ModuleType:
    try:
        import optuna as library
    except ImportError as error:
        raise ScopegymError(
            f"The agents optuna need Optuna, which does not load ({error}): "
            'pip install "scopegym[optuna]".'
        ) from error
    return library
