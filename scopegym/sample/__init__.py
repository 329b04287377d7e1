"""From what a user knows of the sample to the prior of one image."""

from scopegym.sample.sample import Expectation, Sample

__all__ = ["Expectation", "Sample"]
