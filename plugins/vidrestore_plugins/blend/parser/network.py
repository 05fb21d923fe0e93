"""The small parser: where in an aligned crop the face is.

A U-Net (O. Ronneberger, P. Fischer, T. Brox: "U-Net", MICCAI 2015) at 128 px: an outline that is to be blurred needs
no finer cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torch
import torch.nn.functional as F
from torch import nn

from vidrestore.api import ResourceError, write_weights

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


def save(net: Parser, path: Path) -> None:
    """Half precision, without the counters of batch norm; whole or not at all."""
    write_weights(path, {name: value.half() for name, value in net.state_dict().items() if value.is_floating_point()})


def load(path: Path) -> Parser:
    """Ready to parse, on the CPU. Raises ResourceError where the file holds another network."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ResourceError(str(path), "not a safetensors file", "train one: vidrestore train parser") from error
    for widths in SIZES.values():
        net = Parser(widths)
        own = {name: value.shape for name, value in net.state_dict().items() if value.is_floating_point()}
        if own == {name: value.shape for name, value in found.items()}:
            net.load_state_dict(found, strict=False)
            return net.eval().requires_grad_(False)
    raise ResourceError(str(path), "not the weights of a parser", "train them: vidrestore train parser")


def _block(inner: int, outer: int) -> nn.Sequential:
    def layer(a: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(a, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)

    return nn.Sequential(*layer(inner), *layer(outer))
