"""From what a user knows of the sample to the prior of one image."""
