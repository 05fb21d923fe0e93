"""Films read in step: the same frame of each, with the faces of the one that knows best where they are."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from vidrestore.engine.analyse import detect, place
from vidrestore.engine.flags import read_settings
from vidrestore.engine.pipeline import device_of
from vidrestore.engine.restore import stored_to_crop
from vidrestore.engine.scenes import shots, windows
from vidrestore.errors import InputMediaError
from vidrestore.geometry.warp import warp
from vidrestore.media.colour import Region
from vidrestore.media.hdr import sdr_rgb
from vidrestore.media.planes import display_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.config import RunConfig
    from vidrestore.engine.clock import Clock
    from vidrestore.media.reader import Source
    from vidrestore.notes import Notes
    from vidrestore.types import Frame, IntArray, Window


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame of every film."""

    index: int  # counted from 0
    frames: Mapping[str, Frame]  # by role
    tracks: IntArray  # i64 [n]
    matrices: NDArray[np.float64]  # f64 [n, 2, 3], display px -> px of a crop of 512
    alive: frozenset[int]  # tracks that may still have faces after this frame

    @property
    def seconds(self) -> float:
        return next(iter(self.frames.values())).seconds

    def pictures(self) -> dict[str, Tensor]:
        """Each film's picture as stored, f32 [3, h, w] in 0..1; SDR of an HDR film."""
        return {role: _whole(frame) for role, frame in self.frames.items()}

    def crops(self, pictures: Mapping[str, Tensor], side: int) -> dict[str, Tensor]:
        """The same faces of each film: f32 [n, 3, side, side] in 0..1; what lies outside the picture is mirrored."""

        def cut(role: str) -> Tensor:
            frame, picture = self.frames[role], pictures[role]
            found = [
                warp(picture, stored_to_crop(frame, m, side), (side, side), "reflection").clamp(0, 1)
                for m in self.matrices
            ]
            return torch.stack(found) if found else torch.zeros(0, 3, side, side)

        return {role: cut(role) for role in self.frames}


def _whole(frame: Frame) -> Tensor:
    return sdr_rgb(frame, Region(0, 0, frame.layout.width, frame.layout.height))


@contextmanager
def opened(paths: Mapping[str, str], config: RunConfig, notes: Notes) -> Iterator[dict[str, Source]]:
    """The films by role. A film that breaks off is a note. Raises InputAccessError, InputMediaError."""
    settings = replace(read_settings(config), copy=False, keep_going=True)
    with ExitStack() as stack:
        decoder = config.step("decode").make()
        yield {role: stack.enter_context(decoder.open(path, notes, settings=settings)) for role, path in paths.items()}


def in_step(
    sources: Mapping[str, Source], guide: str, config: RunConfig, notes: Notes, clock: Clock
) -> Iterator[Moment]:
    """Every frame of the films, paired by number. Faces are found, tracked and aligned in the ``guide``.

    Raises InputMediaError where the films differ in size or number of frames.
    """
    detector, align = config.step("detect").make(), config.step("align").make()
    device = device_of(config.settings.device)
    detector.open(device)
    cut = windows(shots(sources[guide].frames()), config.settings.window)
    found = detect(cut, detector, device, clock)
    placed = place(found, config.step("track").make(), align, detector.every, notes, clock)
    pairs = _Pairs(sources, guide, notes)
    for window in placed:
        yield from _moments(window, pairs)
    pairs.finish()


def _moments(window: Window, pairs: _Pairs) -> Iterator[Moment]:
    assert window.placed is not None, "windows are placed before they are looked at"
    alive = frozenset(window.after.alive) if not window.last else frozenset[int]()
    everyone = frozenset(window.placed.tracks.tolist())
    for row, frame in enumerate(window.frames):
        here = window.placed[window.placed.rows == row]
        after = alive if row == len(window.frames) - 1 else alive | everyone
        index, frames = pairs.next(frame)
        yield Moment(index, frames, here.tracks, here.matrices, after)


class _Pairs:
    """The other films' frames, one for each of the guide's."""

    def __init__(self, sources: Mapping[str, Source], guide: str, notes: Notes) -> None:
        self.guide, self.notes = guide, notes
        self.paths = {role: source.info.path for role, source in sources.items()}
        self._frames: dict[str, Any] = {role: source.frames() for role, source in sources.items() if role != guide}
        self._count = 0
        self._first: dict[str, float] = {}

    def next(self, frame: Frame) -> tuple[int, dict[str, Frame]]:
        pair = {self.guide: frame}
        for role, frames in self._frames.items():
            other = next(frames, None)
            if other is None:
                raise self._uneven(role, f"ends after {self._count} frames, {self.paths[self.guide]} does not")
            pair[role] = other
        for role, other in pair.items():
            self._check(role, other, frame)
        self._count += 1
        return self._count - 1, pair

    def finish(self) -> None:
        """Raises InputMediaError where another film goes on."""
        for role, frames in self._frames.items():
            if next(frames, None) is not None:
                raise self._uneven(role, f"goes on after the {self._count} frames of {self.paths[self.guide]}")

    def _check(self, role: str, frame: Frame, guide: Frame) -> None:
        size, want = display_size(frame.layout), display_size(guide.layout)
        if size != want:
            what = f"is {size[0]:g}x{size[1]:g}, {self.paths[self.guide]} {want[0]:g}x{want[1]:g}"
            raise InputMediaError(self.paths[role], what, "compare films of one size")
        since = frame.seconds - self._first.setdefault(role, frame.seconds)
        expected = guide.seconds - self._first.setdefault(self.guide, guide.seconds)
        most = max(0.5 * float(guide.duration * guide.time_base), 0.01)
        if abs(since - expected) > most:
            what = f"frame {self._count} lies {abs(since - expected):.2f} s from its pair; frames are paired by number"
            self.notes.warn("times_differ", self.paths[role], what)

    def _uneven(self, role: str, what: str) -> InputMediaError:
        return InputMediaError(self.paths[role], what, "compare films with the same frames")
