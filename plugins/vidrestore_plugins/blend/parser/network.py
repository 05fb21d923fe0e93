"""The small parser: where in an aligned crop the face is.

A U-Net (O. Ronneberger, P. Fischer, T. Brox: "U-Net", MICCAI 2015) at 128 px: an outline that is to be blurred needs
no finer cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torch
import torch.nn.functional as F
from torch import nn

from vidrestore_plugins import halves

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

SIDE: Final = 128  # px of the network's input and output
Name = Literal["nano", "small"]
SIZES: Final[dict[Name, tuple[int, ...]]] = {"nano": (8, 8, 8), "small": (16, 32, 48, 64, 64)}  # channels a level


class Parser(nn.Module):
    """Crops f32 [n, 3, 128, 128] in 0..1, RGB -> the logit of "face" [n, 1, 128, 128]."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(_block(a, b) for a, b in zip((3, *widths), widths, strict=False))
        pairs = zip(widths[::-1], widths[-2::-1], strict=False)
        self.up = nn.ModuleList(_block(below + beside, beside) for below, beside in pairs)
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, beside = 2 * x - 1, list[torch.Tensor]()
        for i, block in enumerate(self.down):
            h = block(F.max_pool2d(h, 2) if i else h)
            beside.append(h)
        for block, skip in zip(self.up, beside[-2::-1], strict=True):
            h = block(torch.cat([F.interpolate(h, scale_factor=2, mode="bilinear"), skip], 1))
        logit: Tensor = self.out(h)
        return logit


def load(path: Path) -> Parser:
    """Ready to parse, on the CPU. Raises ResourceError where the file holds another network."""
    return halves.load(path, map(Parser, SIZES.values()), "a parser", "train them: vidrestore train parser")


def _block(inner: int, outer: int) -> nn.Sequential:
    def layer(a: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(a, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)

    return nn.Sequential(*layer(inner), *layer(outer))
