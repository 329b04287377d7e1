"""The tasks, one per file. The package is also a mapping from short name to task."""

from scopegym.envs.problem import registry
from scopegym.registry import expose

expose(__name__, registry)
