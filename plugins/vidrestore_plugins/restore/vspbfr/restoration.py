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
from vidrestore_plugins.restore.vspbfr.style import Modulation, Prompt, StyledConv, ToRGB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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

    def held(self, zh: Tensor) -> Tensor:
        """The part of every layer's modulation that zh = M(z) decides, [n, all channels]: constant while zh is.

        zh [n, 1 or N, dim]: one for all layers, or one for each i.
        """
        each = zh.expand(-1, self.used, -1)
        return torch.cat([modulation.held(each[:, i]) for modulation, i in self._modulations()], 1)

    def forward(
        self, x: Tensor, w: Tensor, held: Tensor, features: Mapping[int, Tensor], noise: Sequence[Tensor]
    ) -> Tensor:
        """The restored face [n, 3, S, S], about -1..1, not clamped.

        x [n, 3, S, S] in [-1, 1]; w [n, codes, dim]; held: as `held` gives it; features: `Bank`'s;
        noise maps [n or 1, 1, s, s], one for each of `noise_sides`.
        """
        modulations = self._modulations()
        parts = torch.split(held, [modulation.weight.shape[0] for modulation, _ in modulations], 1)
        prompts = (Prompt(w[:, i], part) for (_, i), part in zip(modulations, parts, strict=True))
        given = iter(noise)
        return self.decode(self.encode(x, prompts, given), prompts, features, given)

    def encode(self, x: Tensor, p: Iterator[Prompt], noise: Iterator[Tensor]) -> Seen:
        """``e_s = SMART(h; p_i)``, ``h = Down(e_s; p_i)``, i = N-1, N-3, ..; c from the last 4 x 4 positions."""
        layers = iter(self.encoder_convs)
        h, skips = self.down_from_big(x), {}
        for side in reversed(self.sides):
            skips[side] = next(layers)(h, next(p), next(noise))
            h = next(layers)(skips[side], next(p), next(noise))
        m = self.final_layer(h)
        c = self.final_linear(m.flatten(1))
        skips[4] = m + self.final_transfer(c).view_as(m)
        return Seen(skips, c)

    def decode(
        self, seen: Seen, p: Iterator[Prompt], features: Mapping[int, Tensor], noise: Iterator[Tensor]
    ) -> Tensor:
        """``u_s = Up(h; q_i)``, ``h = SMART(u_s + e_s + F_s; q_{i+1})``, ``q_i = [p_i, c]``; colours add up."""
        q = (prompt._replace(c=seen.code) for prompt in p)
        layers = iter(self.convs)
        h = self.conv1(seen.skips[4], next(q), next(noise))
        rgb: Tensor = self.to_rgb1(h, next(q))
        for side, to_rgb in zip(self.sides, self.to_rgbs, strict=True):
            u = next(layers)(h, next(q), next(noise))
            h = next(layers)(u + seen.skips[side] + features[side], next(q), next(noise))
            rgb = to_rgb(h, next(q), rgb)
        return rgb

    def _modulations(self) -> list[tuple[Modulation, int]]:
        """In the order of use, with the i of their prompt."""
        layers: list[tuple[nn.Module, int]] = []
        for j, layer in enumerate(self.encoder_convs):
            layers.append((layer, self.used - 1 - 2 * (j // 2)))
        layers += [(self.conv1, 0), (self.to_rgb1, 1)]
        for k, to_rgb in enumerate(self.to_rgbs):
            layers += [(self.convs[2 * k], 2 * k + 1), (self.convs[2 * k + 1], 2 * k + 2), (to_rgb, 2 * k + 3)]
        return [(m, i) for layer, i in layers for m in layer.modules() if isinstance(m, Modulation)]

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
        self.final_linear = nn.Sequential(EqualLinear(16 * c, size.code_dim, active=True), nn.Dropout(size.dropout))
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
