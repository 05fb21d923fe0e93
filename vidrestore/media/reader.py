"""Films read frame by frame: native planes, repaired times, and all other packets beside them in one pass."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import av
import av.format
from av.codec.hwaccel import HWAccel, hwdevices_available
from pydantic import BaseModel, ConfigDict, Field

from vidrestore.errors import InputMediaError, PartialInput, RunError, VidrestoreError
from vidrestore.media import probe
from vidrestore.media.ebml import crop_of
from vidrestore.media.faults import AV_ERRORS, reason
from vidrestore.media.feed import Feed
from vidrestore.media.opening import STILL_FORMATS, open_input, waiting
from vidrestore.media.pictures import Pictures
from vidrestore.media.timing import Clock
from vidrestore.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.media.copied import Copied
    from vidrestore.media.feed import OpenDecoder, PictureDecoder
    from vidrestore.media.probe import MediaInfo, StreamInfo
    from vidrestore.notes import Notes

_LOOK = 3  # pictures decoded before anything is decided: two steps between them tell the rate
_LOOK_MOST = 64  # ... and how many more while none has a time stamp
_LOOK_PIXELS = 1 << 27  # ... at most, 200 MB of 8-bit film
_BEFORE = 3600  # seconds; a time that lies before any film's first key frame
_FINE = Fraction(1, 1000)
_RAW = frozenset(
    {"h264", "hevc", "vvc", "mpegvideo", "m4v", "h263", "h261", "obu", "cavsvideo", "dirac", "vc1", "avs2"}
)
# Containers whose declared duration is believed when the data ends before it.
_HONEST = frozenset({"mov", "matroska", "avi", "flv", "wtv", "asf"})


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """What to read of a film and how forgiving to be."""

    start: Fraction | float | None = None  # seconds from the film's beginning; output begins there
    end: Fraction | float | None = None  # seconds from the film's beginning; the frame at it is not read
    video_stream: int | None = None  # n-th film of the file, from 0; None: the largest picture
    rate: Fraction | None = None  # number the frames at this rate, for raw streams without times
    assume_color: str | None = None  # "bt709:limited" and the like, against missing or wrong tags
    field_order: str | None = None  # tff, bff or progressive, against missing or wrong flags
    strict: bool = False  # fail (6) at the first fault instead of repairing
    keep_going: bool = False  # an input that breaks off is a note, not a failure
    seek: bool = True  # look for the beginning by time; else read up to it, as where a clock was mended on the way
    copy: bool = True  # collect the packets of the other streams
    network: bool = False  # addresses are opened, too
    playlists: bool = False  # ... and lists of other files


class PyAVDecoder:
    """Reads whatever libav reads."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        threads: int = Field(0, ge=0, le=256, description="threads of the decoder; 0 = one a core")
        hwaccel: Literal["none", "auto", "cuda", "qsv", "vaapi", "videotoolbox", "d3d11va", "vulkan"] = Field(
            default="none", description="hardware that decodes; in software where there is none that can"
        )

    def __init__(self, options: Any) -> None:
        self.options: PyAVDecoder.Options = options

    @contextmanager
    def open(
        self,
        source: str,
        notes: Notes,
        *,
        settings: ReadSettings | None = None,
        open_decoder: OpenDecoder | None = None,
    ) -> Iterator[Source]:
        """Open a path, or standard input for ``-``. The first pictures are decoded at once, so that what cannot
        be read fails here: InputAccessError (3), InputMediaError (4). ``open_decoder`` decodes in libav's place."""
        wanted = settings or ReadSettings()
        with ExitStack() as stack:
            with waiting(source, notes):
                container = open_input(
                    source,
                    network=wanted.network,
                    playlists=wanted.playlists,
                    rate=wanted.rate,
                    hwaccel=self._hardware(),
                )
                stack.callback(container.close)
                film = Source(source, container, notes, wanted, open_decoder or self._open_decoder)
            stack.callback(film.close)
            if self.options.hwaccel != "none" and not film.in_hardware:
                where = "" if self.options.hwaccel == "auto" else f"{self.options.hwaccel}: "
                notes.warn("no_hwaccel", source, f"{where}no hardware here decodes it; it is decoded in software")
            yield film

    def _hardware(self) -> HWAccel | None:
        """The hardware asked for, or the first that works; None where there is none."""
        wanted = self.options.hwaccel
        names = [] if wanted == "none" else hwdevices_available() if wanted == "auto" else [wanted]
        return next((HWAccel(name, allow_software_fallback=True) for name in names if _works(name)), None)

    def _open_decoder(self, stream: Any, info: StreamInfo, path: str) -> PictureDecoder:
        context = stream.codec_context
        if context is None:
            raise InputMediaError(path, f"no decoder for codec {info.codec} ({info.tag or 'no tag'})")
        if info.tagged("alpha_mode") == "1" and info.codec in ("vp8", "vp9"):
            context = av.CodecContext.create({"vp8": "libvpx", "vp9": "libvpx-vp9"}[info.codec], "r")  # keeps alpha
        context.thread_type = "AUTO"
        context.thread_count = self.options.threads
        try:
            context.open(strict=False)
        except AV_ERRORS as error:
            raise InputMediaError(path, f"the {info.codec} decoder refuses it: {reason(error)}") from error
        decoder: PictureDecoder = context
        return decoder


def _works(device: str) -> bool:
    """Whether a device of this kind is here; looked for without the film, as a pipe can be opened only once."""
    try:
        trial: Any = av.CodecContext.create("h264", "r", hwaccel=HWAccel(device, allow_software_fallback=True))
    except AV_ERRORS:
        return False
    return bool(trial.is_hwaccel)


def read_info(source: str, notes: Notes, settings: ReadSettings | None = None) -> MediaInfo:
    """Look at a file once. Raises InputAccessError (3) and InputMediaError (4)."""
    with PyAVDecoder(PyAVDecoder.Options(threads=0)).open(source, notes, settings=settings) as film:
        return film.info


class Source:
    """An opened film: ``info``, then ``frames()`` once; ``copied`` fills while frames are taken."""

    def __init__(
        self, path: str, container: Any, notes: Notes, settings: ReadSettings, open_decoder: OpenDecoder
    ) -> None:
        self.path, self.notes, self.settings = path, notes, settings
        self.frames_in = 0  # frames handed out
        self.corrupt_frames = 0
        self.failure: PartialInput | None = None  # known when frames() has ended
        self._container = container
        self._formats = tuple(container.format.name.split(","))
        self._streams = tuple(probe.stream_info(s) for s in container.streams)
        index = probe.choose_video(container, self._streams, settings.video_stream, path)
        self._stream = container.streams[index]
        self._feed = Feed(path, container, self._streams[index], notes, settings, open_decoder)
        self._origin = Fraction(container.start_time or 0, av.time_base)
        self._identity = _identity(path)
        self._start = None if settings.start is None else exact(settings.start)
        context = self._stream.codec_context
        self._headed = (0, 0) if context is None else (context.width, context.height)
        self._prime()

    @property
    def copied(self) -> Copied:
        """Packets of the other streams."""
        return self._feed.copied

    @property
    def streams(self) -> tuple[Any, ...]:
        """PyAV's streams, as templates for copies."""
        return tuple(self._container.streams)

    @property
    def in_hardware(self) -> bool:
        """Whether libav decodes the film on a device."""
        return bool(self._stream.codec_context is not None and self._stream.codec_context.is_hwaccel)

    @property
    def bad_packets(self) -> int:
        """Packets that could not be decoded."""
        return self._feed.bad_packets

    @property
    def ts_fixed(self) -> int:
        """Time stamps that had to be repaired."""
        return self._clock.fixed

    @property
    def shift(self) -> Fraction:
        """Seconds that were subtracted from every time stamp of every stream."""
        return self._feed.shift or Fraction(0)

    @property
    def begins(self) -> Fraction:
        """Where time stamp 0 lies, in seconds from the film's start."""
        return self.shift - self._zero

    def frames(self) -> Iterator[Frame]:
        """Every picture in the order of the film. When it ends, ``failure`` says whether the input broke off.

        Raises RunError (6) under ``strict`` at the first fault; PartialInput is never raised here.
        """
        limit = self._feed.limit
        for picture in chain(self._first, self._stamped):
            if limit is not None and picture.pts * self._clock.time_base >= limit:
                self._feed.finish_copies()
                return
            frame = self._pictures.frame(picture, self.frames_in)
            if frame.corrupt:
                self.corrupt_frames += 1
                self._feed.fault("corrupt_frame", f"frame {frame.index} ({frame.seconds:.2f} s) is damaged")
            self.frames_in += 1
            self._feed.handed_out = self.frames_in
            yield frame
        self._judge_end()

    def close(self) -> None:
        """Let go of the decoder; the container is closed by who opened it."""
        self._stamped.close()

    def _prime(self) -> None:
        """Decode the first pictures and settle what they tell: format, rate, clock, shift."""
        head, raw = self._head()
        rate = self._rate(head)
        regular = self._is_regular(head)
        if regular and self.settings.rate is None and self._formats[0] not in STILL_FORMATS:
            self.notes.warn("no_timestamps", self.path, f"no timestamps: assuming {float(rate):.5g} fps (set -r)")
        time_base = 1 / rate if regular else Fraction(self._stream.time_base)
        number_backwards(head, rate, time_base)
        self._clock = Clock(time_base, rate, self.notes, self.path, regular=regular, strict=self.settings.strict)
        self._pictures = Pictures(self.path, self.notes, self._stream, self._streams[self._stream.index], self.settings)
        shift = self._choose_shift(head[0], regular=regular)
        end = self.settings.end
        self._zero = Fraction(0) if regular else self._origin
        self._feed.settle(shift, None if end is None else self._zero + exact(end) - shift)
        self._stamped = self._stamp(chain(head, raw))
        # Pictures before a cut may have been others. What lies between them and it is passed over now.
        self._first = [] if self._start is None else list(islice(self._stamped, 1))
        if self._first:
            self._pictures.look(self._first[0], self._headed)
        else:
            self._pictures.look(head[0])
        self.info = self._describe((self._first or head)[0], len(head), rate, time_base)
        self._note_crop()

    def _head(self) -> tuple[list[Any], Iterator[Any]]:
        """The first pictures, and those that follow. A cut begins at a key frame before it: where a container
        seeks badly, further back, at last from the film's beginning."""
        seekable = self._start and self._formats[0] not in _RAW and self.path != "-" and self.settings.rate is None
        most = _LOOK if self._formats[0] in _RAW else _LOOK_MOST
        for back in (0, 10, 100) if seekable and self.settings.seek else ():
            start = self._origin + (self._start or 0)
            if back > start - self._origin or not self._feed.seek(start - back):
                break
            head, raw = _look(self._feed.pictures(), most)
            if head and head[0].pts is not None and head[0].pts * self._stream.time_base <= start:
                return head, raw
        if seekable and self.settings.seek:
            self._feed.seek(self._origin - _BEFORE)
        head, raw = _look(self._feed.pictures(), most)
        if not head:
            raise self._nothing_decoded()
        return head, raw

    def _is_regular(self, head: list[Any]) -> bool:
        """Whether frames are numbered by rate, as their stream has no times of its own."""
        timeless = all(p.pts is None and p.dts is None for p in head)
        return self.settings.rate is not None or timeless or self._formats[0] in (*_RAW, "image2")

    def _rate(self, head: list[Any]) -> Fraction:
        if self.settings.rate is not None:
            return Fraction(self.settings.rate)
        stamps = [p.pts for p in head if p.pts is not None]
        return probe.sane_rate(self._stream, [b - a for a, b in pairwise(stamps)])

    def _nothing_decoded(self) -> VidrestoreError:
        codec = self._streams[self._stream.index].codec
        if self.path == "-" and "mov" in self._formats and self._feed.broke:
            remedy = "write it with -movflags +faststart, or use mkv, nut or ts"
            return InputMediaError("-", "mp4 on a pipe needs moov first", remedy)
        why = self._feed.broke or self._feed.last_fault
        return InputMediaError(self.path, f"no frames: {codec} cannot be decoded ({why})" if why else "no frames")

    def _describe(self, first: Any, looked: int, rate: Fraction, time_base: Fraction) -> MediaInfo:
        container, stream, look = self._container, self._stream, self._pictures
        still = looked == 1 and self._formats[0] in STILL_FORMATS
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
            sar=look.sar,
            stereo=probe.stereo_of(first),
            spherical=probe.is_spherical(first),
            metadata=dict(container.metadata),
            chapters=tuple(self._chapters()),
            bit_rate=stream.codec_context.bit_rate,
        )

    def _chapters(self) -> Iterator[Any]:
        """Those that begin before the cut's end, and no longer than it."""
        end = None if self.settings.end is None else self._zero + exact(self.settings.end)
        for chapter in self._container.chapters():
            last = chapter["end"] if end is None else min(chapter["end"], round(end / chapter["time_base"]))
            if end is None or chapter["start"] < last:
                yield {**chapter, "end": last}

    def _note_crop(self) -> None:
        """A crop that the container asks for and not the film itself is not carried out; Matroska has such."""
        if self._formats[0] != "matroska" or not Path(self.path).is_file():
            return
        left, top, right, bottom = crop_of(Path(self.path), self._stream.index)
        shown = (self.info.layout.width - left - right, self.info.layout.height - top - bottom)
        if left or top or right or bottom:
            cut = f"av.crop={shown[0]}:{shown[1]}:{left}:{top}"
            what = f"the container asks to show {shown[0]}x{shown[1]} of the picture; all of it is kept, {cut} cuts it"
            self.notes.warn("container_crop", self.path, what)

    def _choose_shift(self, first: Any, *, regular: bool) -> Fraction:
        """One shift for all streams: a cut begins at 0, so does a broadcast, whose clock begins anywhere, and no
        frame lies before 0. Other films keep their times."""
        if self._start is not None:
            start = self._start if regular else self._origin + self._start
            tick = self._clock.time_base
            # Where ticks are as long as frames the cut is moved to one, for all streams alike.
            return start if tick <= _FINE else -(-start // tick) * tick
        if regular:
            return Fraction(0)
        broadcast = self._container.format.flags & av.format.Flags.ts_discont.value or self._formats[0] == "wtv"
        begins = Fraction(0) if first.pts is None else first.pts * self._clock.time_base
        return min(begins, self._origin if broadcast else Fraction(0))

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

    def _judge_end(self) -> None:
        """Decide whether the film was all there."""
        declared, feed = self.info.duration, self._feed
        ended = max(feed.ends.values(), default=Fraction(0)) - self._origin
        of = f" of {float(declared):.1f} s" if declared else ""
        what = ""
        if feed.broke:
            what = f"input ends at {float(ended):.1f} s{of} ({feed.broke})"
        elif feed.bad_packets:
            what = f"{feed.bad_packets} packet{'s' * (feed.bad_packets > 1)} cannot be decoded"
        elif self._is_short(declared, ended):
            what = f"input ends at {float(ended):.1f} s{of}"
        elif self._identity != _identity(self.path):
            what = "input changed while reading"
        if what and self.settings.strict:
            raise RunError(self.path, what)
        if what and self.settings.keep_going:
            self.notes.warn("input_partial", self.path, what)
        elif what:
            self.failure = PartialInput(self.path, what, "the output holds what could be read")

    def _is_short(self, declared: Fraction | None, ended: Fraction) -> bool:
        everything = self.settings.copy or len(self._streams) == 1
        if not declared or self._formats[0] not in _HONEST or not everything:
            return False
        if self._formats[0] == "matroska":  # which counts its duration from zero, not from the first packet
            ended += self._origin
        return declared - ended > max(Fraction(1, 5), 2 / self.info.rate)


def exact(seconds: Fraction | float) -> Fraction:
    """What was written, not the binary number nearest to it: 0.8 is 4/5."""
    return seconds if isinstance(seconds, Fraction) else Fraction(seconds).limit_denominator(1_000_000)


def _identity(path: str) -> tuple[int, ...]:
    """What tells a file from a later state of it; nothing for a pipe."""
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if status.st_size else ()


def _look(raw: Iterator[Any], most: int) -> tuple[list[Any], Iterator[Any]]:
    """The first few pictures, more of them while none has a time and memory allows, and the rest."""
    head: list[Any] = []
    for picture in raw:
        head.append(picture)
        large = len(head) * picture.width * picture.height > _LOOK_PIXELS
        if len(head) >= _LOOK and (any(p.pts is not None for p in head) or len(head) >= most or large):
            break
    return head, raw


def number_backwards(head: list[Any], rate: Fraction, time_base: Fraction) -> None:
    """Give leading pictures without a time stamp the times just before the first that has one."""
    known = next((i for i, p in enumerate(head) if p.pts is not None), 0)
    for i in range(known):
        head[i].pts = head[known].pts - round((known - i) / (rate * time_base))
