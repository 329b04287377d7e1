"""Kinds of answer: one file for each. A kind is registered by being there."""

from scopegym.answers.base import (
    Finding,
    Kind,
    adversary,
    agreement,
    answer_kind,
    described,
    registry,
)
from scopegym.registry import expose

__all__ = ["Finding", "Kind", "adversary", "agreement", "answer_kind", "described", "registry"]

expose(__name__, registry)
