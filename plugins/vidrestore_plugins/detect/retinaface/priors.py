"""Prior boxes of RetinaFace and the code between boxes, landmarks and the network's numbers.

J. Deng et al.: "RetinaFace: Single-Shot Multi-Level Face Localisation in the Wild", CVPR 2020; the numbers are
those of facexlib's networks. Priors are ``(cx, cy, s)`` in pixels: squares of side s, two to a cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

STEPS = (8, 16, 32)  # px from cell to cell, one level each
SIDES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))  # px
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


def priors(height: int, width: int) -> Tensor:
    """f32 ``[p, 3]``: level by level, row by row, cell by cell, small side before large.

    Height and width are multiples of 32 px.
    """
    levels = []
    for step, sides in zip(STEPS, SIDES, strict=True):
        cy = (torch.arange(height // step) + 0.5) * step
        cx = (torch.arange(width // step) + 0.5) * step
        grid = torch.meshgrid(cy, cx, torch.tensor(sides), indexing="ij")
        levels.append(torch.stack((grid[1], grid[0], grid[2]), dim=-1).reshape(-1, 3))
    return torch.cat(levels)


def corners(prior: Tensor) -> Tensor:
    """``[p, 3]`` -> boxes x0 y0 x1 y1 ``[p, 4]``."""
    centre, half = prior[:, :2], prior[:, 2:] / 2
    return torch.cat((centre - half, centre + half), dim=1)


def encode_boxes(boxes: Tensor, prior: Tensor) -> Tensor:
    """``t = ((b_c - p_c) / (0.1 s), ln(b_wh / s) / 0.2)``; ``[..., p, 4]`` both."""
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    side = prior[:, 2:]
    return torch.cat(((centre - prior[:, :2]) / (CENTRE_VARIANCE * side), (size / side).log() / SIZE_VARIANCE), dim=-1)


def decode_boxes(codes: Tensor, prior: Tensor) -> Tensor:
    """The inverse of `encode_boxes`."""
    side = prior[:, 2:]
    centre = prior[:, :2] + codes[..., :2] * CENTRE_VARIANCE * side
    half = side * (codes[..., 2:] * SIZE_VARIANCE).exp() / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def encode_landmarks(points: Tensor, prior: Tensor) -> Tensor:
    """``(l - p_c) / (0.1 s)``; ``[..., p, 5, 2]`` both."""
    return (points - prior[:, None, :2]) / (CENTRE_VARIANCE * prior[:, None, 2:])


def decode_landmarks(codes: Tensor, prior: Tensor) -> Tensor:
    """The inverse of `encode_landmarks`."""
    return prior[:, None, :2] + codes * CENTRE_VARIANCE * prior[:, None, 2:]
