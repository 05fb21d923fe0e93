"""A few seconds of a film, to see what a setting does before hours are spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidrestore.errors import UsageError
from vidrestore.media.reader import read_info

if TYPE_CHECKING:
    from vidrestore.notes import Notes


def span(source: str, seconds: float, start: float | None, notes: Notes) -> tuple[float, float]:
    """Where a preview of ``seconds`` begins and ends: at ``start``, else in the middle of the film.

    Raises UsageError for a pipe, whose middle nobody knows, and for what is no length.
    """
    if seconds <= 0:
        raise UsageError("--preview", f"{seconds:g} seconds show nothing", "e.g. --preview 10")
    if start is None:
        if source == "-":
            raise UsageError("--preview", "the middle of a pipe is not known", "say where to begin with -ss")
        length = read_info(source, notes).duration
        start = max(0.0, (float(length) - seconds) / 2) if length is not None else 0.0
    return start, start + seconds
