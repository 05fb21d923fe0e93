"""Worn film: grey, soft, faded, unsteady, with grain, scratches and dust. Everything is drawn once a film from one
generator, grain and dust anew for each frame; pictures are worked on in f32, 0..255."""

from __future__ import annotations

import math
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

SEPIA = np.array([1, 0.94, 0.78], np.float32)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Scratch:
    """A line from top to bottom; lengths in px of the film."""

    first: int  # frame
    xs: tuple[float, ...]  # where it is, a frame
    width: float  # sigma
    opacity: float
    white: bool


@dataclass(frozen=True)
class OldFilm:
    """One film's wear; lengths in px of the film."""

    width: int
    height: int
    blur: float
    reduction: float
    grain: float  # sigma of its blur
    amplitude: float  # of the grain at mid-grey
    contrast: float
    lift: float
    flicker: tuple[float, ...]  # gain - 1, a frame
    weave: tuple[tuple[float, float], ...]  # px, a frame
    rotation: tuple[float, ...]  # degrees, a frame
    quality: int  # CRF
    sepia: bool
    dust: float  # specks a frame, on average
    scratches: tuple[Scratch, ...]
    scale: float  # of lengths, against faces of 512 px
    codec: Codec = field(default="libx264", init=False)

    def before_coding(self, frame: Picture, t: int, rng: np.random.Generator) -> Picture:
        """Frame t [h, w, 3] at the size it is coded at."""
        y = cv2.GaussianBlur(frame.astype(np.float32) @ _GREY, (0, 0), max(self.blur, 1e-3))
        y = self._moved(np.asarray(y, np.float32), t)
        y = self.lift + self.contrast * y * (255 - self.lift) / 255
        y = np.asarray(y * (1 + self.flicker[t]), np.float32)
        y = self._grainy(y, rng)
        for scratch in self.scratches:
            y = self._scratched(y, scratch, t)
        for _ in range(rng.poisson(self.dust)):
            y = self._dusty(y, rng)
        small = (even(self.width, self.reduction), even(self.height, self.reduction))
        y = np.asarray(cv2.resize(y, small, interpolation=cv2.INTER_AREA), np.float32)
        colour = SEPIA if self.sepia else np.ones(3, np.float32)
        return np.rint(np.clip(y[..., None] * colour, 0, 255)).astype(np.uint8)

    def _moved(self, y: F32, t: int) -> F32:
        centre = ((self.width - 1) / 2, (self.height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, self.rotation[t], 1.0)
        matrix[:, 2] += self.weave[t]
        flags, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
        return np.asarray(cv2.warpAffine(y, matrix, (self.width, self.height), flags=flags, borderMode=border))

    def _grainy(self, y: F32, rng: np.random.Generator) -> F32:
        noise = rng.standard_normal(y.shape).astype(np.float32)
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), max(self.grain, 1e-3)), np.float32)
        m = np.clip(y / 255, 0, 1)
        return np.asarray(y + noise / noise.std() * np.float32(self.amplitude) * np.sqrt(4 * m * (1 - m)), np.float32)

    def _scratched(self, y: F32, scratch: Scratch, t: int) -> F32:
        at = t - scratch.first
        if not 0 <= at < len(scratch.xs):
            return y
        away = (np.arange(self.width, dtype=np.float32) - scratch.xs[at]) / np.float32(scratch.width)
        alpha = np.float32(scratch.opacity) * np.exp(-0.5 * away**2)
        return np.asarray(y + alpha * ((255 if scratch.white else 0) - y), np.float32)

    def _dusty(self, y: F32, rng: np.random.Generator) -> F32:
        u = rng.random(7)
        a, b = (self.scale * (0.8 + 2.7 * v) for v in u[2:4])
        cx, cy, reach = u[0] * self.width, u[1] * self.height, math.ceil(max(a, b)) + 1
        x0, y0 = max(0, int(cx) - reach), max(0, int(cy) - reach)
        part = y[y0 : int(cy) + reach + 1, x0 : int(cx) + reach + 1]
        if not part.size:
            return y
        rows, columns = np.mgrid[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]].astype(np.float32)
        c, s = math.cos(math.pi * u[4]), math.sin(math.pi * u[4])
        along, across = (columns - cx) * c + (rows - cy) * s, (rows - cy) * c - (columns - cx) * s
        inside = np.clip(1.5 - np.sqrt((along / a) ** 2 + (across / b) ** 2), 0, 1).astype(np.float32)
        part += np.float32(0.4 + 0.6 * u[5]) * np.minimum(inside, 1) * ((255 if u[6] < 0.6 else 0) - part)
        return y


def drawn(rng: np.random.Generator, width: int, height: int, count: int, eyes: float = EYES) -> OldFilm:
    """The wear of a film of ``count`` frames; lengths scale with ``eyes``, px between the eyes of its main face."""
    u, scale = rng.random(12), eyes / EYES

    def between(low: float, high: float, i: int) -> float:
        return float(low + (high - low) * u[i])

    flicker = wandering(rng, (count,), 0.6, between(0.03, 0.10, 6))
    weave = wandering(rng, (count, 2), 0.7, scale * between(0.4, 1.5, 7))
    rotation = wandering(rng, (count,), 0.7, between(0.02, 0.08, 8))
    return OldFilm(
        width=width,
        height=height,
        blur=scale * between(1, 3, 0),
        reduction=max(1.0, scale * between(1.5, 3, 1)),
        grain=scale * between(0.5, 1.2, 2),
        amplitude=between(6, 18, 3),
        contrast=between(0.6, 0.9, 4),
        lift=between(5, 25, 5),
        flicker=tuple(flicker.tolist()),
        weave=tuple((float(x), float(y)) for x, y in weave),
        rotation=tuple(rotation.tolist()),
        quality=round(between(18, 28, 9)),
        sepia=bool(u[10] < 0.2),
        dust=between(2, 8, 11),
        scratches=tuple(_scratch(rng, width, count, scale) for _ in range(rng.poisson(3 * count / 48))),
        scale=scale,
    )


def wandering(rng: np.random.Generator, shape: tuple[int, ...], rho: float, sd: float) -> NDArray[np.float64]:
    """``x_0 = sd N``, ``x_t = rho x_{t-1} + sd sqrt(1 - rho^2) N`` along the first axis."""
    x = sd * rng.standard_normal(shape)
    for t in range(1, shape[0]):
        x[t] = rho * x[t - 1] + math.sqrt(1 - rho**2) * x[t]
    return x


def _scratch(rng: np.random.Generator, width: int, count: int, scale: float) -> Scratch:
    u = rng.random(6)
    life = round(5 + 35 * u[1])
    xs = u[0] * width + np.cumsum(scale * 0.2 * rng.standard_normal(life))
    return Scratch(
        first=int(u[5] * count),
        xs=tuple(xs.tolist()),
        width=scale * (0.5 + u[2]),
        opacity=0.3 + 0.5 * u[3],
        white=bool(u[4] < 0.7),
    )
