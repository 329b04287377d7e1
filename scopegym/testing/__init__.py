"""Checks of the contracts of operators, reward terms, tasks and agents, for plug-in authors.

Every check takes one entry of a registry. It raises AssertionError with the entry's name and the
broken rule. ``python -m scopegym.testing FILE.py`` checks all entries that a file registers.
"""

from scopegym.testing.agents import AGENT_CHECKS, check_agent
from scopegym.testing.operators import OPERATOR_CHECKS, check_operator
from scopegym.testing.plugin import check_plugin
from scopegym.testing.rewards import TERM_CHECKS, check_reward_term
from scopegym.testing.tasks import TASK_CHECKS, check_task

__all__ = [
    "AGENT_CHECKS",
    "OPERATOR_CHECKS",
    "TASK_CHECKS",
    "TERM_CHECKS",
    "check_agent",
    "check_operator",
    "check_plugin",
    "check_reward_term",
    "check_task",
]
