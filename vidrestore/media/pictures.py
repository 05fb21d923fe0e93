"""Decoded pictures made into frames: described, unpacked where packed, kept at one size and format."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from vidrestore.errors import InputMediaError
from vidrestore.media import probe
from vidrestore.media.combing import Combs
from vidrestore.media.formats import Colour, assumed, layout_of, planar, reshape
from vidrestore.media.planes import fielded, scaler, views
from vidrestore.types import Frame

if TYPE_CHECKING:
    from vidrestore.media.probe import StreamInfo
    from vidrestore.media.reader import ReadSettings
    from vidrestore.notes import Notes
    from vidrestore.types import Layout, Siting

# What the user may say of fields -> AVFieldOrder, libavfilter's setfield.
_FIELDS = {"tff": (2, "tff"), "bff": (3, "bff"), "progressive": (1, "prog")}
# Where chroma samples lie, by codec: JPEG and MPEG-1 put them between the luma samples, DV on every other one.
# All others begin their rows on luma samples; what single files say beyond that PyAV does not tell.
_SITING: dict[str, Siting] = {"mjpeg": "center", "mpeg1video": "center", "webp": "center", "dvvideo": "topleft"}


class Pictures:
    """Turns libav's pictures into frames of one size and pixel format, those of the first."""

    def __init__(self, path: str, notes: Notes, stream: Any, info: StreamInfo, settings: ReadSettings) -> None:
        self._path, self._notes, self._stream, self._info = path, notes, stream, info
        self._assume, self._said = settings.assume_color, settings.field_order
        self._combs = Combs()
        self._layouts: dict[tuple[Any, ...], Layout] = {}
        self._opaque = info.codec == "gif"  # its palettes come with alpha, mostly unused
        self._shape: tuple[Any, ...] = ()

    def look(self, first: Any, headed: tuple[int, int] | None = None) -> None:
        """Learn from the first picture what holds for the film. ``headed``: the size that the file's head says, where
        this picture comes later; to one of another size the shape of samples there does not apply."""
        self.matrix = probe.display_matrix(first)
        self.field_order = int(self._stream.codec_context.field_order or 0)
        if self.field_order < 2 and first.interlaced_frame:
            self.field_order = 3 if self._info.codec == "dvvideo" else 2
        if self._said is not None:
            self.field_order = _FIELDS[self._said][0]
        other = headed is not None and headed != (first.width, first.height) and self._in_step(first)
        self.sar = self._coded_shape() if other else probe.sane_sar(self._stream)
        self._pix_fmt = self._wanted(first.format.name)
        self._size = (first.width, first.height)
        self._shape = (first.format.name, *self._size)
        self._shape_first = self._coded_shape()
        self.layout = self._layout(first if self._said is None else fielded(first, _FIELDS[self._said][1]))
        self._note_dynamic_hdr(first)
        if probe.grain_is_coded(self._stream):
            what = "its film grain is made by the decoder; it is part of the pictures from here on"
            self._notes.warn("film_grain_applied", self._path, what)
        if self.layout.family != "rgb" and self.layout.matrix_tag == 2 and self._assume is None:
            span = "full" if self.layout.full_range else "limited"
            what = f"no colour tags: {self.layout.matrix} {span} assumed"
            self._notes.warn("colour_assumed", self._path, what, quiet=True)

    def frame(self, picture: Any, index: int) -> Frame:
        """The next frame. A picture of another size or format is scaled to the film's and marked as a cut."""
        shape = (picture.format.name, picture.width, picture.height)
        cut = shape != self._shape
        if cut:
            self._shape = shape
            at = f"{float(picture.pts * picture.time_base):.2f} s"
            was = f"{self._size[0]}x{self._size[1]} {self._pix_fmt}"
            self._notes.warn(
                "picture_changed",
                self._path,
                f"the picture changes to {shape[1]}x{shape[2]} {shape[0]} at {at}; it is scaled to {was}",
            )
        if self._said is not None:
            picture = fielded(picture, _FIELDS[self._said][1])
        self._note_shape(picture)
        layout, corrupt = self._layout(picture), picture.is_corrupt
        if shape != (self._pix_fmt, *self._size):
            if self._opaque:
                self._note_transparency(picture)
            picture = reshape(scaler("reader"), picture, None, self._pix_fmt, self._size)
        frame = Frame(
            planes=views(picture, layout),
            layout=layout,
            pts=picture.pts,
            duration=picture.duration,
            time_base=picture.time_base,
            index=index,
            corrupt=corrupt,
            cut=cut,
            native=picture,
        )
        if not layout.interlaced and self._said is None and self._combs.found(frame):
            what = (
                "moving edges are combed though it is flagged progressive; --field tff or bff says which field is first"
            )
            self._notes.warn("unflagged_fields", self._path, f"{what}, av.bwdif makes whole pictures of them")
        return frame

    def _note_shape(self, picture: Any) -> None:
        """The shape of samples is the first picture's; PyAV's pictures have none, but their decoder has."""
        now = self._coded_shape()
        if now != self._shape_first and self._in_step(picture):
            kept = self.sar or 1
            self._notes.warn("sar_changed", self._path, f"the shape of samples changes to {now or 1}; {kept} is kept")

    def _in_step(self, picture: Any) -> bool:
        """Whether the decoder, which is some pictures ahead, is still at ones of this size."""
        context = self._stream.codec_context
        return context is not None and (context.width, context.height) == (picture.width, picture.height)

    def _coded_shape(self) -> Fraction | None:
        context = self._stream.codec_context
        sar = None if context is None else context.sample_aspect_ratio
        return Fraction(sar) if sar else None

    def _note_dynamic_hdr(self, first: Any) -> None:
        names = probe.dynamic_hdr(first)
        if self._info.tag in ("dvh1", "dvhe", "dav1") and self.layout.transfer == 2:
            raise InputMediaError(self._path, "Dolby Vision profile 5 has no usable base layer")
        for name in names:
            kind = name.lower().replace(" ", "_").replace("+", "plus")
            self._notes.warn(f"{kind}_dropped", self._path, f"{name} metadata dropped")

    def _wanted(self, pix_fmt: str) -> str:
        return "gbrp" if self._opaque else planar(pix_fmt, self._path)

    def _layout(self, picture: Any) -> Layout:
        key = (
            picture.color_range,
            picture.color_primaries,
            picture.color_trc,
            picture.colorspace,
            picture.interlaced_frame,
        )
        if key not in self._layouts:
            self._layouts[key] = self._new_layout(*key)
        return self._layouts[key]

    def _new_layout(self, span: int, primaries: int, transfer: int, matrix: int, interlaced: bool) -> Layout:
        width, height = self._size
        colour = Colour(primaries, transfer, matrix, span)
        if self._assume is not None:
            told = assumed(self._assume, height)
            colour = told if transfer not in (16, 18) else replace(told, transfer=transfer)
        return layout_of(
            self._pix_fmt,
            width,
            height,
            colour,
            sar=self.sar or Fraction(1),
            turn=probe.turn_of(self.matrix),
            interlaced=interlaced if self.field_order < 2 else True,
            siting=_SITING.get(self._info.codec, "left"),
        )

    def _note_transparency(self, picture: Any) -> None:
        if picture.format.name not in ("bgra", "rgba"):
            return
        plane = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        if rows[:, 3 : 4 * plane.width : 4].min() < 255:
            self._notes.warn("transparency_dropped", self._path, "transparent pixels of the GIF become opaque")
