"""The agents, one algorithm per file. The package is also a mapping from name to agent."""

from scopegym.agents.base import registry
from scopegym.registry import expose

expose(__name__, registry)
