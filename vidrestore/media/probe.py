"""What a media file is, before and apart from its pictures."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition

from vidrestore.errors import InputMediaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidrestore.types import Layout

UPRIGHT = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
Matrix3 = tuple[int, ...]  # nine numbers of a display matrix: 16.16 fixed point, last column 2.30


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of the file."""

    index: int
    kind: str  # video, audio, subtitle, data, attachment, unknown
    codec: str  # libav's canonical name, "none" where it knows none
    tag: str  # the container's four letters
    disposition: int  # bits of av.stream.Disposition
    metadata: Mapping[str, str]
    time_base: Fraction
    start: Fraction | None  # seconds
    duration: Fraction | None  # seconds

    @property
    def language(self) -> str:
        return self.metadata.get("language", "und")

    def tagged(self, key: str) -> str:
        """A tag by name in any case: Matroska writes them in capitals."""
        return next((v for k, v in self.metadata.items() if k.lower() == key), "")

    @property
    def cover(self) -> bool:
        """A still picture that belongs to the file, not a film."""
        return bool(self.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))

    def __str__(self) -> str:
        name = self.codec if self.codec not in ("none", "") else self.tag or self.metadata.get("filename", "unknown")
        return f"stream {self.index} ({self.kind} {name})"


@dataclass(frozen=True, slots=True)
class Hdr:
    """HDR10 static metadata of SMPTE ST 2086 and CTA-861.3."""

    primaries: tuple[tuple[Fraction, Fraction], ...] = ()  # chromaticities x, y of R, G, B and the white point
    luminance: tuple[Fraction, Fraction] | None = None  # min, max, cd/m2
    light: tuple[int, int] | None = None  # MaxCLL, MaxFALL, cd/m2


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """One look at a file."""

    path: str  # as the user gave it; "-" for standard input
    formats: tuple[str, ...]  # libav's names of the container
    streams: tuple[StreamInfo, ...]
    video: int  # index of the stream to restore
    codec: str
    profile: str
    layout: Layout  # of the first frame
    pix_fmt: str  # as decoded, before unpacking
    rate: Fraction  # frames a second, sane
    time_base: Fraction
    duration: Fraction | None  # seconds
    frames: int | None  # as the container claims; an estimate
    matrix: Matrix3
    start_time: Fraction  # of the container, seconds
    field_order: int  # AVFieldOrder: 0 unknown, 1 progressive, 2..5 interlaced
    hdr: Hdr | None
    still: bool  # one picture in an image file
    sar: Fraction | None = None  # as the file says; None where it says nothing
    stereo: str = ""  # how two eyes' pictures lie in one, in Matroska's words
    spherical: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Mapping[str, Any], ...] = ()
    bit_rate: int | None = None

    @property
    def stream(self) -> StreamInfo:
        return self.streams[self.video]

    @property
    def interlaced_as(self) -> bool | None:
        """Whether the top field is shown first; None for progressive film."""
        if not self.layout.interlaced:
            return None
        return self.field_order not in (3, 4)

    @property
    def family(self) -> str:
        """The container's first name, e.g. "mov", "matroska", "mpegts"."""
        return self.formats[0]


def stream_info(stream: Any) -> StreamInfo:
    """Describe one of PyAV's streams."""
    context = stream.codec_context
    codec = context.codec.canonical_name if context is not None else (getattr(stream, "name", None) or "none")
    tb = stream.time_base or Fraction(1, 90000)
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        codec="none" if stream.type == "attachment" else codec,
        tag=_letters(context) if context is not None else "",
        disposition=int(stream.disposition),
        metadata=dict(stream.metadata),
        time_base=Fraction(tb),
        start=None if stream.start_time is None else stream.start_time * tb,
        duration=None if stream.duration is None else stream.duration * tb,
    )


def _letters(context: Any) -> str:
    """The container's four letters for a codec; nothing where they are no letters, which PyAV cannot decode."""
    try:
        return str(context.codec_tag or "").strip("\0 ")
    except UnicodeDecodeError:
        return ""


def choose_video(container: Any, streams: tuple[StreamInfo, ...], wanted: int | None, subject: str) -> int:
    """Index of the stream to restore: the n-th film of the file, else ffmpeg's choice: the one marked as default
    before others (worth 5 megapixels), then the largest picture, then the first; never a handful of pictures
    beside a film ten times as long.

    Raises InputMediaError where there is none.
    """
    films = [s.index for s in streams if s.kind == "video" and not s.cover]
    most = max((container.streams[i].frames for i in films), default=0)
    if not films:
        covers = any(s.kind == "video" for s in streams)
        raise InputMediaError(subject, "no video stream" + (" (only a cover picture)" if covers else ""))
    if wanted is not None:
        if not 0 <= wanted < len(films):
            raise InputMediaError(subject, f"no video stream {wanted}", f"it has {len(films)}, counted from 0")
        return films[wanted]

    def score(index: int) -> tuple[int, int]:
        context = container.streams[index].codec_context
        area = context.width * context.height if context is not None else 0
        snapshots = 0 < container.streams[index].frames * 10 <= most  # of a phone, larger than its film
        return (area + 5_000_000 * bool(streams[index].disposition & Disposition.default)) * (not snapshots), -index

    return max(films, key=score)


def sane_rate(stream: Any, steps: list[int]) -> Fraction:
    """Frames a second: what libav guesses where it is believable, else from steps between frames (ticks), else 25.

    Containers claim 1000 (clock ticks), 1200000 (raw streams) or nothing.
    """
    tb = stream.time_base
    if steps and tb:
        step = sorted(steps)[len(steps) // 2]
        if step > 0:
            measured = 1 / (step * Fraction(tb))
            for claim in (stream.guessed_rate, stream.average_rate, stream.base_rate):
                if claim and 1 <= claim <= 480 and abs(measured - claim) <= claim * Fraction(1, 20):
                    return Fraction(claim)
    for claim in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if claim and Fraction(1, 10) <= claim <= 480:
            return Fraction(claim)
    if steps and tb and steps[0] > 0:
        return min(Fraction(480), (1 / (steps[0] * Fraction(tb))).limit_denominator(1001))
    return Fraction(25)


def sane_sar(stream: Any) -> Fraction | None:
    """The shape of samples as the file says; None where it says nothing or nonsense."""
    sar = stream.sample_aspect_ratio
    return Fraction(sar) if sar and Fraction(1, 16) <= sar <= 16 else None


def display_matrix(picture: av.VideoFrame) -> Matrix3:
    """The nine numbers of a picture's display matrix; the plain one where it carries none."""
    data = _side_data(picture, "DISPLAYMATRIX")
    if data is not None and len(data) == 36:
        return struct.unpack("<9i", data)
    quarter = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}
    a, b, c, d = quarter.get(picture.rotation % 360, (1, 0, 0, 1))
    return (a * 65536, b * 65536, 0, c * 65536, d * 65536, 0, 0, 0, 1 << 30)


def plain_matrix(matrix: Matrix3) -> Matrix3:
    """The turn of a matrix alone, without scaling and shifting, which some containers do not hold."""
    a, b, c, d = (65536 * n for n in turn_of(matrix))
    return (a, c, 0, b, d, 0, 0, 0, 1 << 30)


def turn_of(matrix: Matrix3) -> tuple[int, int, int, int]:
    """The turn or mirror nearest to a display matrix, stored (x, y) -> display (x, y)."""
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if c < 0 else 1, -1 if b < 0 else 1, 0)


def hdr_of(picture: av.VideoFrame) -> Hdr | None:
    """HDR10 static metadata of a picture (AVMasteringDisplayMetadata, AVContentLightMetadata)."""
    mastering, light = _side_data(picture, "MASTERING_DISPLAY_METADATA"), _side_data(picture, "CONTENT_LIGHT_LEVEL")
    if mastering is None and light is None:
        return None
    hdr = Hdr(light=struct.unpack("<2I", light[:8]) if light is not None and len(light) >= 8 else None)
    if mastering is None or len(mastering) < 88:
        return hdr
    *numbers, has_primaries, has_luminance = struct.unpack("<22i", mastering[:88])
    values = [Fraction(n, d or 1) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
    points = tuple(zip(values[:8:2], values[1:8:2], strict=True))
    return Hdr(points if has_primaries else (), (values[8], values[9]) if has_luminance else None, hdr.light)


def stereo_of(picture: av.VideoFrame) -> str:
    """How two eyes' pictures lie in one (AVStereo3D), in Matroska's words; empty where there is one."""
    data = _side_data(picture, "STEREO3D")
    if data is None or len(data) < 8:
        return ""
    kind, flags = struct.unpack("<ii", data[:8])
    words = {1: "left_right right_left", 2: "top_bottom bottom_top", 3: "block_lr block_rl",
             4: "checkerboard_lr checkerboard_rl", 6: "row_interleaved_lr row_interleaved_rl",
             7: "col_interleaved_lr col_interleaved_rl"}.get(kind, "")  # fmt: skip
    return words.split()[flags & 1] if words else ""


def is_spherical(picture: av.VideoFrame) -> bool:
    """Whether the picture is all or part of a sphere."""
    return _side_data(picture, "SPHERICAL") is not None


def has_captions(picture: av.VideoFrame) -> bool:
    """Whether closed captions (ATSC A/53) travel with the picture."""
    return _side_data(picture, "A53_CC") is not None


def grain_is_coded(stream: Any) -> bool:
    """Whether an AV1 film has its grain as parameters: the last bit of its sequence header (AV1 spec §5.5.1)."""
    context = stream.codec_context
    head = bytes(context.extradata or b"") if context is not None else b""
    if context is None or context.codec.canonical_name != "av1" or not head:
        return False
    at = 4 if head[0] == 0x81 else 0  # av1C's own four bytes
    while at + 2 < len(head) and head[at] & 2:  # with a size
        kind, start = head[at] >> 3 & 15, at + (2 if head[at] & 4 else 1)
        size = shift = 0
        while start < len(head):
            size |= (head[start] & 127) << shift
            start, shift, more = start + 1, shift + 7, head[start] & 128
            if not more:
                break
        if kind == 1:
            bits = int.from_bytes(head[start : start + size], "big")
            trailing = bits & -bits
            return bool(bits & trailing << 1)
        at = start + size
    return False


def dynamic_hdr(picture: av.VideoFrame) -> list[str]:
    """Names of picture-by-picture HDR metadata, which no longer fit once pixels change."""
    kinds = {"DOVI_METADATA": "Dolby Vision", "DOVI_RPU_BUFFER": "Dolby Vision", "DYNAMIC_HDR_PLUS": "HDR10+"}
    return sorted({name for kind, name in kinds.items() if _side_data(picture, kind) is not None})


def _side_data(picture: av.VideoFrame, name: str) -> bytes | None:
    """What a picture carries of one kind. ``picture.side_data`` would do, but ties picture and data into a cycle:
    some pictures then stay in memory until Python looks through all that it has, which may be hours."""
    try:
        data: Any = SideDataContainer(picture).get(name)  # type: ignore[call-arg]
    except ValueError:  # the picture carries a kind that this PyAV has no name for
        return None
    return None if data is None else bytes(data)
