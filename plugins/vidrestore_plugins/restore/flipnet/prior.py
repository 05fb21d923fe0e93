"""The latent-diffusion prior: diffusers' U-Net and auto-encoder, in the layout of Stable Diffusion 2.1-base.

R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer: "High-Resolution Image Synthesis with Latent Diffusion Models",
CVPR 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusers import AutoencoderKL, UNet2DConditionModel

from vidrestore_plugins.restore.flipnet.patched import PatchedAutoencoder, arguments

if TYPE_CHECKING:
    from vidrestore_plugins.restore.flipnet.sizes import Size, VAESize

SELF, CROSS = "attn1", "attn2"  # of a transformer block
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def unet_of(size: Size) -> UNet2DConditionModel:
    """Takes z [n, c, s, s], times [n], tokens [n, t, w] and, as ``class_labels``, what is added to the time
    embedding [n, 4 widths[0]]; predicts the noise."""
    u = size.unet
    plain = 0 if u.attends_deepest else 1
    attending = len(u.widths) - plain
    return UNet2DConditionModel(
        sample_size=size.latent_side,
        in_channels=size.vae.channels,
        out_channels=size.vae.channels,
        down_block_types=("CrossAttnDownBlock2D",) * attending + ("DownBlock2D",) * plain,
        up_block_types=("UpBlock2D",) * plain + ("CrossAttnUpBlock2D",) * attending,
        block_out_channels=u.widths,
        layers_per_block=u.layers,
        attention_head_dim=tuple(width // u.head_dim for width in u.widths),  # diffusers' name for how many heads
        cross_attention_dim=size.token_width,
        norm_num_groups=u.groups,
        use_linear_projection=True,
        class_embed_type="identity",  # no tensor of its own: a door for the tags
    )


def vae_of(size: VAESize) -> AutoencoderKL:
    """Pictures [n, 3, s, s] in -1..1 to a distribution of latents and back."""
    return PatchedAutoencoder(size) if size.patch > 1 else AutoencoderKL(**arguments(size))


def sites(unet: UNet2DConditionModel) -> list[str]:
    """Names of the transformer blocks, each with its self-attention."""
    return [name.removesuffix(f".{SELF}") for name, _ in unet.named_modules() if name.endswith(f".{SELF}")]
