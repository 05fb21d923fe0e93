"""Packets of the other streams on their way into the output: as they are, or put into another text format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidrestore.errors import OutputError
from vidrestore.media.faults import AV_ERRORS, reason, write_error
from vidrestore.media.tracks import add_copy

if TYPE_CHECKING:
    from vidrestore.media.reader import Source
    from vidrestore.media.tracks import Track
    from vidrestore.notes import Notes


class Relay:
    """Muxes everything, in one place that knows what muxers refuse."""

    def __init__(self, out: Any, container: str, source: Source, notes: Notes, subject: str) -> None:
        self._out, self._container, self._source = out, container, source
        self._notes, self._subject = notes, subject
        self._lanes: dict[int, Any] = {}  # input stream -> output stream
        self._last: dict[int, int] = {}  # output stream -> last dts, in ticks of the packets
        self.sent = 0
        self.fixed = 0

    def add(self, track: Track) -> None:
        """Open the output stream of a track that is kept."""
        template = self._source.streams[track.stream.index]
        self._lanes[track.stream.index] = add_copy(self._out, template, self._container)

    def send(self, packets: list[Any]) -> None:
        """Write packets of the other streams."""
        for packet in packets:
            lane = self._lanes.get(packet.stream_index)
            if lane is None:
                continue
            if lane.type == "audio":
                self._straighten(packet)
            packet.stream = lane
            self.mux(packet)
            self.sent += 1

    def finish(self) -> None:
        """What transcoders still hold."""

    def _straighten(self, packet: Any) -> None:
        """Sound must be decoded in rising order; broken recordings repeat or drop a tick."""
        last = self._last.get(packet.stream_index)
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return
        if last is not None and stamp <= last:
            self.fixed += 1
            stamp = last + 1
            packet.dts = stamp
            packet.pts = stamp if packet.pts is None else max(packet.pts, stamp)
        self._last[packet.stream_index] = stamp

    def mux(self, packet: Any) -> None:
        """Write one packet. Raises OutputError (5) or ClosedPipe (141)."""
        try:
            self._out.mux_one(packet)
        except AV_ERRORS as error:
            if isinstance(error, OSError):
                raise write_error(self._subject, error) from error
            what = f"{self._container} refuses a packet of stream {packet.stream_index}: {reason(error)}"
            raise OutputError(self._subject, what) from error
