"""Monte Carlo tree search over the micro-steps in which a workflow is written down.

Kocsis & Szepesvari 2006, Bandit based Monte-Carlo Planning; choosing by PUCT, with priors that a
policy may give, as in Silver et al. 2017, Mastering the game of Go without human knowledge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.agents.policy import Policy
from scopegym.artifacts import Array
from scopegym.envs.actions import Actions
from scopegym.envs.episode import Episode, Rules
from scopegym.envs.problem import Problem, Trial
from scopegym.operators.base import registry as operators

#: Weight of curiosity against value.
EXPLORATION = 0.5
#: Share of the best score below a node in its value; the rest is their mean. The same workflow has
#: always the same score, so that the best one below can be had again.
BEST = 1.0
#: Without a policy: chance that a new workflow ends here once it answers the task, and that a
#: parameter keeps its default.
STOPPING, DEFAULT = 0.5, 0.5


@dataclass
class Node:
    """What simulations through one micro-step gave."""

    prior: float
    #: Executions from the root that the cheapest complete episode not yet tried takes.
    need: float
    visits: int = 0
    total: float = 0.0
    best: float = 0.0
    #: By action; empty until the node is first visited.
    children: dict[int, Node] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean score of the simulations."""
        return self.total / self.visits

    @property
    def value(self) -> float:
        """What the node is worth, 0..1."""
        return BEST * self.best + (1 - BEST) * self.mean

    def affordable(self, executions: int) -> list[int]:
        """The actions below which something is left to try at this cost."""
        return [action for action, child in self.children.items() if child.need <= executions]

    def pick(self, executions: int) -> int:
        """The affordable action of highest value and curiosity (PUCT); one that was never tried
        counts as an average one."""

        def urgency(action: int) -> float:
            child = self.children[action]
            value = child.value if child.visits else self.mean
            curiosity = child.prior * math.sqrt(self.visits) / (1 + child.visits)
            return value + EXPLORATION * curiosity

        return max(self.affordable(executions), key=urgency)


@agent
def tree(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Grow a tree of half-written workflows, going on where the best ones came from (PUCT).

    Every workflow is played from its beginning and charged in full, as by any other agent.
    """
    yield from tree_search(problem, budget, rng)


def tree_search(
    problem: Problem, budget: Budget, rng: np.random.Generator, policy: Policy | None = None
) -> Iterator[Trial]:
    """Yield a trial per simulation, the expert's workflow in the nearest grid values first.

    The policy gives the priors and completes workflows; without it all actions are equal in the
    tree, and simple ones complete. No complete episode comes twice: the search ends with the
    budget, or with a space that is tried out.
    """
    task = problem.task
    rules = Rules(Actions(task.operators), task.horizon) if policy is None else policy.rules
    actions = rules.actions
    planned = [a for step in task.expert for a in actions.encode(step)] + [actions.STOP]
    root = Node(prior=1.0, need=1)
    while root.need <= budget.left:
        horizon = min(rules.horizon, budget.left)
        start = Episode.start(problem, Rules(actions, horizon, rules.limits))
        episode = _simulate(start, root, rng, policy, planned)
        planned = []
        yield budget.record(episode)


def _simulate(
    episode: Episode,
    root: Node,
    rng: np.random.Generator,
    policy: Policy | None,
    planned: Sequence[int],
) -> Episode:
    """Play one whole episode, along ``planned`` as far as that goes, and tell the tree its score.

    All of it joins the tree, for simulations are few and long.
    """
    node, path = root, [root]
    plan = iter(planned)
    # What follows a failed operator has its twin without it.
    while not (episode.ended or episode.failure):
        action = next(plan, None)
        if not node.children:
            chances = _chances(episode, policy)
            _expand(node, episode, chances if policy else chances > 0)
            if action is None:
                open_ = node.affordable(episode.rules.horizon)
                weights = chances[open_]
                action = int(rng.choice(open_, p=weights / weights.sum()))
        elif action is None:
            action = node.pick(episode.rules.horizon)
        episode = episode.play(action)
        node = node.children[action]
        path.append(node)
    for above in reversed(path):
        above.visits += 1
        above.total += episode.score.value
        above.best = max(above.best, episode.score.value)
        needs = (child.need for child in above.children.values())
        above.need = math.inf if above is node else min(needs)
    return episode


