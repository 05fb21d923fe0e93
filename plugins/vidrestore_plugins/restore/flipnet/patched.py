"""An auto-encoder of latents that need not learn what a linear map knows: for sizes that are trained in minutes.

Pictures are read, and made, by patches of several pixels a side, which saves the levels of single pixels. Beside the
networks runs a linear map of each cell onto its latent and back: at birth the cells' principal components, while the
networks give zero. They learn what is left. That shortcuts of this kind let strongly reducing auto-encoders be trained
at all: J. Chen et al.: "Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models", ICLR 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn

if TYPE_CHECKING:
    from vidrestore_plugins.restore.flipnet.sizes import VAESize

_LOG_VARIANCE = -6.0  # of a latent at birth


def arguments(size: VAESize) -> dict[str, Any]:
    """What diffusers' auto-encoder of this size is made with."""
    return {
        "in_channels": 3 * size.patch**2,
        "out_channels": 3 * size.patch**2,
        "down_block_types": ("DownEncoderBlock2D",) * len(size.widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(size.widths),
        "block_out_channels": size.widths,
        "layers_per_block": size.layers,
        "latent_channels": size.channels,
        "norm_num_groups": size.groups,
        "scaling_factor": size.scale,
    }


class PatchedAutoencoder(AutoencoderKL):  # type: ignore[misc]  # diffusers has no types
    """Pictures [n, 3, s, s] in -1..1 to a distribution of latents [n, c, s / f, s / f] and back."""

    def __init__(self, size: VAESize) -> None:
        super().__init__(**arguments(size))
        cell = size.patch << (len(size.widths) - 1)
        self.patch = size.patch
        self.into = nn.Conv2d(3, size.channels, cell, cell)
        self.out = nn.ConvTranspose2d(size.channels, 3, cell, cell)
        for last in (self.quant_conv, self.decoder.conv_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        nn.init.constant_(self.quant_conv.bias[size.channels :], _LOG_VARIANCE)

    @torch.no_grad()
    def anchor(self, faces: Tensor) -> None:
        """Make the linear map that of the cells of these faces [n, 3, s, s].

        Its axes U are the principal ones, with variances v: ``z = v^(-1/4) U^T (x - m)``, ``x = U v^(1/4) z + m``.
        Latents are half whitened: fully, and fine texture would count as much as a face's shape.
        """
        c, cell = self.into.weight.shape[0], self.into.weight.shape[-1]
        x = F.unfold(faces.double(), cell, stride=cell).transpose(1, 2).flatten(0, 1)  # [cells, 3 cell^2]
        m = x.mean(0)
        variances, axes = torch.linalg.eigh((x - m).T @ (x - m) / len(x))
        u, v = axes[:, -c:].flip(1), variances[-c:].flip(0).clamp(min=1e-8)
        into, out = v ** (-1 / 4) * u, v ** (1 / 4) * u
        self.into.weight.copy_(into.T.reshape(self.into.weight.shape))
        into_bias, out_bias = self.into.bias, self.out.bias
        assert into_bias is not None and out_bias is not None
        into_bias.copy_(-into.T @ m)
        self.out.weight.copy_(out.T.reshape(self.out.weight.shape))
        out_bias.copy_(m.reshape(3, -1).mean(1))

    def _encode(self, x: Tensor) -> Tensor:
        moments: Tensor = super()._encode(F.pixel_unshuffle(x, self.patch))
        mean, log_variance = moments.chunk(2, 1)
        return torch.cat([mean + self.into(x), log_variance], 1)

    def _decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | Tensor:
        seen = F.pixel_shuffle(super()._decode(z).sample, self.patch) + self.out(z)
        return DecoderOutput(sample=seen) if return_dict else seen
