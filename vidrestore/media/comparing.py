"""A film beside itself: source and restored frames in one picture, in their own planes and bit depth."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vidrestore.types import Frame, Layout, Plane

How = Literal["side", "wipe"]
SWEEP = 4.0  # seconds in which a wipe goes there and back


class Compared:
    """What an encoder sees of a film (``info``, and packets between frames) whose frames are `pictures`.

    side: the source on the left, restored on the right, as viewers see them. wipe: the source left of a line that
    wanders, restored right of it.
    """

    def __init__(self, film: Any, how: How) -> None:
        self._film, self._how = film, how
        self.info = replace(film.info, layout=_doubled(film.info.layout)) if how == "side" else film.info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._film, name)

    def pictures(self, restored: Iterable[Frame], source: Iterator[Frame]) -> Iterator[Frame]:
        """One picture for each restored frame; ``source`` gives the frame of the same number."""
        for ours in restored:
            theirs = next(source)
            yield _beside(theirs, ours) if self._how == "side" else _wiped(theirs, ours)


def _doubled(layout: Layout) -> Layout:
    """Twice as wide as it is shown; an odd side loses its last sample, as chroma would not meet."""
    width, height = (side - side % (1 << shift) for side, shift in zip(_size(layout), layout.chroma, strict=True))
    return (
        replace(layout, width=2 * width, height=height)
        if _along(layout)
        else replace(layout, width=width, height=2 * height)
    )


def _size(layout: Layout) -> tuple[int, int]:
    return layout.width, layout.height


def _along(layout: Layout) -> bool:
    """Whether a viewer's left to right runs along stored rows."""
    return layout.turn[0] != 0


def _left_first(layout: Layout) -> bool:
    """Whether a viewer's left comes first in memory."""
    return (layout.turn[0] or layout.turn[1]) > 0


def _beside(theirs: Frame, ours: Frame) -> Frame:
    layout = _doubled(ours.layout)
    pair = (theirs, ours) if _left_first(ours.layout) else (ours, theirs)
    planes = []
    for i, planes_of_both in enumerate(zip(*(f.planes for f in pair), strict=True)):
        x, y = layout.chroma if layout.family == "yuv" and i in (1, 2) else (0, 0)
        width, height = layout.width >> x, layout.height >> y
        along = _along(layout)
        parts = [p[:height, : width // 2] if along else p[: height // 2, :width] for p in planes_of_both]
        planes.append(np.concatenate(parts, axis=1 if along else 0))
    return replace(ours, planes=tuple(planes), layout=layout, native=None)


def _wiped(theirs: Frame, ours: Frame) -> Frame:
    layout = ours.layout
    share = 0.5 - 0.5 * math.cos(2 * math.pi * ours.seconds / SWEEP)
    share = share if _left_first(layout) else 1 - share
    planes = []
    for i, (a, b) in enumerate(zip(theirs.planes, ours.planes, strict=True)):
        planes.append(_split(a, b, layout, share, i))
    return replace(ours, planes=tuple(planes), native=None)


def _split(theirs: Plane, ours: Plane, layout: Layout, share: float, number: int) -> Plane:
    """One plane: the source up to the line, and from there on what was restored."""
    along, chroma = _along(layout), layout.family == "yuv" and number in (1, 2)
    shift = (layout.chroma[0] if along else layout.chroma[1]) if chroma else 0
    side = layout.width if along else layout.height
    at = 2 * round(share * side / 2)  # whole chroma samples
    line = 2 * max(1, side // 640)
    first, second = (theirs, ours) if _left_first(layout) else (ours, theirs)
    out = second.copy()
    begin, end = at >> shift, min(side, at + line) >> shift
    white = (1 << layout.bits) - 1 if not chroma else 1 << (layout.bits - 1)
    if along:
        out[:, :begin], out[:, begin:end] = first[:, :begin], white
    else:
        out[:begin], out[begin:end] = first[:begin], white
    return out
