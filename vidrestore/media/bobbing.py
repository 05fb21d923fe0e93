"""Pictures of whole height made of single fields, so that what moves between two fields is no comb."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import av
from av.filter import Graph

from vidrestore.media.faults import AV_ERRORS
from vidrestore.media.graphs import pulled
from vidrestore.media.planes import native_of, views
from vidrestore.types import Field, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bob:
    """Frames of interlaced film -> two pictures each, by libavfilter's bwdif.

    A picture has its field's own lines as they are; those between are made of the field's and its neighbours' in time.
    """

    def __init__(self, top_first: bool) -> None:
        self._top_first = top_first
        self._graph: Any = None
        self._waiting: deque[Frame] = deque()  # frames whose fields have not come out yet
        self._second = False

    def push(self, frame: Frame) -> Iterator[Frame]:
        """The pictures that are ready once this frame has gone in."""
        picture = native_of(frame)
        if self._graph is None:
            self._graph = _graph(picture, frame.time_base, self._top_first)
        self._waiting.append(frame)
        self._graph.vpush(picture)
        yield from map(self._field, pulled(self._graph))

    def flush(self) -> Iterator[Frame]:
        """Those of the last frame. The next frame begins anew: nothing of these reaches into its fields."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from map(self._field, pulled(self._graph))
        self._graph = None

    def _field(self, picture: Any) -> Frame:
        whole, second = self._waiting[0], self._second
        if second:
            self._waiting.popleft()
        self._second = not second
        layout = replace(whole.layout, interlaced=False)
        return Frame(
            planes=views(picture, layout),
            layout=layout,
            pts=picture.pts,
            duration=0,
            time_base=picture.time_base,
            index=2 * whole.index + second,
            corrupt=whole.corrupt,
            native=picture,
            field=Field(whole, top=self._top_first != second),
        )


@cache
def can_bob(pix_fmt: str, width: int, height: int) -> bool:
    """Whether bwdif takes such pictures as they are: a few formats it would turn into others, tiny ones it refuses."""
    picture = av.VideoFrame(width, height, pix_fmt)
    picture.pts = 0
    try:
        graph = _graph(picture, Fraction(1, 25), True)
        graph.vpush(picture)
        graph.vpush(None)
        return bool(graph.vpull().format.name == pix_fmt)
    except AV_ERRORS:
        return False


def _graph(picture: Any, tick: Fraction, top_first: bool) -> Any:
    size = f"video_size={picture.width}x{picture.height}:pix_fmt={picture.format.name}"
    graph = Graph()
    source = graph.add("buffer", f"{size}:time_base={tick.numerator}/{tick.denominator}:pixel_aspect=1/1")
    bwdif = graph.add("bwdif", f"mode=send_field:parity={'tff' if top_first else 'bff'}:deint=all")
    source.link_to(bwdif)
    bwdif.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
