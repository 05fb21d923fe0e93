"""One pass over an opened input: the film's packets decoded, all others set aside for the writer."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import av

from vidrestore.errors import InputMediaError, RunError
from vidrestore.media.copied import Copied
from vidrestore.media.faults import AV_ERRORS, reason
from vidrestore.media.timing import Splices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.media.probe import StreamInfo
    from vidrestore.media.reader import ReadSettings
    from vidrestore.notes import Notes

_LATE = Fraction(10)  # seconds that other streams may lie behind the pictures in a file


class PictureDecoder(Protocol):
    """Decodes one stream."""

    def decode(self, packet: Any) -> list[Any]:
        """The pictures that are ready once this packet has gone in, or all that are left (None). Raises one of libav's
        errors for a packet that is damaged."""
        ...

    def flush_buffers(self) -> None:
        """Forget what went in: the film goes on elsewhere."""
        ...


OpenDecoder = Callable[[Any, "StreamInfo", str], PictureDecoder]  # PyAV's stream, what it is, the film's name


class Feed:
    """Demuxes and decodes; knows nothing of frames. All times in seconds are exact fractions."""

    def __init__(
        self,
        path: str,
        container: Any,
        stream: StreamInfo,
        notes: Notes,
        settings: ReadSettings,
        open_decoder: OpenDecoder,
    ) -> None:
        self.copied = Copied()
        self.handed_out = 0  # frames that the reader has given away: where in the film other packets belong
        self.bad_packets = 0
        self.broke = ""  # why the input ended before its end
        self.ends: dict[int, Fraction] = {}  # of every stream, on the file's clock
        self.last_fault = ""
        self.shift: Fraction | None = None  # subtracted from every stamp; None until decided
        self.limit: Fraction | None = None  # end of the cut on the output's clock
        self._path, self._container, self._notes, self._settings = path, container, notes, settings
        self._video = stream.index
        self._family = container.format.name.split(",")[0]
        self._sound = {s.index for s in container.streams if s.type == "audio"}
        self._cut = settings.start is not None
        self._splices = Splices(notes, path)
        self._early: list[Any] = []
        self._keyless: int | None = 0  # packets of the film before its first key frame; None once that has come
        self._decoder = open_decoder(container.streams[stream.index], stream, path)

    def seek(self, seconds: Fraction) -> bool:
        """Go to the key frame at or before a time of the file's clock and forget what was read. False if it cannot."""
        try:
            self._container.seek(int(seconds * av.time_base), backward=True)
        except AV_ERRORS:
            return False
        self._decoder.flush_buffers()
        self._early.clear()
        self.ends.clear()
        self._splices = Splices(self._notes, self._path)
        return True

    def pictures(self) -> Iterator[Any]:
        """Decoded pictures in the decoder's order, which is the film's."""
        for packet in self._packets():
            if packet.stream_index != self._video:
                self._carry(packet)
                continue
            self._look_for_key(packet)
            if packet.has_sidedata("encryption_info"):
                raise InputMediaError(self._path, "stream is encrypted")
            if packet.is_corrupt and self._family == "mov":
                # The last one, cut off by the file's end. An error in a decoder's thread would take sound frames along.
                self.broke = "the last packet is cut off"
                continue
            yield from self._decode(packet)
        while pictures := self._decode(None):
            yield from pictures

    def _look_for_key(self, packet: Any) -> None:
        """A recording that begins between two key frames: what is missing at its start is missing in the file."""
        if self._keyless is None or self._cut:
            return
        if not packet.is_keyframe:
            self._keyless += 1
            return
        if self._keyless:
            what = f"its first {self._keyless} pictures come before any key frame"
            self._notes.warn("no_key_frame", self._path, f"{what}; those that cannot be decoded are left out")
        self._keyless = None

    def settle(self, shift: Fraction, limit: Fraction | None) -> None:
        """Decide the shift, and hand on the packets that were read before it was known."""
        self.shift, self.limit = shift, limit
        early, self._early = self._early, []
        for packet in early:
            self._carry(packet)

    def finish_copies(self) -> None:
        """After the last picture of a cut: read on until the sound has come to its end too."""
        if not self._settings.copy or self.limit is None or self.shift is None:
            return
        limit = self.limit + self.shift
        for packet in self._packets():
            if packet.stream_index != self._video:
                self._carry(packet)
            elif packet.dts is not None and packet.dts * packet.time_base > limit + _LATE:
                break
            if all(i in self.ends and self.ends[i] >= limit for i in self._sound):
                break

    def fault(self, kind: str, text: str) -> None:
        """A fault of the input: noted, or an end of the run under ``strict``."""
        if self._settings.strict:
            raise RunError(self._path, text, "run without --strict to carry on")
        self._notes.warn(kind, self._path, text)

    def _packets(self) -> Iterator[Any]:
        """Demuxed packets on one clock, without the markers of the end. A broken input ends here and says why."""
        wanted = [s for s in self._container.streams if self._settings.copy or s.index == self._video]
        try:
            for packet in self._container.demux(wanted):
                if packet.size:
                    self._splices.correct(packet, steady=packet.stream.type in ("video", "audio"))
                    self._note_end(packet)
                    yield packet
        except EOFError:
            return
        except AV_ERRORS as error:
            self.broke = reason(error)

    def _decode(self, packet: Any) -> list[Any]:
        try:
            pictures: list[Any] = self._decoder.decode(packet)
            return pictures
        except EOFError:
            return []
        except PermissionError as error:
            raise InputMediaError(self._path, "stream is encrypted (the decoder may not read it)") from error
        except AV_ERRORS as error:
            self.last_fault = reason(error)
            if self.shift is not None:  # before the first picture: a recording that begins off a key frame
                self.bad_packets += 1
                known = packet is not None and packet.pts is not None
                where = f" at {float(packet.pts * packet.time_base):.2f} s" if known else ""
                self.fault("bad_packet", f"a packet{where} cannot be decoded: {self.last_fault}")
            return []

    def _note_end(self, packet: Any) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            end = (stamp + (packet.duration or 0)) * packet.time_base
            self.ends[packet.stream_index] = max(end, self.ends.get(packet.stream_index, end))

    def _carry(self, packet: Any) -> None:
        if self.shift is None:
            self._early.append(packet)
            return
        ticks = round(self.shift / packet.time_base)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
        if self._inside(packet):
            self.copied.put(self.handed_out, packet)

    def _inside(self, packet: Any) -> bool:
        """Whether a packet lies in the cut; a caption that hangs over its beginning is shortened."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return True
        if self.limit is not None and stamp * packet.time_base >= self.limit:
            return False
        if not self._cut or stamp >= 0:
            return True
        over = stamp + (packet.duration or 0)
        if packet.stream.type != "subtitle" or over <= 0:
            return False
        packet.pts = packet.dts = 0
        packet.duration = over
        return True
