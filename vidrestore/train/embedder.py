"""MobileFaceNet, who a face is as 128 numbers: a frozen teacher of identity, read from a file that is not ours.

S. Chen, Y. Liu, X. Gao, Z. Han: "MobileFaceNets", CCBR 2018; layers as in foamliu/MobileFaceNet (Apache-2.0).
Used for training and measuring only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.errors import InputAccessError, InputMediaError

if TYPE_CHECKING:
    from pathlib import Path

_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))  # t, c, n, s
_TAPS = (4, 11)  # blocks whose output is compared besides the embedding
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# a face of 256 px on the FFHQ template -> the embedder's template of 112 px, centres of pixels on integers
_SCALE, _SHEAR, _SHIFT = 0.58418, 0.000089, (-18.93014, -17.860021)
SIDE = 112


def _conv(inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = kernel // 2 if kernel == 3 else 0
    return nn.Conv2d(inner, outer, kernel, stride, padding, groups=groups, bias=False)


class _Inverted(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inner * expand
        grow = nn.Sequential(_conv(inner, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6())
        filt = nn.Sequential(_conv(wide, wide, 3, stride, wide), nn.BatchNorm2d(wide), nn.ReLU6())
        self.conv = nn.Sequential(grow, filt, _conv(wide, outer, 1), nn.BatchNorm2d(outer))
        self.adds = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.adds else out


class _Separable(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.bn1 = _conv(width, width, 3, 1, width), nn.BatchNorm2d(width)
        self.pointwise, self.bn2 = _conv(width, width, 1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x))))))


class _Global(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.bn = _conv(width, width, 7, 1, width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.depthwise(x))
        return out


class Embedder(nn.Module):
    """Frozen; pictures in, unit vectors out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(_conv(3, 64, 3, 2), nn.BatchNorm2d(64), nn.ReLU6())
        self.dw_conv = _Separable(64)
        blocks: list[nn.Module] = []
        width = 64
        for expand, outer, count, stride in _STAGES:
            for i in range(count):
                blocks.append(_Inverted(width, outer, stride if i == 0 else 1, expand))
                width = outer
        self.features = nn.Sequential(*blocks)
        self.conv2 = nn.Sequential(_conv(128, 512, 1), nn.BatchNorm2d(512), nn.ReLU6())
        self.gdconv = _Global(512)
        self.conv3, self.bn = nn.Conv2d(512, 128, 1), nn.BatchNorm2d(128)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, faces: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Faces f32 [n, 3, 112, 112] in 0..1, RGB -> embeddings [n, 128] of length 1, and three maps before them."""
        x = self.dw_conv(self.conv1((faces - self.mean) / self.std))
        maps = []
        for i, block in enumerate(self.features):
            x = block(x)
            if i in _TAPS:
                maps.append(x)
        x = self.conv2(x)
        maps.append(x)
        return F.normalize(self.bn(self.conv3(self.gdconv(x))).flatten(1).float(), dim=1), maps


def load_embedder(path: Path) -> Embedder:
    """Raises InputAccessError where the file is missing, InputMediaError where it holds another network."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputAccessError(str(path), "no such file", "give MobileFaceNet's safetensors")
    net = Embedder()
    try:
        net.load_state_dict({k: v for k, v in load_file(path).items() if not k.endswith("num_batches_tracked")}, False)
        missing = set(net.state_dict()) - set(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputMediaError(str(path), f"not MobileFaceNet's weights ({error})") from error
    if missing := {key for key in missing if not key.endswith("num_batches_tracked")}:
        raise InputMediaError(str(path), f"not MobileFaceNet's weights: {min(missing)} is missing")
    return net.eval().requires_grad_(False)


def on_template(crops: Tensor, offset: tuple[float, float] = (0.0, 0.0), side: int = 256) -> Tensor:
    """Crops [n, 3, h, w] cut at ``offset`` (x, y) from FFHQ-aligned faces of ``side`` px -> [n, 3, 112, 112]."""
    height, width = crops.shape[-2:]
    factor = side / 256
    # 112 px -> 256 px: the inverse of (x, y) -> (s x + k y + tx, -k x + s y + ty)
    linear = torch.linalg.inv(torch.tensor([[_SCALE, _SHEAR], [-_SHEAR, _SCALE]], dtype=torch.float64))
    shift = -(linear @ torch.tensor(_SHIFT, dtype=torch.float64))
    ticks = torch.arange(SIDE, dtype=torch.float64)
    points = torch.stack([ticks.expand(SIDE, SIDE), ticks[:, None].expand(SIDE, SIDE)], 2)
    seen = (points @ linear.T + shift + 0.5) * factor - 0.5 - torch.tensor(offset, dtype=torch.float64)
    grid = (2 * seen + 1) / torch.tensor([width, height], dtype=torch.float64) - 1
    if factor > 1:  # a larger face is averaged down first, so that it does not alias
        crops = F.avg_pool2d(crops, 3, 1, 1, count_include_pad=False)
    grid = grid.to(crops)[None].expand(len(crops), -1, -1, -1)
    return F.grid_sample(crops, grid, "bilinear", padding_mode="reflection", align_corners=False)
