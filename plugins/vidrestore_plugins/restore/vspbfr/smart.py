"""SMART: a style-modulated group of dilated convolutions, and its sister without style.

W. Lu et al.: "Visual Style Prompt Learning Using Diffusion Models for Blind Face Restoration" (VSPBFR), Pattern
Recognition 161, 2025, figure 3. Names of tensors are those of the public code LonglongaaaGo/VSPBFR.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

import torch
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.layers import Activation, EqualConv, dilated, fusion
from vidrestore_plugins.restore.vspbfr.style import Modulation, NoiseInjection, Prompt, demodulation, times

DILATIONS: Final = (1, 2, 4, 8)


class Branch(nn.Module):
    """``d * (w conv (s * x))`` at one dilation; the group shares ``s * x``."""

    def __init__(self, c_in: int, c_out: int, dilation: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, c_out, c_in, 3, 3))
        self.dilation = dilation

    def forward(self, sx: Tensor, s: Tensor) -> Tensor:
        w = self.weight[0]
        return times(dilated(sx, w, self.dilation), demodulation(w, s))


class SMART(nn.Module):
    """``act(fusion([branch_j(x; s)]_j) + b n)``, dilations j = 1, 2, 4, 8; s = A(style) for all four."""

    def __init__(self, c_in: int, c_out: int, style_dim: int) -> None:
        super().__init__()
        self.ModulatedConv2ds = nn.ModuleList(Branch(c_in, c_out // len(DILATIONS), d) for d in DILATIONS)
        self.modulation = Modulation(style_dim, c_in)
        self.fusion = fusion(c_out, c_out, 3)
        self.noise = NoiseInjection()
        self.activate = Activation(c_out)
        self.scale = 1 / sqrt(c_in * 9)

    def forward(self, x: Tensor, style: Tensor | Prompt, noise: Tensor) -> Tensor:
        """x [n, c_in, s, s], style [n, style_dim], noise [n or 1, 1, s, s] -> [n, c_out, s, s]."""
        s = self.modulation(style) * self.scale
        sx = times(x, s)
        h = torch.cat([branch(sx, s) for branch in self.ModulatedConv2ds], 1)
        return self.activate(self.noise(self.fusion(h), noise))  # type: ignore[no-any-return]


class DilatedGroup(nn.Module):
    """``act(fusion([w_j conv_j x]_j))``, the same dilations without style or noise."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.dilated_convs = nn.ModuleList(EqualConv(c_in, c_out // len(DILATIONS), kernel, d) for d in DILATIONS)
        self.fusion = fusion(c_out, c_out, 1)
        self.activate = Activation(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, s, s] -> [n, c_out, s, s]."""
        return self.activate(self.fusion(torch.cat([conv(x) for conv in self.dilated_convs], 1)))  # type: ignore[no-any-return]
