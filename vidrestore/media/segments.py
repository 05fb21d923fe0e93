"""A film in pieces: each encoded by itself, checked, and joined packet by packet into the output.

A piece begins with a key frame and refers to nothing before it, as its encoder has seen nothing before it. It lies in
NUT, which keeps packets and times as they are. The output's encoder is opened, so that its head is that of a film
encoded at once, and fed with nothing: the packets come from the pieces, with decoding times reckoned anew.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.format
from av.codec.context import Flags
from av.format import ContainerFormat

from vidrestore.errors import InputAccessError, OutputError, RunError, UsageError
from vidrestore.media.copied import Copied
from vidrestore.media.encoder import LibavCoder, LibavCoders
from vidrestore.media.encoding import container_of, plan_video
from vidrestore.media.faults import AV_ERRORS, reason
from vidrestore.media.framemd5 import FrameSums
from vidrestore.media.writer import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vidrestore.media.encoding import EncodeSettings, VideoPlan
    from vidrestore.media.probe import MediaInfo
    from vidrestore.media.reader import Source
    from vidrestore.notes import Notes
    from vidrestore.types import Layout

_APART = Fraction(1, 10)  # seconds by which sound may begin otherwise than in the source: priming is counted variously
_BLOCK = 1 << 24  # bytes that are read at once
NO_PIECES = ("wrapped_avframe",)  # pictures that are not encoded


@dataclass(frozen=True, slots=True)
class Piece:
    """An encoded piece of a film."""

    path: Path
    pts: Sequence[int]  # of its frames, rising, in ticks of the film
    durations: Sequence[int]


class _Alone:
    """A film without its other streams, tags and chapters, as a sink sees it."""

    def __init__(self, film: Any) -> None:
        info: MediaInfo = film.info
        self.info = replace(info, streams=(replace(info.stream, index=0),), video=0, chapters=(), metadata={})
        self.streams = (film.streams[info.video],)
        self.copied = Copied()
        self.shift = Fraction(0)


class _PieceCoders(LibavCoders):
    def __init__(self, container: str) -> None:
        form: Any = ContainerFormat(container, "w")
        self._headed = bool(form.flags & av.format.Flags.global_header.value)

    def coder(self, plan: VideoPlan, subject: str) -> LibavCoder:
        return _PieceCoder(plan, subject, self._headed)


class _PieceCoder(LibavCoder):
    """Parameters stand in the head or in the stream, as the output wants them."""

    def __init__(self, plan: VideoPlan, subject: str, headed: bool) -> None:
        super().__init__(plan, subject)
        self._headed = headed

    def add(self, out: Any, container: str, info: MediaInfo, layout: Layout, timecode: str | None) -> Any:
        video = super().add(out, container, info, layout, timecode)
        if not self._headed:
            context = video.codec_context
            context.flags = int(context.flags) & ~int(Flags.global_header)
        return video


def _form(plan: VideoPlan, layout: Layout) -> str:
    """A piece's container: NUT, or Matroska for what NUT cannot hold. VP9's alpha lies beside the packets."""
    beside = plan.encoder == "libvpx-vp9" and layout.alpha
    with av.open(os.devnull, "w", format="nut") as nut:
        return "nut" if plan.encoder in nut.supported_codecs and not beside else "matroska"


@contextmanager
def piece_sink(path: Path, target: Path, film: Any, settings: EncodeSettings, notes: Notes) -> Iterator[Sink]:
    """Where a piece's frames are written. ``target`` is the whole output, whose container decides how they are
    encoded. Raises as any sink."""
    container = container_of(target, settings, film.info)
    plan = plan_video(film.info, film.info.layout, container, settings, str(target))
    if plan.encoder in NO_PIECES or container == "still":
        raise UsageError(str(target), f"{container} cannot be written in pieces", "use -f matroska")
    form = _form(plan, film.info.layout)
    own = replace(
        settings, codec=plan.encoder, pix_fmt=plan.pix_fmt, threads=plan.threads, format=form, tags={}, preserve=False
    )
    alone: Any = _Alone(film)
    sink = Sink(path, form, alone, own, notes, overwrite=True, layout=film.info.layout, coders=_PieceCoders(container))
    try:
        yield sink
    finally:
        sink.abort()


def check_piece(piece: Piece) -> None:
    """Decode a piece: it must hold its frames, at their times. Raises RunError (6)."""
    try:
        with av.open(str(piece.path), metadata_errors="surrogateescape") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            count = sum(1 for _ in container.decode(stream))
    except AV_ERRORS as error:
        raise RunError(str(piece.path), f"a piece that was written cannot be decoded: {reason(error)}") from error
    if count != len(piece.pts) or any(b <= a for a, b in pairwise(piece.pts)):
        raise RunError(str(piece.path), f"a piece of {len(piece.pts)} frames decodes to {count}")


class _JoinCoders(LibavCoders):
    def __init__(self, pieces: Sequence[Piece], time_base: Fraction) -> None:
        self._pieces, self._time_base = pieces, time_base

    def coder(self, plan: VideoPlan, subject: str) -> LibavCoder:
        return _Joiner(plan, subject, self._pieces, self._time_base)


class _Joiner(LibavCoder):
    """Gives the packets of the pieces where an encoder would give its own."""

    def __init__(self, plan: VideoPlan, subject: str, pieces: Sequence[Piece], time_base: Fraction) -> None:
        super().__init__(plan, subject)
        self._time_base = time_base
        self._packets = self._all(pieces)
        self._waiting: Any = None

    def encode(self, picture: av.VideoFrame | None) -> list[Any]:
        """The packets that are to be decoded before this picture is shown."""
        ready = []
        while (packet := self._waiting or next(self._packets, None)) is not None:
            if picture is not None and packet.dts > picture.pts:
                break
            ready.append(packet)
            self._waiting = None
        self._waiting = packet
        return ready

    def close(self) -> None:
        self._packets.close()

    def _all(self, pieces: Sequence[Piece]) -> Any:
        shown = [pts for piece in pieces for pts in piece.pts]
        ranks = [_ranks(piece) for piece in pieces]
        late = max(i - rank for found in ranks for i, rank in enumerate(found))
        step = min(shown[1] - shown[0], max(pieces[0].durations[0], 1)) if len(shown) > 1 else 1
        decoded = [shown[0] - step * (late - i) for i in range(late)] + shown
        number = 0
        for piece, found in zip(pieces, ranks, strict=True):
            with av.open(str(piece.path), metadata_errors="surrogateescape") as container:
                self._same_head(container.streams.video[0], piece)
                for packet, rank in zip(_packets(container), found, strict=True):
                    packet.pts, packet.dts = piece.pts[rank], decoded[number]
                    packet.duration = piece.durations[rank]
                    packet.time_base = self._time_base
                    packet.stream = self._video
                    yield packet
                    number += 1

    def _same_head(self, stream: Any, piece: Piece) -> None:
        head, own = stream.codec_context.extradata, self._video.codec_context.extradata
        if own and head and bytes(head) != bytes(own):
            raise RunError(str(piece.path), "was encoded with other parameters than the film's", "cancel and run again")


def _packets(container: Any) -> Iterator[Any]:
    return (packet for packet in container.demux(container.streams.video[0]) if packet.size)


def _ranks(piece: Piece) -> list[int]:
    """The place in the order of showing of every packet, in the order of decoding."""
    try:
        with av.open(str(piece.path), metadata_errors="surrogateescape") as container:
            stamps = [packet.pts for packet in _packets(container)]
    except AV_ERRORS as error:
        raise RunError(str(piece.path), f"a piece cannot be read: {reason(error)}") from error
    place = {pts: rank for rank, pts in enumerate(sorted(stamps))}
    if len(place) != len(piece.pts) or len(stamps) != len(piece.pts):
        raise RunError(str(piece.path), f"holds {len(stamps)} packets for {len(piece.pts)} frames")
    return [place[pts] for pts in stamps]


class _Checked(Sink):
    """A sink that decodes all that was written before it is published."""

    check: Callable[[Path], None]

    def _verify(self) -> None:
        super()._verify()
        assert self._part is not None
        self.check(self._part.path)


@contextmanager
def join_sink(
    target: Path,
    film: Any,
    settings: EncodeSettings,
    notes: Notes,
    pieces: Sequence[Piece],
    check: Callable[[Path], None],
    *,
    overwrite: bool,
) -> Iterator[Sink]:
    """Where a film's frames go once more, for their packets and those of the other streams to be put together.

    check: called with the whole output before it gets its name; what it raises keeps it from that.
    """
    container = container_of(target, settings, film.info)
    coders = _JoinCoders(pieces, film.info.time_base)
    layout = film.info.layout
    sink = _Checked(target, container, film, settings, notes, overwrite=overwrite, layout=layout, coders=coders)
    sink.check = check
    try:
        yield sink
    finally:
        sink.abort()


def check_film(
    path: Path,
    times: Sequence[Fraction],
    source: Source,
    streams: Sequence[str],
    see: Callable[[av.VideoFrame], None],
) -> str:
    """Decode a whole output: every frame, at its time; all streams; sound that begins where it began. Gives the sums
    of its frames.

    times: of the frames that went in, seconds. streams: what became of each stream of the source, as a sink's summary
    says it. see: called with every picture. Raises OutputError (5).
    """
    try:
        with av.open(str(path), metadata_errors="surrogateescape") as container:
            _check_streams(path, container, streams)
            stream = _film_of(container)
            stream.thread_type = "AUTO"
            stamps, sums = [], FrameSums(stream)
            for frame in container.decode(stream):
                stamps.append(frame.pts)
                sums.see(frame)
                see(frame)
            tick = Fraction(stream.time_base)
        begins = _first_stamps(path)
    except AV_ERRORS as error:
        raise OutputError(str(path), f"what was written cannot be decoded: {reason(error)}") from error
    if len(stamps) != len(times):
        raise OutputError(str(path), f"{len(times)} frames were written, {len(stamps)} can be decoded")
    if None not in stamps and "avi" not in container.format.name:
        shift = stamps[0] * tick - times[0]
        worst = max(abs(pts * tick - time - shift) for pts, time in zip(stamps, times, strict=True))
        if worst > max(tick, Fraction(1, 1000)):
            raise OutputError(str(path), f"times of frames are wrong by up to {float(worst):.3f} s")
        _check_sound(path, begins, stamps[0] * tick - times[0], source)
    return sums.text()


def _film_of(container: Any) -> Any:
    """The film among covers and other pictures: the largest."""
    return max(container.streams.video, key=lambda s: s.codec_context.width * s.codec_context.height)


def _check_streams(path: Path, container: Any, streams: Sequence[str]) -> None:
    kept = sum(": drop" not in line and ": attach" not in line and ": renew" not in line for line in streams)
    if len(container.streams) < kept:
        raise OutputError(str(path), f"{kept} streams were written, {len(container.streams)} can be read")


def _first_stamps(path: Path) -> list[Fraction]:
    """When each sound begins, seconds."""
    with av.open(str(path), metadata_errors="surrogateescape") as container:
        sound = list(container.streams.audio)
        found: dict[int, Fraction] = {}
        for packet in container.demux(sound) if sound else ():
            if packet.pts is not None:
                found.setdefault(packet.stream_index, packet.pts * packet.time_base)
            if len(found) == len(sound):
                break
        return [found[s.index] for s in sound if s.index in found]


def _check_sound(path: Path, begins: Sequence[Fraction], shift: Fraction, source: Source) -> None:
    sound = [s.index for s in source.info.streams if s.kind == "audio" and s.index in source.copied.begins]
    if len(sound) != len(begins):
        return  # a stream without packets, or one that was dropped and said
    for index, begin in zip(sound, begins, strict=True):
        apart = begin - shift - source.copied.begins[index]
        if abs(apart) > _APART:
            raise OutputError(str(path), f"the sound of stream {index} begins {float(apart):.3f} s off")


def sha256_of(path: Path, tell: Callable[[], None]) -> str:
    """The SHA-256 of a file, in hexadecimal. ``tell`` is called now and then. Raises InputAccessError (3)."""
    found = sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
                tell()
    except FileNotFoundError as error:
        raise InputAccessError(str(path), "no such file") from error
    except OSError as error:
        raise InputAccessError(str(path), f"cannot be read: {error.strerror}") from error
    return found.hexdigest()
