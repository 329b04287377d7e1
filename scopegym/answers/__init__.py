"""Kinds of answer, one per file. Importing the package registers them."""

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
