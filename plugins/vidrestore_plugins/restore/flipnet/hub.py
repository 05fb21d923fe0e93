"""BoostHub: beside every self-attention the image's stream reads the condition's.

Y. Miao et al.: "Unlocking the Potential of Diffusion Priors in Blind Face Restoration", ICCV 2025 (FLIPNET). Two
streams through one network, joined by attention behind a zero layer: X. Li et al.: "A Simple Approach to Unifying
Diffusion-based Conditional Generation", ICLR 2025 (UniCon).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention

Pair = tuple[Tensor, Tensor]  # keys and values [n, heads, p, d]


class BoostHub(nn.Module):
    """``Hub(u_x, u_y) = Wz softmax(Q K^T / sqrt d) V``, Q = Wq u_x, K = Wk u_y, V = Wv u_y, head by head.

    Starts as a copy of the self-attention beside it, behind Wz = 0.
    """

    def __init__(self, beside: Attention) -> None:
        super().__init__()
        width = beside.to_q.weight.shape[0]
        self.heads = beside.heads
        self.q, self.k, self.v, self.z = (nn.Linear(width, width, bias=False) for _ in range(4))
        for own, copied in ((self.q, beside.to_q), (self.k, beside.to_k), (self.v, beside.to_v)):
            own.weight.data.copy_(copied.weight.data)
        nn.init.zeros_(self.z.weight)

    def written(self, u: Tensor) -> Pair:
        """Keys and values of the condition's tokens u [n, p, c]."""
        return self._split(self.k(u)), self._split(self.v(u))

    def read(self, u: Tensor, pair: Pair) -> Tensor:
        """What the image's tokens u [n, p, c] find in them: [n, p, c]."""
        found = F.scaled_dot_product_attention(self._split(self.q(u)), *pair)
        return self.z(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, t: Tensor) -> Tensor:
        return t.reshape(*t.shape[:2], self.heads, -1).transpose(1, 2)


@dataclass
class Pass:
    """What one call of the network is for; all its hubs look here."""

    kind: Literal["alone", "stacked", "write", "read"] = "alone"
    phi: float | Tensor = 1.0  # weight of the hubs; a tensor has one a row [n, 1, 1]
    both: bool = False  # stacked: the condition reads the image too
    cache: dict[str, Pair] = field(default_factory=dict)  # by site


class HubProcessor:
    """Self-attention as it was, and the hub's word beside it. The hub sees what the self-attention sees."""

    def __init__(self, site: str, hub: BoostHub, now: Pass) -> None:
        self.site, self.hub, self.now = site, hub, now
        self.plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        u, now = hidden_states, self.now
        out: Tensor = self.plain(attn, u, encoder_hidden_states, attention_mask)
        if now.kind == "write":
            now.cache[self.site] = self.hub.written(u)
        elif now.kind == "read":
            out = out + now.phi * self.hub.read(u, now.cache[self.site])
        elif now.kind == "stacked":
            x, y = u.chunk(2)
            out_x, out_y = out.chunk(2)
            out_x = out_x + now.phi * self.hub.read(x, self.hub.written(y))
            if now.both:
                out_y = out_y + now.phi * self.hub.read(y, self.hub.written(x))
            out = torch.cat([out_x, out_y])
        return out
