"""The scale space of the blob detectors on the current device, with PyTorch.

The same filters and rules as in ``blobs``, rounded in the same places, so that the results differ
by no more than the order of a sum decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from scopegym.artifacts import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Pixels of a row filtered by one matrix product: wide enough to occupy a GPU, and about as wide
#: as the usual kernels, so that half of the band is not zeros.
BLOCK = 64


def tensor(pixels: Array, device: str) -> Tensor:
    """An image ``[H, W]`` in the memory of a device named as in ``scopegym.device``."""
    import torch

    return torch.tensor(pixels, device="cpu" if device == "torch" else device)


def gaussian_laplace(pixels: Tensor, smooth: Array, curve: Array) -> Tensor:
    """Laplacian of Gaussian of a float32 image ``[H, W]``, from the kernels ``[K]`` that smooth and
    that smooth and differentiate twice."""
    return _separable(pixels, curve, smooth) + _separable(pixels, smooth, curve)


def gaussian(pixels: Tensor, smooth: Array) -> Tensor:
    """Gaussian smoothing of a float32 image ``[H, W]`` with the kernel ``smooth`` ``[K]``."""
    return _separable(pixels, smooth, smooth)


def _separable(pixels: Tensor, down: Array, across: Array) -> Tensor:
    """Filter the columns with the kernel ``down``, the rows with ``across``."""
    return _along_rows(_along_rows(pixels.T, down).T, across)


def _along_rows(pixels: Tensor, kernel: Array) -> Tensor:
    # A product of matrices: a convolution in double precision copies the image once per weight on a
    # processor, and one in single precision may round to 10 bits on a GPU.
    import torch

    weights = torch.tensor(kernel, device=pixels.device)
    padded = torch.nn.functional.pad(weights, (BLOCK - 1, BLOCK - 1))
    band = padded.unfold(0, BLOCK, 1).flip(1)
    windows = _windows(pixels.double(), 1, len(kernel) // 2, BLOCK)
    rows = (windows.flatten(0, 1) @ band).reshape(len(pixels), -1)
    return rows[:, : pixels.shape[1]].float()


def _windows(values: Tensor, axis: int, radius: int, step: int) -> Tensor:
    """Blocks of ``step`` values along an axis with ``radius`` more on either side, as a last axis
    ``[step + 2 radius]``; mirrored beyond the edges."""
    import torch

    size = values.shape[axis]
    stop = -(-size // step) * step
    index = torch.arange(-radius, stop + radius, device=values.device) % (2 * size)
    index = torch.minimum(index, 2 * size - 1 - index)
    return values.index_select(axis, index).unfold(axis, step + 2 * radius, step)


def local_maxima_in_scale(
    planes: Iterable[Tensor], floor: float, most: int
) -> tuple[Array, Array, Array, Array]:
    """Pixels above ``floor`` that none in their 3 x 3 x 3 surroundings exceeds; none if all are so.

    Returns y, x, level and response ``[N]`` of the ``most`` strongest, the first planes' of equals.
    """
    import torch

    stack = torch.stack(list(planes))
    highest = stack
    for axis in range(3):
        # Mirrored by one pixel, the edge meets only itself.
        highest = reduce(torch.maximum, _windows(highest, axis, 1, 1).unbind(-1))
    top = stack == highest
    if top.all() and top.numel() > 1:
        top = torch.zeros_like(top)
    found = torch.nonzero(top & (stack > float(np.float32(floor))))
    value = stack[tuple(found.T)]
    strongest = torch.argsort(value, descending=True, stable=True)[:most]
    level, y, x = found[strongest].T.cpu().numpy()
    return y, x, level, value[strongest].cpu().numpy()
