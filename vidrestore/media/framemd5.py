"""A line for every decoded frame with the MD5 of its samples, in the format of ffmpeg's framemd5 muxer.

``ffmpeg -i FILM -map 0:v:0 -f framemd5 -`` gives the same sums: whoever has a film later can see whether every picture
is still what it was, whatever happened to the file.
"""

from __future__ import annotations

from hashlib import md5
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fractions import Fraction

    import av


class FrameSums:
    """Collects the lines of one film."""

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        tick = stream.time_base
        sar = context.sample_aspect_ratio or 0
        shape = f"{sar.numerator}:{sar.denominator}" if sar else "0:1"
        self._head = head(tick) + (
            f"#dimensions 0: {context.width}x{context.height}\n#sar 0: {shape}\n"
            "#stream#, dts,        pts, duration,     size, hash\n"
        )
        self._lines: list[str] = []

    def see(self, frame: av.VideoFrame) -> None:
        """Enter a decoded frame."""
        found, size = md5(), 0
        for plane in frame.planes:
            buffer: Any = plane
            row = _row_bytes(frame, plane)
            samples = np.frombuffer(buffer, np.uint8).reshape(plane.height, plane.line_size)[:, :row]
            found.update(np.ascontiguousarray(samples).data)
            size += samples.size
        pts = frame.pts if frame.pts is not None else 0
        self._lines.append(f"0, {pts:10}, {pts:10}, {frame.duration:8}, {size:8}, {found.hexdigest()}\n")

    def text(self) -> str:
        """The whole file."""
        return self._head + "".join(self._lines)


def head(time_base: Fraction) -> str:
    """The lines that every such file of a film begins with."""
    return (
        "#format: frame checksums\n#version: 2\n#hash: MD5\n"
        f"#tb 0: {time_base.numerator}/{time_base.denominator}\n#media_type 0: video\n#codec_id 0: rawvideo\n"
    )


def _row_bytes(frame: av.VideoFrame, plane: Any) -> int:
    """Bytes of a plane's row without the padding behind it."""
    form = frame.format
    if len(frame.planes) > 1 or len(form.components) == 1:
        return int(plane.width) * ((form.components[0].bits + 7) // 8)
    return int(plane.width) * form.padded_bits_per_pixel // 8
