"""Progress on standard error: a bar on a terminal, JSON lines on request, else nothing."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vidrestore.cli.failing import say
from vidrestore.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.engine.job import Progress
    from vidrestore.engine.record import Record

_EVERY = 0.5  # seconds between two JSON lines


class Teller(Protocol):
    def __call__(self, progress: Progress) -> None: ...

    def done(self, record: Record) -> None: ...


@contextmanager
def teller(mode: str, source: str) -> Iterator[Teller]:
    """Who tells the progress: "json", "none", or "auto": a bar where standard error is a terminal."""
    if mode == "json":
        yield JsonLines()
    elif mode == "auto" and sys.stderr.isatty():
        with Bar(source) as bar:
            yield bar
    else:
        yield Silence()


class Silence:
    def __call__(self, progress: Progress) -> None: ...

    def done(self, record: Record) -> None: ...


class JsonLines:
    """``{"event": "progress", ...}``, one a line, the last ``{"event": "done"}``."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic() - self._start
        if now - self._last >= _EVERY or progress.frames == 1:
            self._last = now
            fps = progress.frames / max(now, 1e-9)
            left = None if not progress.total else round(max(0, progress.total - progress.frames) / fps, 1)
            self._write("progress", frames=progress.frames, total=progress.total, fps=round(fps, 2), eta=left,
                        faces=progress.faces, memory_mb=memory_mb(), time=round(progress.seconds, 3))  # fmt: skip

    def done(self, record: Record) -> None:
        seconds = round(time.monotonic() - self._start, 2)
        parts = {"parts": [part["file"] for part in record.parts]} if record.parts else {}
        frames, faces = _counts(record)
        self._write("done", frames=frames, faces=faces, seconds=seconds, output=record.target, **parts)

    def _write(self, event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=sys.stderr, flush=True)


class Bar:
    """rich's bar: fps, time left, faces, memory."""

    def __init__(self, source: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._name = printable(Path(source).name)
        self._rich = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.fields[frames]}"),
            TextColumn("{task.fields[fps]} fps"),
            TextColumn("eta {task.fields[eta]}"),
            TextColumn("{task.fields[faces]} faces"),
            TextColumn("{task.fields[memory]} MB"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._rich.add_task(
            self._name, total=None, frames="?", fps="-", eta="-", faces=0, memory=memory_mb()
        )
        self._start = time.monotonic()

    def __enter__(self) -> Bar:
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def __call__(self, progress: Progress) -> None:
        fps = progress.frames / max(time.monotonic() - self._start, 1e-9)
        total = None if progress.total is None else max(progress.total, progress.frames)
        eta = "-" if total is None else str(timedelta(seconds=round((total - progress.frames) / fps)))
        self._rich.update(
            self._task,
            completed=progress.frames,
            total=total,
            frames=total or "?",
            fps=f"{fps:.1f}",
            eta=eta,
            faces=progress.faces,
            memory=memory_mb(),
        )

    def done(self, record: Record) -> None:
        seconds = time.monotonic() - self._start
        frames, faces = _counts(record)
        people = f"{faces} faces" + ("" if record.parts else f" in {len(record.tracks)} tracks")
        target = f"{record.target} and {len(record.parts) - 1} parts more" if record.parts else record.target
        say(f"{self._name}: {frames} frames, {people}, {seconds:.1f} s -> {target}")


def _counts(record: Record) -> tuple[int, int]:
    """Frames and faces, of all parts of a film that was split."""
    parts = record.parts or [{"frames": record.frames_out, "faces": record.faces}]
    return sum(part["frames"] for part in parts), sum(part["faces"] for part in parts)


def memory_mb() -> int:
    """Resident memory of this process, in megabytes (its peak where the system tells no more)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096 >> 20
    except (OSError, ValueError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak >> 20 if sys.platform == "darwin" else peak >> 10)
