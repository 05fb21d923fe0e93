"""A film whose picture changes its size or pixel format on the way, in parts: an output for each stretch that is alike.

The film is decoded once to find its changes, so that each part knows from its first packet where it ends: what lies
beside the pictures goes into the part of its time, as into any cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from vidrestore.engine.fallback import is_pipe
from vidrestore.errors import UsageError
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction
    from pathlib import Path

    from vidrestore.config import RunConfig
    from vidrestore.engine.job import Job
    from vidrestore.engine.record import Record
    from vidrestore.media.reader import ReadSettings

_FLAG: Final = "--on-change"
_MENDED: Final = ("clock_joined", "pts_repaired")  # notes of a film whose times are not those of its file


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of a film."""

    number: int  # from 1
    read: ReadSettings

    def of(self, path: Path) -> Path:
        """Where it goes, by the name of the whole: film.mkv, film.part002.mkv, ..."""
        return path if self.number == 1 else path.with_name(f"{path.stem}.part{self.number:03}{path.suffix}")


def check_split(config: RunConfig, source: str, target: str | None) -> None:
    """Refuse what cannot be split. Raises UsageError (2)."""
    faces = str(config.step("align").options.model_dump().get("faces", "all"))
    if source == "-" or is_pipe(source):
        raise UsageError(_FLAG, "a film is read twice to be split", "name a file")
    if target == "-":
        raise UsageError(_FLAG, "a pipe holds one film", "add -o FILE")
    if any(c.isdigit() for c in faces):
        raise UsageError(_FLAG, "numbers of faces count through a whole film", "leave out --faces and --like")
    if (decode := config.step("decode").plugin) != "pyav":
        raise UsageError(_FLAG, f"decode={decode} may scale pictures by itself", "leave it out")


def parts_of(source: str, config: RunConfig, settings: ReadSettings) -> list[Part]:
    """The stretches of a film; none where it is alike to its end. Raises as opening and reading it do."""
    notes = Notes()
    with config.step("decode").make().open(source, notes, settings=replace(settings, copy=False)) as film:
        changes = [frame.pts * frame.time_base + film.begins for frame in film.frames() if frame.cut]
    if not changes:
        return []
    seek = settings.seek and not any(notes.count(kind) for kind in _MENDED)
    bounds: Iterable[tuple[Any, Any]] = pairwise((settings.start, *changes, settings.end))
    return [
        Part(number, replace(settings, start=start, end=end, seek=seek))
        for number, (start, end) in enumerate(bounds, start=1)
    ]


def note_parts(source: str, parts: list[Part], target: Path, notes: Notes) -> None:
    """Say that there is more than one output."""
    first, last = parts[1], parts[-1]
    names = first.of(target).name + (f" to {last.of(target).name}" if len(parts) > 2 else "")
    what = f"the picture changes at {_seconds(first):.2f} s; the film goes on in {names}"
    notes.warn("picture_changed", source, what)


def told_of(job: Job, record: Record) -> dict[str, Any]:
    """What the first part's record says of each."""
    assert job.part is not None
    kind = {key: record.input[key] for key in ("width", "height", "pix_fmt")}
    name = record.target.replace("\\", "/").rpartition("/")[2]
    return {
        "file": name,
        "begins": round(_seconds(job.part), 6),
        "frames": record.frames_out,
        "faces": record.faces,
        **kind,
    }


def _seconds(part: Part) -> float:
    """From the film's start."""
    begin: Fraction | float | None = part.read.start
    return float(begin or 0)
