"""Evidence: where a source crop changed since the frame before, beyond its own noise.

A smoother follows evidence at once (a blink) and averages where there is none (grain).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

GRID: Final = 32  # cells a side of the map
_SMALL: Final = 128  # px a side of the picture that is compared
_KNEE: Final = 3.0  # change in units of its standard deviation from noise alone that counts as nothing
_FULL: Final = 0.06  # change of grey (0..1) beyond noise that counts as all

# Immerkaer, "Fast Noise Variance Estimation", CVIU 64(2), 1996: blind to planes and steps along the axes
_IMMERKAER: Final = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))


def small_grey(crops: Tensor) -> Tensor:
    """Crops [n, 3, S, S] -> grey [n, 128, 128], area-averaged (f32, same range)."""
    grey = crops.float().mean(1, keepdim=True)
    return F.adaptive_avg_pool2d(grey, _SMALL)[:, 0]


def evidence(now: Tensor, before: Tensor) -> Tensor:
    """Grey [n, 128, 128] of a frame and the one before -> f32 [n, 32, 32]: 0 only noise .. 1 changed."""
    cell = _SMALL // GRID
    change: Tensor = F.avg_pool2d((now - before)[:, None] ** 2, cell)[:, 0].sqrt()
    both = torch.maximum(noise(now), noise(before))[:, None, None]
    expected = both * 2**0.5 * (1 + _KNEE / (2 * cell**2) ** 0.5)  # mean of a cell's rms, plus its spread
    maps: Tensor = ((change - expected) / _FULL).clamp(0, 1)
    return maps


def noise(grey: Tensor) -> Tensor:
    """Noise sigma [n]: the quiet quarter of local Immerkaer estimates, so that texture does not count."""
    kernel = torch.tensor(_IMMERKAER, dtype=grey.dtype, device=grey.device)[None, None]
    local = F.avg_pool2d(F.conv2d(grey[:, None], kernel).abs(), 9)
    per_cell: Tensor = local.flatten(1) * (torch.pi / 2) ** 0.5 / 6
    return per_cell.quantile(0.25, dim=1)
