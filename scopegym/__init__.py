"""Image analysis in microscopy as an optimisation problem with a physical answer."""

__version__ = "0.1.0"
