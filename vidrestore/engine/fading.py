"""Shares that never pop: what is wanted of each frame, followed no faster than a step a frame.

With a bounded look at the future the result is never above what is wanted, and it depends on ``1 / step`` frames
ahead, no more: any window that knows these gives the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F64 = NDArray[np.float64]


def foreseen(wanted: F64, step: float) -> F64:
    """What is wanted [t], 0..1, of successive frames -> the most that can still fall to all that follows."""
    out = wanted.copy()
    for ahead in range(1, min(round(1 / step), len(wanted))):
        out[:-ahead] = np.minimum(out[:-ahead], wanted[ahead:] + ahead * step)
    return out


def followed(most: F64, frames: NDArray[np.int64], step: float, before: tuple[int, float] | None) -> F64:
    """The shares [n] at these frames, which rise: none above ``most``.

    before: a frame before them and its share; None where there was none.
    """
    found = np.empty(len(most))
    for i, (bound, frame) in enumerate(zip(most.tolist(), frames.tolist(), strict=True)):
        share = bound if before is None else min(bound, before[1] + (frame - before[0]) * step)
        before, found[i] = (frame, share), share
    return found
