"""Single pictures of a film, to look at: how far it reaches, pictures at times, frames made of RGB."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from vidrestore.errors import InputMediaError
from vidrestore.media.faults import AV_ERRORS, reason
from vidrestore.media.formats import Colour, layout_of
from vidrestore.media.opening import open_input
from vidrestore.notes import Notes
from vidrestore.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vidrestore.media.probe import MediaInfo
    from vidrestore.media.reader import ReadSettings

_SRGB = Colour(primaries=1, transfer=13, matrix=0, range=2)  # H.273 numbers
_MICRO = Fraction(1, 1_000_000)


def film_extent(info: MediaInfo) -> tuple[int, float, float]:
    """How many pictures the film shows, and the first's and last's time in seconds, from its packets; nothing is
    decoded. Raises InputMediaError (4) where they have no times."""
    container = open_input(info.path)
    try:
        packets = container.demux(container.streams[info.video])
        shown = (p for p in packets if p.size and not p.is_discard)
        times = [None if p.pts is None else p.pts * p.time_base for p in shown]
    except AV_ERRORS as error:
        raise InputMediaError(info.path, f"breaks off: {reason(error)}") from error
    finally:
        container.close()
    known = [t for t in times if t is not None]
    if not known or len(known) < len(times):
        raise InputMediaError(info.path, "its packets have no times")
    return len(known), float(min(known)), float(max(known))


def pictures_at(decoder: Any, source: str, settings: ReadSettings, seconds: Sequence[float]) -> Iterator[Frame]:
    """The first frame at or after each of these times, in seconds from the film's beginning, by seeking; none for a
    time behind the last."""
    for second in seconds:
        here = replace(settings, start=second, end=None, strict=False, keep_going=True, copy=False)
        try:
            with decoder.open(source, Notes(), settings=here) as film:
                yield from _first(film)
        except InputMediaError:
            continue  # nothing can be decoded there


def _first(film: Any) -> Iterator[Frame]:
    for frame in film.frames():
        yield frame
        return


def rgb_frame(rgb: NDArray[np.uint8], seconds: float) -> Frame:
    """A frame of an upright RGB picture, u8 [h, w, 3], with square pixels."""
    height, width = rgb.shape[:2]
    planes = tuple(np.ascontiguousarray(rgb[:, :, i]) for i in (1, 2, 0))
    layout = layout_of("gbrp", width, height, _SRGB)
    return Frame(planes, layout, round(seconds / _MICRO), 0, _MICRO, 0)
