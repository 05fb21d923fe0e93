"""Planes of decoded pictures as numpy views, pictures made of planes, and small upright pictures for detectors."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from threading import local
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.filter import Graph
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from vidrestore.media.formats import plane_count, sws_colour
from vidrestore.types import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidrestore.types import Layout, Plane

_own = local()  # libswscale contexts are not shared between threads


def scaler(name: str) -> VideoReformatter:
    """This thread's libswscale context of a name: one for each kind of conversion, kept, as it is costly to set up."""
    kept: dict[str, VideoReformatter] = _own.__dict__.setdefault("scalers", {})
    if name not in kept:
        kept[name] = VideoReformatter()
    return kept[name]


def views(picture: av.VideoFrame, layout: Layout, *, writable: bool = False) -> tuple[Plane, ...]:
    """The picture's planes without copying: u8 or u16 [h, w], in the order of ``Frame.planes``.

    The padding that libav puts at the end of rows is cut off. Views keep the picture alive.
    """
    sample = 1 if layout.bits == 8 else 2
    out = []
    for i in range(plane_count(layout)):
        plane = picture.planes[i]
        line, width, height = plane.line_size, plane.width * sample, plane.height
        rows = np.frombuffer(_memory(plane), np.uint8)
        rows = rows.reshape(height, abs(line))[:: 1 if line >= 0 else -1, :width]
        view = rows if sample == 1 else rows.view(np.uint16)
        if not writable:
            view.flags.writeable = False
        out.append(view)
    return tuple(out)


def _memory(plane: Any) -> Any:
    """The plane's bytes from the lowest address up: some decoders store rows from the bottom."""
    if plane.line_size >= 0:
        return plane
    size = -plane.line_size * plane.height
    low = plane.buffer_ptr + plane.line_size * (plane.height - 1)
    memory = (ctypes.c_uint8 * size).from_address(low)
    memory.owner = plane
    return memory


def picture_of(planes: Sequence[Plane], layout: Layout) -> av.VideoFrame:
    """A picture of libav's that holds a copy of these planes and the layout's colour tags."""
    picture = av.VideoFrame(layout.width, layout.height, layout.pix_fmt)
    tag(picture, layout)
    for to, plane in zip(views(picture, layout, writable=True), planes, strict=True):
        to[...] = plane
    return picture


def tag(picture: av.VideoFrame, layout: Layout) -> None:
    """Write the layout's colour numbers into a picture; unspecified stays unspecified."""
    picture.color_range = layout.range_tag
    picture.color_primaries = layout.primaries
    picture.color_trc = layout.transfer
    picture.colorspace = layout.matrix_tag


def native_of(frame: Frame) -> av.VideoFrame:
    """The frame as a picture of libav's: the decoder's own where there is one, else a copy of its planes."""
    picture: av.VideoFrame = frame.native if frame.native is not None else picture_of(frame.planes, frame.layout)
    picture.pts, picture.duration, picture.time_base = frame.pts, frame.duration, frame.time_base
    picture.pict_type = PictureType.NONE  # else the encoder repeats the source's pattern of key frames
    return picture


def editable(frame: Frame) -> Frame:
    """A copy of the frame with planes that may be written in place; the frame given stays as it was.

    The copy has memory of its own, as the decoder goes on reading its pictures as references, and all that the
    picture carries beside its samples: captions, time codes, flags.
    """
    picture = picture_of(frame.planes, frame.layout) if frame.native is None else copied(frame.native)
    return replace(frame, planes=views(picture, frame.layout, writable=True), native=picture)


def copied(picture: av.VideoFrame) -> av.VideoFrame:
    """The picture with memory of its own. A filter graph that does nothing gives a second reference to it, which
    ``make_writable`` turns into a copy: PyAV has no other way that keeps side data."""
    second = _passed(picture)
    second.make_writable()
    return second


def fielded(picture: av.VideoFrame, order: str) -> av.VideoFrame:
    """The picture flagged anew: tff, bff or prog. Its samples are shared."""
    flagged = _passed(picture, order)
    flagged.pts, flagged.duration, flagged.time_base = picture.pts, picture.duration, picture.time_base
    return flagged


def _passed(picture: av.VideoFrame, order: str | None = None) -> av.VideoFrame:
    """The picture through a filter graph that changes no sample."""
    key = (picture.format.name, picture.width, picture.height, order)
    graphs: dict[tuple[str, int, int, str | None], Graph] = _own.__dict__.setdefault("graphs", {})
    if key not in graphs:
        graph = graphs[key] = Graph()
        size = f"{picture.width}x{picture.height}"
        source = graph.add("buffer", f"video_size={size}:pix_fmt={key[0]}:time_base=1/1000:pixel_aspect=1/1")
        sink = graph.add("buffersink")
        if order is not None:
            setfield = graph.add("setfield", order)
            source.link_to(setfield)
            source = setfield
        source.link_to(sink)
        graph.configure()
    graphs[key].vpush(picture)
    return graphs[key].vpull()


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """A small upright picture with square pixels."""

    image: NDArray[np.uint8]  # RGB [h, w, 3]
    scale: tuple[float, float]  # display x and y per thumbnail pixel, in lengths (pixel edges, not centres)

    def to_display(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (x, y) [..., 2] of the thumbnail -> display coordinates, pixel centres on integers in both."""
        scale = np.asarray(self.scale, np.float32)
        return cast("NDArray[np.float32]", (points + np.float32(0.5)) * scale - np.float32(0.5))


def display_size(layout: Layout) -> tuple[float, float]:
    """Width and height of the upright picture with square pixels: the axis with the longer samples keeps its count
    and the other is stretched, so no detail is lost."""
    wide, high = float(layout.width), float(layout.height)
    if layout.sar >= 1:
        wide *= float(layout.sar)
    else:
        high /= float(layout.sar)
    return (wide, high) if layout.turn[0] else (high, wide)


def thumbnail(frame: Frame, side: int) -> Thumbnail:
    """Shrink a frame until its longest upright side is ``side`` px at most (never enlarged), as RGB.

    One call of libswscale shrinks, converts colour and squares the pixels; turning is a view copied once. Of an HDR
    film it is the SDR picture.
    """
    layout = frame.layout
    wide, high = display_size(layout)
    shrink = min(1.0, side / max(wide, high))
    upright = (max(1, round(wide * shrink)), max(1, round(high * shrink)))
    size = upright if layout.turn[0] else upright[::-1]
    picture = frame.native if frame.native is not None else picture_of(frame.planes, layout)
    matrix, span = sws_colour(layout)
    small = scaler("thumbnail").reformat(
        picture,
        *size,
        format="rgb24",
        src_colorspace=matrix,
        src_color_range=span,
        dst_colorspace=matrix,
        dst_color_range=2,
        interpolation=Interpolation.AREA if shrink < 0.5 else Interpolation.BILINEAR,
        threads=1,
    )
    plane: Any = small.planes[0]
    image = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : 3 * plane.width]
    image = image.reshape(plane.height, plane.width, 3)
    if layout.hdr:
        image = _in_sdr(image, layout)
    image = upright_view(image, layout.turn)
    return Thumbnail(np.ascontiguousarray(image), (wide / upright[0], high / upright[1]))


def _in_sdr(image: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    """A picture [h, w, 3] of HDR R'G'B' as SDR. Torch is imported for HDR films alone."""
    import torch

    from vidrestore.media.hdr import to_sdr

    rgb = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)
    return (to_sdr(rgb, layout).permute(1, 2, 0) * 255).round().byte().numpy()


def upright_view(image: NDArray[Any], turn: tuple[int, int, int, int]) -> NDArray[Any]:
    """Turn and mirror a stored image [h, w, ...] as its display matrix says, without copying."""
    a, b, c, d = turn
    if a == 0:  # display x runs along stored y
        image = image.swapaxes(0, 1)
        a, d = b, c
    return image[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]
