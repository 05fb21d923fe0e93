"""Injection of stage 1's feature g into the U-Net: two kinds, each beside an attention that stays as it was.

LD-BFR (ACM MM 2024), the high-quality feature injection module. Whatever depends on g alone is computed once a
face, by ``prepare``, not once a step. Both kinds are the identity at birth. New tensors carry ``cross_`` in
their names: they alone are trained where the U-Net is a given prior.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.attention import (
    AttentionBlock,
    QKVOrder,
    at_each,
    attend,
    norm,
    on_grid,
    self_attention,
    split,
    tokens,
    zeroed,
)

if TYPE_CHECKING:
    from fractions import Fraction

Prepared = tuple[Tensor, ...]


class Injection(AttentionBlock):
    """An attention block at one grid of the U-Net that also takes g.

    ``zoom``: the grid's side over g's side. Space is exchanged for channels where they differ, nothing is lost.
    """

    def __init__(self, channels: int, heads: int, order: QKVOrder, zoom: Fraction) -> None:
        super().__init__(channels, heads, order)
        self.channels, self.zoom = channels, zoom

    def fitted(self, g: Tensor) -> Tensor:
        """g [n, C, G, G] -> c [n, C / zoom^2, zoom G, zoom G]."""
        if self.zoom >= 1:
            return F.pixel_shuffle(g, int(self.zoom))
        return F.pixel_unshuffle(g, int(1 / self.zoom))

    @abstractmethod
    def prepare(self, g: Tensor) -> Prepared:
        """What ``forward`` needs of g; faces along the first axis of each tensor."""

    def forward(self, x: Tensor, prepared: Prepared = ()) -> Tensor:
        """x [n, c, s, s] and ``prepare(g)`` -> [n, c, s, s]."""
        return self.inject(super().forward(x), prepared)

    @abstractmethod
    def inject(self, u: Tensor, prepared: Prepared) -> Tensor:
        """u [n, c, s, s], what the attention gave -> [n, c, s, s]."""


class ConvSelfAttention(Injection):
    """``u + Wo SelfAttn(GN f)``, ``f = conv(GN(conv[u, c]))``: fused by convolutions, then looked at as a whole."""

    def __init__(self, channels: int, context: int, heads: int, order: QKVOrder, zoom: Fraction) -> None:
        super().__init__(channels, heads, order, zoom)
        self.cross_conv_1 = nn.Conv2d(channels + context, 2 * channels, 3, 1, 1)
        self.cross_norm_1 = norm(2 * channels)
        self.cross_conv_2 = nn.Conv2d(2 * channels, channels, 3, 1, 1)
        self.cross_norm = norm(channels)
        self.cross_qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.cross_proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def prepare(self, g: Tensor) -> Prepared:
        """c's share of the first convolution, which is linear in [u, c]."""
        of_c = self.cross_conv_1.weight[:, self.channels :]
        return (F.conv2d(self.fitted(g), of_c, self.cross_conv_1.bias, padding=1),)

    def inject(self, u: Tensor, prepared: Prepared) -> Tensor:
        of_u = self.cross_conv_1.weight[:, : self.channels]
        f = self.cross_conv_2(self.cross_norm_1(F.conv2d(u, of_u, padding=1) + prepared[0]))
        a = self_attention(at_each(self.cross_qkv, tokens(self.cross_norm(f))), self.heads, "new")
        return u + on_grid(at_each(self.cross_proj_out, a), u)


class CrossAttention(nn.Module):
    """Tokens t ask tokens k: ``Wo softmax(Wq t (Wk k)^T / sqrt d) Wv k``."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, channels, bias=False) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def prepare(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n, p, context] -> keys, values [n, p, heads, d]."""
        return split(self.to_k(k), self.heads), split(self.to_v(k), self.heads)

    def forward(self, t: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """t [n, p, c] -> [n, p, c]."""
        return self.to_out[0](attend(split(self.to_q(t), self.heads), keys, values))  # type: ignore[no-any-return]


class AdaptiveCrossAttention(Injection):
    """``u + W0 (t + CrossAttn(LN m, c))``, ``m = LN(t) (1 + scale) + shift``, both from ``W SiLU[t, c]``, a token."""

    def __init__(self, channels: int, context: int, heads: int, order: QKVOrder, zoom: Fraction) -> None:
        super().__init__(channels, heads, order, zoom)
        self.cross_adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(context + channels, 2 * channels))
        self.cross_norm1, self.cross_norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.cross_attn = CrossAttention(channels, context, heads)
        self.cross_proj_out = zeroed(nn.Conv2d(channels, channels, 1))

    def prepare(self, g: Tensor) -> Prepared:
        """c's share of scale and shift, its keys and its values."""
        linear = self.modulation
        k = tokens(self.fitted(g))
        return (F.linear(F.silu(k), linear.weight[:, self.channels :], linear.bias), *self.cross_attn.prepare(k))

    def inject(self, u: Tensor, prepared: Prepared) -> Tensor:
        of_c, keys, values = prepared
        of_t = self.modulation.weight[:, : self.channels]
        t = tokens(u)
        scale, shift = (F.linear(F.silu(t), of_t) + of_c).chunk(2, dim=2)
        m = self.cross_norm1(t) * (1 + scale) + shift
        o = t + self.cross_attn(self.cross_norm2(m), keys, values)
        return u + on_grid(at_each(self.cross_proj_out, o), u)

    @property
    def modulation(self) -> nn.Linear:
        """W of [t, c]: the columns of t come first."""
        linear = self.cross_adaLN_modulation[1]
        assert isinstance(linear, nn.Linear)
        return linear
