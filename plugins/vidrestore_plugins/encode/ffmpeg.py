"""encode=ffmpeg: the ffmpeg program codes the film: for encoders and hardware that libav's build in Python lacks.

It gets bare pictures through a pipe and gives the coded film back; all other streams are copied beside it as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import film_writer
from vidrestore_plugins.program import binary, encoder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from vidrestore.api import Bare, VideoPlan

_FIELDS: Final = frozenset({"libx264", "prores_ks", "mpeg2video", "ffv1"})  # encoders that flag fields


class FFmpegOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    bin: str | None = Field(None, description="name or path of the program; else ffmpeg, else imageio-ffmpeg's")
    gpu: int | None = Field(
        None, ge=0, description="GPU of NVENC: -c:v h264_nvenc, hevc_nvenc or av1_nvenc, -cq 19, -preset p1 to p7"
    )


class FFmpegEncoder:
    Options: ClassVar[type[BaseModel]] = FFmpegOptions

    def __init__(self, options: FFmpegOptions) -> None:
        self.options = options

    def open(
        self, target: Path | None, source: Any, settings: Any, notes: Any, *, overwrite: bool = False
    ) -> AbstractContextManager[Any]:
        """As `vidrestore.hooks.Encoder` says. Raises ResourceError (7) where there is no such program."""
        program = binary(self.options.bin, "encode=ffmpeg")
        writer = film_writer(lambda name: encoder(program, name), lambda plan, bare: self._command(program, plan, bare))
        return writer(target, source, settings, notes, overwrite=overwrite)

    def _command(self, program: str, plan: VideoPlan, bare: Bare) -> list[str]:
        import ffmpeg

        layout = bare.layout
        # What NUT does not say of bare pictures. Encoders ask the pictures, not the options, for it.
        told = {
            "range": layout.range_tag, "color_primaries": layout.primaries, "color_trc": layout.transfer,
            "colorspace": layout.matrix_tag, "field_mode": _field_mode(bare),
        }  # fmt: skip
        options = {f"{key}:v": value for key, value in plan.options.items()}
        if layout.range_tag:
            options["color_range:v"] = str(layout.range_tag)  # else some encoders are handed limited range
        if layout.interlaced and plan.encoder in _FIELDS:
            options["flags:v"] = "+ildct+ilme"
        if self.options.gpu is not None:
            options["gpu:v"] = str(self.options.gpu)
        pictures = ffmpeg.input("pipe:0", format="nut").filter("setparams", **told)
        if layout.sar != 1:
            pictures = pictures.filter("setsar", f"{layout.sar.numerator}/{layout.sar.denominator}")
        command: list[str] = (
            pictures.output(
                "pipe:1", format="nut", vcodec=plan.encoder, pix_fmt=plan.pix_fmt, fps_mode="passthrough",
                enc_time_base="demux", flush_packets=1, **{"threads:v": plan.threads}, **options,
            )
            .global_args("-hide_banner", "-loglevel", "error", "-copyts")
            .compile(cmd=program)
        )  # fmt: skip
        return command


def _field_mode(bare: Bare) -> str:
    if not bare.layout.interlaced:
        return "prog"
    return "tff" if bare.info.interlaced_as is not False else "bff"
