"""Frames made to fit the encoder without losing a value: another pixel format, or a padded edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vidrestore.media.formats import Colour, layout_of, planar, reshape
from vidrestore.media.planes import picture_of, scaler, views

if TYPE_CHECKING:
    from vidrestore.media.encoding import VideoPlan
    from vidrestore.types import Layout


class Fitter:
    """Passes the decoder's own pictures through wherever the encoder takes them as they are."""

    def __init__(self, layout: Layout, plan: VideoPlan) -> None:
        self._plan = plan
        self._same = plan.pix_fmt == layout.pix_fmt
        self._pad = (plan.width, plan.height) != (layout.width, layout.height)

    def fit(self, picture: av.VideoFrame, layout: Layout) -> av.VideoFrame:
        """The picture in the encoder's pixel format and size."""
        if self._pad:
            picture = self._padded(picture, layout)
        if picture.format.name == self._plan.pix_fmt:
            return picture
        return reshape(scaler("writer"), picture, layout, self._plan.pix_fmt, (picture.width, picture.height))

    def _padded(self, picture: av.VideoFrame, layout: Layout) -> av.VideoFrame:
        """One column or row more, a copy of the last."""
        wide = layout_of(
            planar(layout.pix_fmt, ""), self._plan.width, self._plan.height, Colour(), interlaced=layout.interlaced
        )
        shapes = [p.shape for p in views(av.VideoFrame(wide.width, wide.height, wide.pix_fmt), wide)]
        grown: list[Any] = []
        for plane, shape in zip(views(picture, layout), shapes, strict=True):
            more = [(0, to - have) for to, have in zip(shape, plane.shape, strict=True)]
            grown.append(np.pad(plane, more, mode="edge"))
        out = picture_of(grown, wide)
        out.pts, out.duration, out.time_base = picture.pts, picture.duration, picture.time_base
        return out
