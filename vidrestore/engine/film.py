"""A film between its filters, opened; and beside itself, where it is compared."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidrestore.engine.flags import read_settings
from vidrestore.media.comparing import Compared
from vidrestore.media.filtering import Filtered, check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vidrestore.config import RunConfig
    from vidrestore.media.comparing import How
    from vidrestore.media.reader import ReadSettings, Source
    from vidrestore.notes import Notes
    from vidrestore.types import Frame


@dataclass(frozen=True, slots=True)
class OpenFilm:
    """An opened film between its filters."""

    read: Source
    source: Any  # behind the filters that work on decoded frames
    finished: Any  # as the encoder sees it: behind those that work on finished frames, too

    def through(self, frame: Frame | None) -> Iterable[Frame]:
        """What becomes of a finished frame, or of what filters hold at the end (None)."""
        if self.finished is not self.source:
            return self.finished.through(frame)  # type: ignore[no-any-return]
        return () if frame is None else (frame,)


@dataclass(frozen=True, slots=True)
class _ComparedFilm(OpenFilm):
    """A film whose frames come out beside those of its source."""

    inner: OpenFilm
    pairs: Iterator[Frame]  # of the source, behind the same filters

    def through(self, frame: Frame | None) -> Iterable[Frame]:
        return self.finished.pictures(self.inner.through(frame), self.pairs)  # type: ignore[no-any-return]


def compared(film: OpenFilm, again: OpenFilm, how: How) -> OpenFilm:
    def frames() -> Iterator[Frame]:
        for frame in again.source.frames():
            yield from again.through(frame)
        yield from again.through(None)

    return _ComparedFilm(film.read, film.source, Compared(film.finished, how), film, frames())


def silent(_line: str) -> None:
    """The second reading of a film says nothing that the first has not said."""


@contextmanager
def opened(source: str, config: RunConfig, notes: Notes, settings: ReadSettings | None = None) -> Iterator[OpenFilm]:
    """A film with the filters of the chain; ``settings`` say what is read of it, where the configuration does not."""
    check((*config.before, *config.after))
    decoder = config.step("decode").make()
    with decoder.open(source, notes, settings=settings or read_settings(config)) as read:
        behind: Any = Filtered(read, config.before, notes) if config.before else read
        _suggest(config, behind, notes)
        yield OpenFilm(read, behind, Filtered(behind, config.after, notes) if config.after else behind)


def _suggest(config: RunConfig, source: Any, notes: Notes) -> None:
    """Faces in woven fields are combs: say what to do about it."""
    if not source.info.layout.interlaced or config.step("detect").make().side == 0:
        return
    from vidrestore.engine.fields import top_first

    if top_first(config, source.info) is None:
        what = "the film is interlaced, faces are restored as their two fields lie woven; add av.bwdif before detect"
        notes.warn("interlaced", source.info.path, what)
    else:
        what = "the film is interlaced, faces are restored field by field"
        notes.warn("fields", source.info.path, what, quiet=True)
