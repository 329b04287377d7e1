"""Comparison of search and learning: score, cost and agreement with the truth."""

from scopegym.experiments.benchmark.driver import benchmark as benchmark
