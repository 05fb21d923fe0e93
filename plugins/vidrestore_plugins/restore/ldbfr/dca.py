"""Dual cross-attention between the quantised feature and the degraded one (channel, then spatial)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.attention import at_each, attend, on_grid, split, tokens

ChannelScale = Literal["none", "cos"]


class DualCrossAttention(nn.Module):
    """``g = q + Wo Attn(query Wq h; key Wk q', value Wv q')``, ``q' = q + softmax(h h^T) q`` over channels.

    ``channel_scale="none"`` is the published form, which saturates for features of unit variance: q' = 2 q.
    "cos" compares unit rows with a learned sharpness; then Wo starts at zero, so that g = q.
    """

    def __init__(self, channels: int, heads: int, channel_scale: ChannelScale) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.tau = nn.Parameter(torch.tensor(4.0)) if channel_scale == "cos" else None
        if channel_scale == "cos":
            nn.init.zeros_(self.proj_out.weight)
            nn.init.zeros_(self.proj_out.bias)  # type: ignore[arg-type]

    def forward(self, q: Tensor, h: Tensor) -> Tensor:
        """``q`` quantised, ``h`` degraded, both [n, C, h, w] -> g [n, C, h, w]."""
        asked, t = tokens(h), tokens(q)
        t1 = t + t @ self._between_channels(h).to(q.dtype).transpose(1, 2)
        query, key, value = (
            split(at_each(layer, x), self.heads) for layer, x in ((self.q, asked), (self.k, t1), (self.v, t1))
        )
        return q + on_grid(at_each(self.proj_out, attend(query, key, value)), q)

    def _between_channels(self, h: Tensor) -> Tensor:
        """M f32 [n, C, C]: sums over all positions without a scale overflow half precision."""
        with torch.autocast(h.device.type, enabled=False):
            rows = h.float().flatten(2)
            if self.tau is not None:
                rows = F.normalize(rows, dim=2)
            logits = rows @ rows.transpose(1, 2)
            m: Tensor = torch.softmax(logits if self.tau is None else self.tau.float() * logits, dim=2)
            return m
