"""A film read once, before any work on it: its length, its cuts, its segments."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING

from vidrestore.batch.spec import Spec, remembers
from vidrestore.batch.store import Segment
from vidrestore.engine.film import OpenFilm, opened
from vidrestore.errors import InputMediaError
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidrestore.batch.bench import Bench
    from vidrestore.batch.store import Job, Task
    from vidrestore.config import RunConfig
    from vidrestore.types import Frame


def scan(bench: Bench, job: Job, task: Task, config: RunConfig) -> None:
    """Read the film once: its length, its cuts, what is wrong with it."""
    from vidrestore.engine.scenes import shots, window_length

    notes, spec = Notes(), Spec.read(job.spec)
    shutil.rmtree(bench.folder(job.id), ignore_errors=True)
    searched = config.step("detect").make().side > 0
    whole = remembers(config)
    with opened(str(job.source), config, notes) as film:
        if film.read.info.still:
            raise InputMediaError(str(job.source), "is a picture, not a film", f"vidrestore {job.source}")
        frames = _told(film, bench)
        known = None if searched and not whole else frozenset[int]()
        begins, count, nbytes = [], 0, 1
        for frame, cut in shots(frames, known):
            begins += [frame.index] if cut else []
            count, nbytes = frame.index + 1, max(nbytes, frame.nbytes)
        if not count:
            raise InputMediaError(str(job.source), "no frames")
        partial = "" if film.read.failure is None else film.read.failure.what
        counts = {
            "frames_in": film.read.frames_in,
            "corrupt_frames": film.read.corrupt_frames,
            "bad_packets": film.read.bad_packets,
            "ts_fixed": film.read.ts_fixed,
        }
    ends = [*begins[1:], count]
    if whole:
        segments = [Segment(0, count, False)]
    elif searched:
        segments = cut_up(
            list(zip(begins, ends, strict=True)), spec.segment, window_length(config.settings.window, nbytes)
        )
    else:
        segments = [Segment(i, min(i + spec.segment, count), False) for i in range(0, count, spec.segment)]
    found = {
        "frames": count,
        "cuts": begins,
        "partial": partial,
        "input": counts,
        "notes": [asdict(n) for n in notes.all()],
    }
    bench.store.planned(task, bench.owner, segments, json.dumps(found))


def _told(film: OpenFilm, bench: Bench) -> Iterator[Frame]:
    for frame in film.read.frames():
        film.read.copied.take()
        bench.beat(frame.index + 1)
        yield frame


def cut_up(shots: Sequence[tuple[int, int]], length: int, window: int) -> list[Segment]:
    """Shots, each from a frame to the frame after its last, as segments of about ``length`` frames: short shots
    together, long ones in parts that are multiples of the window."""
    part = -(-length // window) * window
    found: list[Segment] = []
    begun: int | None = None
    for begin, end in shots:
        long = end - begin >= 2 * part
        if begun is not None and (long or end - begun > 2 * length):
            found.append(Segment(begun, begin, False))
            begun = None
        if long:
            marks = [*range(begin, end - part + 1, part), end]
            found += [Segment(a, b, a > begin) for a, b in pairwise(marks)]
            continue
        begun = begin if begun is None else begun
        if end - begun >= length:
            found.append(Segment(begun, end, False))
            begun = None
    if begun is not None:
        found.append(Segment(begun, shots[-1][1], False))
    return found
