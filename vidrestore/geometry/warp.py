"""Antialiased affine sampling: the one way pixels get into a crop and differences get out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from kornia.geometry.transform import warp_affine

from vidrestore.geometry.template import inverse

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.types import Affine


Box = tuple[float, float, float, float]  # x0 y0 x1 y1


def warp(
    image: Tensor,
    matrix: Affine,
    size: tuple[int, int],
    padding: Literal["reflection", "zeros"],
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> Tensor:
    """``image`` [c, h, w] as seen through ``matrix`` (image px -> result px): f32 [c, *size].

    Pixel centres on integers. Where the result is smaller, the image is area-averaged by the whole factor
    first, so that nothing aliases; ``reflection`` mirrors at the image's border, ``zeros`` is empty outside.
    """
    k = _reduction(matrix, image.shape[-2:])
    if k > 1:
        image = _area_reduced(image, k, padding)
        # pixel i of the reduced image lies at k i + (k - 1) / 2 of the full one
        up = np.array([[k, 0, (k - 1) / 2], [0, k, (k - 1) / 2], [0, 0, 1.0]])
        matrix = (np.vstack([matrix, [0, 0, 1]]) @ up)[:2]
    m = torch.as_tensor(matrix, dtype=torch.float32, device=image.device)[None]
    seen: Tensor = warp_affine(image[None], m, size, mode=mode, padding_mode=padding, align_corners=True)[0]
    return seen


def covered(matrix: Affine, box: Box, height: int, width: int) -> Box:
    """Bounds x0 y0 x1 y1 of what a rectangle of a crop covers, cut to the picture (matrix: stored px -> crop px).

    box: first and last pixel of the rectangle, x0 y0 x1 y1.
    """
    left, top, right, bottom = box[0] - 0.5, box[1] - 0.5, box[2] + 0.5, box[3] + 0.5
    corners = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]])
    points = corners @ inverse(matrix).T
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return max(x0, 0.0), max(y0, 0.0), min(x1, width - 1.0), min(y1, height - 1.0)


def _reduction(matrix: Affine, shape: torch.Size) -> int:
    """How many image pixels fall on one result pixel, as a whole number, at least 1."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    return int(np.clip(np.floor(1 / max(scale, 1e-6) + 1e-3), 1, max(1, min(shape))))


def _area_reduced(image: Tensor, k: int, padding: str) -> Tensor:
    """Means of k x k pixels; the last ones may reach beyond the border."""
    h, w = image.shape[-2:]
    extra = (0, -w % k, 0, -h % k)
    padded = F.pad(image[None], extra, mode="replicate") if padding == "reflection" else F.pad(image[None], extra)
    return F.avg_pool2d(padded, k)[0]
