"""Layers whose weights a style modulates: plain, up, down, to colours.

T. Karras et al.: "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 2.2 and figure 2.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.layers import Activation, EqualLinear, Fir

Step = Literal["same", "up", "down"]


class Prompt(NamedTuple):
    """A style ``[w, zh, c]`` in parts; what zh has to say was worked out before, by `Modulation.held`."""

    w: Tensor  # [n, dim]
    held: Tensor  # [n, channels]
    c: Tensor | None = None  # [n, code_dim]


class Modulation(EqualLinear):
    """A: style -> a factor for each channel [n, channels], 1 at birth; in its own type, whatever the layer's."""

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__(style_dim, channels, bias=1.0)

    def forward(self, style: Tensor | Prompt) -> Tensor:
        """``A [w, zh, c] + b = A_w w + (A_z zh + b) + A_c c``; a plain style is [n, style_dim]."""
        if isinstance(style, Tensor):
            return super().forward(style)
        s = self._part(style.w, 0) + style.held
        return s if style.c is None else s + self._part(style.c, 2 * style.w.shape[1])

    def held(self, zh: Tensor) -> Tensor:
        """``A_z zh + b``: zh [n, dim] -> [n, channels]."""
        return self._part(zh, zh.shape[1]) + self.bias

    def _part(self, x: Tensor, first: int) -> Tensor:
        columns = self.weight[:, first : first + x.shape[1]]
        return F.linear(x.to(columns.dtype) * self.scale, columns)


def demodulation(weight: Tensor, s: Tensor) -> Tensor:
    """``d_o = 1 / sqrt(sum_ik (s_i w_oik)^2)``: w [o, i, k, k], s [n, i] -> [n, o], in the type of s."""
    return torch.rsqrt(s.square() @ weight.to(s.dtype).square().sum((2, 3)).T + 1e-8)


def times(x: Tensor, s: Tensor) -> Tensor:
    """Each channel by its factor: x [n, c, h, w], s [n, c]."""
    return x * s.to(x.dtype)[:, :, None, None]


class ModulatedConv(nn.Module):
    """``d * (w conv (s * x))``: the weights ``s_i d_o w_oik`` of each sample, without ever making them.

    ``demod=False`` leaves d out. Up: transposed with stride 2, then filtered. Down: filtered, then with stride 2.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, style_dim: int, *, step: Step = "same", demod: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, c_out, c_in, kernel, kernel))
        self.modulation = Modulation(style_dim, c_in)
        if step != "same":
            self.blur = Fir(4.0 if step == "up" else 1.0)
        self.scale, self.step, self.demod = 1 / sqrt(c_in * kernel**2), step, demod

    def forward(self, x: Tensor, style: Tensor | Prompt) -> Tensor:
        """[n, c_in, h, w], [n, style_dim] -> [n, c_out, h', w']."""
        w, s = self.weight[0], self.modulation(style) * self.scale
        y = self._conv(times(x, s), w)
        return times(y, demodulation(w, s)) if self.demod else y

    def _conv(self, x: Tensor, w: Tensor) -> Tensor:
        if self.step == "up":
            return self.blur(F.conv_transpose2d(x, w.transpose(0, 1), stride=2), 1)  # type: ignore[no-any-return]
        if self.step == "down":
            return F.conv2d(self.blur(x, 2), w, stride=2)
        return F.conv2d(x, w, padding=w.shape[-1] // 2)


class NoiseInjection(nn.Module):
    """``x + b n``, one learnt strength b; 0 at birth."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """noise [n or 1, 1, h, w]."""
        return x + self.weight * noise


class StyledConv(nn.Module):
    """Modulated convolution, noise, activation."""

    def __init__(self, c_in: int, c_out: int, style_dim: int, step: Step = "same") -> None:
        super().__init__()
        self.conv = ModulatedConv(c_in, c_out, 3, style_dim, step=step)
        self.noise = NoiseInjection()
        self.activate = Activation(c_out)

    def forward(self, x: Tensor, style: Tensor | Prompt, noise: Tensor) -> Tensor:
        """noise [n or 1, 1, h', w'] of the side that comes out."""
        return self.activate(self.noise(self.conv(x, style), noise))  # type: ignore[no-any-return]


class ToRGB(nn.Module):
    """``rgb = A(style) conv h + b``, plus the colours of half the side, doubled."""

    def __init__(self, c_in: int, style_dim: int, *, first: bool = False) -> None:
        super().__init__()
        if not first:
            self.upsample = Fir(4.0)
        self.conv = ModulatedConv(c_in, 3, 1, style_dim, demod=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, h: Tensor, style: Tensor | Prompt, rgb: Tensor | None = None) -> Tensor:
        """h [n, c, s, s], rgb [n, 3, s / 2, s / 2] -> [n, 3, s, s]."""
        y: Tensor = self.conv(h, style).to(self.bias.dtype) + self.bias
        return y if rgb is None else y + self.upsample.doubled(rgb)
