"""E: a face -> one style code for each layer of the bank's generator.

O. Tov, Y. Alaluf, Y. Nitzan, O. Patashnik, D. Cohen-Or: "Designing an Encoder for StyleGAN Image Manipulation" (e4e),
SIGGRAPH 2021; body: J. Deng et al., "ArcFace", CVPR 2019, with the gates of J. Hu, L. Shen, G. Sun,
"Squeeze-and-Excitation Networks", CVPR 2018. Names of tensors are those of the public code
omertov/encoder4editing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.layers import EqualLinear
from vidrestore_plugins.restore.vspbfr.sizes import log2

if TYPE_CHECKING:
    from vidrestore_plugins.restore.vspbfr.sizes import EncoderSize, PooledEncoderSize


class Gate(nn.Module):
    """``x sigmoid(W2 ReLU(W1 mean x))``, a factor for each channel."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // squeeze, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // squeeze, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Unit(nn.Module):
    """``shortcut(x) + Gate(BN(conv(PReLU(conv(BN x)))))``; the second convolution strides."""

    def __init__(self, c_in: int, c_out: int, stride: int, squeeze: int) -> None:
        super().__init__()
        self.stride = stride
        if c_in != c_out:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(c_in),
            nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False),
            nn.PReLU(c_out),
            nn.Conv2d(c_out, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            Gate(c_out, squeeze),
        )

    def forward(self, x: Tensor) -> Tensor:
        same = x[:, :, :: self.stride, :: self.stride]
        shortcut = self.shortcut_layer(x) if hasattr(self, "shortcut_layer") else same
        return shortcut + self.res_layer(x)  # type: ignore[no-any-return]


class Head(nn.Module):
    """A feature [n, c_in, s, s] -> a code [n, dim]: halved down to one position."""

    def __init__(self, c_in: int, dim: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(log2(side)):
            layers += [nn.Conv2d(dim if i else c_in, dim, 3, 2, 1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """``codes``: how many; ``dim``: of each."""

    def __init__(self, size: EncoderSize, codes: int, dim: int) -> None:
        super().__init__()
        self.size = size
        w = size.widths
        self.input_layer, self.body = first(w[0]), nn.Sequential(*units(size))
        self.latlayer1, self.latlayer2 = nn.Conv2d(w[2], w[3], 1), nn.Conv2d(w[1], w[3], 1)
        coarse, middle, fine = size.grids
        sides = [coarse] * size.coarse + [middle] * size.middle
        sides += [fine] * (codes - len(sides))
        self.styles = nn.ModuleList(Head(w[3], dim, side) for side in sides)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, 3, side, side] in [-1, 1] -> differences from the mean code [n, codes, dim].

        ``w_0 = h_0``, ``w_i = h_0 + h_i``: e4e, section 4.1.
        """
        c1, c2, c3 = self.features(x)
        p2 = widened(c3) + self.latlayer1(c2)
        p1 = widened(p2) + self.latlayer2(c1)
        middle, fine = self.size.coarse, self.size.coarse + self.size.middle
        h = [head(c3 if i < middle else p2 if i < fine else p1) for i, head in enumerate(self.styles)]
        return torch.stack([h[0], *(h[0] + delta for delta in h[1:])], 1)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the second, third and fourth stage give."""
        x, found = self.input_layer(x), []
        units = iter(self.body)
        for count in self.size.units:
            for _ in range(count):
                x = next(units)(x)
            found.append(x)
        return found[1], found[2], found[3]


class PooledEncoder(nn.Module):
    """The small one, our own: the same body, the mean of what it gives, one linear layer."""

    def __init__(self, size: PooledEncoderSize, codes: int, dim: int) -> None:
        super().__init__()
        self.shape = (codes, dim)
        self.input_layer, self.body = first(size.widths[0]), nn.Sequential(*units(size))
        self.linear = nn.Linear(size.widths[-1], codes * dim)
        nn.init.zeros_(self.linear.weight)  # every face is the mean face at birth
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, 3, side, side] in [-1, 1] -> differences from the mean code [n, codes, dim]."""
        h = self.body(self.input_layer(x)).mean((2, 3))
        return self.linear(h).unflatten(1, self.shape)  # type: ignore[no-any-return]


def first(width: int) -> nn.Sequential:
    """What the body begins with."""
    return nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


def units(size: EncoderSize | PooledEncoderSize) -> list[Unit]:
    """All residual units; the first of a stage halves the side."""
    found, c_in = [], size.widths[0]
    for width, count in zip(size.widths, size.units, strict=True):
        for i in range(count):
            found.append(Unit(c_in, width, 1 if i else 2, size.squeeze))
            c_in = width
    return found


def widened(x: Tensor) -> Tensor:
    """Twice the side, bilinear, corners on corners."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
