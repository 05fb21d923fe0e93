"""The U-Net of latent diffusion, with stage 1's feature injected beside its attention.

R. Rombach et al.: "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022; names are those of the
public checkpoints of CompVis/latent-diffusion.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.attention import AttentionBlock, norm, zeroed
from vidrestore_plugins.restore.ldbfr.f4 import Z
from vidrestore_plugins.restore.ldbfr.injection import (
    AdaptiveCrossAttention,
    ConvSelfAttention,
    Injection,
    Prepared,
)
from vidrestore_plugins.restore.ldbfr.taming import Up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from vidrestore_plugins.restore.ldbfr import sizes


class ResBlock(nn.Module):
    """``skip(x) + conv(SiLU(GN(conv(SiLU(GN x)) + W SiLU(emb))))``; the last convolution is zero at birth."""

    def __init__(self, c_in: int, c_out: int, emb: int, dropout: float) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, 1, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, c_out))
        self.out_layers = nn.Sequential(
            norm(c_out), nn.SiLU(), nn.Dropout(dropout), zeroed(nn.Conv2d(c_out, c_out, 3, 1, 1))
        )
        self.skip_connection = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)  # type: ignore[no-any-return]


class Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class UNet(nn.Module):
    """``context``: channels of g. ``ratio``: side of the latent over side of g."""

    def __init__(self, size: sizes.UNetSize, context: int, ratio: Fraction) -> None:
        super().__init__()
        self.size, self.context, self.ratio = size, context, ratio
        ch, self.emb = size.model_channels, 4 * size.model_channels
        self.time_embed = nn.Sequential(nn.Linear(ch, self.emb), nn.SiLU(), nn.Linear(self.emb, self.emb))
        self.input_blocks, skips = self._descent()
        widest = skips[-1]
        self.middle_block = nn.ModuleList(
            [self._res(widest, widest), self._attention(widest), self._res(widest, widest)]
        )
        self.output_blocks = self._ascent(skips)
        self.out = nn.Sequential(norm(ch), nn.SiLU(), zeroed(nn.Conv2d(ch, Z, 3, 1, 1)))

    def prepare(self, g: Tensor) -> list[Prepared]:
        """All that depends on g [n, context, G, G] alone, once a face; in the order in which ``forward`` takes it."""
        return [m.prepare(g) for m in self.modules() if isinstance(m, Injection)]

    def forward(self, z: Tensor, t: Tensor, prepared: list[Prepared]) -> Tensor:
        """z [n, 3, s, s] at times t [n] (0..T-1) under ``prepare(g)`` -> eps or v [n, 3, s, s]."""
        emb = self.time_embed(time_embedding(t, self.size.model_channels).to(z.dtype))
        given = iter(prepared)
        h, skips = z, []
        for block in self.input_blocks:
            h = run(block, h, emb, given)
            skips.append(h)
        h = run(self.middle_block, h, emb, given)
        for block in self.output_blocks:
            h = run(block, torch.cat([h, skips.pop()], 1), emb, given)
        return self.out(h)  # type: ignore[no-any-return]

    def injected(self) -> list[nn.Parameter]:
        """The parameters that a given prior does not bring: those to train beside a frozen one."""
        return [p for name, p in self.named_parameters() if "cross_" in name]

    def _descent(self) -> tuple[nn.ModuleList, list[int]]:
        """Input blocks, and the width of what each gives."""
        size = self.size
        width = size.model_channels
        blocks, skips = nn.ModuleList([nn.ModuleList([nn.Conv2d(Z, width, 3, 1, 1)])]), [width]
        for level, mult in enumerate(size.channel_mult):
            ds = 2**level
            for _ in range(size.num_res_blocks):
                layers: list[nn.Module] = [self._res(width, mult * size.model_channels)]
                width = mult * size.model_channels
                if ds in size.attention_ds:
                    layers.append(self._injection(size.inject_enc, width, ds))
                blocks.append(nn.ModuleList(layers))
                skips.append(width)
            if level < len(size.channel_mult) - 1:
                blocks.append(nn.ModuleList([Down(width)]))
                skips.append(width)
        return blocks, skips

    def _ascent(self, skips: list[int]) -> nn.ModuleList:
        size, left = self.size, list(skips)
        blocks, width = nn.ModuleList(), left[-1]
        for level, mult in reversed(list(enumerate(size.channel_mult))):
            ds = 2**level
            for i in range(size.num_res_blocks + 1):
                layers: list[nn.Module] = [self._res(width + left.pop(), mult * size.model_channels)]
                width = mult * size.model_channels
                if ds in size.attention_ds:
                    layers.append(self._injection(size.inject_dec, width, ds))
                if level and i == size.num_res_blocks:
                    layers.append(Up(width))
                blocks.append(nn.ModuleList(layers))
        return blocks

    def _res(self, c_in: int, c_out: int) -> ResBlock:
        return ResBlock(c_in, c_out, self.emb, self.size.dropout)

    def _attention(self, channels: int) -> AttentionBlock:
        return AttentionBlock(channels, channels // self.size.num_head_channels, self.size.qkv_order)

    def _injection(self, kind: sizes.Injection, channels: int, ds: int) -> AttentionBlock:
        """The attention of one grid; with an injection where the grid takes one."""
        if kind == "none" or ds not in self.size.inject_ds:
            return self._attention(channels)
        make = ConvSelfAttention if kind == "convsa" else AdaptiveCrossAttention
        zoom = self.ratio / ds
        heads = channels // self.size.num_head_channels
        return make(channels, int(self.context / zoom**2), heads, self.size.qkv_order, zoom)


def run(block: nn.Module, h: Tensor, emb: Tensor, given: Iterator[Prepared]) -> Tensor:
    """The layers of a block, each with what it takes besides h."""
    for layer in block.children():
        if isinstance(layer, ResBlock):
            h = layer(h, emb)
        elif isinstance(layer, Injection):
            h = layer(h, next(given))
        else:
            h = layer(h)
    return h


def time_embedding(t: Tensor, channels: int) -> Tensor:
    """``[cos(t w), sin(t w)]``, ``w_j = 10000^(-j / half)``: t [n] -> f32 [n, channels]."""
    half = channels // 2
    w = torch.exp(-math.log(10000) / half * torch.arange(half, dtype=torch.float32, device=t.device))
    angle = t.float()[:, None] * w
    return torch.cat([angle.cos(), angle.sin()], 1)
