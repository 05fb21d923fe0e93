"""Pictures written as pictures: a still goes out as a file of its kind, with what its head says about it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from vidrestore.errors import InputMediaError, OutputError
from vidrestore.media.encoding import STILLS, plan_video
from vidrestore.media.faults import AV_ERRORS, reason, write_error
from vidrestore.media.formats import EXACT, sws_colour
from vidrestore.media.planes import native_of, scaler
from vidrestore.media.publish import PartFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.media.encoding import EncodeSettings
    from vidrestore.media.reader import Source
    from vidrestore.types import Frame, Layout

_JFIF = (5, 2)  # libswscale's numbers of BT.601 and full range: what JPEG files always hold
_PNG_KEPT = (b"eXIf", b"iCCP", b"pHYs", b"tEXt", b"iTXt", b"zTXt")


@dataclass(slots=True)
class StillSummary:
    """What was written."""

    target: str
    encoder: str
    pix_fmt: str
    container: str = "still"
    frames: int = 0


class StillSink:
    """Takes one frame and writes one picture file."""

    def __init__(self, target: Path, source: Source, settings: EncodeSettings, *, overwrite: bool) -> None:
        subject = str(target)
        self._subject, self._source = subject, source
        layout, encoder = source.info.layout, STILLS[target.suffix.lower()]
        chosen = replace(settings, codec=encoder, pix_fmt=settings.pix_fmt or _recoded(encoder, layout))
        self._plan = plan_video(source.info, layout, "still", chosen, subject)
        self.summary = StillSummary(subject, self._plan.encoder, self._plan.pix_fmt)
        self._part = PartFile(target, source.path, overwrite=overwrite, preserve=settings.preserve)
        self._coded = b""
        self._open = True

    @property
    def part(self) -> Path:
        """Where the output is until it is published."""
        return self._part.path

    def write(self, frame: Frame) -> None:
        """Encode the picture. Raises OutputError (5)."""
        if self._coded:
            raise OutputError(self._subject, "holds one picture, the input is a film", "use .mkv or .mp4")
        picture = self._fitted(frame)
        context: Any = av.CodecContext.create(self._plan.encoder, "w")
        context.width, context.height, context.pix_fmt = picture.width, picture.height, picture.format.name
        context.time_base, context.options = frame.time_base, dict(self._plan.options)
        context.color_range = 2 if self._plan.encoder == "mjpeg" else frame.layout.range_tag
        try:
            packets = context.encode(picture) + context.encode(None)
        except AV_ERRORS as error:
            raise OutputError(self._subject, f"{self._plan.encoder} refuses the picture: {reason(error)}") from error
        self._coded = b"".join(bytes(p) for p in packets)
        self.summary.frames += 1

    def finish(self) -> None:
        """Write and publish. Raises OutputError (5)."""
        if not self._coded:
            raise InputMediaError(self._source.path, "no frames")
        try:
            self._part.path.write_bytes(with_head_of(self._source.path, self._coded))
        except OSError as error:
            raise write_error(self._subject, error) from error
        self._open = False
        self._part.publish()

    def abort(self, *, keep_partial: bool = False) -> None:
        """End without publishing; half a picture is never kept."""
        if self._open:
            self._open = False
            self._part.discard()

    def _fitted(self, frame: Frame) -> av.VideoFrame:
        picture = native_of(frame)
        if picture.format.name == self._plan.pix_fmt:
            return picture
        matrix, span = sws_colour(frame.layout)
        to_matrix, to_span = _JFIF if self._plan.encoder == "mjpeg" else (matrix, span)
        return scaler("still").reformat(
            picture,
            format=self._plan.pix_fmt,
            src_colorspace=matrix,
            src_color_range=span,
            dst_colorspace=to_matrix,
            dst_color_range=2 if self._plan.pix_fmt.startswith(("rgb", "bgr")) else to_span,
            interpolation=EXACT,
        )


def _recoded(encoder: str, layout: Layout) -> str | None:
    """The pixel format for a kind of file that never holds the source's family: RGB in JPEG, YCbCr in PNG."""
    if encoder == "mjpeg" and layout.family == "rgb" and not layout.alpha:
        return "yuvj444p"
    if encoder == "png" and layout.family == "yuv":
        deep = layout.bits > 8
        return ("rgba64be" if deep else "rgba") if layout.alpha else ("rgb48be" if deep else "rgb24")
    return None


def with_head_of(source: str, coded: bytes) -> bytes:
    """The coded picture with EXIF, colour profile and texts of the source's file, where both are of one kind."""
    if source == "-" or not Path(source).is_file():
        return coded
    original = Path(source).read_bytes()
    if coded.startswith(b"\xff\xd8") and original.startswith(b"\xff\xd8"):
        kept = b"".join(s for marker, s in _jpeg_segments(original) if marker in (0xE1, 0xE2))
        return coded[:2] + kept + coded[2:]
    if coded.startswith(b"\x89PNG") and original.startswith(b"\x89PNG"):
        have = {kind for kind, _ in _png_chunks(coded)}
        kept = b"".join(c for kind, c in _png_chunks(original) if kind in _PNG_KEPT and kind not in have)
        return coded[:33] + kept + coded[33:]  # after the header chunk
    return coded


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and whole segment, up to the picture itself."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        yield data[at + 1], data[at : at + size]
        at += size


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and whole chunk."""
    at = 8
    while at + 12 <= len(data):
        size = 12 + struct.unpack(">I", data[at : at + 4])[0]
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size
