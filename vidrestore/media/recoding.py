"""Real video coding as damage: frames through an encoder and back, in memory."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, cast

import av
import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]  # RGB [t, h, w, 3], or one [h, w, 3]

Codec = Literal["libx264", "mpeg4", "mpeg2video"]

_LAMBDA = 118  # FF_QP2LAMBDA: global_quality of one quantiser step
_DECODERS = {"libx264": "h264"}


def _matrices() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """R'G'B' 0..255 <-> Y'CbCr of 8 bits, limited range, BT.601, each [3, 4]."""
    kr, kb = 0.299, 0.114
    luma = np.array([kr, 1 - kr - kb, kb])
    cb, cr = (np.array([0, 0, 1]) - luma) / (2 * (1 - kb)), (np.array([1, 0, 0]) - luma) / (2 * (1 - kr))
    linear = np.stack([luma * 219, cb * 224, cr * 224]) / 255
    offset = np.array([16.0, 128.0, 128.0])
    back = np.linalg.inv(linear)
    there, again = np.column_stack([linear, offset]), np.column_stack([back, -back @ offset])
    return there.astype(np.float32), again.astype(np.float32)


_TO_YUV, _TO_RGB = _matrices()


class Recoder:
    """Frames of even height and width through a 4:2:0 encoder and back, on one thread, as they come.

    quality: CRF of x264; quantiser of mpeg4 and mpeg2video, which know no CRF (FFmpeg ignores it there).
    Raises ValueError for an odd or empty size.
    """

    def __init__(
        self, width: int, height: int, codec: Codec, quality: int, preset: str = "medium", rate: Fraction = Fraction(25)
    ) -> None:
        if width % 2 or height % 2 or not width or not height:
            raise ValueError(f"video is coded in frames of even sides; got {width}x{height}")
        encoder: Any = av.CodecContext.create(codec, "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.framerate, encoder.time_base, encoder.thread_count = rate, 1 / rate, 1
        if codec == "libx264":
            # x264's macroblock tree reads beyond narrow pictures: with it two runs may differ
            encoder.options = {"crf": str(quality), "preset": preset, "x264-params": "mbtree=0"}
        else:
            encoder.qmin = encoder.qmax = quality
            encoder.flags |= av.codec.context.Flags.qscale
            encoder.global_quality = _LAMBDA * quality
        self._encoder, self._decoder = encoder, cast("Any", av.CodecContext.create(_DECODERS.get(codec, codec), "r"))
        self._decoder.thread_count = 1
        self._count, self._rate = 0, rate

    def push(self, frame: Frames) -> Iterator[Frames]:
        """RGB u8 [h, w, 3] in; what is finished by then comes out, in order."""
        picture: Any = av.VideoFrame.from_ndarray(yuv420(frame), format="yuv420p")
        picture.pts, picture.time_base = self._count, 1 / self._rate
        self._count += 1
        yield from self._through(picture)

    def flush(self) -> Iterator[Frames]:
        """The rest."""
        yield from self._through(None)
        for picture in self._decoder.decode(None):
            yield rgb(picture.to_ndarray())

    def _through(self, picture: Any) -> Iterator[Frames]:
        for packet in self._encoder.encode(picture):
            for seen in self._decoder.decode(packet):
                yield rgb(seen.to_ndarray())


def coded(frames: Frames, codec: Codec, quality: int, preset: str = "medium") -> Frames:
    """Frames [t, h, w, 3] as they come back from a `Recoder` at 25 fps."""
    if not frames.size:
        raise ValueError("video is coded in frames; got none")
    recoder = Recoder(frames.shape[2], frames.shape[1], codec, quality, preset)
    out = [seen for frame in frames for seen in recoder.push(frame)] + list(recoder.flush())
    if len(out) != len(frames):
        raise ValueError(f"{codec} gave {len(out)} of {len(frames)} frames back")
    return np.stack(out)


def yuv420(frame: Frames) -> NDArray[np.uint8]:
    """RGB [h, w, 3] -> BT.601 limited 4:2:0, the planes below one another as PyAV wants them [1.5 h, w].

    Rounded to the nearest, chroma as means of four: libswscale's quick conversion darkens by a level each way.
    """
    height, width = frame.shape[:2]
    yuv = cv2.transform(frame.astype(np.float32), _TO_YUV)
    small = cv2.resize(yuv[:, :, 1:], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    planes = [yuv[:, :, :1].reshape(-1), small[:, :, 0].reshape(-1), small[:, :, 1].reshape(-1)]
    return np.asarray(np.rint(np.concatenate(planes)), np.uint8).reshape(-1, width)


def rgb(planes: NDArray[np.uint8]) -> Frames:
    """The way back: chroma interpolated linearly."""
    width = planes.shape[1]
    height = planes.shape[0] * 2 // 3
    flat = planes.reshape(-1)
    y, chroma = flat[: height * width], flat[height * width :].reshape(2, height // 2, width // 2)
    wide = [cv2.resize(c, (width, height), interpolation=cv2.INTER_LINEAR) for c in chroma.astype(np.float32)]
    yuv = np.stack([y.reshape(height, width).astype(np.float32), *wide], axis=2)
    return np.asarray(np.rint(np.clip(cv2.transform(yuv, _TO_RGB), 0, 255)), np.uint8)
