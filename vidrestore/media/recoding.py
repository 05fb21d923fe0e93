"""Real video coding as damage: frames through an encoder and back, in memory."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]  # RGB [t, h, w, 3]

Codec = Literal["libx264", "mpeg4", "mpeg2video"]

_LAMBDA = 118  # FF_QP2LAMBDA: global_quality of one quantiser step
_DECODERS = {"libx264": "h264"}


def coded(frames: Frames, codec: Codec, quality: int, preset: str = "medium") -> Frames:
    """Frames of even height and width as they come back from 4:2:0 coding at 25 fps, on one thread.

    quality: CRF of x264; quantiser of mpeg4 and mpeg2video, which know no CRF (FFmpeg ignores it there).
    Raises ValueError for an odd or empty size.
    """
    count, height, width = frames.shape[:3]
    if height % 2 or width % 2 or not frames.size:
        raise ValueError(f"coded() needs frames of even sides; got {width}x{height}")
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base, encoder.thread_count = Fraction(25), Fraction(1, 25), 1
    if codec == "libx264":
        encoder.options = {"crf": str(quality), "preset": preset}
    else:
        encoder.qmin = encoder.qmax = quality
        encoder.flags |= av.codec.context.Flags.qscale
        encoder.global_quality = _LAMBDA * quality
    decoder: Any = av.CodecContext.create(_DECODERS.get(codec, codec), "r")
    decoder.thread_count = 1
    out = []
    for i in range(count + 1):
        for packet in encoder.encode(_picture(frames[i], i) if i < count else None):
            out += decoder.decode(packet)
    out += decoder.decode(None)
    if len(out) != count:
        raise ValueError(f"{codec} gave {len(out)} of {count} frames back")
    return np.stack([picture.to_ndarray(format="rgb24") for picture in out])


def _picture(frame: Frames, pts: int) -> Any:
    picture: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format="yuv420p")
    picture.pts, picture.time_base = pts, Fraction(1, 25)
    return picture
