"""Films written: the engine's frames encoded, all other streams copied beside them, published when whole."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
from av.codec.context import Flags
from pydantic import BaseModel, ConfigDict

from vidrestore.errors import InputMediaError, OutputError, RunError, UsageError, did_you_mean
from vidrestore.media.ebml import marked, set_display_shape
from vidrestore.media.encoding import EncodeSettings, VideoPlan, container_of, plan_video
from vidrestore.media.faults import AV_ERRORS, libav_lines, of_the_disk, reason, write_error
from vidrestore.media.fitting import Fitter
from vidrestore.media.planes import native_of
from vidrestore.media.probe import UPRIGHT, plain_matrix
from vidrestore.media.publish import PartFile
from vidrestore.media.relay import Relay
from vidrestore.media.stills import StillSink
from vidrestore.media.tracks import StreamPlan, plan_streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vidrestore.media.probe import MediaInfo
    from vidrestore.media.reader import Source
    from vidrestore.notes import Notes
    from vidrestore.types import Frame, Layout

_MOV = ("mp4", "mov")
# Tags that describe the input's file and not the film.
_OF_THE_FILE = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
_ITUNES = frozenset(
    [
        "title",
        "artist",
        "author",
        "album_artist",
        "composer",
        "album",
        "date",
        "comment",
        "genre",
        "copyright",
        "grouping",
        "lyrics",
        "description",
        "synopsis",
        "show",
        "episode_id",
        "network",
        "keywords",
        "creation_time",
    ]
)
_COUNTED = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS")


@dataclass(slots=True)
class Summary:
    """What was written."""

    target: str
    container: str
    encoder: str = ""
    pix_fmt: str = ""
    options: dict[str, str] = field(default_factory=dict)
    threads: int = 0
    frames: int = 0
    packets_copied: int = 0
    ts_fixed: int = 0
    streams: list[str] = field(default_factory=list)  # one line a stream: what became of it


class PyAVEncoder:
    """Writes with libav's encoders and muxers."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, options: Any = None) -> None:
        self.options = options

    @contextmanager
    def open(
        self,
        target: Path | None,
        source: Source,
        settings: EncodeSettings,
        notes: Notes,
        *,
        overwrite: bool = False,
        layout: Layout | None = None,
    ) -> Iterator[Sink | StillSink]:
        """Open an output; None is standard output. All that can fail is tried here, before the first frame.

        ``layout`` describes the frames that will come, where it is not the source's. Leaving the context without
        ``finish()`` removes what was written. Raises UsageError (2) and OutputError (5).
        """
        info = source.info
        container = container_of(target, settings, info)
        if container == "still" and target is not None:
            sink: Sink | StillSink = StillSink(target, source, settings, overwrite=overwrite)
        else:
            sink = Sink(target, container, source, settings, notes, overwrite=overwrite, layout=layout or info.layout)
        try:
            yield sink
        finally:
            sink.abort()


class Sink:
    """An opened output: ``write`` every frame, then ``finish``; ``abort`` at any time."""

    def __init__(
        self,
        target: Path | None,
        container: str,
        source: Source,
        settings: EncodeSettings,
        notes: Notes,
        *,
        overwrite: bool,
        layout: Layout,
    ) -> None:
        self._subject = str(target) if target is not None else "standard output"
        self._source, self._notes, self._container_name = source, notes, container
        info = source.info
        plan = plan_video(info, layout, container, settings, self._subject)
        tracks = plan_streams(info, source.streams, container, settings, self._subject)
        tracks.warn(notes, info.path)
        _warn_losses(info, layout, container, plan, notes)
        self.summary = Summary(self._subject, container, plan.encoder, plan.pix_fmt, dict(plan.options), plan.threads)
        self._fitter = Fitter(layout, plan)
        self._size = (plan.width, plan.height)
        self._needs_shape = target is not None and needs_shape(container, plan.encoder, info)
        self._open = True
        self._packets = 0
        self._part = PartFile(target, info.path, overwrite=overwrite) if target is not None else None
        try:
            self._out = self._open_container(settings, info, tracks)
            self._video = self._build(plan, tracks, settings, layout)
            self._begin(plan)
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Encode one frame, after the other streams' packets that belong before it.

        Raises RunError (6) for the encoder, OutputError (5) for the disk, ClosedPipe (141).
        """
        self._relay.send(self._source.copied.take(frame.index))
        picture = self._fitter.fit(native_of(frame), frame.layout)
        self._encode(picture, frame.index)
        self.summary.frames += 1

    def finish(self) -> None:
        """Flush, check and publish. Raises OutputError (5), RunError (6) or ClosedPipe (141)."""
        if self.summary.frames == 0:
            raise InputMediaError(self._source.path, "no frames")
        self._relay.send(self._source.copied.take())
        self._encode(None, self.summary.frames)
        self._relay.finish()
        self._close()
        self.summary.packets_copied, self.summary.ts_fixed = self._relay.sent, self._relay.fixed
        if self._packets != self.summary.frames:
            what = f"{self.summary.encoder} gave {self._packets} pictures for {self.summary.frames} frames"
            raise RunError(self._subject, what)
        self._open = False
        if self._part is not None:
            sar = self._source.info.sar
            if self._needs_shape and sar is not None and not set_display_shape(self._part.path, *self._size, sar):
                self._notes.warn("sar_lost", self._source.path, f"the shape of samples {sar} could not be written")
            self._verify()
            self._part.publish()

    def abort(self, *, keep_partial: bool = False) -> None:
        """End without publishing: the part file is removed, or closed properly and kept. Harmless afterwards."""
        if not self._open:
            return
        self._open = False
        out = getattr(self, "_out", None)
        if out is not None:
            with suppress(*AV_ERRORS):
                if keep_partial and self.summary.frames:
                    self._out.mux(self._video.encode(None))
            with suppress(*AV_ERRORS):
                out.close()
        if self._part is None:
            return
        if keep_partial and self.summary.frames:
            self._part.close()
        else:
            self._part.discard()

    @property
    def part(self) -> Path | None:
        """Where the output is until it is published."""
        return self._part.path if self._part is not None else None

    # -- opening ---------------------------------------------------------------------------------------

    def _open_container(self, settings: EncodeSettings, info: MediaInfo, tracks: StreamPlan) -> Any:
        name = str(self._part.path) if self._part is not None else "pipe:1"
        covers = any(track.stream.cover and track.action == "copy" for track in tracks.tracks)
        options = muxer_options(self._container_name, piped=self._part is None, covers=covers)
        if settings.bitexact:
            options["fflags"] = "+bitexact"
        out = av.open(
            name, "w", format=self._container_name, container_options=options, metadata_errors="surrogateescape"
        )
        tags = {k: v for k, v in info.metadata.items() if k.lower() not in _OF_THE_FILE}
        tags.update(settings.tags)
        if covers and self._container_name in _MOV:
            tags = _known_tags(tags, settings.tags, self._notes, info.path)
        out.metadata.update(tags)
        if info.chapters and self._container_name in (*_MOV, "matroska", "webm", "nut"):
            out.set_chapters(list(_shifted(info.chapters, self._source)))
        return out

    def _build(self, plan: VideoPlan, tracks: StreamPlan, settings: EncodeSettings, layout: Layout) -> Any:
        """Add all streams in the input's order. Gives the film's."""
        video = None
        self._relay = Relay(self._out, self._container_name, self._source, self._notes, self._subject)
        for track in tracks.tracks:
            fate = f"{track.action} {track.codec}".strip()
            self.summary.streams.append(f"{track.stream}: {fate}{': ' + track.why if track.why else ''}")
            if track.action == "restore":
                video = self._add_video(plan, settings, layout, tracks.timecode)
            elif track.action in ("copy", "transcode", "attach"):
                self._relay.add(track)
        return video

    def _add_video(self, plan: VideoPlan, settings: EncodeSettings, layout: Layout, timecode: str | None) -> Any:
        info = self._source.info
        try:
            video = self._out.add_stream(plan.encoder, rate=info.rate, options=dict(plan.options))
        except ValueError as error:
            remedy = "use -o out.mkv or another -c:v"
            raise OutputError(self._subject, f"{self._container_name} cannot hold {plan.encoder}", remedy) from error
        context = video.codec_context
        context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pix_fmt
        context.time_base = info.time_base
        context.framerate = info.rate
        context.thread_count = plan.threads
        context.flags |= Flags.frame_duration
        context.color_range, context.color_primaries = layout.range_tag, layout.primaries
        context.color_trc, context.colorspace = layout.transfer, layout.matrix_tag
        if info.sar is not None:
            context.sample_aspect_ratio = info.sar
        if layout.interlaced and plan.encoder in ("libx264", "prores_ks", "mpeg2video", "ffv1"):
            context.flags |= Flags.interlaced_dct
            context.field_order = info.field_order if info.field_order > 1 else 2
        if self._container_name in _MOV and context.codec.canonical_name == "hevc":
            context.codec_tag = "hvc1"
        if info.matrix != UPRIGHT and self._container_name in (*_MOV, "matroska", "webm"):
            unit = {abs(n) for n in (*info.matrix[:2], *info.matrix[3:5])} == {0, 65536}
            exact = unit and self._container_name in _MOV
            video.set_display_matrix(info.matrix if exact else plain_matrix(info.matrix))
        kept = {k: v for k, v in info.stream.metadata.items() if k.lower() not in _OF_THE_FILE}
        video.metadata.update({k: v for k, v in kept.items() if not k.startswith(_COUNTED)})
        if timecode is not None:
            video.metadata["timecode"] = timecode
        if self._needs_shape:
            video.metadata["title"] = marked(video.metadata.get("title", ""))
        video.disposition = info.stream.disposition
        return video

    def _begin(self, plan: VideoPlan) -> None:
        """Open the encoder and write the header, so that every refusal comes now."""
        context = self._video.codec_context
        try:
            context.open()
        except AV_ERRORS as error:
            raise _encoder_error(self._subject, plan, context, error) from error
        unused = sorted(context.options)
        if unused:
            known = [o.name for kind in _options_of(context) for o in kind]
            what = f"{plan.encoder} has no option '{unused[0]}'{did_you_mean(unused[0], known)}"
            raise UsageError("encoder", what)
        try:
            self._out.start_encoding()
        except AV_ERRORS as error:
            if of_the_disk(error):
                raise write_error(self._subject, error) from error
            raise OutputError(
                self._subject, f"{self._container_name} refuses these streams: {reason(error)}", "use -o out.mkv"
            ) from error

    # -- writing ---------------------------------------------------------------------------------------

    def _encode(self, picture: av.VideoFrame | None, index: int) -> None:
        try:
            packets = self._video.encode(picture)
        except AV_ERRORS as error:
            what = f"{self.summary.encoder} failed at frame {index}: {reason(error)}"
            raise RunError(self._subject, what) from error
        for packet in packets:
            self._packets += 1
            self._relay.mux(packet)

    def _close(self) -> None:
        try:
            self._out.close()
        except AV_ERRORS as error:
            raise write_error(self._subject, error) from error

    def _verify(self) -> None:
        """Open what was written: it must be readable and hold the film."""
        assert self._part is not None
        if self._part.path.stat().st_size == 0:
            raise OutputError(self._subject, "nothing was written")
        if self._container_name == "yuv4mpegpipe":
            return
        try:
            with av.open(str(self._part.path), metadata_errors="surrogateescape") as written:
                counts = [s.frames for s in written.streams.video]
        except AV_ERRORS as error:
            raise OutputError(self._subject, f"what was written cannot be read: {reason(error)}") from error
        if not counts:
            raise OutputError(self._subject, "what was written holds no film")


def needs_shape(container: str, encoder: str, info: MediaInfo) -> bool:
    """Whether neither the bitstream nor PyAV tells Matroska's muxer that samples are not square."""
    told = ("libx264", "libx264rgb", "libx265")
    return container in ("matroska", "webm") and info.sar not in (None, 1) and encoder not in told


def muxer_options(container: str, *, piped: bool, covers: bool = False) -> dict[str, str]:
    """Options of the muxer: own tags survive in mp4, and pipes get formats that need no seeking.

    mp4 keeps either tags of any name or cover pictures, which are iTunes' invention.
    """
    if container in _MOV:
        flags = ([] if covers else ["use_metadata_tags"]) + (["frag_keyframe", "delay_moov"] if piped else [])
        return {"movflags": "+".join(flags)} if flags else {}
    return {"strict": "-1"} if container == "yuv4mpegpipe" else {}


def _known_tags(tags: Mapping[str, str], own: Mapping[str, str], notes: Notes, path: str) -> dict[str, str]:
    """The tags that iTunes' list has a place for; our own go into the comment."""
    kept = {k: v for k, v in tags.items() if k in _ITUNES}
    lost = sorted(k for k in tags if k not in _ITUNES and k not in own)
    if lost:
        notes.warn("tags_lost", path, f"mp4 with a cover picture has no place for {', '.join(lost)}")
    words = [kept["comment"]] if "comment" in kept else []
    kept["comment"] = "; ".join(words + [f"{k}: {v}" for k, v in own.items() if k not in _ITUNES])
    return {k: v for k, v in kept.items() if v}


def _shifted(chapters: Any, source: Source) -> Any:
    """Chapters moved with the film; those that a cut leaves out are gone."""
    for chapter in chapters:
        base = chapter["time_base"]
        ticks = round(source.shift / base) if source.shift else 0
        start, end = max(0, chapter["start"] - ticks), chapter["end"] - ticks
        if end > 0 or not ticks:
            yield {**chapter, "start": start, "end": end}


def _warn_losses(info: MediaInfo, layout: Layout, container: str, plan: VideoPlan, notes: Notes) -> None:
    """Say once what the chosen encoder or container cannot carry."""
    if info.hdr is not None and plan.encoder not in ("libx264", "libx265", "libsvtav1"):
        notes.warn("hdr_metadata_lost", info.path, f"{plan.encoder} cannot carry mastering display and light level")
    if info.sar not in (None, 1) and container in ("nut", "mpegts") and plan.encoder in ("ffv1", "libvpx-vp9"):
        notes.warn("sar_lost", info.path, f"{container} does not keep the shape of samples ({info.sar}); use mkv")
    if info.matrix != UPRIGHT and container not in (*_MOV, "matroska", "webm"):
        notes.warn("rotation_lost", info.path, f"{container} holds no rotation; use mkv or mp4")
    if layout.interlaced and plan.encoder in ("libx265", "libvpx-vp9", "libsvtav1"):
        notes.warn("interlace_flag_lost", info.path, f"{plan.encoder} codes whole frames; fields are not flagged")
    if info.chapters and container not in (*_MOV, "matroska", "webm", "nut"):
        notes.warn("chapters_lost", info.path, f"{container} holds no chapters; use mkv or mp4")
    if plan.pix_fmt != layout.pix_fmt and not plan.pix_fmt.startswith(("bgr", "rgb", "yuvj", layout.pix_fmt)):
        notes.warn("pix_fmt_widened", info.path, f"{layout.pix_fmt} is written as {plan.pix_fmt}")


def _options_of(context: Any) -> tuple[Any, Any]:
    supported = context.supported_options
    return supported.generic, supported.private


def _encoder_error(subject: str, plan: VideoPlan, context: Any, error: BaseException) -> Exception:
    """Why an encoder did not open: mostly a value of the user's."""

    def again() -> None:
        fresh: Any = av.CodecContext.create(plan.encoder, "w")
        fresh.width, fresh.height, fresh.pix_fmt = plan.width, plan.height, plan.pix_fmt
        fresh.time_base, fresh.framerate = context.time_base, context.framerate
        fresh.options = dict(plan.options)
        fresh.open()

    lines = [line for line in libav_lines(again) if "Error" not in line[:6]]
    said = lines[0] if lines else reason(error)
    if any(word in said for word in ("Unable to parse", "Undefined constant", "Error setting", "not found", "value")):
        return UsageError("encoder", f"{plan.encoder}: {said}")
    return OutputError(subject, f"{plan.encoder} refuses {plan.width}x{plan.height} {plan.pix_fmt}: {said}")
