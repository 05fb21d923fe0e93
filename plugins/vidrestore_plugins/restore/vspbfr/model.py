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
from vidrestore_plugins.restore.vspbfr.encoder import Encoder, PooledEncoder
from vidrestore_plugins.restore.vspbfr.restoration import Restoration
from vidrestore_plugins.restore.vspbfr.style import Modulation, ToRGB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore_plugins.restore.vspbfr.sizes import Size


class Given(NamedTuple):
    """All that is random, N(0, 1) unless the caller knows better; held still, a face's result holds still."""

    start: Tensor  # w^T [n, codes, dim]
    held: Tensor  # [n, all channels]: what z has to say to the restoration network, by `VSPBFR.held`
    bank: Sequence[Tensor]  # maps [n or 1, 1, s, s] for each of the bank's `noise_sides`
    restoration: Sequence[Tensor]  # likewise

    def of(self, rows: slice | list[int]) -> Given:
        """Of some of the faces."""
        bank, restoration = ([m[rows] if len(m) > 1 else m for m in maps] for maps in self[2:])
        return Given(self.start[rows], self.held[rows], bank, restoration)


class VSPBFR(nn.Module):
    latent_avg: Tensor  # [codes, dim], the mean code of faces

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.encoder = encoder(size)
        self.register_buffer("latent_avg", torch.zeros(size.codes, size.style_dim))
        self.diffuser = Diffuser(size.diffuser, size.style_dim)
        self.bank = Bank(size)
        self.restoration = Restoration(size)

    @property
    def dtype(self) -> torch.dtype:
        """Of the convolutions, and so of noise maps."""
        return self.bank.input.input.dtype

    def placed(self, device: torch.device, dtype: torch.dtype) -> VSPBFR:
        """On the device, channels last, convolutions in the type; what amplifies rounding keeps its own: the diffuser,
        the mapping, modulation, colours, the mean code."""
        exact = [self.diffuser, self.restoration.style, *(m for m in self.modules() if isinstance(m, Modulation))]
        kept = {id(t) for part in exact for t in part.parameters()} | {id(self.latent_avg)}
        kept |= {id(m.bias) for m in self.modules() if isinstance(m, ToRGB)}
        for t in (*self.parameters(), *self.buffers()):
            if t.is_floating_point() and id(t) not in kept:
                t.data = t.data.to(dtype)
        for t in self.parameters():
            if t.ndim == 4:
                t.data = t.data.contiguous(memory_format=torch.channels_last)
            if t.ndim == 5:  # of a modulated convolution: [1, o, i, k, k]
                t.data = t.data[0].contiguous(memory_format=torch.channels_last)[None]
        return self.to(device)

    def encode(self, x: Tensor) -> Tensor:
        """Faces [n, 3, S, S] in [-1, 1] -> their codes ``wh = E(x) + mean`` [n, codes, dim]."""
        side = self.size.encoder.side
        seen = F.interpolate(self._seen(x), (side, side), mode="bilinear", align_corners=False)
        return self.encoder(seen) + self.latent_avg  # type: ignore[no-any-return]

    def held(self, z: Tensor) -> Tensor:
        """z [n, 1 or N, dim], N(0, 1), one for all layers of the restoration network, or one each -> `Given.held`."""
        zh = self.restoration.style(z.flatten(0, 1)).view_as(z)
        return self.restoration.held(zh)

    def restore(self, x: Tensor, w: Tensor, given: Given) -> Tensor:
        """Faces and healthy codes [n, codes, dim] -> restored faces [n, 3, S, S], about -1..1, not clamped."""
        features = self.bank(w, given.bank)
        y: Tensor = self.restoration(self._seen(x), w, given.held, features, given.restoration)
        return x + y if self.size.residual else y

    def _seen(self, x: Tensor) -> Tensor:
        return x.to(self.dtype, memory_format=torch.channels_last)

    def forward(self, x: Tensor, given: Given) -> Tensor:
        """Faces [n, 3, S, S] in [-1, 1] -> restored faces, about -1..1, not clamped."""
        w = self.diffuser.sample(given.start, self.encode(x))
        return self.restore(x, w, given)


def encoder(size: Size) -> nn.Module:
    """E of the size's kind."""
    if size.encoder.kind == "pooled":
        return PooledEncoder(size.encoder, size.codes, size.style_dim)
    return Encoder(size.encoder, size.codes, size.style_dim)
