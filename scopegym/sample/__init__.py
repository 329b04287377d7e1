"""The sample as the user describes it, and the prior of one image that follows from it."""

from scopegym.sample.sample import Expectation, Sample

__all__ = ["Expectation", "Sample"]
