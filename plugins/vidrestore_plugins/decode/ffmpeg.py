"""decode=ffmpeg: the ffmpeg program decodes the film: for decoders and hardware that libav's build in Python lacks.

It gets the film's packets through a pipe and gives bare pictures back; times and all other streams are read as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import film_reader
from vidrestore_plugins.program import binary

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class FFmpegOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    codec: str | None = Field(None, description="decoder by ffmpeg's name, e.g. h264_cuvid; else ffmpeg's own choice")
    hwaccel: str | None = Field(None, description="hardware that decodes: cuda (NVDEC), vaapi, qsv, auto")
    bin: str | None = Field(None, description="name or path of the program; else ffmpeg, else imageio-ffmpeg's")


class FFmpegDecoder:
    Options: ClassVar[type[BaseModel]] = FFmpegOptions

    def __init__(self, options: FFmpegOptions) -> None:
        self.options = options

    def open(self, source: str, notes: Any, *, settings: Any = None) -> AbstractContextManager[Any]:
        """As `vidrestore.hooks.Decoder` says. Raises ResourceError (7) where there is no such program, or it cannot."""
        program = binary(self.options.bin, "decode=ffmpeg")
        return film_reader(lambda pix_fmt: self._command(program, pix_fmt), "decode=ffmpeg")(
            source, notes, settings=settings
        )

    def _command(self, program: str, pix_fmt: str) -> list[str]:
        import ffmpeg

        chosen = {"vcodec": self.options.codec, "hwaccel": self.options.hwaccel}
        command: list[str] = (
            ffmpeg.input("pipe:0", format="matroska", noautorotate=None, **{k: v for k, v in chosen.items() if v})
            .output(
                "pipe:1", format="nut", vcodec="rawvideo", pix_fmt=pix_fmt, fps_mode="passthrough",
                enc_time_base="demux", flush_packets=1,
            )
            .global_args("-hide_banner", "-loglevel", "error", "-copyts")
            .compile(cmd=program)
        )  # fmt: skip
        return command
