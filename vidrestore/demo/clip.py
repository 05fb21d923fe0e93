"""The demonstration's pictures and sound, the same on every machine but for the codec's build."""

from __future__ import annotations

import math
from importlib.resources import files
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vidrestore.quality.levels import Draw, applied, generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]  # RGB [t, h, w, 3]

RATE, COUNT = 25, 70  # frames a second; frames
WIDTH, HEIGHT = 480, 360
CLOSE = (slice(None), slice(0, 300), slice(134, 406))  # where the head is all the time
SOUND_RATE = 48_000
# a video disc of the nineties; the eyes are some 75 px apart, 0.6 of what the levels' lengths are given for
DAMAGE = Draw((2.0, 2.0), 0.0, 2.8, cv2.INTER_AREA, 9.0, 0, "mpeg4", 5)


def moving() -> Frames:
    """The undamaged portrait under a hand-held camera that slowly draws near."""
    data = np.frombuffer((files(__package__) / "portrait.jpg").read_bytes(), np.uint8)
    portrait = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])  # type: ignore[index]
    return np.stack([_seen(portrait, t / (COUNT - 1)) for t in range(COUNT)])


def damaged() -> Frames:
    return applied(moving(), DAMAGE, lambda t: generator("medium", "demo", 1000 + t))


def compared(left: Frames, right: Frames) -> Frames:
    """The heads of both side by side, twice as large."""
    pair = np.concatenate([left[CLOSE], right[CLOSE]], 2)
    height, width = (2 * side for side in pair.shape[1:3])
    return np.stack([np.asarray(cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8) for f in pair])


def tone() -> NDArray[np.float32]:
    """A soft chord that swells and fades over the film's length: f32 [n] in -1..1, at SOUND_RATE."""
    t = np.arange(COUNT * SOUND_RATE // RATE) / SOUND_RATE
    chord = sum(np.sin(2 * np.pi * pitch * t) for pitch in (220.0, 277.18, 329.63))
    return np.asarray(0.06 * chord * np.sin(np.pi * t / t[-1]), np.float32)


def _seen(portrait: Frames, time: float) -> Frames:
    """One frame; ``time`` runs from 0 to 1."""
    zoom = 1.5 + 0.4 * time
    angle = math.radians(2.5) * math.sin(2 * math.pi * time)
    x = 186 + 14 * math.sin(1.5 * math.pi * time)
    y = 123 - 15 * time + 1.5 * math.sin(9 * time)
    c, s = math.cos(angle) / zoom, math.sin(angle) / zoom
    middle = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    back = np.array([[c, -s, x - c * middle[0] + s * middle[1]], [s, c, y - s * middle[0] - c * middle[1]]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(portrait, back, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(out, np.uint8)
