"""Audit of a reward: its agreement with the truth, and reward hacks."""

from scopegym.experiments.audit.run import audit as audit
