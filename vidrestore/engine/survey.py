"""Who is in a film: every track with its times, its size and a picture, so that one can choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vidrestore.engine.analyse import detect, place
from vidrestore.engine.clock import Clock
from vidrestore.engine.fields import split, top_first
from vidrestore.engine.film import opened
from vidrestore.engine.job import Progress
from vidrestore.engine.pipeline import device_of
from vidrestore.engine.restore import crop_of
from vidrestore.engine.scenes import shots, windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidrestore.config import RunConfig
    from vidrestore.notes import Notes
    from vidrestore.types import Frame, Window

THUMBNAIL = 160  # px a side
_CLEARER = 1.1  # times better a frame must show a face to become its picture
_QUALITY = 85  # of JPEG


@dataclass(slots=True)
class Seen:
    """One face through one shot."""

    number: int  # as --faces takes it
    shot: int  # as the run record counts them
    first: float  # seconds
    last: float
    frames: int = 0
    widths: list[float] = field(default_factory=list)  # px, one a frame
    score: float = 0.0  # the detector's best
    picture: bytes = b""  # JPEG of the frame that shows it best
    best: float = 0.0
    alike: float | None = None  # cosine to a reference picture

    @property
    def width(self) -> float:
        """Median, px."""
        return float(np.median(self.widths))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "number": self.number,
            "shot": self.shot,
            "first": round(self.first, 3),
            "last": round(self.last, 3),
            "frames": self.frames,
            "width": round(self.width, 1),
            "largest": round(max(self.widths), 1),
            "score": round(self.score, 3),
            **({} if self.alike is None else {"alike": round(self.alike, 3)}),
        }


def survey(source: str, config: RunConfig, notes: Notes, tell: Callable[[Progress], None] | None = None) -> list[Seen]:
    """The faces that a run with this config would find, by number. Raises as a run does."""
    detector, align = config.step("detect").make(), config.step("align").make()
    device = device_of(config.settings.device)
    detector.open(device)
    found: dict[int, Seen] = {}
    clock = Clock()
    count = 0
    with opened(source, config, notes) as film:
        first = top_first(config, film.source.info)
        cut = windows(split(shots(film.source.frames()), first), config.settings.window)
        looked = detect(cut, detector, device, clock)
        for window in place(looked, config.step("track").make(), align, detector.every, notes, clock):
            _enter(window, found)
            count += len(window.frames) if first is None else len(window.frames) // 2
            if tell is not None:
                tell(Progress(count, film.source.info.frames, len(found), window.frames[-1].seconds))
        if film.read.failure is not None:
            raise film.read.failure
    return [found[number] for number in sorted(found)]


def _enter(window: Window, found: dict[int, Seen]) -> None:
    placed = window.placed
    assert placed is not None and window.faces is not None, "windows are placed before they are looked at"
    for number, row, matrix, weight in zip(
        placed.tracks.tolist(), placed.rows.tolist(), placed.matrices, placed.weights.tolist(), strict=True
    ):
        frame, faces = window.frames[row], window.faces[row]
        at = int(np.flatnonzero(faces.tracks == number)[0])
        width, score = float(faces.boxes[at, 2] - faces.boxes[at, 0]), float(faces.scores[at])
        seen = found.setdefault(number, Seen(number, window.scene.number, frame.seconds, frame.seconds))
        seen.last, seen.score = frame.seconds, max(seen.score, score)
        seen.frames += frame.field is None or frame.index % 2 == 0  # both fields of a frame have it, but for a few
        seen.widths.append(width)
        shown = width * weight * (0.5 + score)  # large, turned to us, surely seen
        if shown > _CLEARER * seen.best:
            seen.best, seen.picture = shown, _picture(frame, matrix)


def _picture(frame: Frame, matrix: Any) -> bytes:
    rgb = np.rint(crop_of(frame, matrix, THUMBNAIL).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data)
