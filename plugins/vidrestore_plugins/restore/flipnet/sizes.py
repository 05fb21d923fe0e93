"""The networks' sizes, as data.

nano is for tests; mini is what two CPU cores can train and run; tiny and small want a GPU; full is the published one,
whose prior is Stable Diffusion 2.1-base.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UNetSize(Part):
    """The prior: diffusers' UNet2DConditionModel."""

    widths: tuple[int, ...]  # channels a level, finest first
    layers: int  # residual blocks a level going down; one more going up
    head_dim: int
    groups: int
    attends_deepest: bool = True  # the deepest level has attention too


class VAESize(Part):
    """diffusers' AutoencoderKL; a level halves the side, but for the last."""

    patch: int = 1  # px a side of what is read at once; above 1 the auto-encoder is `patched.py`'s
    widths: tuple[int, ...]
    layers: int
    groups: int
    channels: int  # of a latent
    scale: float = 1.0  # of the latents; an own auto-encoder standardises them as it is trained


class EncoderSize(Part):
    """Face tokens: one a cell of patch 2^(levels - 1) px."""

    patch: int = 1
    ch: int
    mult: tuple[int, ...]
    blocks: int
    width: int  # channels of a token


class Size(Part):
    image_size: int  # px a side of a face
    unet: UNetSize
    vae: VAESize
    encoder: EncoderSize
    token_width: int  # of the tokens as the prior reads them
    rank: int  # of the low-rank updates
    own_prior: bool = True  # trained by the recipe, and trained on with the rest; else given and frozen
    by_difference: bool = False  # a restored face is the damaged one and what decoding makes of the latent's change
    start: int = 999  # time at which diffusion begins unless told
    at_once: int = 0  # time for which the damaged latent, as it is, passes: one pass restores it. 0: it was not learnt

    @property
    def latent_side(self) -> int:
        return self.image_size // self.vae.patch >> (len(self.vae.widths) - 1)

    @property
    def tokens(self) -> int:
        """Tokens a face."""
        return (self.image_size // self.encoder.patch >> (len(self.encoder.mult) - 1)) ** 2


Name = Literal["nano", "mini", "tiny", "small", "full"]

SIZES: dict[Name, Size] = {
    "nano": Size(
        image_size=64,
        unet=UNetSize(widths=(32, 64), layers=1, head_dim=16, groups=8),
        vae=VAESize(widths=(16, 16, 32, 32), layers=1, groups=8, channels=4),
        encoder=EncoderSize(ch=16, mult=(1, 2, 2, 2), blocks=1, width=32),
        token_width=32,
        rank=4,
    ),
    "mini": Size(
        image_size=256,
        unet=UNetSize(widths=(128, 160), layers=1, head_dim=32, groups=16),
        vae=VAESize(patch=4, widths=(64, 96, 96), layers=1, groups=16, channels=96),
        encoder=EncoderSize(patch=4, ch=32, mult=(1, 2, 3), blocks=1, width=96),
        token_width=128,
        rank=8,
        by_difference=True,
        start=200,
        at_once=100,
    ),
    "tiny": Size(
        image_size=256,
        unet=UNetSize(widths=(128, 256, 384), layers=1, head_dim=64, groups=32),
        vae=VAESize(widths=(64, 128, 256, 256), layers=1, groups=32, channels=8),
        encoder=EncoderSize(ch=32, mult=(1, 2, 2, 4, 4), blocks=1, width=128),
        token_width=256,
        rank=16,
    ),
    "small": Size(
        image_size=256,
        unet=UNetSize(widths=(192, 384, 768), layers=2, head_dim=64, groups=32),
        vae=VAESize(widths=(96, 192, 384, 384), layers=2, groups=32, channels=8),
        encoder=EncoderSize(ch=64, mult=(1, 2, 2, 4, 4), blocks=2, width=256),
        token_width=512,
        rank=32,
    ),
    "full": Size(
        image_size=512,
        unet=UNetSize(widths=(320, 640, 1280, 1280), layers=2, head_dim=64, groups=32, attends_deepest=False),
        vae=VAESize(widths=(128, 256, 512, 512), layers=2, groups=32, channels=4, scale=0.18215),
        encoder=EncoderSize(ch=64, mult=(1, 2, 2, 4, 4, 8), blocks=2, width=256),
        token_width=1024,
        rank=64,
        own_prior=False,
    ),
}
