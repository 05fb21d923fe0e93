"""Random changes that the discriminator sees on real and made pictures alike, so that few faces teach it no by-heart.

S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu, S. Han: "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS
2020, section 3: colour, translation, cutout; gradients flow through all of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT, CUT = 1 / 8, 1 / 2  # of the side


def augmented(x: Tensor) -> Tensor:
    """[n, 3, s, s], each its own way; draws from torch's generator on the CPU."""
    return cut(shifted(coloured(x)))


def coloured(x: Tensor) -> Tensor:
    """Brightness by up to 0.5, saturation by 0 to 2, contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = (_uniform(x) for _ in range(3))
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (0.5 + contrast)


def shifted(x: Tensor) -> Tensor:
    """By up to an eighth of the side each way; zeros come in."""
    side = x.shape[-1]
    reach = round(SHIFT * side)
    padded = F.pad(x, (reach,) * 4)
    at = torch.randint(2 * reach + 1, (len(x), 2)).tolist()
    return torch.stack([p[:, v : v + side, u : u + side] for p, (v, u) in zip(padded, at, strict=True)])


def cut(x: Tensor) -> Tensor:
    """A square of half the side is zero; it may lie half outside."""
    side = x.shape[-1]
    ticks = torch.arange(side, device=x.device)
    centres = torch.randint(side + 1, (len(x), 2, 1)).to(x.device)
    hidden = (ticks - centres).abs() < CUT * side / 2  # rows and columns [n, 2, s]
    return x * ~(hidden[:, 0, :, None] & hidden[:, 1, None, :])[:, None]


def _uniform(x: Tensor) -> Tensor:
    return torch.rand(len(x), 1, 1, 1).to(x)
