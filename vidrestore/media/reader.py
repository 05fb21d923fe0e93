"""Films read frame by frame: native planes, repaired times, and all other packets beside them in one pass."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import av
import av.error
from pydantic import BaseModel, ConfigDict, Field

from vidrestore.errors import InputMediaError, PartialInput, RunError, VidrestoreError
from vidrestore.media import probe
from vidrestore.media.copied import Copied
from vidrestore.media.faults import AV_ERRORS, reason
from vidrestore.media.opening import STILL_FORMATS, open_input
from vidrestore.media.pictures import Pictures
from vidrestore.media.timing import Clock, Splices
from vidrestore.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.media.probe import MediaInfo
    from vidrestore.notes import Notes

_LOOK = 3  # pictures decoded before anything is decided: two steps between them tell the rate
_LOOK_MOST = 64  # ... and how many more while none has a time stamp
_RAW = frozenset(
    {"h264", "hevc", "vvc", "mpegvideo", "m4v", "h263", "h261", "obu", "cavsvideo", "dirac", "vc1", "avs2"}
)
# Containers whose declared duration is believed when the data ends before it.
_HONEST = frozenset({"mov", "matroska", "avi", "flv", "wtv", "asf"})
_LATE = Fraction(10)  # seconds that other streams may lie behind the pictures in a file


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """What to read of a film and how forgiving to be."""

    start: Fraction | float | None = None  # seconds from the film's beginning; output begins there
    end: Fraction | float | None = None  # seconds from the film's beginning; the frame at it is not read
    video_stream: int | None = None  # n-th film of the file, from 0; None: the largest picture
    rate: Fraction | None = None  # number the frames at this rate, for raw streams without times
    assume_color: str | None = None  # "bt709:limited" and the like, against missing or wrong tags
    strict: bool = False  # fail (6) at the first fault instead of repairing
    keep_going: bool = False  # an input that breaks off is a note, not a failure
    copy: bool = True  # collect the packets of the other streams


class PyAVDecoder:
    """Reads whatever libav reads."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        threads: int = Field(0, ge=0, le=256, description="threads of the decoder; 0 = one a core")

    def __init__(self, options: Any) -> None:
        self.options: PyAVDecoder.Options = options

    @contextmanager
    def open(self, source: str, notes: Notes, *, settings: ReadSettings | None = None) -> Iterator[Source]:
        """Open a path, or standard input for ``-``. The first pictures are decoded at once, so that what cannot
        be read fails here: InputAccessError (3), InputMediaError (4)."""
        container = open_input(source)
        try:
            film = Source(source, container, notes, settings or ReadSettings(), self.options.threads)
            try:
                yield film
            finally:
                film.close()
        finally:
            container.close()


def read_info(source: str, notes: Notes, settings: ReadSettings | None = None) -> MediaInfo:
    """Look at a file once. Raises InputAccessError (3) and InputMediaError (4)."""
    with PyAVDecoder(PyAVDecoder.Options(threads=0)).open(source, notes, settings=settings) as film:
        return film.info


class Source:
    """An opened film: ``info``, then ``frames()`` once; ``copied`` fills while frames are taken."""

    _honest: ClassVar[frozenset[str]] = _HONEST

    def __init__(self, path: str, container: Any, notes: Notes, settings: ReadSettings, threads: int) -> None:
        self.path, self.notes, self.settings = path, notes, settings
        self.copied = Copied()
        self.frames_in = 0  # frames handed out
        self.corrupt_frames = 0
        self.bad_packets = 0
        self.failure: PartialInput | None = None  # known when frames() has ended
        self._container = container
        self._formats = tuple(container.format.name.split(","))
        self._streams = tuple(probe.stream_info(s) for s in container.streams)
        index = probe.choose_video(container, self._streams, settings.video_stream, path)
        self._stream = container.streams[index]
        self._decoder = self._open_decoder(threads)
        self._splices = Splices(notes, path)
        self._shift: Fraction | None = None  # seconds subtracted from every time stamp; None until decided
        self._early: list[Any] = []
        self._ends: dict[int, Fraction] = {}  # seconds, of every stream
        self._broke = ""
        self._origin = Fraction(container.start_time or 0, av.time_base)
        self._start = None if settings.start is None else Fraction(settings.start)
        self._end = None if settings.end is None else Fraction(settings.end)
        self._prime()

    @property
    def streams(self) -> tuple[Any, ...]:
        """PyAV's streams, as templates for copies."""
        return tuple(self._container.streams)

    @property
    def ts_fixed(self) -> int:
        """Time stamps that had to be repaired."""
        return self._clock.fixed

    @property
    def shift(self) -> Fraction:
        """Seconds that were subtracted from every time stamp of every stream."""
        return self._shift or Fraction(0)

    def frames(self) -> Iterator[Frame]:
        """Every picture in the order of the film. When it ends, ``failure`` says whether the input broke off.

        Raises RunError (6) under ``strict`` at the first fault; PartialInput is never raised here.
        """
        for picture in self._stamped:
            if self._end is not None and picture.pts * self._clock.time_base >= self._limit:
                self._finish_copies()
                break
            frame = self._pictures.frame(picture, self.frames_in)
            if frame.corrupt:
                self.corrupt_frames += 1
                self._fault("corrupt_frame", f"frame {frame.index} ({frame.seconds:.2f} s) is damaged")
            self.frames_in += 1
            yield frame
        else:
            self._judge_end()

    def close(self) -> None:
        """Let go of decoder and file."""
        self._stamped.close()

    # -- opening ---------------------------------------------------------------------------------------

    def _open_decoder(self, threads: int) -> Any:
        context = self._stream.codec_context
        info = self._streams[self._stream.index]
        if context is None:
            raise InputMediaError(self.path, f"no decoder for codec {info.codec} ({info.tag or 'no tag'})")
        if info.tagged("alpha_mode") == "1" and info.codec in ("vp8", "vp9"):
            context = av.CodecContext.create({"vp8": "libvpx", "vp9": "libvpx-vp9"}[info.codec], "r")  # keeps alpha
        context.thread_type = "AUTO"
        context.thread_count = threads
        try:
            context.open(strict=False)
        except AV_ERRORS as error:
            raise InputMediaError(self.path, f"the {info.codec} decoder refuses it: {reason(error)}") from error
        return context

    def _prime(self) -> None:
        """Decode the first pictures and settle what they tell: format, rate, clock, shift."""
        self._seek()
        raw = self._raw_pictures()
        head: list[Any] = []
        for picture in raw:
            head.append(picture)
            if len(head) >= _LOOK and (any(p.pts is not None for p in head) or len(head) >= _LOOK_MOST):
                break
        if not head:
            raise self._nothing_decoded()
        rate = self._rate(head)
        timeless = all(p.pts is None and p.dts is None for p in head)
        regular = self.settings.rate is not None or timeless or self._formats[0] in _RAW
        if regular and self.settings.rate is None and self._formats[0] not in STILL_FORMATS:
            fps = f"{float(rate):.5g}"
            self.notes.warn("no_timestamps", self.path, f"no timestamps: assuming {fps} fps (set -r)")
        time_base = 1 / rate if regular else Fraction(self._stream.time_base)
        self._number_backwards(head, rate, time_base)
        self._clock = Clock(time_base, rate, self.notes, self.path, regular=regular, strict=self.settings.strict)
        self._pictures = Pictures(self.path, self.notes, self._stream, self._streams[self._stream.index], self.settings)
        self._pictures.look(head[0])
        self.info = self._describe(head[0], rate, time_base, still=self._is_still(head))
        self._settle_shift(head[0], regular)
        self._stamped = self._stamp(chain(head, raw))
        self._release_early()

    def _seek(self) -> None:
        if not self._start or self._formats[0] in _RAW or self.path == "-":
            return
        wanted = int((self._origin + self._start) * av.time_base)
        try:
            self._container.seek(wanted, backward=True)
        except AV_ERRORS:
            return  # not seekable: decoded from the beginning

    def _rate(self, head: list[Any]) -> Fraction:
        if self.settings.rate is not None:
            return Fraction(self.settings.rate)
        stamps = [p.pts for p in head if p.pts is not None]
        return probe.sane_rate(self._stream, [b - a for a, b in pairwise(stamps)])

    @staticmethod
    def _number_backwards(head: list[Any], rate: Fraction, time_base: Fraction) -> None:
        """Give leading pictures without a time stamp the times just before the first that has one."""
        known = next((i for i, p in enumerate(head) if p.pts is not None), 0)
        for i in range(known):
            head[i].pts = head[known].pts - round((known - i) / (rate * time_base))

    def _is_still(self, head: list[Any]) -> bool:
        return len(head) == 1 and self._formats[0] in STILL_FORMATS

    def _nothing_decoded(self) -> VidrestoreError:
        codec = self._streams[self._stream.index].codec
        if self.path == "-" and "mov" in self._formats and self._broke:
            remedy = "write it with -movflags +faststart, or use mkv, nut or ts"
            return InputMediaError("-", "mp4 on a pipe needs moov first", remedy)
        why = self._broke or self._last_fault
        return InputMediaError(self.path, f"no frames: {codec} cannot be decoded ({why})" if why else "no frames")

    _last_fault = ""

    def _describe(self, first: Any, rate: Fraction, time_base: Fraction, *, still: bool) -> MediaInfo:
        container, stream, look = self._container, self._stream, self._pictures
        duration = container.duration
        return probe.MediaInfo(
            path=self.path,
            formats=self._formats,
            streams=self._streams,
            video=stream.index,
            codec=self._streams[stream.index].codec,
            profile=stream.codec_context.profile or "",
            layout=look.layout,
            pix_fmt=first.format.name,
            rate=rate,
            time_base=time_base,
            duration=None if duration is None or duration <= 0 or still else Fraction(duration, av.time_base),
            frames=1 if still else stream.frames or None,
            matrix=look.matrix,
            start_time=self._origin,
            field_order=look.field_order,
            hdr=probe.hdr_of(first),
            still=still,
            sar=Fraction(stream.sample_aspect_ratio) if stream.sample_aspect_ratio else None,
            metadata=dict(container.metadata),
            chapters=tuple(container.chapters()),
            bit_rate=stream.codec_context.bit_rate,
        )

    def _settle_shift(self, first: Any, regular: bool) -> None:
        """One shift for all streams: a broadcast's clock begins anywhere; a cut begins at 0; no frame lies before 0."""
        begins = Fraction(0) if regular or first.pts is None else first.pts * self._clock.time_base
        broadcast = self._container.format.flags & av.format.Flags.ts_discont.value
        shift = self._origin if broadcast or self._formats[0] == "wtv" else Fraction(0)
        if self._start is not None:
            shift = self._origin + self._start
        elif regular:
            shift = Fraction(0)
        elif begins < shift:
            shift = begins
        self._shift = shift
        self._limit = self._end - (self._start or 0) if self._end is not None else Fraction(0)

    # -- reading ---------------------------------------------------------------------------------------

    def _packets(self) -> Iterator[Any]:
        """Demuxed packets, without the markers of the end. A broken input ends here and says why."""
        wanted = [s for s in self._container.streams if self.settings.copy or s.index == self._stream.index]
        try:
            for packet in self._container.demux(wanted):
                if packet.size:
                    yield packet
        except EOFError:
            return
        except AV_ERRORS as error:
            self._broke = reason(error)

    def _raw_pictures(self) -> Iterator[Any]:
        """Decoded pictures in the decoder's order; other packets are set aside on the way."""
        video = self._stream.index
        for packet in self._packets():
            kind = packet.stream.type
            self._splices.correct(packet, steady=kind in ("video", "audio"))
            self._note_end(packet)
            if packet.stream_index != video:
                self._carry(packet)
                continue
            if packet.has_sidedata("encryption_info"):
                raise InputMediaError(self.path, "stream is encrypted")
            if packet.is_corrupt and self._formats[0] == "mov":
                # The last one, cut off by the file's end. An error in a decoder's thread would take sound frames along.
                self._broke = "the last packet is cut off"
                continue
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: Any) -> list[Any]:
        try:
            pictures: list[Any] = self._decoder.decode(packet)
            return pictures
        except EOFError:
            return []
        except PermissionError as error:
            raise InputMediaError(self.path, "stream is encrypted (the decoder is not allowed to read it)") from error
        except AV_ERRORS as error:
            self.bad_packets += 1
            self._last_fault = reason(error)
            where = "" if packet is None or packet.pts is None else f" at {float(packet.pts * packet.time_base):.2f} s"
            if self._shift is not None:  # before the first picture: a recording that begins off a key frame
                self._fault("bad_packet", f"a packet{where} cannot be decoded: {reason(error)}")
            return []

    def _stamp(self, raw: Iterator[Any]) -> Any:
        """Pictures with final time stamps, from the cut's beginning on."""
        ticks = round(self.shift / self._clock.time_base)
        for picture in chain(raw, (None,)):
            ready: Any = self._clock.push(picture) if picture is not None else self._clock.flush()
            if ready is None:
                continue
            ready.pts -= ticks
            if ready.pts >= 0 or self._start is None:
                yield ready

    def _fault(self, kind: str, text: str) -> None:
        if self.settings.strict:
            raise RunError(self.path, text, "run without --strict to carry on")
        self.notes.warn(kind, self.path, text)

    # -- other streams ---------------------------------------------------------------------------------

    def _note_end(self, packet: Any) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            end = (stamp + (packet.duration or 0)) * packet.time_base
            self._ends[packet.stream_index] = max(end, self._ends.get(packet.stream_index, end))

    def _carry(self, packet: Any) -> None:
        if self._shift is None:
            self._early.append(packet)
            return
        ticks = round(self._shift / packet.time_base)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
        if self._inside(packet):
            self.copied.put(self.frames_in, packet)

    def _inside(self, packet: Any) -> bool:
        """Whether a packet lies in the cut; a caption that hangs over its beginning is shortened."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or (self._start is None and self._end is None):
            return True
        if self._end is not None and stamp * packet.time_base >= self._limit:
            return False
        if self._start is None or stamp >= 0:
            return True
        over = stamp + (packet.duration or 0)
        if packet.stream.type != "subtitle" or over <= 0:
            return False
        packet.pts = packet.dts = 0
        packet.duration = over
        return True

    def _release_early(self) -> None:
        early, self._early = self._early, []
        for packet in early:
            self._carry(packet)

    def _finish_copies(self) -> None:
        """After the last picture of a cut: other streams lie behind in the file by up to some seconds."""
        if not self.settings.copy:
            return
        limit = self._limit + self.shift
        sound = {s.index for s in self._streams if s.kind == "audio"}
        for packet in self._packets():
            self._splices.correct(packet, steady=packet.stream.type in ("video", "audio"))
            self._note_end(packet)
            if packet.stream_index != self._stream.index:
                self._carry(packet)
            elif packet.dts is not None and packet.dts * packet.time_base > limit + _LATE:
                break
            if all(i in self._ends and self._ends[i] >= limit for i in sound):
                break

    # -- the end ---------------------------------------------------------------------------------------

    def _judge_end(self) -> None:
        """Decide whether the film was all there."""
        declared = self.info.duration
        ended = max(self._ends.values(), default=Fraction(0)) - self._origin
        of = f" of {float(declared):.1f} s" if declared else ""
        what = ""
        if self._broke:
            what = f"input ends at {float(ended):.1f} s{of} ({self._broke})"
        elif self.bad_packets and self._shift is not None and self.notes.count("bad_packet"):
            what = f"{self.notes.count('bad_packet')} packets cannot be decoded"
        elif self._short(declared, ended):
            what = f"input ends at {float(ended):.1f} s{of}"
        if what and self.settings.strict:
            raise RunError(self.path, what)
        if what and self.settings.keep_going:
            self.notes.warn("input_partial", self.path, what)
        elif what:
            self.failure = PartialInput(self.path, what, "the output holds what could be read")

    def _short(self, declared: Fraction | None, ended: Fraction) -> bool:
        everything = self.settings.copy or len(self._streams) == 1
        if not declared or self._formats[0] not in self._honest or not everything:
            return False
        return declared - ended > max(Fraction(1, 5), 2 / self.info.rate)
