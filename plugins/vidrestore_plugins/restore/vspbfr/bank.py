"""G: style codes -> the facial feature bank, the inner features of a face generator.

The generator is that of T. Karras et al.: "Analyzing and Improving the Image Quality of StyleGAN" (StyleGAN2), CVPR
2020. `Bank` is as much of it as is read here; `Generator` the whole, as published. Names of tensors are those of the
public code rosinality/stylegan2-pytorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.layers import mapping
from vidrestore_plugins.restore.vspbfr.sizes import log2
from vidrestore_plugins.restore.vspbfr.style import StyledConv, ToRGB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore_plugins.restore.vspbfr.sizes import Size


def sides_of(layers: int) -> list[int]:
    """The side that each of the generator's style layers gives: 4, 8, 8, 16, 16, .."""
    return [4 << (i + 1) // 2 for i in range(layers)]


class Constant(nn.Module):
    """What a generator begins with, whatever the face: [1, c, 4, 4]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StoredNoise(nn.Module):
    """Maps that come with the weights, one for each side in turn; for whoever hands noise in."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        for i, side in enumerate(sides):
            self.register_buffer(f"noise_{i}", torch.randn(1, 1, side, side))


class Bank(nn.Module):
    """The generator's first ``layers`` style layers: those up to the feature of side ``size.side``, unless said."""

    def __init__(self, size: Size, layers: int | None = None) -> None:
        super().__init__()
        self.noise_sides = sides_of(layers or 2 * log2(size.side) - 4)  # of the maps, in their order
        dim, (first, *rest) = size.style_dim, self.noise_sides
        self.input = Constant(size.width(first))
        self.conv1 = StyledConv(size.width(first), size.width(first), dim)
        self.convs = nn.ModuleList()
        for i, side in enumerate(rest):
            doubles = i % 2 == 0
            c_in = size.width(side // 2 if doubles else side)
            self.convs.append(StyledConv(c_in, size.width(side), dim, "up" if doubles else "same"))
        self.noises = StoredNoise(self.noise_sides)

    def forward(self, w: Tensor, noise: Sequence[Tensor]) -> dict[int, Tensor]:
        """Features of the layers that double the side.

        w [n, codes, dim]; noise maps [n or 1, 1, s, s], one for each of `noise_sides` -> {s: F_s [n, c, s, s]}, s >= 8.
        """
        h, found = self._first(w, noise), {}
        for i, conv in enumerate(self.convs):
            h = conv(h, w[:, i + 1], noise[i + 1])
            if i % 2 == 0:
                found[self.noise_sides[i + 1]] = h
        return found

    def _first(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        start = self.input.input.expand(len(w), -1, -1, -1)
        return self.conv1(start, w[:, 0], noise[0])  # type: ignore[no-any-return]


class Generator(Bank):
    """All of it, up to side ``size.bank_side``: with the mapping from z to w, and pictures."""

    def __init__(self, size: Size) -> None:
        super().__init__(size, 2 * log2(size.bank_side) - 3)
        self.style = mapping(size.style_dim, size.mapping_layers)
        self.to_rgb1 = ToRGB(size.width(4), size.style_dim, first=True)
        self.to_rgbs = nn.ModuleList(ToRGB(size.width(side), size.style_dim) for side in self.noise_sides[1::2])

    def picture(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """w [n, codes, dim] -> [n, 3, side, side], about -1..1."""
        h = self._first(w, noise)
        rgb: Tensor = self.to_rgb1(h, w[:, 1])
        for k, to_rgb in enumerate(self.to_rgbs):
            for i in (2 * k, 2 * k + 1):
                h = self.convs[i](h, w[:, i + 1], noise[i + 1])
            rgb = to_rgb(h, w[:, 2 * k + 3], rgb)
        return rgb
