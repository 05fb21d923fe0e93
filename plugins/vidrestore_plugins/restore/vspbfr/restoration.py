"""R: the damaged face, prompted by its healthy style code and the bank's features -> the restored face.

W. Lu et al.: "Visual Style Prompt Learning Using Diffusion Models for Blind Face Restoration" (VSPBFR), Pattern
Recognition 161, 2025, figure 1. Names of tensors are those of the public code LonglongaaaGo/VSPBFR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.bank import StoredNoise, sides_of
from vidrestore_plugins.restore.vspbfr.layers import EqualLinear, mapping
from vidrestore_plugins.restore.vspbfr.smart import SMART, DilatedGroup
from vidrestore_plugins.restore.vspbfr.style import StyledConv, ToRGB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vidrestore_plugins.restore.vspbfr.sizes import Size


class Seen(NamedTuple):
    """What the encoder finds in a face."""

    skips: dict[int, Tensor]  # e_s [n, c, s, s] for s = S .. 4
    code: Tensor  # c [n, code_dim], of the face as a whole


class Restoration(nn.Module):
    """A U-net whose every layer is modulated by prompts ``p_i = [w_i, zh_i]``, i = 0..N-1."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.used = size.used
        decoded = sides_of(size.used - 1)
        self.sides = decoded[1::2]  # 8 .. S
        # of the noise maps, in the order in which they are handed in: the encoder's, the decoder's
        self.noise_sides = [s for side in reversed(self.sides) for s in (side, side // 2)] + decoded
        self.style = mapping(size.style_dim, size.mapping_layers)
        self._encoder(size)
        self._bottleneck(size)
        self._decoder(size)
        self.noises = StoredNoise(decoded)

    def forward(
        self, x: Tensor, w: Tensor, zh: Tensor, features: Mapping[int, Tensor], noise: Sequence[Tensor]
    ) -> Tensor:
        """The restored face [n, 3, S, S], about -1..1, not clamped.

        x [n, 3, S, S] in [-1, 1]; w [n, codes, dim]; zh = M(z) [n, 1 or N, dim]; features: `Bank`'s;
        noise maps [n or 1, 1, s, s], one for each of `noise_sides`.
        """
        p = torch.cat([w[:, : self.used], zh.expand(-1, self.used, -1)], 2)
        seen = self.encode(x, p, noise)
        return self.decode(seen, p, features, noise)

    def encode(self, x: Tensor, p: Tensor, noise: Sequence[Tensor]) -> Seen:
        """``e_s = SMART(h; p_i)``, ``h = Down(e_s; p_i)``, i = N-1, N-3, ..; c from the last 4 x 4 positions."""
        given, layers = iter(noise), iter(self.encoder_convs)
        h, skips = self.down_from_big(x), {}
        for j, side in enumerate(reversed(self.sides)):
            prompt = p[:, self.used - 1 - 2 * j]
            skips[side] = next(layers)(h, prompt, next(given))
            h = next(layers)(skips[side], prompt, next(given))
        m = self.final_layer(h)
        c = self.final_linear(m.flatten(1))
        skips[4] = m + self.final_transfer(c).view_as(m)
        return Seen(skips, c)

    def decode(self, seen: Seen, p: Tensor, features: Mapping[int, Tensor], noise: Sequence[Tensor]) -> Tensor:
        """``u_s = Up(h; q_i)``, ``h = SMART(u_s + e_s + F_s; q_{i+1})``, ``q_i = [p_i, c]``; colours add up."""
        q = torch.cat([p, seen.code[:, None].expand(-1, self.used, -1)], 2)
        given, layers = iter(noise[2 * len(self.sides) :]), iter(self.convs)
        h = self.conv1(seen.skips[4], q[:, 0], next(given))
        rgb: Tensor = self.to_rgb1(h, q[:, 1])
        for k, side in enumerate(self.sides):
            u = next(layers)(h, q[:, 2 * k + 1], next(given))
            h = next(layers)(u + seen.skips[side] + features[side], q[:, 2 * k + 2], next(given))
            rgb = self.to_rgbs[k](h, q[:, 2 * k + 3], rgb)
        return rgb

    def _encoder(self, size: Size) -> None:
        prompt = 2 * size.style_dim
        self.down_from_big = DilatedGroup(3, size.width(size.side), 1)
        self.encoder_convs = nn.ModuleList()
        for side in reversed(self.sides):
            c, below = size.width(side), size.width(side // 2)
            self.encoder_convs.extend([SMART(c, c, prompt), StyledConv(c, below, prompt, "down")])

    def _bottleneck(self, size: Size) -> None:
        c = size.width(4)
        self.final_layer = DilatedGroup(c, c, 3)
        self.final_linear = nn.Sequential(EqualLinear(16 * c, size.code_dim, active=True), nn.Dropout(0.5))
        self.final_transfer = EqualLinear(size.code_dim, 16 * c, active=True)

    def _decoder(self, size: Size) -> None:
        prompt = 2 * size.style_dim + size.code_dim
        self.conv1 = SMART(size.width(4), size.width(4), prompt)
        self.to_rgb1 = ToRGB(size.width(4), prompt, first=True)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for side in self.sides:
            above, c = size.width(side // 2), size.width(side)
            self.convs.extend([StyledConv(above, c, prompt, "up"), SMART(c, c, prompt)])
            self.to_rgbs.append(ToRGB(c, prompt))
