"""Entries of a run's record by number, of which those that are final lie packed: a film of hours has many thousands."""

from __future__ import annotations

import pickle
import zlib
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_PAGE: Final = 64  # entries; fewer would hardly pack


class Roll(Generic[T]):
    """In the order of their coming."""

    def __init__(self) -> None:
        self._open: dict[int, T] = {}
        self._pages: list[bytes] = []
        self._packed = 0

    def __len__(self) -> int:
        return self._packed + len(self._open)

    def setdefault(self, number: int, entry: T) -> T:
        """The entry of a number that may still change; this one where there is none."""
        return self._open.setdefault(number, entry)

    def get(self, number: int) -> T | None:
        """The entry of a number that may still change."""
        return self._open.get(number)

    def close(self) -> None:
        """None of the entries that are here now will change any more."""
        if len(self._open) < _PAGE:
            return
        self._pages.append(zlib.compress(pickle.dumps(list(self._open.values()))))
        self._packed += len(self._open)
        self._open = {}

    def values(self) -> Iterator[T]:
        """All of them; final ones as copies."""
        for page in self._pages:
            yield from pickle.loads(zlib.decompress(page))  # our own memory, nobody else's
        yield from self._open.values()
