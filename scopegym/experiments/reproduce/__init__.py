"""What papers show, shown again with scopegym: one paper per file. Also a mapping from name."""

from scopegym.experiments.reproduce.base import registry
from scopegym.registry import expose

expose(__name__, registry)
