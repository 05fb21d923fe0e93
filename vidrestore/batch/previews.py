"""A picture of each film, before and after: the frame in which most was changed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from vidrestore.media.planes import thumbnail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidrestore.batch.store import Desk
    from vidrestore.types import Frame, Window

FOLDER: Final = "previews"
KINDS: Final = ("before", "after")
_SIDE: Final = 480  # px
_BETTER: Final = 1.2  # times more must be changed for a later frame to be taken
_QUALITY: Final = 85  # of JPEG


class Preview:
    """Looks at every frame of a segment and keeps one."""

    def __init__(self) -> None:
        self.score = -1.0  # sum of what was changed, over its samples
        self._pictures: tuple[bytes, bytes] | None = None

    def see(self, frame: Frame, window: Window | None) -> None:
        """Offer a finished frame."""
        row = 0 if window is None else frame.index - window.frames[0].index
        patches = () if window is None else [p for p in window.patches if p.row == row]
        score = sum(float(p.difference.abs().sum()) for p in patches)
        if self._pictures is None or score > _BETTER * max(self.score, 0.0):
            before = frame if window is None or not patches else window.frames[row]
            self.score, self._pictures = score, (_jpeg(before), _jpeg(frame))

    def write(self, piece: Path) -> None:
        """Put the pictures beside a segment."""
        for kind, data in zip(KINDS, self._pictures or (), strict=True):
            piece.with_suffix(f".{kind}").write_bytes(data)


def keep_best(store: Desk, job: int, pieces: Sequence[tuple[float, Path]]) -> None:
    """Keep the pictures of the segment in which most was changed; the others go with it."""
    _, best = max(pieces, key=lambda piece: piece[0])
    folder = store.folder / FOLDER
    folder.mkdir(exist_ok=True)
    for kind in KINDS:
        if best.with_suffix(f".{kind}").exists():  # a film that was published before its worker died has none left
            shutil.copyfile(best.with_suffix(f".{kind}"), folder / f"{job}.{kind}.jpg")


def _jpeg(frame: Frame) -> bytes:
    import cv2
    import numpy as np

    picture = np.ascontiguousarray(thumbnail(frame, _SIDE).image[:, :, ::-1])
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data)
