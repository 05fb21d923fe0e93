"""Short films out of arrays, and back: for demonstrations, not for anybody's own film."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vidrestore.errors import OutputError
from vidrestore.media.faults import AV_ERRORS, reason, write_error
from vidrestore.media.publish import PartFile
from vidrestore.media.recoding import rgb, yuv420

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]  # RGB [t, h, w, 3]
    Sound = NDArray[np.float32]  # [n], -1..1, one channel

_BT601, _LIMITED = 6, 1  # H.273 numbers of SMPTE 170M; libav's of the range


def write_film(
    target: Path, frames: Frames, rate: int, sound: Sound, sound_rate: int, *, overwrite: bool = False
) -> None:
    """An MP4 of frames with even sides and one channel of sound, H.264 and AAC; whole or not at all.

    Raises OutputError (5).
    """
    part = PartFile(target, "-", overwrite=overwrite)
    try:
        with av.open(str(part.path), "w", format="mp4") as out:
            video = _video(out, frames, rate)
            audio: Any = out.add_stream("aac", rate=sound_rate, layout="mono")
            for i, frame in enumerate(frames):
                out.mux(video.encode(_picture(frame, i, rate)))
            out.mux(video.encode(None))
            samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            samples.sample_rate = sound_rate
            out.mux(audio.encode(samples))
            out.mux(audio.encode(None))
    except AV_ERRORS as error:
        part.discard()
        raise write_error(str(target), error) from error
    except BaseException:
        part.discard()
        raise
    part.publish()


def read_frames(path: Path) -> Frames:
    """All pictures of a short film that `write_film` could have written.

    Raises OutputError (5) where it is none: it was written a moment ago.
    """
    try:
        with av.open(str(path)) as film:
            planes: list[Any] = [frame.to_ndarray(format="yuv420p") for frame in film.decode(video=0)]
    except AV_ERRORS as error:
        raise OutputError(str(path), f"cannot be read back: {reason(error)}") from error
    return np.stack([rgb(p) for p in planes])


def _video(out: Any, frames: Frames, rate: int) -> Any:
    video = out.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "medium"})
    context = video.codec_context
    context.height, context.width = frames.shape[1:3]
    context.pix_fmt, context.color_range = "yuv420p", _LIMITED
    context.color_primaries = context.color_trc = context.colorspace = _BT601
    return video


def _picture(frame: Frames, index: int, rate: int) -> Any:
    picture: Any = av.VideoFrame.from_ndarray(yuv420(frame), format="yuv420p")
    picture.pts, picture.time_base = index, Fraction(1, rate)
    return picture
