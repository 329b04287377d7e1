"""Image analysis in microscopy as an optimisation problem with a physical answer."""
