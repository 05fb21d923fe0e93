"""The encoder of the film, set up and opened: every refusal comes before the first frame, in the user's words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import av
from av.codec.context import Flags

from vidrestore.errors import EncoderRefused, OutputError, UsageError, did_you_mean
from vidrestore.media.ebml import marked
from vidrestore.media.encoding import libav_coding
from vidrestore.media.faults import AV_ERRORS, libav_lines, reason
from vidrestore.media.heads import MOV, film_tags, matrix_for, needs_shape, sar_for

if TYPE_CHECKING:
    from vidrestore.media.encoding import Coding, VideoPlan
    from vidrestore.media.probe import MediaInfo
    from vidrestore.types import Layout

FIELDS = ("libx264", "prores_ks", "mpeg2video", "ffv1")  # encoders that flag fields
CAPTIONED = ("libx264", "libx264rgb", "libx265", "mpeg2video", "h264_nvenc", "hevc_nvenc")  # that write A/53 captions
_CLOCKED = ("mpeg1video", "mpeg2video")  # that know a few rates and no times
_HARDWARE = frozenset({"nvenc", "qsv", "amf", "vaapi", "vulkan", "videotoolbox", "mf", "v4l2m2m", "rkmpp", "d3d12va"})
# libav's words for a value that is wrong in itself, whatever the picture.
_WRONG_VALUE = ("Unable to parse", "Undefined constant", "Error setting", "not found", "value", "out of range")


class Coder(Protocol):
    """Codes the film's pictures into one stream of an output."""

    pix_fmt: str  # that pictures must have
    captions: bool  # whether those that travel with pictures are written

    def add(self, out: Any, container: str, info: MediaInfo, layout: Layout, timecode: str | None) -> Any:
        """Add the film's stream to an output, with all that its head says. Raises UsageError (2), OutputError (5)."""
        ...

    def open(self) -> None:
        """Everything that can be refused is refused now. Raises UsageError (2), OutputError (5)."""
        ...

    def encode(self, picture: av.VideoFrame | None) -> list[Any]:
        """The packets that are ready once this picture has gone in, or all that are left (None).

        Raises EncoderFailed (6) or one of libav's errors.
        """
        ...

    def close(self) -> None:
        """Let go of everything, at any time."""
        ...


class Coders(Protocol):
    """Who codes: libav, or a program."""

    def known(self, name: str) -> Coding:
        """An encoder by ffmpeg's name. Raises UsageError (2)."""
        ...

    def coder(self, plan: VideoPlan, subject: str) -> Coder: ...


class LibavCoders:
    """libav's encoders, in this process."""

    def known(self, name: str) -> Coding:
        return libav_coding(name)

    def coder(self, plan: VideoPlan, subject: str) -> Coder:
        return LibavCoder(plan, subject)


class LibavCoder:
    """One of libav's encoders."""

    def __init__(self, plan: VideoPlan, subject: str) -> None:
        self.pix_fmt = plan.pix_fmt
        self.captions = plan.encoder in CAPTIONED
        self._plan, self._subject = plan, subject

    def add(self, out: Any, container: str, info: MediaInfo, layout: Layout, timecode: str | None) -> Any:
        plan = self._plan
        try:
            video = out.add_stream(plan.encoder, rate=info.rate, options=dict(plan.options))
        except ValueError as error:
            remedy = "use another -c:v" if container == "matroska" else "use -o out.mkv or another -c:v"
            raise OutputError(self._subject, f"{container} cannot hold {plan.encoder}", remedy) from error
        context = video.codec_context
        context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pix_fmt
        context.time_base, context.framerate = info.time_base, info.rate
        if plan.encoder in _CLOCKED:
            context.time_base = 1 / info.rate
        context.thread_count = plan.threads
        context.flags |= Flags.frame_duration
        if layout.interlaced and plan.encoder in FIELDS:
            context.flags |= Flags.interlaced_dct
            context.field_order = info.field_order if info.field_order > 1 else 2
        describe(video, plan, container, info, layout, timecode)
        self._video = video
        return video

    def open(self) -> None:
        open_encoder(self._video.codec_context, self._plan, self._subject)

    def encode(self, picture: av.VideoFrame | None) -> list[Any]:
        packets: list[Any] = self._video.encode(picture)
        return packets

    def close(self) -> None:
        """The output's container does that."""


def describe(
    video: Any, plan: VideoPlan, container: str, info: MediaInfo, layout: Layout, timecode: str | None
) -> None:
    """What the head of an output says of the film's stream: colour, shape, turn, tags."""
    context = video.codec_context
    context.color_range, context.color_primaries = layout.range_tag, layout.primaries
    context.color_trc, context.colorspace = layout.transfer, layout.matrix_tag
    sar = sar_for(info, layout)
    if sar is not None:
        context.sample_aspect_ratio = sar
    if container in MOV and plan.codec == "hevc":
        context.codec_tag = "hvc1"  # hev1 is refused by Apple's players
    matrix = matrix_for(info, layout, container)
    if matrix is not None:
        video.set_display_matrix(matrix)
    video.metadata.update(film_tags(info, container, timecode))
    if needs_shape(container, plan.encoder, sar):
        video.metadata["title"] = marked(video.metadata.get("title", ""))
    video.disposition = info.stream.disposition


def try_encoder(plan: VideoPlan, container: str, info: MediaInfo, subject: str) -> None:
    """Open one of libav's encoders for a film and let it go. Raises as it refuses: UsageError (2), OutputError (5)."""
    with av.open(os.devnull, "w", format=container) as nowhere:
        coder = LibavCoder(plan, subject)
        coder.add(nowhere, container, info, info.layout, None)
        coder.open()


def open_encoder(context: Any, plan: VideoPlan, subject: str) -> None:
    """Open it. Raises UsageError (2) for unknown options and wrong values, OutputError (5) for refused pictures."""
    try:
        context.open()
    except AV_ERRORS as error:
        raise _refusal(context, plan, subject, error) from error
    unused = sorted(context.options)
    if unused:
        supported = context.supported_options
        known = [option.name for option in (*supported.private, *supported.generic)]
        raise UsageError("encoder", f"{plan.encoder} has no option '{unused[0]}'{did_you_mean(unused[0], known)}")


def _refusal(context: Any, plan: VideoPlan, subject: str, error: BaseException) -> UsageError | OutputError:
    def again() -> None:
        fresh: Any = av.CodecContext.create(plan.encoder, "w")
        fresh.width, fresh.height, fresh.pix_fmt = plan.width, plan.height, plan.pix_fmt
        fresh.time_base, fresh.framerate = context.time_base, context.framerate
        fresh.options = dict(plan.options)
        fresh.open()

    lines = libav_lines(again)
    said = lines[0] if lines else reason(error)
    if any(word in said for word in _WRONG_VALUE):
        meant = [f"-{name} {value}" for name, value in plan.options.items() if value in said.replace("'", " ").split()]
        return UsageError(meant[0] if meant else "encoder", f"{plan.encoder}: {said}")
    return refused(subject, plan, said)


def refused(subject: str, plan: VideoPlan, said: str) -> EncoderRefused:
    """Pictures that the encoder does not take, or hardware that is not here."""
    hardware = plan.encoder.rpartition("_")[2] in _HARDWARE
    remedy = "it needs its own hardware and driver; use -c:v libx264 or libx265" if hardware else ""
    what = f"{plan.encoder} refuses {plan.width}x{plan.height} {plan.pix_fmt}: {said}"
    return EncoderRefused(subject, what, remedy)
