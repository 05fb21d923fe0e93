"""Self-attention of the latent diffusion U-Net, over positions; its norm.

P. Dhariwal, A. Nichol: "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021; names and orders of channels
are those of the public code CompVis/latent-diffusion.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

QKVOrder = Literal["legacy", "new"]
Layer = TypeVar("Layer", bound=nn.Module)


def norm(channels: int) -> nn.GroupNorm:
    """Groups of four channels or more, at most 32 of them: for the published widths the published 32."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and (channels // g >= 4 or g == 1))
    return nn.GroupNorm(groups, channels, eps=1e-5)


def zeroed(layer: Layer) -> Layer:
    """The layer with zeros for weights: its branch starts as nothing."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def tokens(x: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, h w, c]; a view where channels come last in memory."""
    return x.flatten(2).transpose(1, 2)


def on_grid(t: Tensor, x: Tensor) -> Tensor:
    """Tokens [n, h w, c] -> [n, c, h, w], the grid of ``x``."""
    return t.transpose(1, 2).reshape(len(t), -1, *x.shape[2:])


def at_each(layer: nn.Conv1d | nn.Conv2d, t: Tensor) -> Tensor:
    """A convolution with a kernel of one position, on tokens [n, p, c_in] -> [n, p, c_out]."""
    return F.linear(t, layer.weight.flatten(1), layer.bias)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt d) v`` a head: q [n, p, heads, d], k and v [n, r, heads, d] -> [n, p, heads d].

    With d last in memory all backends fuse this, and no table of p x r is ever made.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def split(t: Tensor, heads: int) -> Tensor:
    """[n, p, heads d] -> [n, p, heads, d]."""
    return t.reshape(*t.shape[:2], heads, -1)


def self_attention(qkv: Tensor, heads: int, order: QKVOrder) -> Tensor:
    """[n, p, 3 heads d] -> [n, p, heads d].

    Channels are grouped [head][q, k, v][d] in the legacy order, [q, k, v][head][d] in the new one.
    """
    n, p, _ = qkv.shape
    if order == "legacy":
        q, k, v = qkv.reshape(n, p, heads, 3, -1).unbind(3)
    else:
        q, k, v = qkv.reshape(n, p, 3, heads, -1).unbind(2)
    return attend(q, k, v)


class AttentionBlock(nn.Module):
    """``x + Wo Attn(GN x)``; Wo is zero at birth."""

    def __init__(self, channels: int, heads: int, order: QKVOrder) -> None:
        super().__init__()
        self.heads, self.order = heads, order
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same."""
        a = self_attention(at_each(self.qkv, tokens(self.norm(x))), self.heads, self.order)
        return x + on_grid(at_each(self.proj_out, a), x)
