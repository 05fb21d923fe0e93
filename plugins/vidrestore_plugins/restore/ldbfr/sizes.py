"""The networks' sizes, as data.

nano is for tests; tiny runs on two CPU cores; small wants a GPU; full is the published one.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Injection = Literal["convsa", "adaca", "none"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LiteVQSize(Part):
    """Stage 1 of the own sizes."""

    kind: Literal["litevq"] = "litevq"
    widths: tuple[int, ...]  # channels a level, finest first; the finest is at half the picture's side
    blocks: tuple[int, ...]  # residual blocks a level
    norm_from_level: int = 1  # levels below it carry no norm
    embed_dim: int  # d, channels of a code
    n_embed: int  # K, number of codes
    dca_heads: int

    @property
    def factor(self) -> int:
        """Pixels a side of one code's cell."""
        return 1 << len(self.widths)


class VQSize(Part):
    """Stage 1 as published. ``restoreformer``: its sister without dual cross-attention, with skips by attention."""

    kind: Literal["vq_dca", "restoreformer", "restoreformer++"] = "vq_dca"
    input_size: int = 512
    ch: int = 64
    ch_mult: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    num_res_blocks: int = 2
    attn_heads: int = 1  # by kind, unless said; 8 to use RestoreFormer's dictionary in LD-BFR's place
    embed_dim: int = 256
    n_embed: int = 1024
    dca_heads: int = 8

    @model_validator(mode="before")
    @classmethod
    def _heads_of_the_published_weights(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        heads = {"restoreformer": 8, "restoreformer++": 4}
        return {"attn_heads": heads.get(given.get("kind", ""), 1)} | given

    @property
    def factor(self) -> int:
        """Pixels a side of one code's cell, at the side the network sees."""
        return 1 << (len(self.ch_mult) - 1)


class PlainF4Size(Part):
    """The own auto-encoder of the latents, without a quantiser."""

    kind: Literal["plain_f4"] = "plain_f4"
    widths: tuple[int, int]
    blocks: tuple[int, int]


class VQF4Size(Part):
    """The published auto-encoder of the latents."""

    kind: Literal["vq_f4"] = "vq_f4"
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    n_embed: int = 8192


class UNetSize(Part):
    model_channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_ds: tuple[int, ...]  # down-scalings of the latent at which it attends
    num_head_channels: int
    dropout: float = 0.0
    inject_enc: Injection = "convsa"
    inject_dec: Injection = "adaca"
    inject_ds: tuple[int, ...]
    qkv_order: Literal["legacy", "new"] = "legacy"


class DiffusionSize(Part):
    T: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    objective: Literal["eps", "v"] = "v"


class Size(Part):
    image_size: int
    stage1: Annotated[LiteVQSize | VQSize, Field(discriminator="kind")]
    ae: Annotated[PlainF4Size | VQF4Size, Field(discriminator="kind")]
    unet: UNetSize
    diffusion: DiffusionSize

    @property
    def ratio(self) -> Fraction:
        """Side of a latent over side of the codes' grid."""
        seen = self.stage1.input_size if self.stage1.kind != "litevq" else self.image_size
        return Fraction(self.image_size, 4) / Fraction(seen, self.stage1.factor)


SIZES = {
    "nano": Size(
        image_size=64,
        stage1=LiteVQSize(widths=(8, 16, 24), blocks=(1, 1, 1), embed_dim=16, n_embed=64, dca_heads=2),
        ae=PlainF4Size(widths=(8, 16), blocks=(1, 1)),
        unet=UNetSize(
            model_channels=8,
            channel_mult=(1, 2),
            num_res_blocks=1,
            attention_ds=(2,),
            num_head_channels=8,
            inject_ds=(2,),
        ),
        diffusion=DiffusionSize(T=100, objective="eps"),
    ),
    "tiny": Size(
        image_size=256,
        stage1=LiteVQSize(widths=(32, 64, 128), blocks=(1, 2, 2), embed_dim=64, n_embed=512, dca_heads=2),
        ae=PlainF4Size(widths=(24, 48), blocks=(1, 1)),
        unet=UNetSize(
            model_channels=32,
            channel_mult=(1, 2, 3),
            num_res_blocks=1,
            attention_ds=(2, 4),
            num_head_channels=16,
            dropout=0.1,
            inject_ds=(2, 4),
        ),
        diffusion=DiffusionSize(),
    ),
    "small": Size(
        image_size=256,
        stage1=LiteVQSize(
            widths=(64, 128, 256), blocks=(2, 3, 4), norm_from_level=0, embed_dim=128, n_embed=1024, dca_heads=4
        ),
        ae=PlainF4Size(widths=(64, 128), blocks=(2, 3)),
        unet=UNetSize(
            model_channels=64,
            channel_mult=(1, 2, 3, 4),
            num_res_blocks=2,
            attention_ds=(2, 4, 8),
            num_head_channels=32,
            dropout=0.1,
            inject_ds=(2, 4),
        ),
        diffusion=DiffusionSize(),
    ),
    "full": Size(
        image_size=256,
        stage1=VQSize(),
        ae=VQF4Size(),
        unet=UNetSize(
            model_channels=224,
            channel_mult=(1, 2, 3, 4),
            num_res_blocks=2,
            attention_ds=(2, 4, 8),
            num_head_channels=32,
            inject_ds=(2, 4),
        ),
        diffusion=DiffusionSize(objective="eps"),
    ),
}
