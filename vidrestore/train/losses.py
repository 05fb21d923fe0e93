"""What restored pictures are trained to minimise. Pictures are [n, 3, h, w]; weights [n or 1, 1, h, w], mean 1."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


def charbonnier(a: Tensor, b: Tensor, weight: Tensor | None = None, eps: float = 1e-3) -> Tensor:
    """Mean of sqrt((a - b)^2 + eps^2)."""
    error = ((a - b) ** 2 + eps**2).sqrt()
    return (error if weight is None else error * weight).mean()


def edges(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """L1 between the gradients, at full, half and quarter size."""
    total = a.new_zeros(())
    error = a - b
    for scale in (1, 2, 4):
        e = F.avg_pool2d(error, scale) if scale > 1 else error
        w = None if weight is None else F.avg_pool2d(weight, scale) if scale > 1 else weight
        across, down = (e[..., 1:] - e[..., :-1]).abs(), (e[..., 1:, :] - e[..., :-1, :]).abs()
        if w is not None:
            across, down = across * w[..., 1:], down * w[..., 1:, :]
        total = total + across.mean() + down.mean()
    return total


def spectrum(a: Tensor, b: Tensor) -> Tensor:
    """L1 between the 8x8 DCT coefficients of luma, each weighted by (1 + u + v) / 8, the mean left out."""
    luma = ((a - b) * torch.tensor(_LUMA, device=a.device, dtype=a.dtype).view(3, 1, 1)).sum(1, keepdim=True)
    basis, weight = _dct(a.device)
    coefficients = F.conv2d(luma.float(), basis, stride=8)
    return (coefficients.abs() * weight.view(1, 64, 1, 1)).mean()


@cache
def _dct(device: torch.device) -> tuple[Tensor, Tensor]:
    """Orthonormal DCT-II of 8x8 blocks as filters [64, 1, 8, 8], and the weights [64]."""
    k = torch.arange(8, dtype=torch.float32)
    rows = torch.cos(math.pi * (k[None] + 0.5) * k[:, None] / 8) * math.sqrt(2 / 8)
    rows[0] /= math.sqrt(2)
    basis = torch.einsum("ux,vy->uvxy", rows, rows).reshape(64, 1, 8, 8)
    weight = (1 + k[:, None] + k[None]) / 8
    weight[0, 0] = 0
    return basis.to(device), weight.flatten().to(device)
