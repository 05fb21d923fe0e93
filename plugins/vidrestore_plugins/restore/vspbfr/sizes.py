"""The networks' sizes, as data.

``PUBLISHED`` is the official one. Of our own, nano is for tests, and xs for faces of 256 px on two CPU cores.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderSize(Part):
    """Features of the last three stages, at a quarter, an eighth and a sixteenth of the side, give the codes."""

    kind: Literal["pyramid"] = "pyramid"
    side: int = 256  # px a side of what it sees
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)  # channels a stage
    units: tuple[int, int, int, int] = (3, 4, 14, 3)  # residual units a stage
    squeeze: int = 16  # channels over hidden channels of a unit's gate
    coarse: int = 3  # codes from the last stage
    middle: int = 4  # codes from the one before; the rest come from the finest

    @property
    def grids(self) -> tuple[int, int, int]:
        """Sides of the features that give coarse, middle and fine codes."""
        return self.side // 16, self.side // 8, self.side // 4


class PooledEncoderSize(Part):
    """The mean of the last stage's features gives all codes at once."""

    kind: Literal["pooled"] = "pooled"
    side: int = 128
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    units: tuple[int, int, int, int] = (2, 2, 3, 2)
    squeeze: int = 16


class DiffuserSize(Part):
    blocks: int = 4
    scale: Literal["codes", "channels"] = "codes"  # attention between codes is over the root of how many of these
    steps: int = 4  # T
    beta_start: float = 0.1
    beta_end: float = 0.99


class Size(Part):
    side: int = 512  # S, px: of the face that is restored, and of the last feature of the bank
    bank_side: int = 1024  # px: of the generator that the bank is a part of
    widths: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64, 32)  # channels at sides 4, 8, 16, ..
    style_dim: int = 512  # of w and z
    code_dim: int = 1024  # of c
    mapping_layers: int = 8
    dropout: float = 0.5  # of c, in training
    residual: bool = False  # what is restored is added to the face that came in
    encoder: EncoderSize | PooledEncoderSize = EncoderSize()
    diffuser: DiffuserSize = DiffuserSize()

    @property
    def codes(self) -> int:
        """Style codes of a face: two for each side of the bank's generator, from 4 px on."""
        return 2 * log2(self.bank_side) - 2

    @property
    def used(self) -> int:
        """N, how many of them the restoration network reads."""
        return 2 * log2(self.side) - 2

    def width(self, side: int) -> int:
        """Channels at a side."""
        return self.widths[log2(side) - 2]


def log2(side: int) -> int:
    """The exponent of a power of two.

    Raises ValueError for any other number.
    """
    if side < 1 or side & (side - 1):
        raise ValueError(f"{side} is not a power of two")
    return side.bit_length() - 1


PUBLISHED: Final = Size()
NANO: Final = Size(  # as published but for its numbers
    side=32,
    bank_side=64,
    widths=(16, 16, 16, 8, 8),
    style_dim=32,
    code_dim=24,
    encoder=EncoderSize(side=64, widths=(8, 8, 16, 16), units=(1, 2, 2, 1), squeeze=4),
)
OWN: Final = {
    "nano": Size(
        side=32,
        bank_side=32,
        widths=(16, 16, 16, 8),
        style_dim=32,
        code_dim=24,
        mapping_layers=2,
        dropout=0.0,
        residual=True,
        encoder=PooledEncoderSize(side=32, widths=(8, 8, 16, 16), units=(1, 1, 1, 1), squeeze=4),
        diffuser=DiffuserSize(blocks=1, scale="channels"),
    ),
    "xs": Size(
        side=256,
        bank_side=256,
        widths=(128, 128, 128, 128, 96, 48, 24),
        style_dim=128,
        code_dim=128,
        mapping_layers=4,
        dropout=0.0,
        residual=True,
        encoder=PooledEncoderSize(),
        diffuser=DiffuserSize(blocks=2, scale="channels"),
    ),
}
