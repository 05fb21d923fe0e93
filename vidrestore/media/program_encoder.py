"""Films that another program encodes.

It gets bare pictures in NUT, which keeps times to the tick, and gives the coded film in NUT, and only that: all other
streams are copied beside it as ever.
"""

from __future__ import annotations

import io
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import av

from vidrestore.errors import EncoderFailed, OutputError, UsageError
from vidrestore.media.child import Child
from vidrestore.media.encoder import describe, refused
from vidrestore.media.faults import AV_ERRORS, reason
from vidrestore.media.formats import planar
from vidrestore.media.writer import PyAVEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from fractions import Fraction

    from vidrestore.media.encoding import Coding, VideoPlan
    from vidrestore.media.probe import MediaInfo
    from vidrestore.types import Layout

_TRIED: Final = 4  # blank pictures that tell whether a program takes the settings, and the head of what it writes
_NO_OPTION: Final = ("Unrecognized option", "Option not found", "No such", "Unable to parse", "Undefined constant")


@dataclass(frozen=True, slots=True)
class Bare:
    """What pictures in a pipe are, beyond what NUT says of them."""

    pix_fmt: str
    layout: Layout  # its colour numbers and fields
    info: MediaInfo


def film_writer(
    known: Callable[[str], Coding], command: Callable[[VideoPlan, Bare], Sequence[str]]
) -> Callable[..., AbstractContextManager[Any]]:
    """An encoder plugin's ``open`` for films that a program codes.

    known: an encoder by ffmpeg's name; raises UsageError (2). command: the program with its arguments, reading bare
    pictures as NUT from standard input and writing the coded film as NUT to standard output, times as they are.
    """
    return partial(PyAVEncoder().open, coders=_ProgramCoders(known, command))


@dataclass(frozen=True, slots=True)
class _ProgramCoders:
    known: Callable[[str], Coding]
    command: Callable[[VideoPlan, Bare], Sequence[str]]

    def coder(self, plan: VideoPlan, subject: str) -> ProgramCoder:
        return ProgramCoder(plan, subject, self.command)


class ProgramCoder:
    """One film through a program's encoder."""

    def __init__(self, plan: VideoPlan, subject: str, command: Callable[[VideoPlan, Bare], Sequence[str]]) -> None:
        self.pix_fmt = planar(plan.pix_fmt, subject)
        self.captions = False  # a pipe of pictures has no place for them
        self._plan, self._subject, self._command = plan, subject, command
        self._child: Child | None = None
        self._head: Any = None
        self._sent: deque[tuple[int, int]] = deque()  # pts and duration of pictures whose packets are still to come
        self._held: list[Any] = []  # first packets, as long as their decoding times are not known
        self._arrived: SimpleQueue[Any] = SimpleQueue()
        self._shift: int | None = None

    # -- opening ---------------------------------------------------------------------------------------

    def add(self, out: Any, container: str, info: MediaInfo, layout: Layout, timecode: str | None) -> Any:
        """Let the program code a few blank pictures: it refuses now what it refuses, and tells the film's head."""
        self._bare, self._time_base = Bare(self.pix_fmt, layout, info), info.time_base
        self._head = self._tried()
        try:
            video = out.add_stream_from_template(self._head.streams.video[0], opaque=True)
        except ValueError as error:
            raise OutputError(
                self._subject, f"{container} cannot hold {self._plan.encoder}", "use -o out.mkv"
            ) from error
        describe(video, self._plan, container, info, layout, timecode)
        self._video = video
        return video

    def _tried(self) -> Any:
        child = Child(self._command(self._plan, self._bare), self._subject)
        coded = io.BytesIO()
        reader = Thread(target=lambda: coded.write(child.stdout.read()), daemon=True)
        reader.start()
        into = _Bare(child, self._plan, self._bare)
        try:
            period = max(1, round(1 / (self._bare.info.rate * self._time_base)))
            for i in range(_TRIED):
                into.write(_blank(self._plan, self.pix_fmt, i * period, period, self._time_base))
            into.finish()
        except AV_ERRORS:
            pass  # it has gone; its own words are better than ours
        finally:
            into.close()
        failed = child.wait()
        reader.join()
        child.close()
        if failed:
            raise self._refusal(failed)
        return av.open(io.BytesIO(coded.getvalue()), format="nut")

    def _refusal(self, said: str) -> UsageError | OutputError:
        if any(words in said for words in _NO_OPTION):
            return UsageError("encoder", f"{self._plan.encoder}: {said}")
        return refused(self._subject, self._plan, said)

    def open(self) -> None:
        self._child = Child(self._command(self._plan, self._bare), self._subject)
        self._into = _Bare(self._child, self._plan, self._bare)
        self._reader = Thread(target=self._read, name="coded film", daemon=True)
        self._reader.start()

    # -- coding ----------------------------------------------------------------------------------------

    def encode(self, picture: av.VideoFrame | None) -> list[Any]:
        """Raises EncoderFailed (6) in the program's words."""
        assert self._child is not None
        try:
            if picture is not None:
                self._sent.append((picture.pts or 0, picture.duration))
                self._into.write(picture)
            else:
                self._into.finish()
                self._into.close()
        except AV_ERRORS as error:
            self._into.close()
            raise EncoderFailed(self._subject, self._child.wait() or f"{self._child.name}: {reason(error)}") from error
        if picture is None:
            self._reader.join()
            if failed := self._child.wait():
                raise EncoderFailed(self._subject, failed)
        return self._ready(last=picture is None)

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._into.close()
            self._reader.join()
            self._child.close()
            self._child = None
        if self._head is not None:
            self._head.close()
            self._head = None

    def _read(self) -> None:
        """In a thread of its own: take what comes, so that the program never waits for us."""
        assert self._child is not None
        try:
            with av.open(f"pipe:{self._child.stdout.fileno()}", format="nut") as coded:
                extra = coded.streams.video[0].codec_context.extradata
                if extra != self._head.streams.video[0].codec_context.extradata:
                    self._arrived.put(EncoderFailed(self._subject, f"{self._plan.encoder} changed its head on the way"))
                packet: Any
                for packet in coded.demux(video=0):
                    if packet.size:
                        ticks = packet.time_base / self._time_base  # NUT chooses its own where it likes to
                        packet.pts = round(packet.pts * ticks)
                        packet.dts = None if packet.dts is None else round(packet.dts * ticks)
                        self._arrived.put(packet)
        except AV_ERRORS:
            return  # its end says why

    def _ready(self, *, last: bool) -> list[Any]:
        """Packets that have come, on the film's clock. NUT moves a film whose decoding begins before 0 as a whole; it
        says no decoding times before the first picture, where they are those of an encoder: as far before it as the
        pictures are shown after it."""
        while True:
            try:
                packet = self._arrived.get_nowait()
            except Empty:
                break
            if isinstance(packet, EncoderFailed):
                raise packet
            self._held.append(packet)
        known = next((i for i, p in enumerate(self._held) if p.dts is not None), len(self._held))
        if known == len(self._held) and not last:
            return []
        ready, self._held = self._held, []
        if self._shift is None and ready:
            self._shift = ready[0].pts - self._sent[0][0]
            self._begin(ready[:known], ready[known] if known < len(ready) else None)
        shown = dict(self._sent)
        for packet in ready:
            packet.pts -= self._shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - self._shift
            if packet.pts not in shown:
                raise EncoderFailed(self._subject, f"{self._plan.encoder} moved a picture in time")
            packet.duration, packet.time_base = shown.pop(packet.pts), self._time_base
            packet.stream = self._video
        self._sent = deque(sorted(shown.items()))
        return ready

    def _begin(self, unknown: list[Any], first: Any) -> None:
        """Decoding times of the first packets."""
        assert self._shift is not None
        if first is None:
            return
        times = [pts for pts, _ in self._sent]
        for i, packet in enumerate(unknown):
            packet.dts = first.dts - (times[len(unknown)] - times[i])


class _Bare:
    """Pictures on their way into a program."""

    def __init__(self, child: Child, plan: VideoPlan, bare: Bare) -> None:
        self._child = child
        self._out = av.open(f"pipe:{child.stdin.fileno()}", "w", format="nut", options={"flush_packets": "1"})
        self._stream: Any = self._out.add_stream("rawvideo", rate=bare.info.rate)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = plan.width, plan.height, bare.pix_fmt
        context.time_base, context.framerate = bare.info.time_base, bare.info.rate

    def write(self, picture: av.VideoFrame) -> None:
        for packet in self._stream.encode(picture):
            self._out.mux_one(packet)

    def finish(self) -> None:
        for packet in self._stream.encode(None):
            self._out.mux_one(packet)
        self._out.close()

    def close(self) -> None:
        """End the program's input, as it stands."""
        with suppress(*AV_ERRORS):
            self._out.close()
        self._child.stdin.close()


def _blank(plan: VideoPlan, pix_fmt: str, pts: int, duration: int, time_base: Fraction) -> av.VideoFrame:
    picture = av.VideoFrame(plan.width, plan.height, pix_fmt)
    for plane in picture.planes:
        plane.update(bytes(plane.buffer_size))
    picture.pts, picture.duration, picture.time_base = pts, duration, time_base
    return picture
