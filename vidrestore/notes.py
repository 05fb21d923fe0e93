"""Warnings of one run: said once a kind, counted, kept for the run record."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from vidrestore.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Note:
    """One kind of warning."""

    kind: str  # a stable word for scripts, e.g. "pts_repaired"
    subject: str  # what it is about, mostly a file name
    text: str  # as first said
    count: int = 0
    quiet: bool = False  # for the record only


class Notes:
    """Collects warnings from every thread of a run. ``say`` gets the first of each kind as one line."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or (lambda line: None)
        self._notes: dict[tuple[str, str], Note] = {}
        self._said: set[tuple[str, str]] = set()
        self._lock = Lock()

    def warn(self, kind: str, subject: str, text: str, *, times: int = 1, quiet: bool = False) -> None:
        """Count one more of this kind about this subject; the first is said at once, or only kept (``quiet``)."""
        with self._lock:
            note = self._notes.setdefault((kind, subject), Note(kind, subject, text, quiet=quiet))
            note.count += times
            first = not quiet and (kind, subject) not in self._said
            if first:
                self._said.add((kind, subject))
        if first:
            self._say(f"{printable(subject)}: {text}")

    def count(self, kind: str) -> int:
        """How often a kind was noted, over all subjects."""
        return sum(n.count for n in self._notes.values() if n.kind == kind)

    def begin_anew(self) -> None:
        """Forget, for a run that starts over; what was said is not said again."""
        with self._lock:
            self._notes.clear()

    def another(self) -> Notes:
        """Empty ones, for a run that goes on from this one; what was said is not said again."""
        notes = Notes(self._say)
        notes._said = self._said
        return notes

    def all(self) -> list[Note]:
        """Every kind noted so far, in the order of its first time."""
        return list(self._notes.values())
