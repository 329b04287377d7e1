"""Image to features: how well each place agrees with its shifted, rotated or mirrored copy.

Scores are Pearson correlations of a patch with its transformed copy (Wang, Freysoldt and
Liebscher, Semi-automated segmentation of atomic-resolution microscopy images with unsupervised
machine learning, equation 2; cited below as Wang et al.).
A descriptor carries the centres it was computed at, because patch and window keep a margin. The
stride is a length in spacings like the sizes: it is the precision of a boundary, which physics
sets in spacings, and so the number of centres does not change with magnification.

Memory is bounded: of images beyond 512 x 512 px values are kept in single precision, and where the
values of all centres would take more than four float32 images and 128 MB, the stride grows.
"""

from scopegym.operators.symmetry.centres import Grid, grid
from scopegym.operators.symmetry.polar import MIRRORS, ROTATIONS, rings
from scopegym.operators.symmetry.spectrum import local_power
from scopegym.operators.symmetry.translation import even_shifts, translation_scores

__all__ = [
    "MIRRORS",
    "ROTATIONS",
    "Grid",
    "even_shifts",
    "grid",
    "local_power",
    "rings",
    "translation_scores",
]
