"""detect -> track -> align: where the faces of every window are."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidrestore.engine.tracks import ShotTracks, faces_at
from vidrestore.media.planes import thumbnail
from vidrestore.types import Faces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vidrestore.engine.align import FFHQ
    from vidrestore.engine.clock import Clock
    from vidrestore.hooks import Detector, Tracker
    from vidrestore.media.planes import Thumbnail
    from vidrestore.notes import Notes
    from vidrestore.types import Frame, Window

_TOO_SMALL = 16  # px a side; no detector finds a face in less


def detect(
    windows: Iterable[Window], detector: Detector, device: torch.device, clock: Clock, reached: int = 0
) -> Iterator[Window]:
    """Faces of every n-th frame of each shot, a window in one batch. Frames below ``reached`` of the first
    shot were looked at by an earlier part."""
    first = None
    for window in windows:
        if detector.side == 0:
            yield replace(window, found=(None,) * len(window.frames))
            continue
        first = window.scene if first is None else first
        known = reached if window.scene == first else 0
        rows = [i for i in range(len(window.frames)) if _looks(window, i, detector.every) and window.start + i >= known]
        with clock("detect"):
            found = _found(window, rows, detector, device)
        yield replace(window, found=tuple(found.get(i) for i in range(len(window.frames))))


def _looks(window: Window, row: int, every: int) -> bool:
    layout = window.frames[row].layout
    big_enough = min(layout.width, layout.height) >= _TOO_SMALL
    return big_enough and (window.start + row) % every == 0


def _found(window: Window, rows: list[int], detector: Detector, device: torch.device) -> dict[int, Faces]:
    return dict(zip(rows, look([window.frames[i] for i in rows], detector, device), strict=True))


def look(frames: Sequence[Frame], detector: Detector, device: torch.device) -> list[Faces]:
    """The faces of frames of one size, searched in one batch; none where the detector wants no pictures."""
    if not frames or not detector.side:
        return [Faces.empty() for _ in frames]
    small = [thumbnail(frame, detector.side) for frame in frames]
    images = torch.from_numpy(np.stack([t.image for t in small])).to(device)
    return [_in_display(f, t) for f, t in zip(detector.detect(images), small, strict=True)]


def _in_display(faces: Faces, small: Thumbnail) -> Faces:
    boxes = small.to_display(faces.boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    return replace(faces, boxes=boxes, landmarks=small.to_display(faces.landmarks))


@dataclass(frozen=True, slots=True)
class Analysis:
    """All memory of tracking and placing within a shot, as plain data: what a later part goes on from."""

    tracks: dict[str, Any]
    tracker: Any
    poses: dict[int, Any]

    @property
    def alive(self) -> set[int]:
        """Ids of the tracks that may still have faces."""
        return {track[0] for track in self.tracks["tracks"]}


def place(
    windows: Iterable[Window],
    tracker: Tracker,
    align: FFHQ,
    every: int,
    notes: Notes,
    clock: Clock,
    resume: Analysis | None = None,
) -> Iterator[Window]:
    """Tracks with gaps filled, steady poses. Holds as many windows as ``align.reach`` asks for, no more."""
    next_id = 0
    for shot in _by_shot(windows):
        stage = _Shot(tracker, align, every, next_id, notes, clock)
        if resume is not None:
            stage.load(resume)
            resume = None
        yield from stage.run(shot)
        next_id = stage.tracks.next_id


class _Shot:
    """The stage while one shot lasts."""

    def __init__(self, tracker: Tracker, align: FFHQ, every: int, next_id: int, notes: Notes, clock: Clock) -> None:
        tracker.reset()
        self.tracker, self.align, self.notes, self.clock = tracker, align, notes, clock
        self.tracks = ShotTracks(every, align.options.max_gap, align.options.fade, next_id)
        self.poses: dict[int, Any] = {}

    def load(self, resume: Analysis) -> None:
        self.tracks.load(resume.tracks)
        self.tracker.restore_state(resume.tracker)
        self.poses = deepcopy(resume.poses)

    def run(self, windows: Iterable[Window]) -> Iterator[Window]:
        held: deque[Window] = deque()
        for window in windows:
            with self.clock("track"):
                self._track(window)
            held.append(window)
            while held and (window.last or held[0].stop + self.align.reach <= window.stop):
                with self.clock("align"):
                    placed = self._place(held)
                yield placed
                held.popleft()

    def _track(self, window: Window) -> None:
        for row, found in enumerate(window.found):
            position = window.start + row
            if found is not None and position >= self.tracks.reached:
                self.tracks.see(position, self.tracker.update(found))
        self.tracks.reached = max(self.tracks.reached, window.stop)
        self.tracks.over = window.last

    def _place(self, held: deque[Window]) -> Window:
        window, start = held[0], held[0].start
        segments = self.tracks.between(start, window.stop + self.align.lookahead)
        times = np.array([f.seconds for w in held for f in w.frames])
        placed, left_out = self.align.place(segments, times, start, len(window.frames), self.poses)
        if left_out:
            what = f"more than {self.align.options.max_faces} faces in a frame; the smallest are left alone"
            self.notes.warn("faces_left_out", "align", what, times=left_out)
        faces = tuple(faces_at(segments, p) for p in range(start, window.stop))
        self.tracks.forget(window.stop)
        alive = {t.id for t in self.tracks.tracks}
        self.poses = {i: p for i, p in self.poses.items() if i in alive}
        after = Analysis(self.tracks.snapshot(), deepcopy(self.tracker.state()), deepcopy(self.poses))
        return replace(window, faces=faces, placed=placed, after=after)


def _by_shot(windows: Iterable[Window]) -> Iterator[Iterator[Window]]:
    """One iterator a shot; each must be used up before the next is asked for."""
    iterator = iter(windows)

    def one(window: Window) -> Iterator[Window]:
        while True:
            yield window
            if window.last:
                return
            following = next(iterator, None)
            if following is None:
                return
            window = following

    while (first := next(iterator, None)) is not None:
        yield one(first)
