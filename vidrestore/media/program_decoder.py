"""Films that another program decodes.

It gets the film's packets in Matroska, which holds every codec, numbered in ticks as if these were its milliseconds; it
gives bare pictures in NUT, which keeps the numbers.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final

import av

from vidrestore.errors import InputMediaError, ResourceError, RunError
from vidrestore.media.child import Child
from vidrestore.media.faults import AV_ERRORS
from vidrestore.media.formats import planar, reshape
from vidrestore.media.planes import scaler
from vidrestore.media.reader import PyAVDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from vidrestore.media.probe import StreamInfo
    from vidrestore.media.reader import ReadSettings, Source
    from vidrestore.notes import Notes

_BEFORE_IT, _BEHIND_IT = 8, 8  # packets and pictures that wait on either side of a decoder
_PIPE_CLOCK: Final = Fraction(1, 1000)  # Matroska's
_PACKETS: Final = {"avoid_negative_ts": "disabled", "flush_packets": "1", "cluster_time_limit": "0"}
_AT_ONCE: Final = {"probesize": "32", "analyzeduration": "0"}


def film_reader(command: Callable[[str], Sequence[str]], subject: str) -> Callable[..., AbstractContextManager[Any]]:
    """A decoder plugin's ``open`` for films that a program decodes.

    command: of a pixel format that pictures shall have: the program with its arguments, reading the film alone as
    Matroska from standard input and writing bare pictures as NUT to standard output, times as they are. subject: who
    it is in messages.
    """

    @contextmanager
    def opened(source: str, notes: Notes, *, settings: ReadSettings | None = None) -> Iterator[Source]:
        with ExitStack() as stack:

            def made(stream: Any, info: StreamInfo, path: str) -> ProgramDecoder:
                decoder = ProgramDecoder(stream, path, command, subject)
                stack.callback(decoder.close)
                return decoder

            reader = PyAVDecoder(PyAVDecoder.Options(threads=0))
            yield stack.enter_context(reader.open(source, notes, settings=settings, open_decoder=made))

    return opened


class ProgramDecoder:
    """One film through a program's decoder. Two threads keep both pipes moving; what lies between is bounded.

    The first picture is libav's own: it carries what a pipe of bare pictures cannot (colour, turn, HDR, fields).
    """

    def __init__(self, stream: Any, path: str, command: Callable[[str], Sequence[str]], subject: str) -> None:
        self._stream, self._path, self._subject = stream, path, subject
        context = stream.codec_context
        if context is None or context.pix_fmt is None:
            raise InputMediaError(path, "its pictures are of no kind that libav knows", "convert it with ffmpeg first")
        planar(context.pix_fmt, path)  # refuses what is no picture of ours
        self._argv = command(context.pix_fmt)
        self._run: _Decoding | None = None

    def decode(self, packet: Any) -> list[Any]:
        """Raises ResourceError (7) where the program does not work, RunError (6) where it fails on the way."""
        if self._run is None:
            if packet is None:
                return []
            self._run = _Decoding(self._stream, self._path, self._argv, self._subject)
        return self._run.decode(packet)

    def flush_buffers(self) -> None:
        self.close()

    def close(self) -> None:
        """End the program."""
        if self._run is not None:
            self._run.close()
            self._run = None


class _Decoding:
    """The program while it runs."""

    def __init__(self, stream: Any, path: str, argv: Sequence[str], subject: str) -> None:
        self._path, self._subject = path, subject
        self._time_base = stream.time_base
        self._child = Child(argv, subject)
        self._out: Any = av.open(f"pipe:{self._child.stdin.fileno()}", "w", format="matroska", options=_PACKETS)
        self._lane = self._out.add_stream_from_template(stream, opaque=True)
        self._scout: Any = stream.codec_context  # decodes up to its first picture
        self._first: Any = None
        self._base: int | None = None  # tick that is 0 in the pipe
        self._heard = 0  # lines of the program's that have been passed on
        self._given = 0
        self._kept: list[Any] = []
        self._durations: dict[int, int] = {}  # of packets whose pictures are still to come
        self._moves = Condition()
        self._waiting: deque[Any] = deque()  # packets; None: no more
        self._pictures: deque[Any] = deque()
        self._ended = False  # nothing more will come
        self._stopped = False
        self._threads = [Thread(target=t, name=t.__name__, daemon=True) for t in (self._feed, self._take)]
        for thread in self._threads:
            thread.start()

    def decode(self, packet: Any) -> list[Any]:
        if packet is not None:
            self._look(packet)
        with self._moves:
            self._waiting.append(None if packet is None else self._relabelled(packet))
            self._moves.notify_all()
            found = self._collected()
            while not self._ended and (packet is None or len(self._waiting) > _BEFORE_IT):
                self._moves.wait()
                found += self._collected()
        self._kept += [self._dressed(picture) for picture in found]
        self._judge(last=packet is None)
        ready, self._kept = self._kept, []
        self._given += len(ready)
        return ready

    def close(self) -> None:
        with self._moves:
            self._stopped = True
            self._moves.notify_all()
        self._child.kill()
        for thread in self._threads:
            thread.join()
        self._child.close()

    def _collected(self) -> list[Any]:
        found = list(self._pictures)
        self._pictures.clear()
        self._moves.notify_all()
        return found

    def _look(self, packet: Any) -> None:
        """Decode here until the first picture is there."""
        if self._scout is None:
            return
        try:
            self._first = next(iter(self._scout.decode(packet)), None)
        except AV_ERRORS:
            self._first = None
        if self._first is not None:
            self._scout = None

    def _relabelled(self, packet: Any) -> Any:
        """The packet on the pipe's clock, whose thousandths of a second are the film's ticks."""
        if packet.pts is None:
            raise InputMediaError(self._path, "its packets have no times", "use decode=pyav")
        if self._base is None:
            self._base = packet.pts if packet.dts is None else min(packet.pts, packet.dts)
        self._durations[packet.pts] = packet.duration or 0
        packet.pts -= self._base
        packet.dts = None if packet.dts is None else packet.dts - self._base
        packet.stream, packet.time_base = self._lane, _PIPE_CLOCK
        return packet

    def _dressed(self, picture: Any) -> Any:
        """The picture on the film's clock, with the colour tags of the first."""
        assert self._base is not None
        pts = round(picture.pts * picture.time_base / _PIPE_CLOCK) + self._base
        first = self._first
        duration = self._durations.pop(pts, 0)
        self._durations = {t: d for t, d in self._durations.items() if t > pts}  # pictures come in order
        if first is not None and first.pts == pts:
            return first
        if first is not None:
            picture.color_range, picture.color_primaries = first.color_range, first.color_primaries
            picture.color_trc, picture.colorspace = first.color_trc, first.colorspace
            if picture.format.name != first.format.name:  # NUT has one name for both ranges
                picture = reshape(scaler("program"), picture, None, first.format.name, (picture.width, picture.height))
        picture.pts, picture.time_base, picture.duration = pts, self._time_base, duration
        return picture

    def _judge(self, *, last: bool) -> None:
        """Pass on what the program said: its end, or a packet that it could not decode."""
        if self._ended and (failed := self._child.wait() or ("" if last else f"{self._child.name} ended early")):
            if not self._given and not self._kept:
                raise ResourceError(self._subject, failed, "use decode=pyav")
            raise RunError(self._path, failed)
        if len(self._child.said) > self._heard and not (last and self._kept):  # pictures first, where no call follows
            self._heard = len(self._child.said)
            raise ValueError(self._child.complaint)

    # -- threads ---------------------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            while not self._stopped:
                with self._moves:
                    self._moves.wait_for(lambda: self._waiting or self._stopped)
                    packet = None if self._stopped else self._waiting.popleft()
                    self._moves.notify_all()
                if packet is None:
                    break
                self._out.mux_one(packet)
        except AV_ERRORS:
            pass  # it has gone; its end says why
        finally:
            with suppress(*AV_ERRORS):
                self._out.close()
            self._child.stdin.close()

    def _take(self) -> None:
        try:
            with av.open(f"pipe:{self._child.stdout.fileno()}", format="nut", options=_AT_ONCE) as bare:
                for picture in bare.decode(video=0):
                    with self._moves:
                        self._moves.wait_for(lambda: len(self._pictures) < _BEHIND_IT or self._stopped)
                        if self._stopped:
                            break
                        self._pictures.append(picture)
                        self._moves.notify_all()
        except AV_ERRORS:
            pass
        finally:
            with self._moves:
                self._ended = True
                self._moves.notify_all()
