"""Image analysis in microscopy as an optimisation problem with a physical answer."""

from typing import TYPE_CHECKING, Any

from scopegym import envs, operators, rewards
from scopegym.datasets.readers import load
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.operators.base import operator
from scopegym.prior import Prior
from scopegym.rewards.base import Reward, reward_term
from scopegym.sample import Sample
from scopegym.sample.crystal import Crystal
from scopegym.version import __version__
from scopegym.workflow import Recipe, Step, Workflow

if TYPE_CHECKING:
    from scopegym.experiments.solve import Result
    from scopegym.experiments.solving import solve

__all__ = [
    "Crystal",
    "Micrograph",
    "Prior",
    "Recipe",
    "Result",
    "Reward",
    "Sample",
    "ScopegymError",
    "Step",
    "Workflow",
    "__version__",
    "envs",
    "load",
    "operator",
    "operators",
    "reward_term",
    "rewards",
    "solve",
]


def __getattr__(name: str) -> Any:
    # Solving needs the agents and their libraries; applying operators does not.
    if name == "Result":
        from scopegym.experiments.solve import Result

        return Result
    if name == "solve":
        from scopegym.experiments.solving import solve

        return solve
    raise AttributeError(f"module 'scopegym' has no attribute '{name}'")
