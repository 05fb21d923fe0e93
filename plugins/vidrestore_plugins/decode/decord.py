"""decode=decord: single pictures of a film, quickly, to look at: `vidrestore plan` finds faces in them.

decord decodes to 8-bit RGB with a guess at the colours, knows no edit lists, and reads ahead without bound where it
reads on: nothing of it is ever written, films that it may misread are refused, and it is asked for single pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import InputMediaError, ResourceError, UsageError, film_extent, rgb_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from vidrestore.api import Frame, MediaInfo

_TAKEN: Final = frozenset({"mov", "matroska", "avi"})  # containers that it counts as libav does
_STEPS: Final = 1.5  # frames by which its first and last time may differ from libav's


class DecordOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(640, ge=64, le=4096, description="longest side in px of the pictures given")


class DecordDecoder:
    Options: ClassVar[type[BaseModel]] = DecordOptions

    def __init__(self, options: DecordOptions) -> None:
        self.options = options

    def open(self, source: str, notes: Any, *, settings: Any = None) -> AbstractContextManager[Any]:
        """Refuses: a film's frames are never read so."""
        what = "gives 8-bit pictures to look at ('vidrestore plan'), not the frames of a run"
        raise UsageError("decode=decord", what, "use decode=pyav")

    def sample(self, info: MediaInfo, seconds: Sequence[float]) -> Iterator[Frame]:
        """As `vidrestore.hooks.Sampler` says: the nearest key frames where there are as many, 8-bit RGB."""
        self._refuse(info)
        try:
            import decord
            from decord.base import DECORDError
        except (ImportError, OSError) as error:
            raise ResourceError("decode=decord", f"decord cannot be imported: {error}", "pip install decord") from error
        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(info.path, ctx=decord.cpu(0), num_threads=1, **self._size(info))
            first, last = self._checked(reader, info)
            keys = reader.get_key_indices()
            for second in seconds:
                share = (second - first) / max(last - first, 1e-9)
                wanted = round(min(max(share, 0.0), 1.0) * (len(reader) - 1))
                index = min(keys, key=lambda k: abs(k - wanted)) if len(keys) >= len(seconds) else wanted
                yield rgb_frame(reader[index].asnumpy(), float(reader.get_frame_timestamp(index)[0]))
        except DECORDError as error:
            raise InputMediaError(info.path, "decord is not asked: it cannot decode it") from error

    def _refuse(self, info: MediaInfo) -> None:
        layout = info.layout
        reasons = {
            "it is a pipe": info.path == "-",
            "it is one picture": info.still,
            "it holds several films": sum(t.kind == "video" and not t.cover for t in info.streams) > 1,
            f"its container is {info.family}": info.family not in _TAKEN,
            f"its pictures have {layout.bits} bits": layout.bits != 8,
            "it is HDR": layout.hdr,
            f"its pictures are {layout.pix_fmt}": layout.family != "yuv" or layout.alpha,
            "it is stored turned": layout.turn != (1, 0, 0, 1),
        }
        for reason, holds in reasons.items():
            if holds:
                raise InputMediaError(info.path, f"decord is not asked: {reason}")

    def _size(self, info: MediaInfo) -> dict[str, int]:
        width, height = info.layout.width, info.layout.height
        scale = min(1.0, self.options.side / max(width, height))
        return {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}

    def _checked(self, reader: Any, info: MediaInfo) -> tuple[float, float]:
        """Its first and last time, where libav counts the same. Raises InputMediaError."""
        count, first, last = film_extent(info)
        begins, ends = (float(reader.get_frame_timestamp(i)[0]) for i in (0, len(reader) - 1))
        if len(reader) != count:
            raise InputMediaError(info.path, f"decord is not asked: it counts {len(reader)} frames, libav {count}")
        step = _STEPS / float(info.rate)
        if abs(begins - first) > step or abs(ends - last) > step:
            what = f"it sees {begins:.2f} to {ends:.2f} s, libav {first:.2f} to {last:.2f} s"
            raise InputMediaError(info.path, f"decord is not asked: {what}")
        return begins, ends
