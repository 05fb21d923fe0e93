"""The judge of training: a picture -> how real it looks.

T. Karras et al.: "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, figure 7; the last layers see how
much the pictures of a batch differ: T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs", ICLR
2018, section 3. Names of tensors are those of the public code LonglongaaaGo/VSPBFR.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.layers import Activation, EqualConv, EqualLinear, Fir, fusion
from vidrestore_plugins.restore.vspbfr.sizes import log2

if TYPE_CHECKING:
    from vidrestore_plugins.restore.vspbfr.sizes import Size

GROUP = 4  # pictures that are compared with one another, at most


class Smoothed(Fir):
    """The low pass, with as many zeros around as the strided kernel after it wants."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.pad = (kernel + 1) // 2

    def forward(self, x: Tensor, pad: int | None = None) -> Tensor:
        return super().forward(x, self.pad if pad is None else pad)


class Strided(EqualConv):
    """Every second position, no border."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, stride=2)


class Block(nn.Module):
    """``(conv2(conv1(x)) + skip(x)) / sqrt2``, half the side."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = fusion(c_in, c_in, 3)
        self.conv2 = nn.Sequential(Smoothed(3), Strided(c_in, c_out, 3), Activation(c_out))
        self.skip = nn.Sequential(Smoothed(1), Strided(c_in, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / sqrt(2)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        sides = [size.side >> k for k in range(log2(size.side) - 2)]
        c = size.width(4)
        self.encoder_input_convs = fusion(3, size.width(size.side), 1)
        self.encoder_convs = nn.Sequential(*(Block(size.width(side), size.width(side // 2)) for side in sides))
        self.final_conv = fusion(c + 1, c, 3)
        self.final_linear = nn.Sequential(EqualLinear(16 * c, c, active=True), EqualLinear(c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, S, S], about -1..1 -> logits [n, 1]; above 0: real."""
        h = self.encoder_convs(self.encoder_input_convs(x))
        h = self.final_conv(torch.cat([h, spread(h)], 1))
        return self.final_linear(h.flatten(1))  # type: ignore[no-any-return]


def spread(h: Tensor) -> Tensor:
    """How much the pictures of a group differ, on average, as a map [n, 1, s, s]. Picture i is in group i mod n/4."""
    n, _, height, width = h.shape
    group = next(g for g in range(min(n, GROUP), 0, -1) if n % g == 0)
    together = h.reshape(group, n // group, *h.shape[1:])
    deviation: Tensor = (together.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # [n / group]
    return deviation.repeat(group)[:, None, None, None].expand(n, 1, height, width)
