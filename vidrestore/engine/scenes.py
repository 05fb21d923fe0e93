"""Shots and windows: where all state and noise begins and ends, and what is restored together."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from vidrestore.media.planes import thumbnail
from vidrestore.types import Scene, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vidrestore.types import Frame

_SIDE: Final = 160  # px; cuts show at any size
_DELAY: Final = 2  # frames of future the cut detector looks at
_SHORTEST: Final = 8  # frames; nearer cuts are flashes
WINDOW_BYTES: Final = 256 << 20  # larger pictures get shorter windows


def shots(frames: Iterable[Frame], cuts: frozenset[int] | None = None) -> Iterator[tuple[Frame, bool]]:
    """Every frame with whether a shot begins at it.

    cuts: positions of frames that begin a shot, where they are known already; else they are found here
    (PySceneDetect's adaptive detector on small pictures). A change of picture size is always a cut.
    """
    found = _found_cuts(frames) if cuts is None else ((f, f.index in cuts) for f in frames)
    first = True
    for frame, cut in found:
        yield frame, first or cut or frame.cut
        first = False


def windows(flagged: Iterable[tuple[Frame, bool]], size: int) -> Iterator[Window]:
    """Windows of ``size`` frames, counted from each shot's start, the last of a shot shorter.

    Of pictures of single fields as many come together, both of a frame always; their shots begin where the frames do.
    """
    scene: Scene | None = None
    held: list[Frame] = []
    start = 0
    for frame, begins in flagged:
        if scene is not None and (begins or len(held) == _length(size, held)):
            yield Window(tuple(held), scene, start, last=begins)
            start, held = start + len(held), []
        if begins:
            whole = frame if frame.field is None else frame.field.whole
            scene = Scene(0 if scene is None else scene.number + 1, whole.pts, whole.index)
            start = 0
        held.append(frame)
    if scene is not None:
        yield Window(tuple(held), scene, start, last=True)


def _length(size: int, held: list[Frame]) -> int:
    if not held:
        return size
    length = window_length(size, held[0].nbytes)
    return length if held[0].field is None or length % 2 == 0 else 2 * length


def window_length(size: int, nbytes: int) -> int:
    """Frames of a window: a function of the picture's bytes alone, so that it repeats anywhere."""
    fit = max(1, WINDOW_BYTES // max(1, nbytes))
    return size if fit >= size else 1 << (fit.bit_length() - 1)


def _found_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
    import cv2
    from scenedetect import AdaptiveDetector, FrameTimecode

    cv2.setNumThreads(1)  # its pool would fight with decoder and encoder for the cores
    detector = AdaptiveDetector(min_scene_len=_SHORTEST, window_width=_DELAY)
    waiting: deque[Frame] = deque()
    cuts: set[int] = set()
    for count, frame in enumerate(frames):
        picture = np.ascontiguousarray(thumbnail(frame, _SIDE).image[:, :, ::-1])
        cuts.update(cut.frame_num for cut in detector.process_frame(FrameTimecode(count, 25.0), picture))
        waiting.append(frame)
        if len(waiting) > _DELAY:
            yield _flagged(waiting.popleft(), count - _DELAY, cuts)
    for back, frame in enumerate(waiting):
        yield _flagged(frame, count - len(waiting) + 1 + back, cuts)


def _flagged(frame: Frame, position: int, cuts: set[int]) -> tuple[Frame, bool]:
    cut = position in cuts
    cuts.discard(position)
    return frame, cut
