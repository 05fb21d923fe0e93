"""A video cassette: narrow luma, much narrower and late chroma, lines that jitter, heads that switch, dropouts.
Everything is drawn once a cassette from one generator, noise anew for each frame; pictures are worked on in f32,
0..255, at the size they are coded at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vidrestore.quality.levels import EYES, even

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidrestore.media.recoding import Codec

    Picture = NDArray[np.uint8]  # RGB [h, w, 3]
    F32 = NDArray[np.float32]

DROPOUT = 235.0


@dataclass(frozen=True)
class VHS:
    """One cassette's faults; lengths in px at the coded size."""

    width: int  # of the film
    height: int
    reduction: float
    luma: float  # sigma along a line
    chroma: float  # likewise
    delay: float  # of chroma, to the right
    luma_noise: float
    chroma_noise: float
    jitter: float  # sd of the lines' offsets
    saturation: float
    switching: int  # lines at the bottom
    dropouts: float  # a frame, on average
    quality: int  # quantiser
    scale: float  # of lengths, against faces of 512 px
    codec: Codec = field(default="mpeg2video", init=False)

    def before_coding(self, frame: Picture, t: int, rng: np.random.Generator) -> Picture:
        """Frame t [h, w, 3] at the size it is coded at."""
        size = (even(self.width, self.reduction), even(self.height, self.reduction))
        small = cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        ycc = np.asarray(cv2.cvtColor(small / 255, cv2.COLOR_RGB2YCrCb), np.float32) * 255  # full range, chroma + 127.5
        y, cr, cb = (np.ascontiguousarray(ycc[..., i]) for i in range(3))
        y = _along(y, self.luma)
        cr, cb = (self._smeared(c - np.float32(127.5)) for c in (cr, cb))
        s = self.scale
        y = y + self._noise(rng, y, self.luma_noise, 1.0 * s, 0.0)
        cr = cr + self._noise(rng, y, self.chroma_noise, 5.0 * s, 0.8 * s)
        cb = cb + self._noise(rng, y, self.chroma_noise, 5.0 * s, 0.8 * s)
        offsets = self._offsets(rng, y.shape[0])
        y, cr, cb = (_shifted(plane, offsets) for plane in (y, cr, cb))
        self._drop(rng, y)
        ycc = np.stack([y, cr + np.float32(127.5), cb + np.float32(127.5)], -1)
        rgb = cv2.cvtColor(np.asarray(ycc / 255, np.float32), cv2.COLOR_YCrCb2RGB)
        out: Picture = np.rint(np.clip(np.asarray(rgb) * 255, 0, 255)).astype(np.uint8)
        return out

    def _smeared(self, chroma: F32) -> F32:
        late = _shifted(_along(chroma, self.chroma), np.full(chroma.shape[0], -self.delay, np.float32))
        return late * np.float32(self.saturation)

    def _noise(self, rng: np.random.Generator, like: F32, sd: float, along: float, across: float) -> F32:
        noise = rng.standard_normal(like.shape).astype(np.float32)
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), max(along, 1e-3), sigmaY=max(across, 1e-3)), np.float32)
        return np.asarray(noise / noise.std() * np.float32(sd), np.float32)

    def _offsets(self, rng: np.random.Generator, lines: int) -> F32:
        """How far each line is pulled; the last ones are torn away where the heads switch."""
        loose = rng.standard_normal((lines, 1)).astype(np.float32)
        loose = np.asarray(cv2.GaussianBlur(loose, (0, 0), 1e-3, sigmaY=2.0), np.float32)[:, 0]
        offsets: F32 = loose / loose.std() * np.float32(self.jitter)
        torn = min(self.switching, lines)
        ramp = np.arange(1, torn + 1, dtype=np.float32) / torn
        offsets[lines - torn :] += np.float32(12 * self.scale * (0.5 + rng.random())) * ramp
        return offsets

    def _drop(self, rng: np.random.Generator, y: F32) -> None:
        height, width = y.shape
        for _ in range(rng.poisson(self.dropouts)):
            u = rng.random(3)
            length = int(width * (1 / 20 + (1 / 3 - 1 / 20) * u[2]))
            left = int(u[1] * width)
            y[int(u[0] * height), left : left + length] = DROPOUT


def drawn(rng: np.random.Generator, width: int, height: int, eyes: float = EYES) -> VHS:
    """A cassette's faults. ``eyes``: px between the eyes of its main face, by which lengths scale."""
    u, scale = rng.random(11), eyes / EYES

    def between(low: float, high: float, i: int) -> float:
        return float(low + (high - low) * u[i])

    return VHS(
        width=width,
        height=height,
        reduction=max(1.0, scale * between(1.5, 2.5, 0)),
        luma=scale * between(0.9, 1.6, 1),
        chroma=scale * between(4, 8, 2),
        delay=scale * between(0.5, 3, 3),
        luma_noise=between(3, 9, 4),
        chroma_noise=between(6, 16, 5) / 2,
        jitter=scale * between(0.2, 0.8, 6),
        saturation=between(0.8, 1.3, 7),
        switching=round(between(4, 10, 8)),
        dropouts=between(0.1, 0.6, 9),
        quality=round(between(4, 12, 10)),
        scale=scale,
    )


def _along(plane: F32, sigma: float) -> F32:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), max(sigma, 1e-3), sigmaY=1e-3), np.float32)


def _shifted(plane: F32, offsets: F32) -> F32:
    """Each line taken ``offsets`` px further right: it moves to the left by as much."""
    height, width = plane.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    columns = np.asarray(columns + offsets[:, None], np.float32)
    return np.asarray(cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
