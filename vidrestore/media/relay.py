"""Packets of the other streams on their way into the output: as they are, or put into another text format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidrestore.errors import OutputError, RunError
from vidrestore.media.faults import AV_ERRORS, of_the_disk, reason, write_error
from vidrestore.media.tracks import add_copy
from vidrestore.media.transcode import SoundLane, TextLane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.media.reader import Source
    from vidrestore.media.tracks import Track
    from vidrestore.media.transcode import Lane
    from vidrestore.notes import Notes


class Relay:
    """Muxes everything, in one place that knows what muxers refuse."""

    def __init__(self, out: Any, container: str, source: Source, notes: Notes, subject: str) -> None:
        self._out, self._container, self._source = out, container, source
        self._notes, self._subject = notes, subject
        self._lanes: dict[int, Any] = {}  # input stream -> output stream
        self._changed: dict[int, Lane] = {}  # input stream -> its transcoder
        self._last: dict[int, int] = {}  # output stream -> last dts, in ticks of the packets
        self.sent = 0
        self.fixed = 0

    def add(self, track: Track) -> None:
        """Open the output stream of a track that is kept."""
        index = track.stream.index
        template = self._source.streams[index]
        if track.action == "attach":
            self._attach(track)
        elif track.action == "copy":
            self._lanes[index] = add_copy(self._out, template, self._container)
        elif track.stream.kind == "audio":
            self._changed[index] = SoundLane(self._out, template, track, self._subject)
        else:
            self._changed[index] = TextLane(self._out, template, track)

    def _attach(self, track: Track) -> None:
        """A cover picture in Matroska is an attached file; it comes before the first frame."""
        data = self._source.copied.first_of(track.stream.index)
        png = data.startswith(b"\x89PNG")
        name = track.stream.metadata.get("filename") or f"cover.{'png' if png else 'jpg'}"
        if data:
            self._out.add_attachment(name, f"image/{'png' if png else 'jpeg'}", data)
        else:
            self._notes.warn("cover_dropped", self._source.path, f"{track.stream} dropped: its picture is missing")

    def send(self, packets: list[Any]) -> None:
        """Write packets of the other streams."""
        for packet in packets:
            changed = self._changed.get(packet.stream_index)
            if changed is not None:
                self._mux_all(changed.stream, changed.convert(packet))
                continue
            lane = self._lanes.get(packet.stream_index)
            if lane is None:
                continue
            if lane.type == "audio":
                self._straighten(packet)
            packet.stream = lane
            self._copy(packet)

    def _copy(self, packet: Any) -> None:
        """Write a packet as it came. One that the muxer refuses is damaged: it alone is lost, and that is said."""
        try:
            self._out.mux_one(packet)
            self.sent += 1
        except AV_ERRORS as error:
            if of_the_disk(error):
                raise write_error(self._subject, error) from error
            text = f"damaged packets of stream {packet.stream_index} dropped: {reason(error)}"
            self._notes.warn(f"packet_dropped_{packet.stream_index}", self._source.path, text)

    def finish(self) -> None:
        """Write what transcoders still hold."""
        for lane in self._changed.values():
            self._mux_all(lane.stream, lane.flush())

    def _mux_all(self, stream: Any, packets: Iterator[Any]) -> None:
        try:
            for packet in packets:
                if packet.size:  # FLAC's last word has none: a check sum for headers that can be rewritten
                    packet.stream = stream
                    self.mux(packet)
                    self.sent += 1
        except AV_ERRORS as error:
            raise RunError(self._subject, f"{stream.type} cannot be converted: {reason(error)}") from error

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
            if of_the_disk(error):
                raise write_error(self._subject, error) from error
            what = f"{self._container} refuses a packet of stream {packet.stream_index}: {reason(error)}"
            raise OutputError(self._subject, what) from error
