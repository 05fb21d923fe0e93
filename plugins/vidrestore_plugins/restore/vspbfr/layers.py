"""Layers that all generators here are made of: equalised weights, scaled activation, resampling, mapping.

T. Karras, S. Laine, M. Aittala, J. Hellsten, J. Lehtinen, T. Aila: "Analyzing and Improving the Image Quality of
StyleGAN", CVPR 2020, section 2 and appendix B; equalised learning rate: Karras et al., "Progressive Growing of GANs",
ICLR 2018. Names of tensors are those of the public code rosinality/stylegan2-pytorch.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def activated(x: Tensor, bias: Tensor) -> Tensor:
    """``sqrt2 lrelu(x + b)``, slope 0.2: x [n, c, ..], b [c]."""
    b = sqrt(2) * bias.view(-1, *([1] * (x.ndim - 2)))
    return F.leaky_relu_(torch.add(b, x, alpha=sqrt(2)), 0.2)  # two passes over x; lrelu(a x) = a lrelu(x)


def normed(x: Tensor) -> Tensor:
    """``x / rms(x)`` over dimension 1 ("pixel norm")."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return normed(x)


class Activation(nn.Module):
    """`activated` with a bias of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return activated(x, self.bias)


class EqualLinear(nn.Module):
    """``y = (lr / sqrt c_in) W x + lr b``, then `activated` where ``active``; W ~ N(0, 1) / lr at birth."""

    def __init__(self, c_in: int, c_out: int, *, lr: float = 1.0, bias: float = 0.0, active: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in) / lr)
        self.bias = nn.Parameter(torch.full((c_out,), bias))
        self.scale, self.lr, self.active = lr / sqrt(c_in), lr, active

    def forward(self, x: Tensor) -> Tensor:
        """[.., c_in] -> [.., c_out]; two dimensions where active."""
        y, bias = F.linear(x * self.scale, self.weight), self.bias * self.lr
        return activated(y, bias) if self.active else y + bias


class EqualConv(nn.Module):
    """A convolution without bias, its weight over ``sqrt(c_in k^2)``; keeps the side."""

    def __init__(self, c_in: int, c_out: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.scale, self.dilation = 1 / sqrt(c_in * kernel**2), dilation

    def forward(self, x: Tensor) -> Tensor:
        return dilated(x, self.weight * self.scale, self.dilation)


def fusion(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """Convolution and activation."""
    return nn.Sequential(EqualConv(c_in, c_out, kernel), Activation(c_out))


def dilated(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Convolution that keeps the side; of a kernel spread wider than the picture only the centre meets it."""
    reach = weight.shape[-1] // 2
    if dilation * reach >= max(x.shape[-2:]):
        return F.conv2d(x, weight[..., reach : reach + 1, reach : reach + 1])
    return F.conv2d(x, weight, padding=dilation * reach, dilation=dilation)


class Fir(nn.Module):
    """The binomial low pass ``[1, 3, 3, 1]`` in both directions; ``gain`` makes up for the zeros between samples."""

    kernel: Tensor  # [4, 4]

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", gain * torch.outer(row, row))

    def forward(self, x: Tensor, pad: int) -> Tensor:
        """``pad`` zeros at each edge: [n, c, h, w] -> [n, c, h + 2 pad - 3, w + 2 pad - 3]."""
        return F.conv2d(x, self._each(x), padding=pad, groups=x.shape[1])

    def doubled(self, x: Tensor) -> Tensor:
        """Twice the side: zeros between the samples, filtered: [n, c, h, w] -> [n, c, 2 h, 2 w]."""
        return F.conv_transpose2d(x, self._each(x), stride=2, padding=1, groups=x.shape[1])

    def _each(self, x: Tensor) -> Tensor:
        """The same for every channel. In two passes, rows and columns, it takes twice the time."""
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


def mapping(dim: int, layers: int) -> nn.Sequential:
    """M: z [n, dim] -> [n, dim] in W; learns a hundred times slower than the rest."""
    return nn.Sequential(PixelNorm(), *(EqualLinear(dim, dim, lr=0.01, active=True) for _ in range(layers)))
