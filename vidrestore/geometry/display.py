"""Stored samples <-> display pixels: turn, mirror and sample aspect ratio as one affine map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vidrestore.types import Affine, Layout


def display_matrix(layout: Layout) -> Affine:
    """The map from stored luma coordinates to display coordinates, [2, 3].

    The axis with the longer samples keeps its count, the other is stretched, so that display pixels are square
    and no detail is lost. Pixel centres lie on integers on both sides.
    """
    sar = float(layout.sar)
    stretch = np.diag([max(sar, 1.0), max(1 / sar, 1.0)])
    size = np.array([layout.width, layout.height], float)
    turn = np.array(layout.turn, float).reshape(2, 2)
    linear = turn @ stretch
    # edges run from -1/2 to n - 1/2: the turned picture's least corner goes to (-1/2, -1/2)
    corners = linear @ np.array([[0, size[0]], [0, size[1]]])
    low = corners.min(1)
    half = np.array([0.5, 0.5])
    return np.column_stack([linear, linear @ half - low - half])
