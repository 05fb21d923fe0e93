"""Where things went from frame to frame, and pictures brought along."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

SIDE: Final = 128  # px of the crops on which motion is found: what is finer is mostly noise in damaged films
_SOFT: Final = 1.0  # px: sigma of the blur before crops are compared
_CELL: Final = 4  # px over which flow is averaged: what differs more finely follows noise
_STILL: Final = 0.2  # px a frame that count as rest: flow follows noise by as much, and what follows it keeps it
_SHARP: Final = 0.65  # see ``warped``


def small(source: Tensor) -> Tensor:
    """Crops [k, t, 3, S, S] -> [k, t, 3, 128, 128], area-averaged and blurred a little."""
    reduced: Tensor = F.adaptive_avg_pool2d(source.flatten(0, 1), SIDE)
    return blurred(reduced.reshape(*source.shape[:3], SIDE, SIDE), _SOFT)


class Motion:
    """Flow between neighbouring frames of crops [k, T, 3, h, w] in 0..1, each pair found once and both ways.

    DIS, preset medium: T. Kroeger, R. Timofte, D. Dai, L. Van Gool: "Fast Optical Flow using Dense Inverse Search",
    ECCV 2016.
    """

    def __init__(self, crops: Tensor, present: Tensor) -> None:
        """present: bool [k, T]; no flow is looked for to or from frames that are not."""
        grey = (255 * crops.mean(2)).round().clamp(0, 255).byte().cpu().numpy()
        k, T, h, w = grey.shape
        opencv: Any = cv2  # its stubs lack DIS
        dis = opencv.DISOpticalFlow_create(opencv.DISOPTICAL_FLOW_PRESET_MEDIUM)
        found = np.zeros((2, k, T, h, w, 2), np.float32)  # to the frame before, to the frame after
        for i, there in enumerate(present.cpu().numpy()):
            for t in np.flatnonzero(there[:-1] & there[1:]):
                found[1, i, t] = dis.calc(grey[i, t], grey[i, t + 1], None)
                found[0, i, t + 1] = dis.calc(grey[i, t + 1], grey[i, t], None)
        self._flows = _believed(torch.from_numpy(found).to(crops.device).movedim(-1, 3))

    def further(self, flow: Tensor, to: Tensor, direction: int) -> Tensor:
        """Flows [k, n, 2, h, w] from some frames to the neighbours of the frames ``to`` (i64 [n]), led on to these:
        ``direction`` is -1 towards the past, 1 towards the future."""
        last = self._flows.shape[2] - 1
        step = self._flows[int(direction > 0)][:, (to - direction).clamp(0, last)]
        return flow + warped(step, flow)


def _believed(flows: Tensor) -> Tensor:
    """Flows [..., 2, h, w] without what noise alone brings: averaged over cells, little motion taken for none."""
    fields = flows.reshape(-1, *flows.shape[-3:])
    means = F.avg_pool2d(fields, _CELL)
    square = means.square().sum(1, keepdim=True)
    means = means * (1 - _STILL**2 / square.clamp(min=_STILL**2))
    return F.interpolate(means, flows.shape[-2:], mode="bilinear", align_corners=False).reshape(flows.shape)


def warped(pictures: Tensor, flow: Tensor) -> Tensor:
    """Pictures [k, n, C, h, w] read at p + flow(p), linearly; flow: [k, n, 2, h, w] in px, x first."""
    h, w = pictures.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([xs, ys]).to(flow) + flow.flatten(0, 1)
    unit = torch.tensor([2 / w, 2 / h], device=flow.device).view(2, 1, 1)
    grid = ((place + 0.5) * unit - 1).permute(0, 2, 3, 1)
    read = F.grid_sample(pictures.flatten(0, 1), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return read.reshape(pictures.shape)


def sharply_warped(pictures: Tensor, flow: Tensor) -> Tensor:
    """``warped``, and given back what reading between pixels takes: at a part a of the way to the next pixel,
    a (1 - a) / 2 times the second derivative. A little more than this half makes up for the coarse derivative: the
    finest detail, at a quarter cycle a pixel, keeps 0.94 at least, where linear reading leaves 0.71."""
    read = warped(pictures, flow)
    part = flow - flow.floor()
    share = _SHARP * part * (1 - part)
    return read - share[:, :, :1] * _bend(read, -1) - share[:, :, 1:] * _bend(read, -2)


def _bend(pictures: Tensor, axis: int) -> Tensor:
    """Second differences along an axis; 0 at the border."""
    n = pictures.shape[axis] - 2
    before, here, after = (pictures.narrow(axis, i, n) for i in range(3))
    bend = torch.zeros_like(pictures)
    torch.add(before, after, out=bend.narrow(axis, 1, n)).sub_(here, alpha=2)
    return bend


def resized(maps: Tensor, size: tuple[int, int] | torch.Size, *, vectors: bool = False) -> Tensor:
    """Maps [k, n, c, h, w] on another grid; ``vectors``: x and y in px, which grow with it."""
    h, w = maps.shape[-2:]
    if (h, w) == tuple(size):
        return maps
    larger = F.interpolate(maps.flatten(0, 1), tuple(size), mode="bilinear", align_corners=False)
    out = larger.reshape(*maps.shape[:3], *size)
    return out * torch.tensor([size[1] / w, size[0] / h], device=maps.device).view(2, 1, 1) if vectors else out


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """Pictures [..., h, w] under a Gaussian of five taps each way; the border is repeated."""
    taps = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(3)]
    middle, near, far = (tap / (2 * sum(taps) - taps[0]) for tap in taps)
    for axis in (-1, -2):
        n = pictures.shape[axis]
        left, right = pictures.narrow(axis, 0, 1), pictures.narrow(axis, n - 1, 1)
        wide = torch.cat([left, left, pictures, right, right], axis)
        shifted = [wide.narrow(axis, i, n) for i in range(5)]
        # sums of shifted pictures: a convolution of one channel is many times slower on a CPU
        pictures = middle * shifted[2] + near * (shifted[1] + shifted[3]) + far * (shifted[0] + shifted[4])
    return pictures
