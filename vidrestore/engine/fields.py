"""Interlaced film: faces are restored in pictures of single fields, whose lines are then woven again.

Everything after it counts frames: a window of fields becomes one of the frames they belong to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from vidrestore.media.bobbing import Bob, can_bob
from vidrestore.media.planes import editable
from vidrestore.types import Faces, Judged, Patch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vidrestore.config import RunConfig
    from vidrestore.media.probe import MediaInfo
    from vidrestore.types import Frame, IntArray, Window


def top_first(config: RunConfig, info: MediaInfo) -> bool | None:
    """Whether the upper field of a film is the earlier one; None where its frames are worked on as they are."""
    layout = info.layout
    apart = config.settings.interlace == "fields" and can_bob(layout.pix_fmt, layout.width, layout.height)
    return info.interlaced_as if apart else None


def split(flagged: Iterable[tuple[Frame, bool]], top_first: bool | None) -> Iterator[tuple[Frame, bool]]:
    """Frames, each with whether a shot begins at it -> two pictures of each, likewise; as they are where ``top_first``
    is None. No picture looks across a cut."""
    if top_first is None:
        yield from flagged
        return
    bob = Bob(top_first)
    begin = False  # whether the next picture is a shot's first
    for frame, begins in flagged:
        if begins:
            for picture in bob.flush():
                yield picture, begin
                begin = False
            begin = True
        for picture in bob.push(frame):
            yield picture, begin
            begin = False
    for picture in bob.flush():
        yield picture, begin
        begin = False


def weave(whole: Frame, fields: Sequence[Frame]) -> Frame:
    """The frame with the lines of these pictures of its fields."""
    out = editable(whole)
    for one in fields:
        assert one.field is not None
        lines = one.field.lines
        for to, plane in zip(out.planes, one.planes, strict=True):
            to[lines] = plane[lines]
    return out


def of_frames(window: Window) -> Window:
    """A window of fields as one of whole frames, with what was found in either field of a frame, once."""
    wholes = [frame.field.whole for frame in window.frames[::2] if frame.field is not None]
    placed, strengths = window.placed, window.strengths
    if placed is not None:
        first = _first(placed.rows // 2, placed.tracks)
        strengths = None if strengths is None else strengths[first]
        placed = replace(placed[first], rows=placed.rows[first] // 2)
    pairs = zip(window.faces[::2], window.faces[1::2], strict=True)
    return replace(
        window,
        frames=tuple(wholes),
        start=window.start // 2,
        found=window.found[::2],
        faces=tuple(_either(a, b) for a, b in pairs),
        placed=placed,
        patches=tuple(_merged(window)),
        strengths=strengths,
        judged=tuple(_judged(judged) for judged in window.judged),
    )


def _first(rows: IntArray, tracks: IntArray) -> IntArray:
    """Where each pair of row and track comes first, in the order given."""
    _, at = np.unique(np.stack([rows, tracks]), axis=1, return_index=True)
    return np.sort(at)


def _either(first: Faces, second: Faces) -> Faces:
    """The faces of a frame's first field, and those that only its second has."""
    more = second[~np.isin(second.tracks, first.tracks)]
    joined = (
        np.concatenate([getattr(first, name), getattr(more, name)])
        for name in ("boxes", "landmarks", "scores", "tracks")
    )
    return Faces(*joined)


def _judged(judged: Judged) -> Judged:
    """Of a face's two fields the one of which less may be shown."""
    rows = judged.rows // 2
    order = np.argsort(judged.shares, kind="stable")
    kept = np.sort(order[_first(rows[order], judged.tracks[order])])
    named = ("tracks", "shares", "identity", "flicker", "detail", "causes")
    return Judged(rows=rows[kept], **{name: getattr(judged, name)[kept] for name in named})


def _merged(window: Window) -> Iterator[Patch]:
    """What is added to each frame: lines of the difference from their field, the larger alpha of both."""
    groups: dict[tuple[int, int], list[Patch]] = {}
    for patch in window.patches:
        groups.setdefault((patch.row // 2, patch.track), []).append(patch)
    for (row, track), patches in groups.items():
        x0, y0 = min(p.x0 for p in patches), min(p.y0 for p in patches)
        x1 = max(p.x0 + p.alpha.shape[1] for p in patches)
        y1 = max(p.y0 + p.alpha.shape[0] for p in patches)
        difference, alpha = torch.zeros(3, y1 - y0, x1 - x0), torch.zeros(y1 - y0, x1 - x0)
        for patch in patches:
            field = window.frames[patch.row].field
            assert field is not None
            height, width = patch.alpha.shape
            here = (slice(patch.y0 - y0, patch.y0 - y0 + height), slice(patch.x0 - x0, patch.x0 - x0 + width))
            alpha[here] = torch.maximum(alpha[here], patch.alpha)
            lines = torch.zeros(height, 1)
            lines[(field.lines.start - patch.y0) % 2 :: 2] = 1
            difference[:, *here] += patch.difference * lines
        yield Patch(row, track, x0, y0, difference, alpha)
