"""BFR-oriented face tokens, in the place of a text's: what is seen, cell by cell, in a language that damaged and
undamaged faces share.

The encoder's shape and the association are those of L.-C. Tsai et al.: "Dual Associated Encoder for Face Restoration",
ICLR 2024, whose encoder is that of Taming Transformers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.taming import Decoder, Encoder, Geometry, resized

if TYPE_CHECKING:
    from vidrestore_plugins.restore.flipnet.sizes import EncoderSize, Size


def geometry(size: EncoderSize, blocks: int) -> Geometry:
    deepest = frozenset({len(size.mult) - 1})
    return Geometry(
        size.ch, size.mult, blocks, size.width, heads=1, attn_enc=deepest, attn_dec=deepest, patch=size.patch
    )


class FaceEncoder(nn.Module):
    """E_LQ and E_HQ: a face [n, 3, s, s] in -1..1 -> its tokens on their grid [n, width, s/f, s/f]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.side = size.image_size
        self.encoder = Encoder(geometry(size.encoder, size.encoder.blocks))
        self.quant_conv = nn.Conv2d(size.encoder.width, size.encoder.width, 1)

    def forward(self, face: Tensor) -> Tensor:
        z, _ = self.encoder(resized(face, self.side))
        return self.quant_conv(z)  # type: ignore[no-any-return]


class FaceDecoder(Decoder):
    """Of the first stage of training alone: the grid of tokens -> the face it came from."""

    def __init__(self, size: Size) -> None:
        super().__init__(geometry(size.encoder, size.encoder.blocks - 1))  # it has one more a level: a mirror image

    def forward(self, grid: Tensor, queries: list[Tensor] | None = None) -> Tensor:
        return super().forward(grid, queries or [])


class Projector(nn.Module):
    """P, shared by both encoders: the grid [n, width, h, w] -> tokens [n, h w, token_width]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size.encoder.width)
        self.linear = nn.Linear(size.encoder.width, size.token_width)

    def forward(self, grid: Tensor) -> Tensor:
        return self.linear(self.norm(grid.flatten(2).transpose(1, 2)))  # type: ignore[no-any-return]


class Association(nn.Module):
    """``(CE(S, I) + CE(S^T, I)) / 2`` with ``S = exp(s) q k^T``: a token of the damaged face should be most like the
    token at the same place of the same undamaged face, of all tokens of the batch.

    ``s`` is learned. With more than ``negatives`` tokens of other faces, that many are drawn anew for each call.
    """

    def __init__(self, negatives: int = 4096) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.negatives = negatives

    def forward(self, healthy: Tensor, damaged: Tensor) -> Tensor:
        """Grids [n, width, h, w] of the same faces, position by position."""
        q, k = (F.normalize(grid.float().flatten(2).transpose(1, 2), dim=2) for grid in (healthy, damaged))
        return (self._each(q, k) + self._each(k, q)) / 2

    def _each(self, a: Tensor, b: Tensor) -> Tensor:
        """Rows of ``a`` [n, t, width] against the same face's tokens of ``b`` and those of other faces."""
        n, t, _ = a.shape
        others = b.flatten(0, 1)
        owner = torch.arange(n, device=a.device).repeat_interleave(t)
        if len(others) > self.negatives:
            drawn = torch.randperm(len(others))[: self.negatives].to(a.device)
            others, owner = others[drawn], owner[drawn]
        scale = self.s.exp()
        within = scale * a @ b.transpose(1, 2)  # [n, t, t]
        across = scale * a @ others.T  # [n, t, others]
        own = owner[None, None] == torch.arange(n, device=a.device)[:, None, None]
        logits = torch.cat([within, across.masked_fill(own, -torch.inf)], 2)
        target = torch.arange(t, device=a.device).expand(n, t)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())
