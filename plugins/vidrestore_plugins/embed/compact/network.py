"""The network of embed=compact: few layers of plain convolutions, which a CPU does faster than many thin ones.

Residual stages at 28, 14 and 7 cells a side; then, as in MobileFaceNet (S. Chen et al., CCBR 2018), a depthwise
convolution over the whole 7 x 7 grid: where in the face something is seen counts, and is not averaged away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch.nn.functional as F
from torch import nn

from vidrestore_plugins import halves

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

SIDE: Final = 112  # px of the network's input
DIM: Final = 128
_CELLS: Final = 7
# the part of a crop on the FFHQ template that is looked at, as shares of its side: brows to chin, ear to ear
_LEFT, _TOP, _SHARE = 0.127, 0.120, 0.748


@dataclass(frozen=True)
class Size:
    """Channels of the stem, of the three stages, and before the last layer; residual blocks a stage."""

    stem: int
    stages: tuple[int, int, int]
    head: int
    blocks: tuple[int, int, int] = (1, 2, 1)


SIZES: Final = {
    "nano": Size(8, (8, 16, 16), 32, (1, 1, 1)),
    "small": Size(32, (48, 96, 128), 384),
}


class Compact(nn.Module):
    """Faces f32 [n, 3, 112, 112] in 0..1, RGB -> embeddings f32 [n, 128] of length 1, and the maps they come from."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stem = _layer(3, size.stem, 3, 2)
        widths = (size.stem, *size.stages)
        self.stages = nn.ModuleList(
            nn.Sequential(_layer(inner, outer, 3, 2), *(_Residual(outer) for _ in range(count)))
            for inner, outer, count in zip(widths, size.stages, size.blocks, strict=False)
        )
        self.wide = _layer(size.stages[-1], size.head, 1)
        self.grid = nn.Sequential(
            nn.Conv2d(size.head, size.head, _CELLS, groups=size.head, bias=False), nn.BatchNorm2d(size.head)
        )
        self.last = nn.Linear(size.head, DIM)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embeddings; the maps at 14 and at 7 cells a side."""
        x = self.stem(2 * faces - 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        x = self.wide(x)
        return F.normalize(self.last(self.grid(x).flatten(1)).float(), dim=1), maps[1], x


def load(path: Path) -> Compact:
    """Ready to embed, on the CPU. Raises ResourceError where the file holds another network."""
    remedy = "train them: vidrestore train embed --help"
    return halves.load(path, map(Compact, SIZES.values()), "embed=compact", remedy)


def looked_at(crops: Tensor) -> Tensor:
    """Crops [n, 3, S, S] on the FFHQ template -> what the network sees of them, [n, 3, 112, 112]."""
    side = crops.shape[-1]
    left, top, length = (round(share * side) for share in (_LEFT, _TOP, _SHARE))
    face = crops[..., top : top + length, left : left + length]
    return F.interpolate(face, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


def _layer(inner: int, outer: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.PReLU(outer))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(width, width, 3), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out
