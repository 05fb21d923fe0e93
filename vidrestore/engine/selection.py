"""Which of a film's faces are restored: those of certain numbers, the largest, those in a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidrestore.engine.tracks import Segment

    Chosen = list[NDArray[np.bool_]]  # of each segment, [m]

LEAD: Final = 1.25  # a face that the widest is no more times wider than counts as largest too


def numbered(segments: list[Segment], wanted: str) -> Chosen:
    """Tracks by number, "0+3"."""
    numbers = {int(n) for n in wanted.split("+")}
    return [np.full(len(s.positions), s.track.id in numbers) for s in segments]


def largest(segments: list[Segment]) -> Chosen:
    """The widest face of each frame, and those nearly as wide: who of them is the widest changes all the time."""
    widest: dict[int, float] = {}
    for segment in segments:
        for position, width in zip(segment.positions.tolist(), segment.widths.tolist(), strict=True):
            widest[position] = max(width, widest.get(position, 0.0))
    most = [np.array([widest[p] for p in s.positions.tolist()]) for s in segments]
    return [s.widths * LEAD >= m for s, m in zip(segments, most, strict=True)]


def inside(segment: Segment, region: str) -> Any:
    """Frames in which the middle of the face's box lies in "X+Y+W+H", display px."""
    x, y, width, height = map(int, region.split("+"))
    middle = (segment.values[:, :2] + segment.values[:, 2:4]) / 2
    return ((middle >= (x, y)) & (middle < (x + width, y + height))).all(1)
