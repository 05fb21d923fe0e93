"""Pictures written as pictures: a still goes out as the same kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from vidrestore.errors import InputMediaError, OutputError
from vidrestore.media.encoding import STILLS, EncodeSettings, plan_video
from vidrestore.media.faults import AV_ERRORS, reason, write_error
from vidrestore.media.fitting import Fitter
from vidrestore.media.planes import native_of
from vidrestore.media.publish import PartFile

if TYPE_CHECKING:
    from vidrestore.media.reader import Source
    from vidrestore.types import Frame


class StillSink:
    """Takes one frame and writes one picture file."""

    def __init__(self, target: Path, source: Source, settings: EncodeSettings, *, overwrite: bool) -> None:
        from dataclasses import replace

        self._subject, self._source = str(target), source
        layout = source.info.layout
        chosen = replace(settings, codec=STILLS[target.suffix.lower()])
        self._plan = plan_video(source.info, layout, "still", chosen, self._subject)
        self._fitter = Fitter(layout, self._plan)
        self._part = PartFile(target, source.path, overwrite=overwrite)
        self._coded = b""
        self._open = True

    def write(self, frame: Frame) -> None:
        """Encode the picture. Raises OutputError (5)."""
        if self._coded:
            raise OutputError(self._subject, "holds one picture, the input is a film", "use .mkv or .mp4")
        picture = self._fitter.fit(native_of(frame), frame.layout)
        context: Any = av.CodecContext.create(self._plan.encoder, "w")
        context.width, context.height, context.pix_fmt = picture.width, picture.height, picture.format.name
        context.time_base, context.options = frame.time_base, dict(self._plan.options)
        context.color_range = frame.layout.range_tag
        try:
            packets = context.encode(picture) + context.encode(None)
        except AV_ERRORS as error:
            raise OutputError(self._subject, f"{self._plan.encoder} refuses the picture: {reason(error)}") from error
        self._coded = b"".join(bytes(p) for p in packets)

    def finish(self) -> None:
        """Write and publish."""
        if not self._coded:
            raise InputMediaError(self._source.path, "no frames")
        try:
            self._part.path.write_bytes(self._coded)
        except OSError as error:
            raise write_error(self._subject, error) from error
        self._open = False
        self._part.publish()

    def abort(self, *, keep_partial: bool = False) -> None:
        """End without publishing."""
        if self._open:
            self._open = False
            self._part.discard()
