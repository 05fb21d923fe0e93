"""What a batch will cost, before it is begun: measured on a little of its largest film."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vidrestore.batch.report import in_one_piece
from vidrestore.engine.clock import Clock
from vidrestore.engine.film import opened
from vidrestore.engine.flags import encode_settings
from vidrestore.engine.job import RESTORING
from vidrestore.engine.record import Record
from vidrestore.errors import VidrestoreError, printable
from vidrestore.media.segments import piece_sink
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidrestore.batch.planning import Planned
    from vidrestore.batch.store import Store

_TRIAL: Final = 64  # frames
_FIRST: Final = 32  # ... of which the first are not counted: models are loaded, the encoder fills
_PASSES: Final = 3  # a film is also read to find its cuts, to be joined, and to be verified


@dataclass(frozen=True, slots=True)
class _Film:
    planned: Planned
    frames: int
    pixels: int
    decode: float  # seconds a frame


def estimate(store: Store, planned: Sequence[Planned], workers: int) -> Iterator[str]:
    """Lines: one a film with what becomes of it, then time, disk and memory."""
    films, left = [], []
    for one in planned:
        job = store.job_of(one.output)
        same = job is not None and job.key == one.key
        state = job.state if job is not None and same else "new"
        found = None if state == "done" else _look(one)
        fate = "unreadable" if state != "done" and found is None else state
        whole = "" if found is None else in_one_piece(one.spec.text())
        yield f"{fate:10} {printable(str(one.source))} -> {printable(str(one.output))}{whole}"
        if found is not None:
            films.append(found)
            left.append(found.frames)
    yield f"{len(planned)} films, {len(films)} to do, {sum(left)} frames"
    if not films:
        return
    largest = max(films, key=lambda film: film.pixels * film.frames)
    try:
        seconds, nbytes = _trial(largest)
    except VidrestoreError as error:
        yield f"no estimate: {error}"
        return
    share = [film.frames * film.pixels / largest.pixels for film in films]
    hours = sum(share) * seconds / workers / 3600
    output = sum(share) * nbytes
    beside = max(share) * nbytes * min(2, workers)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    yield f"time    about {_duration(hours)} on this machine"
    yield f"disk    about {_bytes(output)} of outputs, {_bytes(beside)} of segments and half-done outputs beside them"
    yield f"memory  about {_bytes(memory * workers)}"
    yield f"measured on frames {_FIRST} to {_TRIAL} of {printable(largest.planned.source.name)}; films with more"
    yield "or fewer faces take more or less"


def _look(one: Planned) -> _Film | None:
    config = one.spec.config()
    with suppress(VidrestoreError), opened(str(one.source), config, Notes()) as film:
        info = film.read.info
        frames = info.frames or round(float(info.duration or 0) * float(info.rate))
        begun, count = time.perf_counter(), 0
        for _ in islice(film.read.frames(), _FIRST):
            count += 1
        spent = (time.perf_counter() - begun) / max(count, 1)
        return _Film(one, max(frames, count), info.layout.width * info.layout.height, spent)
    return None


def _trial(film: _Film) -> tuple[float, float]:
    """Seconds and bytes a frame."""
    planned, config, notes = film.planned, film.planned.spec.config(), Notes()
    record = Record(str(planned.source), "", config)
    with tempfile.TemporaryDirectory() as folder, opened(str(planned.source), config, notes) as opened_film:
        settings = encode_settings(config, {}, piped=False, named=True)
        path = Path(folder) / "trial"
        with piece_sink(path, planned.output, opened_film.finished, settings, notes) as sink:
            frames = RESTORING.frames(config, opened_film.source, record, notes, Clock())
            begun, count, first = time.perf_counter(), 0, 0
            for frame, _ in islice(frames, min(_TRIAL, film.frames)):
                for out in opened_film.through(frame):
                    sink.write(out)
                count += 1
                if count == min(_FIRST, film.frames // 2):
                    begun, first = time.perf_counter(), count
            spent = (time.perf_counter() - begun) / max(count - first, 1)
            frames.close()
            sink.finish()
        return spent + _PASSES * film.decode, path.stat().st_size / count


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{max(1, round(60 * hours))} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
