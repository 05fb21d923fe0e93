"""Encoder and decoder of the published VQ auto-encoders: names and arithmetic are those of their checkpoints.

P. Esser, R. Rombach, B. Ommer: "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021;
public code CompVis/taming-transformers. Attention with queries from another feature: Z. Wang et al.:
"RestoreFormer: High-Quality Blind Face Restoration from Undegraded Key-Value Pairs", CVPR 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.attention import at_each, attend, on_grid, split, tokens


@dataclass(frozen=True)
class Geometry:
    """What an encoder and its decoder share. Level 0 is the finest; each further one halves the side."""

    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int  # a level of the encoder; the decoder has one more
    z_channels: int
    heads: int
    attn_enc: frozenset[int] = frozenset()  # levels that attend, besides the middle
    attn_dec: frozenset[int] = frozenset()
    queried: bool = False  # the decoder attends with the encoder's features as queries
    patch: int = 1  # px a side of what is read, and made, as one cell of 3 patch^2 channels

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.ch * m for m in self.ch_mult)

    @property
    def top(self) -> int:
        return len(self.ch_mult) - 1


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=1e-6)


class ResBlock(nn.Module):
    """``skip(x) + conv(SiLU(GN(conv(SiLU(GN x)))))``."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(c_in), norm(c_out)
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, 1, 1), nn.Conv2d(c_out, c_out, 3, 1, 1)
        if c_in != c_out:
            self.nin_shortcut = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """``x + Wo Attn(Wq y, Wk n, Wv n)``, n = GN x: y = n, or GN of another feature where ``queried``."""

    def __init__(self, channels: int, heads: int, queried: bool) -> None:
        super().__init__()
        self.heads, self.queried = heads, queried
        if queried:
            self.norm1, self.norm2 = norm(channels), norm(channels)  # of keys and values; of queries
        else:
            self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor, query: Tensor | None = None) -> Tensor:
        """``x`` and ``query`` [n, c, h, w]; without a query x attends to itself."""
        n = (self.norm1 if self.queried else self.norm)(x)
        y = n if query is None else self.norm2(query)
        asked = ((self.q, tokens(y)), (self.k, tokens(n)), (self.v, tokens(n)))
        q, k, v = (split(at_each(layer, t), self.heads) for layer, t in asked)
        return x + on_grid(at_each(self.proj_out, attend(q, k, v)), x)


class Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # type: ignore[no-any-return]


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))  # type: ignore[no-any-return]


class Middle(nn.Module):
    def __init__(self, geo: Geometry) -> None:
        super().__init__()
        c = geo.widths[-1]
        self.block_1, self.block_2 = ResBlock(c, c), ResBlock(c, c)
        self.attn_1 = Attention(c, geo.heads, geo.queried)


class Level(nn.Module):
    """Residual blocks of one resolution, each with its attention where the level attends."""

    def __init__(self, geo: Geometry, c_in: int, c_out: int, blocks: int, attends: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock(c_in if i == 0 else c_out, c_out) for i in range(blocks))
        self.attn = nn.ModuleList(Attention(c_out, geo.heads, geo.queried) for _ in range(blocks if attends else 0))
        self.downsample: Down | None = None
        self.upsample: Up | None = None

    def forward(self, h: Tensor, query: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self.block):
            h = block(h)
            if self.attn:
                h = self.attn[i](h, query)
        return h


class Encoder(nn.Module):
    def __init__(self, geo: Geometry) -> None:
        super().__init__()
        self.geo, w = geo, geo.widths
        self.conv_in = nn.Conv2d(3 * geo.patch**2, geo.ch, 3, 1, 1)
        ins = (geo.ch, *w)
        self.down = nn.ModuleList(
            Level(geo, ins[i], w[i], geo.num_res_blocks, i in geo.attn_enc) for i in range(len(w))
        )
        for i in range(geo.top):
            self.down[i].downsample = Down(w[i])
        self.mid = Middle(geo)
        self.norm_out = norm(w[-1])
        self.conv_out = nn.Conv2d(w[-1], geo.z_channels, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures [n, 3, s, s] in [-1, 1] -> z [n, z_channels, s/f, s/f], f = patch 2^top.

        Beside it the queries of a ``queried`` decoder: one a level that attends there, finest first, then the
        middle's. Else none.
        """
        queries: list[Tensor] = []
        h = self.conv_in(F.pixel_unshuffle(x, self.geo.patch))
        for i, level in enumerate(self.down):
            assert isinstance(level, Level)
            h = level(h)
            if level.downsample is not None:
                if self.geo.queried and i in self.geo.attn_dec:
                    queries.append(h)
                h = level.downsample(h)
        h = self.mid.block_1(h)
        if self.geo.queried:
            queries.append(h)
        h = self.mid.block_2(self.mid.attn_1(h))
        if self.geo.queried:
            queries.append(h)
        return self.conv_out(F.silu(self.norm_out(h))), queries


class Decoder(nn.Module):
    def __init__(self, geo: Geometry) -> None:
        super().__init__()
        self.geo, w = geo, geo.widths
        self.conv_in = nn.Conv2d(geo.z_channels, w[-1], 3, 1, 1)
        self.mid = Middle(geo)
        ins = (*w[1:], w[-1])
        self.up = nn.ModuleList(
            Level(geo, ins[i], w[i], geo.num_res_blocks + 1, i in geo.attn_dec) for i in range(len(w))
        )
        for i in range(1, len(w)):
            self.up[i].upsample = Up(w[i])
        self.norm_out = norm(geo.ch)
        self.conv_out = nn.Conv2d(geo.ch, 3 * geo.patch**2, 3, 1, 1)

    def forward(self, z: Tensor, queries: list[Tensor]) -> Tensor:
        """z [n, z_channels, s, s] and the encoder's queries -> pictures [n, 3, s f, s f], about -1..1."""
        left = list(queries)
        h = self.mid.block_1(self.conv_in(z))
        h = self.mid.block_2(self.mid.attn_1(h, left.pop() if left else None))
        for level in reversed(self.up):
            assert isinstance(level, Level)
            h = level(h, left.pop() if left and level.attn else None)
            if level.upsample is not None:
                h = level.upsample(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.geo.patch)


def resized(x: Tensor, side: int) -> Tensor:
    """Square pictures [n, c, s, s] at another side: bilinear, antialiased where they shrink; the same if it fits."""
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, (side, side), mode="bilinear", antialias=x.shape[-1] > side)
