"""Searching against learning: who finds what, at which cost, and is it right?"""

from scopegym.experiments.benchmark.driver import benchmark as benchmark
