"""Stage 1 of the own sizes: a light VQ auto-encoder with a global residual and gated skips.

What the codes cannot hold (who this is) travels over the skips and the residual; what the picture has lost
comes from the codes.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.dca import DualCrossAttention
from vidrestore_plugins.restore.ldbfr.quantise import Codebook

if TYPE_CHECKING:
    from vidrestore_plugins.restore.ldbfr.sizes import LiteVQSize


class Plain(nn.Module):
    """``x + conv(ReLU(conv x))``: without a norm, so that absolute brightness is kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))  # type: ignore[no-any-return]


class Normed(nn.Module):
    """``x + conv(SiLU(GN(conv(SiLU(GN x)))))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Pictures -> one feature a level, finest first."""

    def __init__(self, size: LiteVQSize) -> None:
        super().__init__()
        w = size.widths
        self.stem = nn.Conv2d(12, w[0], 3, 1, 1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(w))
        self.levels = nn.ModuleList(blocks(size, level) for level in range(len(w)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(F.pixel_unshuffle(x, 2))
        found: list[Tensor] = []
        for i, level in enumerate(self.levels):
            x = level(self.down[i - 1](x) if i else x)
            found.append(x)
        return found


class Decoder(nn.Module):
    """g and the encoder's features -> the residual."""

    def __init__(self, size: LiteVQSize) -> None:
        super().__init__()
        w = size.widths
        self.post = nn.Conv2d(size.embed_dim, w[-1], 3, 1, 1)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(w))
        self.fuse = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in w)
        self.levels = nn.ModuleList(blocks(size, level) for level in range(len(w)))
        self.out = nn.Conv2d(w[0], 12, 3, 1, 1)

    def forward(self, g: Tensor, features: list[Tensor] | None, gate: float | Tensor) -> Tensor:
        d = self.post(g)
        for level in range(len(self.levels) - 1, -1, -1):
            if level < len(self.levels) - 1:
                d = F.pixel_shuffle(self.up[level](d), 2)
            if features is not None:
                d = d + gate * self.fuse[level](torch.cat([d, features[level]], 1))
            d = self.levels[level](d)
        return F.pixel_shuffle(self.out(d), 2)


def blocks(size: LiteVQSize, level: int) -> nn.Sequential:
    kind = Normed if level >= size.norm_from_level else Plain
    return nn.Sequential(*(kind(size.widths[level]) for _ in range(size.blocks[level])))


class LiteVQ(nn.Module):
    """Any side divisible by the grid factor. Pictures are in [-1, 1]. At birth the output equals the input."""

    def __init__(self, size: LiteVQSize) -> None:
        super().__init__()
        self.encoder = Encoder(size)
        self.quant_conv = nn.Conv2d(size.widths[-1], size.embed_dim, 1)
        self.book = Codebook(size.n_embed, size.embed_dim, unit=True)
        self.dca = DualCrossAttention(size.embed_dim, size.dca_heads, "cos")
        self.decoder = Decoder(size)
        self.join()

    def join(self) -> None:
        """Zero the skips and the last layer: the output equals the input, the codes' path is untouched."""
        for layer in [*self.decoder.fuse, self.decoder.out]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def restores(self) -> bool:
        """Its skips have been trained: it is beyond its dictionary."""
        return any(bool(layer.weight.any()) for layer in self.decoder.fuse)  # type: ignore[operator]

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures [n, 3, s, s] -> h of unit length, f32 [n, d, s/f, s/f], and the features for the skips."""
        features = self.encoder(x)
        return self.book.compared(self.quant_conv(features[-1])), features

    def look_up(self, codes: Tensor, h: Tensor) -> Tensor:
        """Codes i64 [n, P] and the feature they came from -> g, in the weights' type."""
        return self._attended(self.book.look_up(codes, *h.shape[-2:]), h)

    def decode(self, g: Tensor, x: Tensor, features: list[Tensor], gate: float | Tensor = 1.0) -> Tensor:
        """``y = x + r``, in x's type; ``gate`` 0..1 (or [n, 1, 1, 1]): how much of the skips is let through."""
        return x + self.decoder(g, features, gate)  # type: ignore[no-any-return]

    def dictionary(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Phase 1a: (y without skips, residual or attention; h; codes)."""
        h, _ = self.encode(x)
        q, codes = self.book(h)
        return self.decoder(q.to(x.dtype), None, 0.0), h, codes

    def forward(self, x: Tensor, gate: float | Tensor = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """(y, h, codes), in one pass."""
        h, features = self.encode(x)
        q, codes = self.book(h)
        return self.decode(self._attended(q, h), x, features, gate), h, codes

    def _attended(self, q: Tensor, h: Tensor) -> Tensor:
        kind = self.quant_conv.weight.dtype
        return self.dca(q.to(kind), h.to(kind))  # type: ignore[no-any-return]
