"""Masks in the aligned crop: they are fixed there, so they move as steadily as the crop does."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

# The head in the FFHQ crop of 512 px, hair to below the chin: centre and half axes, px
_CENTRE: Final = (256.0, 262.0)
_AXES: Final = (212.0, 250.0)
_POWER: Final = 2.5  # between an ellipse (2) and a rectangle


@lru_cache(maxsize=8)
def oval(size: int, radius: float) -> Tensor:
    """f32 [1, S, S]: 1 inside the oval, 0 outside, a smooth step of ``radius`` (px of 512) at its border."""
    at = _ticks(size)
    x, y = (at - _CENTRE[0]).abs() / _AXES[0], (at - _CENTRE[1]).abs() / _AXES[1]
    distance = (x[None, :] ** _POWER + y[:, None] ** _POWER) ** (1 / _POWER)  # 1 on the border
    inside = ((1 - distance) * min(_AXES) / radius).clamp(0, 1)
    return _smooth(inside * _within(at, radius))[None]


@lru_cache(maxsize=8)
def border(size: int, radius: float) -> Tensor:
    """f32 [1, S, S]: 1, falling to 0 at the crop's own border over ``radius`` px of 512."""
    return _smooth(_within(_ticks(size), radius))[None]


def _ticks(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float32) * (512 / size)


def _within(at: Tensor, radius: float) -> Tensor:
    edge = torch.minimum(at, at[-1] - at)  # the crop's own border is always 0
    return (torch.minimum(edge[None, :], edge[:, None]) / radius).clamp(0, 1)


def _smooth(x: Tensor) -> Tensor:
    return x * x * (3 - 2 * x)
