"""Colour from one picture, detail from another: a wavelet low band of the first under high bands of the second.

Bands by the undecimated wavelet transform of J.-L. Starck, J. Fadili, F. Murtagh, IEEE Transactions on Image Processing
16(2), 2007, with the kernel 1-2-1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 5  # the widest kernel reaches 16 px to either side, all of them together 31


def recoloured(y: Tensor, y1: Tensor) -> Tensor:
    """High bands of ``y`` on the low band of ``y1``, both [n, 3, h, w]."""
    return y + low_band(y1 - y)  # low(y1) + (y - low(y)): the blur is linear


def low_band(x: Tensor) -> Tensor:
    """``x`` [n, c, h, w] blurred by 1-2-1 at distances of 1, 2, 4, 8, 16 px; edges are repeated outwards."""
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    for level in range(LEVELS):
        d = 2**level
        x = F.conv2d(F.pad(x, (d, d, d, d), mode="replicate"), kernel, dilation=d, groups=x.shape[1])
    return x
