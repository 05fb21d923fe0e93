"""libavfilter between two stages: frames in, frames out, with what is told of a film kept true.

Filters see stored pictures, not turned ones, at the film's own depth and colour tags. They may change size, format,
rate and the number of frames; times stay on the film's clock, so that sound stays in step.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import av
from av.filter import Filter, Graph

from vidrestore.chain import ChainError, filter_args
from vidrestore.errors import RunError, did_you_mean
from vidrestore.media.faults import AV_ERRORS, libav_lines, reason
from vidrestore.media.formats import Colour, layout_of, planar
from vidrestore.media.graphs import pulled
from vidrestore.media.planes import native_of, tag, views
from vidrestore.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidrestore.chain import Step
    from vidrestore.media.probe import MediaInfo
    from vidrestore.notes import Notes
    from vidrestore.types import Layout

_TRIED = 64  # blank frames that tell what a filter does to size, format and rate
_DYNAMIC_INPUTS, _DYNAMIC_OUTPUTS = 1, 2  # libavfilter's flags: as many as the options say
_FINE = 1000  # parts in which the shape of samples is read, and parts of these
_WANTS_FULL_FRAMES = frozenset({"bwdif", "yadif", "w3fdif", "estdif", "nnedi", "fieldmatch", "field", "separatefields"})
_TELLS = ("Unable to parse", "No such option", "No option name")  # of what libav says about options, the best
_MOVES_TIME = frozenset({"setpts", "trim"})
# Filters that ffmpeg has and libav's builds for Python have not, and what does nearly the same.
_INSTEAD = {"hqdn3d": "nlmeans", "eq": "colorlevels", "boxblur": "avgblur", "zscale": "scale", "smartblur": "gblur"}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What comes out of a filter."""

    layout: Layout
    rate: Fraction
    time_base: Fraction
    interlaced: bool  # of blank frames, which are marked so


class Filters:
    """A line of filters. ``push`` every frame, then ``flush``; frames are numbered anew from 0.

    ``info`` describes what comes out. Raises ChainError (2) for what libavfilter refuses.
    """

    def __init__(self, steps: Sequence[Step], info: MediaInfo, notes: Notes) -> None:
        self._steps, self._source, self._notes = steps, info, notes
        seen = _Seen(info.layout, info.rate, info.time_base, info.layout.interlaced)
        for step in steps:
            seen = _tried(step, seen)
        self._seen = seen
        self.info = self._described(seen)
        self._graph: Any = None
        self._layout: Layout | None = None
        self._cut = False
        self.frames_out = 0
        self._say()

    def push(self, frame: Frame) -> Iterator[Frame]:
        """What comes out once this frame has gone in. Where colour tags change the filters begin anew; telecined film,
        whose pictures are flagged interlaced in turn, goes on."""
        layout = replace(frame.layout, interlaced=False)
        if layout != self._layout:
            yield from self.flush()
            self._graph = _graph(self._steps, _Seen(layout, self._source.rate, frame.time_base, False))
            self._layout = layout
        self._cut |= frame.cut
        try:
            self._graph.vpush(native_of(frame))
        except av.EOFError:  # a filter (trim) has ended the film; it is read on for its sound
            return
        except AV_ERRORS as error:
            raise self._failed(error) from error
        yield from self._ready()

    def flush(self) -> Iterator[Frame]:
        """What filters still hold."""
        if self._graph is None:
            return
        with suppress(av.EOFError):
            self._graph.vpush(None)
        yield from self._ready()
        self._graph = self._layout = None

    def _ready(self) -> Iterator[Frame]:
        try:
            yield from map(self._frame, pulled(self._graph))
        except AV_ERRORS as error:
            raise self._failed(error) from error

    def _frame(self, picture: Any) -> Frame:
        layout, info = self._seen.layout, self.info
        shape = (picture.format.name, picture.width, picture.height)
        if shape != (layout.pix_fmt, layout.width, layout.height):
            what = f"gave a picture of {shape[1]}x{shape[2]} {shape[0]} after {layout.width}x{layout.height}"
            raise RunError(
                self._name, f"{what} {layout.pix_fmt}", "a film has one size and format: add av.scale, av.format"
            )
        if picture.pts is None:
            raise RunError(self._name, "gave a picture without a time", "add av.setpts=N/FRAME_RATE/TB")
        assert self._layout is not None
        layout = _coloured(layout, picture, self._layout)
        tag(picture, layout)
        period = round(1 / (info.rate * info.time_base))
        frame = Frame(
            planes=views(picture, layout),
            layout=layout,
            pts=round(picture.pts * picture.time_base / info.time_base),
            duration=round(picture.duration * picture.time_base / info.time_base) or period,
            time_base=info.time_base,
            index=self.frames_out,
            corrupt=picture.is_corrupt,
            cut=self._cut,
            native=picture,
        )
        self._cut = False
        self.frames_out += 1
        return frame

    def _described(self, seen: _Seen) -> MediaInfo:
        source = self._source
        share = seen.rate / source.rate
        return replace(
            source,
            layout=seen.layout,
            pix_fmt=seen.layout.pix_fmt,
            rate=seen.rate,
            time_base=seen.time_base,
            frames=None if source.frames is None else round(source.frames * share),
            field_order=source.field_order if seen.layout.interlaced else 1,
            sar=seen.layout.sar if source.sar is not None or seen.layout.sar != 1 else None,
        )

    def _say(self) -> None:
        before, after, path = self._source, self.info, self._source.path
        if after.rate != before.rate:
            what = f"{self._name}: {_short(after.rate)} frames a second, {_short(before.rate)} before"
            self._notes.warn("rate_changed", path, what, quiet=True)
        if moved := next((s.plugin for s in self._steps if s.plugin in _MOVES_TIME), None):
            what = f"av.{moved} moves or cuts the picture alone, sound stays as it is; -ss and -to cut both"
            self._notes.warn("picture_moved", path, what)

    @property
    def _name(self) -> str:
        return ",".join(f"av.{step.plugin}" for step in self._steps)

    def _failed(self, error: BaseException) -> RunError:
        return RunError(self._name, f"failed after {self.frames_out} frames: {reason(error)}")


class Filtered:
    """A source behind filters: frames, ``info`` and what lies between frames are theirs, all else is the source's.

    ``frames`` may be driven from outside by ``through``, where what is filtered are not the source's own frames.
    """

    def __init__(self, source: Any, steps: Sequence[Step], notes: Notes) -> None:
        self._inner = source
        self._filters = Filters(steps, source.info, notes)
        self.info = self._filters.info
        self.copied = _Between(source.copied)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def frames(self) -> Iterator[Frame]:
        """The source's frames, filtered."""
        for frame in self._inner.frames():
            yield from self.through(frame)
        yield from self.through(None)

    def through(self, frame: Frame | None) -> Iterator[Frame]:
        """What the filters give for one more frame, or for the end."""
        upto = None if frame is None else frame.index
        for out in self._filters.flush() if frame is None else self._filters.push(frame):
            self.copied.before[out.index] = upto
            yield out


class _Between:
    """The packets between frames, by the filtered frames' numbers."""

    def __init__(self, copied: Any) -> None:
        self._copied = copied
        self.before: dict[int, int | None] = {}  # a frame's number -> that of the last one that had gone in

    def take(self, upto: int | None = None) -> list[Any]:
        """As `Copied.take`."""
        return self._copied.take(None if upto is None else self.before.pop(upto, None))  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._copied, name)


def deinterlaces(steps: Sequence[Step]) -> bool:
    """Whether one of the filters makes whole pictures of fields."""
    return any(step.plugin in _WANTS_FULL_FRAMES for step in steps)


def check(steps: Sequence[Step]) -> None:
    """Names and options, before anything is opened. Raises ChainError (2) in libavfilter's words."""
    for step in steps:
        _known(step)
        _added(Graph(), step)


def _known(step: Step) -> None:
    name = step.plugin or ""
    column = step.plugin_column or None
    if name not in av.filter.filters_available:
        pipe = "filter with ffmpeg in a pipe"
        near = did_you_mean(name, av.filter.filters_available)
        hint = f"; use av.{_INSTEAD[name]}, or {pipe}" if name in _INSTEAD else near or f"; {pipe}"
        raise ChainError(f"this libavfilter has no '{name}'{hint}", column)
    kind: Any = Filter(name)
    inputs = 1 if kind.flags & _DYNAMIC_INPUTS else len(kind.inputs)
    outputs = 1 if kind.flags & _DYNAMIC_OUTPUTS else len(kind.outputs)
    if inputs != 1 or outputs != 1:
        raise ChainError(f"av.{name} has not one input and one output, as a step must have", column)


def _added(graph: Any, step: Step) -> Any:
    name, args = step.plugin or "", filter_args(step)
    try:
        return graph.add(name, args) if args else graph.add(name)
    except AV_ERRORS as error:
        lines = libav_lines(lambda: Graph().add(name, args))
        colon = ":" in "".join(step.raw.split("'")[1::2])
        told = [line for line in lines if line.startswith(_TELLS)] or lines
        raise _refused(step, error, told, r"; in quotes a colon is written \:" if colon else "") from error


def _refused(step: Step, error: BaseException, lines: list[str], hint: str = "") -> ChainError:
    said = (lines or [reason(error)])[0].strip().rstrip(".")
    return ChainError(f"av.{step.plugin}: {said[:1].lower()}{said[1:]}{hint}", step.plugin_column or None)


def _graph(steps: Sequence[Step], seen: _Seen, *, probe: bool = False) -> Any:
    """A configured graph for pictures as seen. ``probe``: ends in a picture whose size tells the samples' shape."""

    def made() -> Any:
        graph = Graph()
        line = [graph.add("buffer", _buffer(seen))]
        if seen.interlaced:
            line.append(graph.add("setfield", "tff"))
        line += [_added(graph, step) for step in steps]
        if probe:
            shape = f"w=1+floor({_FINE}*sar):h=1+round({_FINE}*({_FINE}*sar-floor({_FINE}*sar)))"
            line.append(graph.add("scale", f"{shape}:flags=neighbor"))
        line.append(graph.add("buffersink"))
        for one, next_one in pairwise(line):
            one.link_to(next_one)
        graph.configure()
        return graph

    try:
        return made()
    except AV_ERRORS as error:
        raise _refused(steps[-1], error, libav_lines(made)) from error


def _buffer(seen: _Seen) -> str:
    """The graph's beginning; PyAV's own leaves out sample shape, rate and colour."""
    layout, sar = seen.layout, seen.layout.sar
    values = {
        "video_size": f"{layout.width}x{layout.height}",
        "pix_fmt": layout.pix_fmt,
        "time_base": f"{seen.time_base.numerator}/{seen.time_base.denominator}",
        "pixel_aspect": f"{sar.numerator}/{sar.denominator}",
        "frame_rate": f"{seen.rate.numerator}/{seen.rate.denominator}",
        "colorspace": str(layout.matrix_tag),
        "range": str(layout.range_tag),
    }
    return ":".join(f"{key}={value}" for key, value in values.items())


def _tried(step: Step, seen: _Seen) -> _Seen:
    """What a filter makes of blank frames. One that lets none of them through (a cut further on) changes nothing."""
    _known(step)
    pictures = _blank(step, seen)
    if not pictures:
        return seen
    first = pictures[0]
    pix_fmt = planar(first.format.name, f"av.{step.plugin}")
    if pix_fmt != first.format.name:
        what = f"av.{step.plugin} gives {first.format.name}"
        raise ChainError(f"{what}; add av.format={pix_fmt} after it", step.plugin_column or None)
    interlaced = seen.interlaced and bool(first.interlaced_frame)
    shape = _blank(step, seen, probe=True)
    sar = _shape_of(shape[0]) if shape else seen.layout.sar
    layout = layout_of(
        pix_fmt, first.width, first.height, _colour(first, seen.layout),
        sar=sar, turn=seen.layout.turn, interlaced=interlaced, siting=seen.layout.siting,
    )  # fmt: skip
    return _Seen(layout, _rate(pictures, seen), first.time_base, interlaced)


def _shape_of(probe: Any) -> Fraction:
    """The shape of samples that a probe's width (thousandths) and height (thousandths of these) tell; libav's frames
    have one, PyAV's do not."""
    sar: Fraction = (probe.width - 1 + Fraction(probe.height - 1, _FINE)) / _FINE
    return sar.limit_denominator(500)


def _blank(step: Step, seen: _Seen, *, probe: bool = False) -> list[Any]:
    graph = _graph([step], seen, probe=probe)
    found: list[Any] = []
    for i in range(_TRIED):
        picture = av.VideoFrame(seen.layout.width, seen.layout.height, seen.layout.pix_fmt)
        for plane in picture.planes:  # its memory is not cleared, and filters that look at pictures would see noise
            plane.update(bytes(plane.buffer_size))
        tag(picture, seen.layout)
        picture.pts, picture.time_base = round(i / (seen.rate * seen.time_base)), seen.time_base
        graph.vpush(picture)
        found += pulled(graph)
        if probe and found:
            break
    graph.vpush(None)
    return found + list(pulled(graph))


def _rate(pictures: list[Any], seen: _Seen) -> Fraction:
    """Frames a second, from the times of what came out: exact where their ticks are even."""
    stamps = [p.pts for p in pictures if p.pts is not None]
    if len(stamps) < 3 or stamps[-1] <= stamps[0]:
        return seen.rate
    base = Fraction(pictures[0].time_base)
    steps = {b - a for a, b in pairwise(stamps)}
    if len(steps) == 1:
        exact = 1 / (steps.pop() * base)
        return seen.rate if abs(exact / seen.rate - 1) < Fraction(1, 500) else exact
    share: Fraction = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * base) / seen.rate
    return seen.rate * share.limit_denominator(12)


def _colour(picture: Any, before: Layout) -> Colour:
    """The picture's tags; those that a filter left unset are the tags of what went in."""
    return Colour(
        before.primaries if picture.color_primaries == 2 else picture.color_primaries,
        before.transfer if picture.color_trc == 2 else picture.color_trc,
        before.matrix_tag if picture.colorspace == 2 else picture.colorspace,
        picture.color_range or before.range_tag,
    )


def _coloured(layout: Layout, picture: Any, before: Layout) -> Layout:
    colour = _colour(picture, before)
    if colour == Colour(layout.primaries, layout.transfer, layout.matrix_tag, layout.range_tag):
        return layout
    return layout_of(
        layout.pix_fmt, layout.width, layout.height, colour,
        sar=layout.sar, turn=layout.turn, interlaced=layout.interlaced, siting=layout.siting,
    )  # fmt: skip


def _short(rate: Fraction) -> str:
    return f"{float(rate):.5g}"
