"""Interlaced film: faces are restored in pictures of single fields, and every other line stays what it was."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch
from fakes import Cells, Dim, Mean, Scripted, ThreeLatents, Whole, face, faces, film

from vidrestore.config import resolve
from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.clock import Clock
from vidrestore.engine.fields import split
from vidrestore.engine.gate import Gate, GateOptions
from vidrestore.engine.masks import mask_of
from vidrestore.engine.pipeline import Stages, restored, restored_part
from vidrestore.engine.record import Record
from vidrestore.engine.restore import Plugins
from vidrestore.media.bobbing import Bob, can_bob
from vidrestore.media.formats import Colour, layout_of
from vidrestore.media.masks import outside_sum
from vidrestore.media.planes import views
from vidrestore.notes import Notes
from vidrestore.types import Faces, Frame, Scene
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from collections.abc import Iterable


def one_face(_: int) -> Faces:
    return faces(face(80, 60, 60))


def stages(top_first: bool | None = True, strength: Any = 1.0, **changes: Any) -> Stages:
    gate = Gate(GateOptions(), Cells())
    plugins = Plugins(ThreeLatents(), Mean(5), Whole(), strength, 7, torch.device("cpu"), gate=gate)
    align = FFHQ(AlignOptions(min_size=8))
    tracker = ByteTrack(ByteTrackOptions())
    return Stages(**{"detector": Scripted(one_face), "tracker": tracker, "align": align, "restore": plugins,
                     "top_first": top_first} | changes)  # fmt: skip


def woven(n: int, top_first: bool = True, cuts: tuple[int, ...] = ()) -> list[Frame]:
    """Interlaced frames whose fields are those of a film of twice as many."""
    pictures = list(film(2 * n, cuts=tuple(2 * c for c in cuts)))
    out = []
    for i, (a, b) in enumerate(zip(pictures[::2], pictures[1::2], strict=True)):
        plane = np.array(a.planes[0])
        plane[1 if top_first else 0 :: 2] = b.planes[0][1 if top_first else 0 :: 2]
        layout = dataclasses.replace(a.layout, interlaced=True)
        out.append(Frame((plane,), layout, i * 40, 40, a.time_base, i, cut=a.cut))
    return out


def run(frames: Iterable[Frame], plan: Stages) -> list[tuple[Frame, Any]]:
    return list(restored(iter(frames), plan, Notes(), Clock(), cuts=frozenset()))


# -- pictures of single fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_first", [True, False])
@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv411p", "yuv422p10le", "yuv420p12le", "yuv444p16le", "yuva420p", "gray", "gray16le", "gbrp"],
)
def test_a_picture_has_its_fields_own_lines(pix_fmt: str, top_first: bool) -> None:
    rng = np.random.default_rng(3)
    layout = layout_of(pix_fmt, 64, 38, Colour(2, 2, 2, 0), interlaced=True)
    shapes = [view.shape for view in views(av.VideoFrame(64, 38, pix_fmt), layout)]
    kind = np.uint8 if layout.bits == 8 else np.uint16
    frames = [
        Frame(tuple(rng.integers(0, 1 << layout.bits, s).astype(kind) for s in shapes), layout, 40 * i, 40, tick, i)
        for i, tick in enumerate([next(film(1)).time_base] * 4)
    ]
    bob = Bob(top_first)
    pictures = [picture for frame in frames for picture in bob.push(frame)] + list(bob.flush())
    assert [p.index for p in pictures] == list(range(8))
    assert [float(p.pts * p.time_base) for p in pictures] == pytest.approx([0.02 * i for i in range(8)])
    for i, picture in enumerate(pictures):
        assert picture.field is not None and picture.field.whole is frames[i // 2]
        assert picture.field.top == (top_first == (i % 2 == 0))
        assert not picture.layout.interlaced
        lines = picture.field.lines
        for plane, whole in zip(picture.planes, frames[i // 2].planes, strict=True):
            assert plane.shape == whole.shape and np.array_equal(plane[lines], whole[lines])


def test_formats_that_the_filter_would_change_are_left_woven() -> None:
    assert can_bob("yuv420p", 720, 576) and can_bob("yuv422p10le", 1920, 1080)
    assert not can_bob("gray10le", 720, 576)
    assert not can_bob("yuv420p", 64, 2)


def test_no_field_looks_across_a_cut() -> None:
    frames = woven(6)
    flagged = [(frame, i in (0, 3)) for i, frame in enumerate(frames)]
    pictures = list(split(iter(flagged), True))
    assert [begins for _, begins in pictures] == [i in (0, 6) for i in range(12)]
    alone = list(split(iter([(frame, i == 0) for i, frame in enumerate(frames[3:])]), True))
    for (a, _), (b, _) in zip(pictures[6:], alone, strict=True):
        assert np.array_equal(a.planes[0], b.planes[0])


# -- restored ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_first", [True, False])
def test_frames_are_what_their_fields_give_woven(top_first: bool) -> None:
    frames = woven(30, top_first)
    pictures = [
        dataclasses.replace(picture, field=None)
        for picture, _ in split(iter([(f, i == 0) for i, f in enumerate(frames)]), top_first)
    ]
    apart = run(pictures, stages(None, window=16))
    together = run(frames, stages(top_first, window=16))
    assert [f.index for f, _ in together] == list(range(30)) and [f.pts for f, _ in together] == [f.pts for f in frames]
    changed = 0
    for i, (frame, _) in enumerate(together):
        first, second = (np.array(f.planes[0]) for f, _ in apart[2 * i : 2 * i + 2])
        expected = first.copy()
        rest = 1 if top_first else 0
        expected[rest::2] = second[rest::2]
        assert np.array_equal(frame.planes[0], expected)
        assert frame.layout.interlaced
        changed += not np.array_equal(frame.planes[0], frames[i].planes[0])
    assert changed > 25


@pytest.mark.parametrize("window", [1, 5, 8])
def test_windows_hold_whole_frames(window: int) -> None:
    one, other = run(woven(21), stages(window=window)), run(woven(21), stages(window=64))
    assert all(len(w.frames) <= window for _, w in one)
    for (a, _), (b, _) in zip(one, other, strict=True):
        assert np.abs(a.planes[0].astype(int) - b.planes[0]).max() <= 1


def test_a_frame_that_no_face_changes_is_the_very_same() -> None:
    frames = woven(20)
    out = [frame for frame, _ in run(frames, stages(strength=Dim(gain=0.01)))]
    assert all(a is b for a, b in zip(out, frames, strict=True))


def test_a_shot_in_parts_differs_where_it_begins_anew_and_hardly() -> None:
    """A part's first field has no neighbour in time to look at."""
    frames = woven(40)
    whole = [np.array(f.planes[0]).astype(int) for f, _ in run(frames, stages())]
    scene = Scene(0, frames[0].pts, 0)
    first, state = restored_part(iter(frames), stages(), Notes(), scene, 16, None)
    assert state is not None and state.position == 32 and len(first) == 16
    rest, end = restored_part(iter(frames[16:]), stages(), Notes(), scene, None, state)
    assert end is None and len(rest) == 24
    apart = [np.abs(f.planes[0] - whole[f.index]) for f in [*first, *rest]]
    assert not any(d.any() for d in apart[:16])
    assert max(d.max() for d in apart[16:]) <= 12 and max(d.mean() for d in apart[16:]) < 0.2


# -- what is told --------------------------------------------------------------------------------------------------


def test_a_face_counts_once_a_frame() -> None:
    record = Record("film", "", resolve(environment={}))
    for frame, window in run(woven(30, cuts=(14,)), stages()):
        record.see(frame, window)
    assert record.frames_out == 30 and record.faces == 30
    assert [shot.first_frame for shot in record.shots.values()] == [0, 14]
    first, second = record.tracks.values()
    assert (first.first_frame, first.last_frame, second.first_frame, second.last_frame) == (0, 13, 14, 29)
    assert first.frames + second.frames == record.frames_changed
    assert sum(row[1] for row in record.course.as_dict()["rows"]) == record.frames_changed
    for track in record.tracks.values():
        assert all(a.last_frame < b.first_frame for a, b in pairwise(track.held_back))


def test_all_that_was_changed_lies_inside_the_mask() -> None:
    frames = woven(20)
    seen = 0
    for frame, window in run(frames, stages()):
        row = frame.index - window.frames[0].index
        mask = mask_of(frame, [p for p in window.patches if p.row == row])
        before = frames[frame.index]
        assert window.frames[row] is before
        assert outside_sum(frame.planes, frame.layout, mask) == outside_sum(before.planes, before.layout, mask)
        moved = np.array(frame.planes[0]) != before.planes[0]
        seen += int(moved.sum())
        patch = next((p for p in window.patches if p.row == row), None)
        if patch is not None:
            height, width = patch.alpha.shape
            added = patch.difference.abs().sum(0).numpy()[: 120 - patch.y0, : 160 - patch.x0] * 255
            here = moved[patch.y0 : patch.y0 + height, patch.x0 : patch.x0 + width]
            assert not here[added < 0.4].any(), "the difference told of is the one that was added"
    assert seen > 10_000
