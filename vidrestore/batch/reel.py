"""A film read forward, segment after segment, without beginning anew."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from vidrestore.engine.film import OpenFilm, opened
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.config import RunConfig
    from vidrestore.types import Frame


class Reel:
    """An opened film that remembers where it is. Frames that a segment read beyond its own end wait for the next."""

    def __init__(self, source: str, config: RunConfig) -> None:
        self._source, self._config = source, config
        self._held: deque[Frame] = deque()
        self._stack = ExitStack()
        self._film: OpenFilm | None = None
        self._frames: Iterator[Frame] = iter(())
        self._next = 0  # index of the frame that is read next

    def film(self) -> OpenFilm:
        """The film, opened."""
        if self._film is None:
            self._film = self._stack.enter_context(opened(self._source, self._config, Notes()))
            self._frames = iter(self._film.source.frames())
            self._next = 0
        return self._film

    def frames(self, begin: int, end: int) -> Iterator[Frame]:
        """Frames from ``begin`` to the film's end; those from ``end`` on are kept as well.

        A film is read from its beginning to where a segment begins: an index and a time that were reckoned on the way
        cannot be wrong.
        """
        if begin < (self._held[0].index if self._held else self._next):
            self.close()
        film: Any = self.film()
        while self._held and self._held[0].index < begin:
            self._held.popleft()
        for frame in tuple(self._held):
            if frame.index < end:
                self._held.popleft()
            yield frame
        for frame in self._frames:
            self._next = frame.index + 1
            film.read.copied.take()  # nobody else wants them
            if frame.index >= end:
                self._held.append(frame)
            if frame.index >= begin:
                yield frame

    def close(self) -> None:
        self._held.clear()
        self._film = None
        self._stack.close()
        self._stack = ExitStack()
