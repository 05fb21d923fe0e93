"""Where a film was changed, as a film of its own; and sums of all that lies outside.

A mask is a grey picture of a frame's size: 0 where nothing may have been changed, else how much of a face's change
went in, 255 for all. It is written as FFV1 in Matroska, at the frames' times.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from hashlib import md5
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vidrestore.errors import InputMediaError, OutputError
from vidrestore.media.copied import Copied
from vidrestore.media.encoding import LOSSLESS, EncodeSettings
from vidrestore.media.faults import AV_ERRORS, reason
from vidrestore.media.framemd5 import head
from vidrestore.media.planes import views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidrestore.types import Frame, Layout

    Mask = NDArray[np.uint8]  # [h, w], on the grid of luma samples


class MaskFilm:
    """A film's masks, as a sink sees them: its times and its upright shape, nothing else of it."""

    def __init__(self, film: Any) -> None:
        info = film.info
        stream = replace(info.stream, index=0, metadata={})
        grey = replace(info, layout=grey_of(info.layout), pix_fmt="gray", codec="ffv1", hdr=None, field_order=1)
        self.info = replace(grey, streams=(stream,), video=0, chapters=(), metadata={})
        self.streams = (film.streams[info.video],)
        self.copied = Copied()
        self.shift = Fraction(0)
        self.path = info.path


def grey_of(layout: Layout) -> Layout:
    """The layout of a film's masks."""
    plain = replace(layout, pix_fmt="gray", bits=8, family="gray", chroma=(0, 0), alpha=False, full_range=True)
    return replace(plain, primaries=2, transfer=2, matrix_tag=2, range_tag=2, interlaced=False)


def mask_settings(threads: int) -> EncodeSettings:
    """Every picture a key frame, with a check sum for each slice."""
    options = {"level": "3", "g": "1", "slicecrc": "1"}
    return EncodeSettings(codec="ffv1", options=options, format="matroska", threads=threads)


def mask_frame(frame: Frame, mask: Mask) -> Frame:
    """A mask at its frame's time."""
    return replace(frame, planes=(mask,), layout=grey_of(frame.layout), native=None, corrupt=False)


def no_mask(layout: Layout) -> Mask:
    """u8 [h, w], all 0."""
    return np.zeros((layout.height, layout.width), np.uint8)


def outside_sum(planes: Sequence[NDArray[Any]], layout: Layout, mask: Mask) -> str:
    """The MD5 of a picture's samples, plane after plane, in which those inside the mask count as 0.

    A luma, grey or R'G'B' sample is inside where the mask is not 0, a chroma sample where that holds for all luma
    samples that it belongs to. Opacity is always outside.
    """
    found, colours = md5(), 1 if layout.family == "gray" else 3
    touched = bool(mask.any())
    for i, plane in enumerate(planes):
        if touched and i < colours:
            pooled = i > 0 and layout.family == "yuv"
            plane = np.where(_least(mask, layout.chroma) if pooled else mask, plane.dtype.type(0), plane)
        found.update(np.ascontiguousarray(plane).data)
    return found.hexdigest()


def _least(mask: Mask, chroma: tuple[int, int]) -> Mask:
    """The least of a mask under each chroma sample."""
    sx, sy = 1 << chroma[0], 1 << chroma[1]
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % sy), (0, -width % sx)), constant_values=255)
    least: Mask = padded.reshape(padded.shape[0] // sy, sy, -1, sx).min((1, 3))
    return least


def sums_text(times: Sequence[tuple[int, int]], time_base: Fraction, sums: Sequence[str], masks: str, of: str) -> str:
    """The file of the sums, alike to ffmpeg's framemd5. times: (pts, duration); of: which pictures they are of."""
    columns = f"#samples inside {masks} count as 0\n#of: {of}\n#stream#, dts,        pts, duration, hash\n"
    lines = (
        f"0, {pts:10}, {pts:10}, {duration:8}, {found}\n" for (pts, duration), found in zip(times, sums, strict=True)
    )
    return head(time_base) + columns + "".join(lines)


def sums_in(text: str) -> list[str]:
    """The sums of such a file."""
    return [line.rpartition(", ")[2] for line in text.splitlines() if not line.startswith("#")]


def masks_of(path: Path, layout: Layout) -> Iterator[Mask]:
    """The masks of a film of this layout, read again. Raises InputMediaError (4)."""
    try:
        with av.open(str(path), metadata_errors="surrogateescape") as container:
            for picture in container.decode(video=0):
                yield views(picture, grey_of(layout))[0]  # type: ignore[misc]
    except AV_ERRORS as error:
        raise InputMediaError(str(path), f"these masks cannot be read: {reason(error)}") from error


def keeps_all(encoder: str, pix_fmt: str, layout: Layout) -> bool:
    """Whether an output's pictures decode to what was encoded, in the samples that they had."""
    return encoder in LOSSLESS and pix_fmt == layout.pix_fmt


class OutsideCheck:
    """Looks at the decoded pictures of an output: outside the masks they must be what they were."""

    def __init__(self, path: Path, masks: Path, layout: Layout, sums: Sequence[str]) -> None:
        self._path, self._layout = path, layout
        self._wanted = zip(masks_of(masks, layout), sums, strict=True)
        self._seen = 0

    def see(self, picture: av.VideoFrame) -> None:
        """The next picture. Raises OutputError (5)."""
        mask, wanted = next(self._wanted)
        if outside_sum(views(picture, self._layout), self._layout, mask) != wanted:
            raise OutputError(str(self._path), f"frame {self._seen} differs from the source outside its mask")
        self._seen += 1
