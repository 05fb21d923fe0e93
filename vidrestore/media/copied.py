"""Everything that travels beside the pictures: the packets of all other streams, in one pass over the input."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from threading import Lock
from typing import Any


class Copied:
    """Packets on their way from the reader to the writer, each with the frame it came before.

    The reader appends in the order of the file, the writer takes what precedes the frame it writes; both may be
    in different threads. What is held is what the frames between them span.
    """

    def __init__(self) -> None:
        self.begins: dict[int, Fraction] = {}  # stream -> seconds at which its first packet is due
        self._packets: deque[tuple[int, Any]] = deque()
        self._lock = Lock()

    def put(self, before: int, packet: Any) -> None:
        """Append a packet that was read before frame number ``before`` came out."""
        if packet.pts is not None:
            self.begins.setdefault(packet.stream_index, packet.pts * packet.time_base)
        with self._lock:
            self._packets.append((before, packet))

    def take(self, upto: int | None = None) -> list[Any]:
        """Remove and give the packets read before frame number ``upto`` or earlier; all of them for None."""
        out = []
        with self._lock:
            while self._packets and (upto is None or self._packets[0][0] <= upto):
                out.append(self._packets.popleft()[1])
        return out

    def first_of(self, stream: int) -> bytes:
        """The bytes of the first waiting packet of a stream; nothing where none waits."""
        with self._lock:
            return next((bytes(p) for _, p in self._packets if p.stream_index == stream), b"")

    def __len__(self) -> int:
        return len(self._packets)
