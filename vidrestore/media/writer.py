"""Films written: the engine's frames encoded, all other streams copied beside them, published when whole."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from pydantic import BaseModel, ConfigDict

from vidrestore.errors import EncoderFailed, InputMediaError, OutputError, VidrestoreError
from vidrestore.media.ebml import ShapedPipe, set_display_shape
from vidrestore.media.encoder import LibavCoders
from vidrestore.media.encoding import EncodeSettings, container_of, plan_video
from vidrestore.media.faults import AV_ERRORS, of_the_disk, reason, write_error
from vidrestore.media.fitting import Fitter
from vidrestore.media.heads import (
    CHAPTERS,
    MOV,
    container_tags,
    muxer_options,
    needs_shape,
    sar_for,
    shifted_chapters,
    warn_date,
    warn_losses,
)
from vidrestore.media.planes import native_of
from vidrestore.media.probe import has_captions
from vidrestore.media.publish import PartFile
from vidrestore.media.relay import Relay
from vidrestore.media.stills import StillSink
from vidrestore.media.tracks import StreamPlan, plan_streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.media.encoder import Coders
    from vidrestore.media.probe import MediaInfo
    from vidrestore.media.reader import Source
    from vidrestore.notes import Notes
    from vidrestore.types import Frame, Layout


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
        coders: Coders | None = None,
    ) -> Iterator[Sink | StillSink]:
        """Open an output; None is standard output. All that can fail is tried here, before the first frame.

        ``layout`` describes the frames that will come, where it is not the source's; ``coders`` code them in libav's
        place. Leaving the context without ``finish()`` removes what was written. Raises UsageError (2) and
        OutputError (5).
        """
        info = source.info
        container = container_of(target, settings, info)
        if container == "still" and target is not None:
            warn_date(info, settings.tags, container, notes)
            sink: Sink | StillSink = StillSink(target, source, settings, overwrite=overwrite)
        else:
            sink = Sink(
                target, container, source, settings, notes,
                overwrite=overwrite, layout=layout or info.layout, coders=coders or LibavCoders(),
            )  # fmt: skip
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
        coders: Coders,
    ) -> None:
        self._subject = str(target) if target is not None else "standard output"
        self._source, self._notes, self._container_name = source, notes, container
        info = source.info
        plan = plan_video(info, layout, container, settings, self._subject, coders.known)
        tracks = plan_streams(info, source.streams, container, settings, self._subject)
        tracks.warn(notes, info.path)
        warn_losses(info, layout, container, plan, notes)
        warn_date(info, settings.tags, container, notes)
        self.summary = Summary(self._subject, container, plan.encoder, plan.pix_fmt, dict(plan.options), plan.threads)
        self._coder = coders.coder(plan, self._subject)
        self._fitter = Fitter(layout, replace(plan, pix_fmt=self._coder.pix_fmt))
        self._size = (plan.width, plan.height)
        self._sar = sar_for(info, layout)
        self._needs_shape = needs_shape(container, plan.encoder, self._sar)
        self._open = True
        self._packets = 0
        self._part = None
        if target is not None:
            self._part = PartFile(target, info.path, overwrite=overwrite, preserve=settings.preserve)
        try:
            self._out = self._open_container(settings, info, tracks)
            self._video = self._build(tracks, layout)
            self._begin()
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Encode one frame, after the other streams' packets that belong before it.

        Raises EncoderFailed (6), OutputError (5) for the disk, ClosedPipe (141).
        """
        self._relay.send(self._source.copied.take(frame.index))
        native = native_of(frame)
        picture = self._fitter.fit(native, frame.layout)
        if has_captions(native) and not (self._coder.captions and has_captions(picture)):
            what = f"closed captions dropped: {self.summary.encoder} does not write them; use -c:v libx264 or libx265"
            self._notes.warn("captions_dropped", self._source.path, what)
        self._encode(picture, frame.index)
        self.summary.frames += 1

    def finish(self) -> None:
        """Flush, check and publish. Raises OutputError (5), EncoderFailed (6) or ClosedPipe (141)."""
        if self.summary.frames == 0:
            raise InputMediaError(self._source.path, "no frames")
        self._relay.send(self._source.copied.take())
        self._encode(None, self.summary.frames)
        self._relay.finish()
        self._close()
        self.summary.packets_copied, self.summary.ts_fixed = self._relay.sent, self._relay.fixed
        if self._packets != self.summary.frames:
            what = f"{self.summary.encoder} gave {self._packets} pictures for {self.summary.frames} frames"
            raise EncoderFailed(self._subject, what)
        if self._part is not None:
            self._shape()
            self._verify()
        self._open = False
        if self._part is not None:
            self._part.publish()

    def abort(self, *, keep_partial: bool = False) -> None:
        """End without publishing: the part file is removed, or closed properly and kept. Harmless afterwards."""
        if not self._open:
            return
        self._open = False
        out = getattr(self, "_out", None)
        if out is not None:
            with suppress(*AV_ERRORS, VidrestoreError):
                if keep_partial and self.summary.frames:
                    self._encode(None, self.summary.frames)
            with suppress(*AV_ERRORS):
                out.close()
        self._coder.close()
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
        name: Any = str(self._part.path) if self._part is not None else "pipe:1"
        if self._part is None and self._needs_shape and self._sar is not None:
            name = ShapedPipe(1, *self._size, self._sar)
        form = self._container_name
        covers = form in MOV and any(track.stream.cover and track.action == "copy" for track in tracks.tracks)
        options = muxer_options(form, piped=self._part is None, covers=covers, bitexact=settings.bitexact)
        out = av.open(name, "w", format=form, container_options=options, metadata_errors="surrogateescape")
        out.metadata.update(container_tags(info, settings.tags, self._notes, itunes=covers))
        if info.chapters and form in CHAPTERS:
            out.set_chapters(list(shifted_chapters(info, self._source.shift)))
        return out

    def _build(self, tracks: StreamPlan, layout: Layout) -> Any:
        """Add all streams in the input's order. Gives the film's."""
        video = None
        self._relay = Relay(self._out, self._container_name, self._source, self._notes, self._subject)
        for track in tracks.tracks:
            fate = f"{track.action} {track.codec}".strip()
            self.summary.streams.append(f"{track.stream}: {fate}{': ' + track.why if track.why else ''}")
            if track.action == "restore":
                form, info = self._container_name, self._source.info
                video = self._coder.add(self._out, form, info, layout, tracks.timecode)
            elif track.action in ("copy", "transcode", "attach"):
                self._relay.add(track)
        return video

    def _begin(self) -> None:
        """Open the encoder and write the header, so that every refusal comes now."""
        self._coder.open()
        try:
            self._out.start_encoding()
        except AV_ERRORS as error:
            if of_the_disk(error):
                raise write_error(self._subject, error) from error
            what = f"{self._container_name} refuses these streams: {reason(error)}"
            raise OutputError(self._subject, what, "use -o out.mkv") from error

    # -- writing ---------------------------------------------------------------------------------------

    def _encode(self, picture: av.VideoFrame | None, index: int) -> None:
        try:
            packets = self._coder.encode(picture)
        except AV_ERRORS as error:
            what = f"{self.summary.encoder} failed at frame {index}: {reason(error)}"
            raise EncoderFailed(self._subject, what) from error
        for packet in packets:
            self._packets += 1
            self._relay.mux(packet)

    def _close(self) -> None:
        try:
            self._out.close()
        except AV_ERRORS as error:
            raise write_error(self._subject, error) from error

    def _shape(self) -> None:
        """Tell Matroska the shape of samples where its muxer was not told."""
        assert self._part is not None
        sar = self._sar
        if self._needs_shape and sar is not None and not set_display_shape(self._part.path, *self._size, sar):
            self._notes.warn("sar_lost", self._source.path, f"the shape of samples ({sar}) could not be written")

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
