"""Damage levels that anyone can rebuild bit for bit: mild, medium, heavy.

Order: blur -> reduction -> noise -> JPEG -> video codec -> cubic enlargement. A clip's parameters are drawn once
from a generator seeded by its name, its noise anew for each frame; frame count and times do not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from vidrestore.media.recoding import Codec, coded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]  # RGB [t, h, w, 3]
    F32 = NDArray[np.float32]

Level = Literal["mild", "medium", "heavy"]
Range = tuple[float, float]
EYES = 125.9  # px between the eyes of an aligned face of 512 px, at which a level is defined
_FILTERS = ((0.2, cv2.INTER_AREA), (0.6, cv2.INTER_LINEAR), (1.0, cv2.INTER_CUBIC))


@dataclass(frozen=True)
class Ranges:
    """What is drawn for a level; lengths in px of a face of 512 px."""

    blur: Range  # sigma
    second: float  # probability that the blur's second axis has a sigma of its own
    reduction: Range
    noise: Range  # sigma, /255
    jpeg: float  # probability
    quality: Range
    codecs: tuple[tuple[float, Codec, Range], ...]  # probability up to which, codec, CRF or quantiser


LEVELS: dict[Level, Ranges] = {
    "mild": Ranges((0.2, 2), 0.0, (1.5, 2.5), (0, 3), 0.0, (0, 0), ((1.0, "libx264", (18, 24)),)),
    "medium": Ranges(
        (1, 4), 0.3, (3, 5), (2, 10), 0.3, (60, 90), ((0.8, "libx264", (25, 33)), (1.0, "mpeg4", (4, 10)))
    ),
    "heavy": Ranges(
        (2, 8), 0.3, (5, 8), (5, 20), 0.5, (40, 75),
        ((0.5, "libx264", (33, 42)), (0.8, "mpeg4", (8, 20)), (1.0, "mpeg2video", (8, 24))),
    ),
}  # fmt: skip


def generator(level: str, clip: str, number: int) -> np.random.Generator:
    """Of a clip's parameters (``number`` 0) and of its frame t (1000 + t)."""
    seed = int.from_bytes(sha256(f"{level}:{clip}:{number}".encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed))


@dataclass(frozen=True)
class Draw:
    """One clip's damage; lengths in px of the clip."""

    blur: tuple[float, float]
    angle: float
    reduction: float
    filter: int  # OpenCV's interpolation
    noise: float  # /255
    jpeg: int  # 0: none
    codec: Codec
    quality: int

    def before_coding(self, frame: Frames, _t: int, rng: np.random.Generator) -> Frames:
        """One frame [h, w, 3] blurred, reduced, noisy, and JPEG-coded where the draw says so."""
        noisy = _noisy(_reduced(frame, self), self.noise, rng)
        return _jpeg(noisy, self.jpeg) if self.jpeg else noisy


def drawn(level: Level, clip: str, eyes: float = EYES) -> Draw:
    """A clip's damage. ``eyes``: median px between the eyes of its main face, by which all lengths scale."""
    r, rng = LEVELS[level], generator(level, clip, 0)
    u, v = rng.random(8), rng.random(3)
    scale = eyes / EYES
    first = _lerp(r.blur, u[0])
    second = _lerp(r.blur, u[1]) if u[2] < r.second else first
    codec, span = next((codec, span) for share, codec, span in r.codecs if v[0] < share)
    return Draw(
        blur=(first * scale, second * scale),
        angle=np.pi * u[3],
        reduction=max(1.0, _lerp(r.reduction, u[4]) * scale),
        filter=next(f for share, f in _FILTERS if v[2] < share),
        noise=_lerp(r.noise, u[5]),
        jpeg=round(_lerp(r.quality, u[7])) if u[6] < r.jpeg else 0,
        codec=codec,
        quality=round(_lerp(span, v[1])),
    )


def damaged(frames: Frames, level: Level, clip: str, eyes: float = EYES) -> Frames:
    """The frames of a clip as the level leaves them, at their own size."""
    return applied(frames, drawn(level, clip, eyes), lambda t: generator(level, clip, 1000 + t))


def applied(frames: Frames, draw: Draw, noise: Any) -> Frames:
    """One draw's damage done to a clip; ``noise(t)`` gives frame t's generator."""
    height, width = frames.shape[1:3]
    noisy = [draw.before_coding(frame, t, noise(t)) for t, frame in enumerate(frames)]
    out = coded(np.stack(noisy), draw.codec, draw.quality)
    return np.stack([enlarged(frame, width, height) for frame in out])


def even(side: int, reduction: float) -> int:
    """A side as the codecs take it."""
    return max(2, 2 * round(side / reduction / 2))


def enlarged(frame: Frames, width: int, height: int) -> Frames:
    """A decoded frame at the film's size, cubic."""
    return _eight_bit(_resized(frame.astype(np.float32) / np.float32(255), width, height, cv2.INTER_CUBIC))


def _lerp(span: Range, u: float) -> float:
    return float(span[0] + (span[1] - span[0]) * u)


def _reduced(frame: Frames, draw: Draw) -> F32:
    x: F32 = frame.astype(np.float32) / np.float32(255)
    if max(draw.blur) > 0:
        x = np.asarray(cv2.filter2D(x, -1, _kernel(draw), borderType=cv2.BORDER_REFLECT_101), np.float32)
    height, width = frame.shape[:2]
    return _resized(x, even(width, draw.reduction), even(height, draw.reduction), draw.filter)


def _kernel(draw: Draw) -> F32:
    ticks = np.arange(-10, 11, dtype=np.float32)
    x, y = np.meshgrid(ticks, ticks)
    u = x * np.cos(draw.angle) + y * np.sin(draw.angle)
    v = -x * np.sin(draw.angle) + y * np.cos(draw.angle)
    kernel = np.exp(-0.5 * ((u / draw.blur[0]) ** 2 + (v / draw.blur[1]) ** 2)).astype(np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _noisy(x: F32, sigma: float, rng: np.random.Generator) -> Frames:
    field = rng.standard_normal(x.shape).astype(np.float32)
    return _eight_bit(x + field * np.float32(sigma / 255))


def _jpeg(frame: Frames, quality: int) -> Frames:
    _, data = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])  # type: ignore[index]


def _resized(x: F32, width: int, height: int, interpolation: int) -> F32:
    if x.shape[:2] == (height, width):
        return x
    return np.asarray(cv2.resize(x, (width, height), interpolation=interpolation), np.float32)


def _eight_bit(x: F32) -> Frames:
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
