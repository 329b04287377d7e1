"""The contracts of operators, reward terms, tasks and agents, as checks for authors of plug-ins.

Every check takes one entry of a registry, and raises AssertionError with a message that names the
entry and what it did. ``python -m scopegym.testing FILE.py`` checks all that a file registers.
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
