"""A film damaged on purpose: the same frames at the same times, each through the damage and a real codec."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidrestore.engine.analyse import detect
from vidrestore.engine.flags import read_settings
from vidrestore.engine.job import Work
from vidrestore.engine.pipeline import restored
from vidrestore.engine.staging import stages_of
from vidrestore.errors import UsageError
from vidrestore.media.colour import Region, add_difference, read_rgb, upright_rgb
from vidrestore.media.planes import editable, upright_view
from vidrestore.media.recoding import Recoder
from vidrestore.quality.levels import enlarged
from vidrestore.types import Film, Scene, Window

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from numpy.typing import NDArray

    from vidrestore.config import RunConfig
    from vidrestore.engine.clock import Clock
    from vidrestore.engine.record import Record
    from vidrestore.hooks import Degrader, Detector, Wear
    from vidrestore.media.reader import Source
    from vidrestore.notes import Notes
    from vidrestore.types import Frame

    Picture = NDArray[np.uint8]  # RGB [h, w, 3]

LOOKS = 48  # frames in which faces are looked for
NOTICE = "This film was damaged on purpose by software. Its damage says nothing of the recording."


@dataclass(frozen=True)
class Degrading:
    """Work of a job: a degrader's damage of the whole film."""

    name: str  # of the plugin
    degrader: Degrader
    options: Mapping[str, Any]  # the degrader's, as plain data

    def work(self) -> Work:
        return Work("degraded", NOTICE, f"degraded=film; model={self.name}", self.frames)

    def frames(
        self, config: RunConfig, source: Source, record: Record, notes: Notes, clock: Clock
    ) -> Generator[tuple[Frame, Window | None], None, None]:
        film = looked_at(config, source, notes, clock)
        wear = self.degrader.begin(film)
        record.degrade = {"model": self.name, **self.options}
        record.degrade |= {"seed": film.seed, "eyes": film.eyes, "codec": wear.codec, "quality": wear.quality}
        frames = source.frames()
        if self.degrader.chain:
            frames = (frame for frame, _ in restored(frames, stages_of(config, record), notes, clock))
        for frame in damaged(frames, wear, clock):
            yield frame, None


def damaged(frames: Iterator[Frame], wear: Wear, clock: Clock) -> Iterator[Frame]:
    """Each frame as the codec gives it back, in its own planes; times and number stay."""
    recoder: Recoder | None = None
    held: deque[Frame] = deque()
    for t, frame in enumerate(frames):
        with clock("degrade"):
            small = wear.before_coding(upright_rgb(frame), t)
            if recoder is None:
                recoder = Recoder(small.shape[1], small.shape[0], wear.codec, wear.quality)
            held.append(frame)
            done = list(recoder.push(small))
        for seen in done:
            yield _replaced(held.popleft(), seen)
    for seen in recoder.flush() if recoder else ():
        yield _replaced(held.popleft(), seen)


def looked_at(config: RunConfig, source: Source, notes: Notes, clock: Clock) -> Film:
    """What the damage must know beforehand: how many frames there are, and how large the main face is.

    Reads the film once. Raises UsageError for a pipe.
    """
    info = source.info
    if info.path == "-":
        raise UsageError("-", "a film is read twice to be damaged", "name a file")
    detector: Detector = config.step("detect").make()
    detector.open(torch.device("cpu"))
    every = max(1, (info.frames or 25 * LOOKS) // LOOKS)
    count, eyes = 0, list[float]()
    with config.step("decode").make().open(info.path, notes, settings=read_settings(config)) as first:
        for frame in first.frames():
            if count % every == 0:
                eyes += _eyes(frame, detector, clock)
            count += 1
    width, height = _upright_size(info.layout.width, info.layout.height, info.layout.turn)
    main = float(np.median(eyes)) if eyes else None
    return Film(width, height, count, config.settings.seed, main)


def _eyes(frame: Frame, detector: Detector, clock: Clock) -> list[float]:
    """Px between the eyes of the frame's largest face; none where there is no face."""
    window = Window((frame,), Scene(0, frame.pts, frame.index), 0, True)
    (looked,) = detect(iter([window]), detector, torch.device("cpu"), clock)
    faces: Any = looked.found[0]
    if faces is None or not len(faces):
        return []
    gaps = np.linalg.norm(faces.landmarks[:, 0] - faces.landmarks[:, 1], axis=1)
    return [float(gaps.max())]


def _replaced(frame: Frame, seen: Picture) -> Frame:
    """The frame with the picture of a decoded one, as large and as turned as the frame is."""
    layout = frame.layout
    a, b, c, d = layout.turn
    upright = enlarged(seen, *_upright_size(layout.width, layout.height, layout.turn))
    stored = np.ascontiguousarray(upright_view(upright, (a, c, b, d)))  # the way back: the transposed turn
    whole = Region(0, 0, layout.width, layout.height)
    out = editable(frame)
    new = torch.from_numpy(stored).permute(2, 0, 1).float() / 255
    add_difference(out, whole, new - read_rgb(frame, whole), torch.ones(new.shape[1:]))
    return out


def _upright_size(width: int, height: int, turn: tuple[int, int, int, int]) -> tuple[int, int]:
    return (height, width) if turn[0] == 0 else (width, height)
