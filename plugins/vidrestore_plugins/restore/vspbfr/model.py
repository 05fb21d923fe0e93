"""VSPBFR as one module: style encoder, code diffuser, feature bank, restoration network.

W. Lu, J. Wang, T. Wang, K. Zhang, X. Jiang, H. Zhao: "Visual Style Prompt Learning Using Diffusion Models for Blind
Face Restoration", Pattern Recognition 161, 2025 (arXiv 2412.21042), figure 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.bank import Bank
from vidrestore_plugins.restore.vspbfr.diffuser import Diffuser
from vidrestore_plugins.restore.vspbfr.encoder import Encoder
from vidrestore_plugins.restore.vspbfr.restoration import Restoration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore_plugins.restore.vspbfr.sizes import Size


class Given(NamedTuple):
    """All that is random, N(0, 1) unless the caller knows better; held still, a face's result holds still."""

    start: Tensor  # w^T [n, codes, dim]
    z: Tensor  # [n, 1 or N, dim]: one for all layers of the restoration network, or one for each
    bank: Sequence[Tensor]  # maps [n or 1, 1, s, s] for each of the bank's `noise_sides`
    restoration: Sequence[Tensor]  # likewise


class VSPBFR(nn.Module):
    latent_avg: Tensor  # [codes, dim], the mean code of faces

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.encoder = Encoder(size.encoder, size.codes, size.style_dim)
        self.register_buffer("latent_avg", torch.zeros(size.codes, size.style_dim))
        self.diffuser = Diffuser(size.diffuser, size.style_dim)
        self.bank = Bank(size)
        self.restoration = Restoration(size)

    def encode(self, x: Tensor) -> Tensor:
        """Faces [n, 3, S, S] in [-1, 1] -> their codes ``wh = E(x) + mean`` [n, codes, dim]."""
        side = self.size.encoder.side
        seen = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
        return self.encoder(seen) + self.latent_avg  # type: ignore[no-any-return]

    def restore(self, x: Tensor, w: Tensor, given: Given) -> Tensor:
        """Faces and healthy codes [n, codes, dim] -> restored faces [n, 3, S, S], about -1..1, not clamped."""
        zh = self.restoration.style(given.z.flatten(0, 1)).view_as(given.z)
        return self.restoration(x, w, zh, self.bank(w, given.bank), given.restoration)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, given: Given) -> Tensor:
        """Faces [n, 3, S, S] in [-1, 1] -> restored faces, about -1..1, not clamped."""
        w = self.diffuser.sample(given.start, self.encode(x))
        return self.restore(x, w, given)
