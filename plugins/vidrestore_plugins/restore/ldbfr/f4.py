"""Auto-encoders of the latents in which stage 2 diffuses: a quarter of the picture's side, three channels.

VQF4: R. Rombach et al.: "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, first stage
VQ-f4 (public code CompVis/latent-diffusion). PlainF4: the own sizes', without codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.litevq import Normed, Plain
from vidrestore_plugins.restore.ldbfr.quantise import Codebook
from vidrestore_plugins.restore.ldbfr.taming import Decoder, Encoder, Geometry

if TYPE_CHECKING:
    from vidrestore_plugins.restore.ldbfr.sizes import PlainF4Size, VQF4Size

Z = 3  # channels of a latent
FACTOR = 4  # pixels a side of one of its positions


class VQF4(nn.Module):
    """The latent is what comes before the codes; decoding goes through them."""

    def __init__(self, size: VQF4Size) -> None:
        super().__init__()
        geo = Geometry(size.ch, size.ch_mult, size.num_res_blocks, z_channels=Z, heads=1)
        self.encoder, self.decoder = Encoder(geo), Decoder(geo)
        self.quantize = Codebook(size.n_embed, Z, unit=False)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(Z, Z, 1), nn.Conv2d(Z, Z, 1)

    def encode(self, y: Tensor) -> Tensor:
        """Pictures [n, 3, s, s] in [-1, 1] -> z f32 [n, 3, s/4, s/4]."""
        out: Tensor = self.quant_conv(self.encoder(y)[0])
        return out.float()

    def decode(self, z: Tensor) -> Tensor:
        """z [n, 3, s/4, s/4] -> pictures [n, 3, s, s], about -1..1, in the weights' type."""
        q = self.nearest(z).to(self.post_quant_conv.weight.dtype)
        return self.decoder(self.post_quant_conv(q), [])  # type: ignore[no-any-return]

    def nearest(self, z: Tensor) -> Tensor:
        """z f32 with each position moved to its nearest code; also a constraint on x0 while sampling."""
        # one face at a time: its table of distances alone takes 134 MB at 64 x 64 positions
        codes = torch.cat([self.quantize.nearest(one) for one in z[:, None]])
        return self.quantize.look_up(codes, *z.shape[-2:]).float()


class PlainF4(nn.Module):
    """Latents have unit variance once ``latent_mean`` and ``latent_std`` hold those of the data."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, size: PlainF4Size) -> None:
        super().__init__()
        (a, b), (n_a, n_b) = size.widths, size.blocks
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, a, 3, 1, 1),
            *(Plain(a) for _ in range(n_a)),
            nn.Conv2d(a, b, 4, 2, 1),
            *(Normed(b) for _ in range(n_b)),
            nn.Conv2d(b, Z, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(Z, b, 3, 1, 1),
            *(Normed(b) for _ in range(n_b + 1)),
            nn.Conv2d(b, 4 * a, 1),
            nn.PixelShuffle(2),
            *(Plain(a) for _ in range(n_a + 1)),
            nn.Conv2d(a, 12, 3, 1, 1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("latent_mean", torch.zeros(Z))
        self.register_buffer("latent_std", torch.ones(Z))

    def encode(self, y: Tensor) -> Tensor:
        """Pictures [n, 3, s, s] in [-1, 1] -> z f32 [n, 3, s/4, s/4], standardised per channel."""
        mean, std = self._moments()
        out: Tensor = self.encoder(y)
        return (out.float() - mean) / std

    def decode(self, z: Tensor) -> Tensor:
        """z [n, 3, s/4, s/4] -> pictures [n, 3, s, s], about -1..1, in the weights' type."""
        mean, std = self._moments()
        kind = self.latent_mean.dtype
        return self.decoder((z.float() * std + mean).to(kind))  # type: ignore[no-any-return]

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation f32 [3, 1, 1]."""
        return self.latent_mean.float()[:, None, None], self.latent_std.float()[:, None, None]
