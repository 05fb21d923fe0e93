"""The encoder of the film, set up and opened: every refusal comes before the first frame, in the user's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
from av.codec.context import Flags

from vidrestore.errors import OutputError, UsageError, did_you_mean
from vidrestore.media.ebml import marked
from vidrestore.media.faults import AV_ERRORS, libav_lines, reason
from vidrestore.media.heads import MOV, film_tags, matrix_for, needs_shape, sar_for

if TYPE_CHECKING:
    from vidrestore.media.encoding import VideoPlan
    from vidrestore.media.probe import MediaInfo
    from vidrestore.types import Layout

_FIELDS = ("libx264", "prores_ks", "mpeg2video", "ffv1")  # encoders that flag fields
# libav's words for a value that is wrong in itself, whatever the picture.
_WRONG_VALUE = ("Unable to parse", "Undefined constant", "Error setting", "not found", "value", "out of range")


def add_film(
    out: Any, container: str, info: MediaInfo, layout: Layout, plan: VideoPlan, timecode: str | None, subject: str
) -> Any:
    """Add the film's stream to an output, with all that its head says. Raises OutputError (5)."""
    try:
        video = out.add_stream(plan.encoder, rate=info.rate, options=dict(plan.options))
    except ValueError as error:
        remedy = "use another -c:v" if container == "matroska" else "use -o out.mkv or another -c:v"
        raise OutputError(subject, f"{container} cannot hold {plan.encoder}", remedy) from error
    context = video.codec_context
    context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pix_fmt
    context.time_base, context.framerate = info.time_base, info.rate
    context.thread_count = plan.threads
    context.flags |= Flags.frame_duration
    context.color_range, context.color_primaries = layout.range_tag, layout.primaries
    context.color_trc, context.colorspace = layout.transfer, layout.matrix_tag
    sar = sar_for(info, layout)
    if sar is not None:
        context.sample_aspect_ratio = sar
    if layout.interlaced and plan.encoder in _FIELDS:
        context.flags |= Flags.interlaced_dct
        context.field_order = info.field_order if info.field_order > 1 else 2
    if container in MOV and context.codec.canonical_name == "hevc":
        context.codec_tag = "hvc1"  # hev1 is refused by Apple's players
    matrix = matrix_for(info, layout, container)
    if matrix is not None:
        video.set_display_matrix(matrix)
    video.metadata.update(film_tags(info, timecode))
    if needs_shape(container, plan.encoder, sar):
        video.metadata["title"] = marked(video.metadata.get("title", ""))
    video.disposition = info.stream.disposition
    return video


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
    return OutputError(subject, f"{plan.encoder} refuses {plan.width}x{plan.height} {plan.pix_fmt}: {said}")
