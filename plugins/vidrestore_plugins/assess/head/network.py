"""The network of assess=head: how coarse, how noisy, how badly coded a face is, from its fine structure alone.

It sees no face, only texture: bands of detail of the luma in the middle of the crop, at a grid of 256 px. Noise
is what is left where the picture is quiet, lost resolution shows in its sharpest edges, coding in both; so each
map of features is pooled three ways: its mean, and soft bounds from below and from above over all places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

SIDE: Final = 256  # px of the grid on which damage is counted
ROWS, COLUMNS = slice(40, 232), slice(40, 216)  # of it: the face in the FFHQ template, forehead to chin
_LUMA: Final = (0.299, 0.587, 0.114)  # BT.601
_GAIN: Final = 64.0  # makes a step of 8 bits a quarter
_BEND: Final = 4.0  # detail, so amplified, never goes beyond it: edges must not drown noise
# What the outputs are the base 2 logarithm of, in steps of 8 bits: an error of a step in 20 matters less than in 2
_NOISE_FLOOR, _CODING_FLOOR = 0.5, 1.0


class Head(nn.Module):
    """luma f32 [n, 1, 256, 256] -> f32 [n, 3]: logarithms, as ``encoded`` makes and ``decoded`` reads them."""

    def __init__(self, widths: tuple[int, int, int, int] = (24, 32, 48, 48)) -> None:
        super().__init__()
        one, two, three, four = widths
        self.stem = nn.Conv2d(3, one, 5, 2)
        self.fine = nn.Conv2d(one, two, 3, 2)
        self.middle = nn.Conv2d(two, three, 3)
        self.coarse = nn.Conv2d(three, four, 3, 2)
        self.mix = nn.Linear(3 * (two + three + four), 48)
        self.out = nn.Linear(48, 3)

    def forward(self, luma: Tensor) -> Tensor:
        fine = F.relu(self.fine(F.relu(self.stem(bands(luma)))))
        middle = F.relu(self.middle(fine))
        coarse = F.relu(self.coarse(middle))
        seen = torch.cat([pooled(fine), pooled(middle), pooled(coarse)], 1)
        out: Tensor = self.out(F.relu(self.mix(seen)))
        return out


def luma_256(crops: Tensor) -> Tensor:
    """f32 [n, 3, S, S] -> f32 [n, 1, 256, 256]; larger crops are reduced without aliasing."""
    red, green, blue = _LUMA
    luma = red * crops[:, 0:1] + green * crops[:, 1:2] + blue * crops[:, 2:3]
    if luma.shape[-1] == SIDE:
        return luma
    return F.interpolate(luma, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


def bands(luma: Tensor) -> Tensor:
    """The face's finest detail, the next coarser, and how bright it is there: f32 [n, 3, 192, 176]."""
    y = luma[:, :, ROWS, COLUMNS]
    soft = F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
    softer = F.avg_pool2d(soft, 5, 1, 2, count_include_pad=False)
    detail = _GAIN * torch.cat([y - soft, soft - softer], 1)
    return torch.cat([detail / (1 + detail.abs() / _BEND), softer - 0.5], 1)


def pooled(maps: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, 3 c]: mean, soft minimum and soft maximum over all places."""
    flat = maps.flatten(2)
    places = torch.tensor(float(flat.shape[-1])).log()
    low, high = places - torch.logsumexp(-flat, 2), torch.logsumexp(flat, 2) - places
    return torch.cat([flat.mean(2), low, high], 1)


def encoded(damage: Tensor) -> Tensor:
    """Resolution, noise and coding f32 [n, 3], as in ``Damage``, on the network's scales."""
    resolution, noise, coding = damage.unbind(1)
    return torch.stack([resolution, 255 * noise + _NOISE_FLOOR, 255 * coding + _CODING_FLOOR], 1).log2()


def decoded(output: Tensor) -> Tensor:
    """The inverse of ``encoded``, within the bounds of ``Damage``: f32 [n, 3]."""
    resolution, noise, coding = output.clamp(-8, 8).exp2().unbind(1)
    noise, coding = (noise - _NOISE_FLOOR) / 255, (coding - _CODING_FLOOR) / 255
    return torch.stack([resolution.clamp(min=1), noise.clamp(min=0), coding.clamp(min=0)], 1)
