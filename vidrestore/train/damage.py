"""Damage that old and cheap video carries, done to uint8 RGB pictures ``[h, w, 3]``.

Every draw comes from the numpy generator that the caller hands in. Coordinates stay where they were: all
filters are symmetric, and resampling aligns pixel centres.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from vidrestore.train.shards import Picture

DOWN = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)
UP, UP_SHARE = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC), (0.1, 0.45, 0.45)


def resized(image: Picture, width: int, height: int, interpolation: int) -> Picture:
    """At another size, by one of OpenCV's interpolations."""
    out: Picture = cv2.resize(image, (max(1, width), max(1, height)), interpolation=interpolation)
    return out


def blur(image: Picture, sigma: float) -> Picture:
    """Gaussian blur, sigma in px."""
    out: Picture = cv2.GaussianBlur(image, (0, 0), sigma)
    return out


def motion_blur(image: Picture, length: int, angle: float) -> Picture:
    """Mean along a line of ``length`` px in the direction ``angle`` (radians), centred."""
    half = length / 2
    dx, dy = half * np.cos(angle), half * np.sin(angle)
    side = 2 * int(np.ceil(half)) + 1
    kernel = np.zeros((side, side), np.float32)
    middle = side // 2
    for t in np.linspace(-1, 1, 2 * length + 1):
        kernel[round(middle + t * dy), round(middle + t * dx)] = 1
    out: Picture = cv2.filter2D(image, -1, kernel / kernel.sum())
    return out


def noise(image: Picture, sigma: float, coloured: bool, rng: Generator) -> Picture:
    """White Gaussian noise, sigma in codes of 0..255, the same in all channels unless ``coloured``."""
    height, width = image.shape[:2]
    field = rng.standard_normal((height, width, 3 if coloured else 1), dtype=np.float32)
    return np.clip(image + field * np.float32(sigma), 0, 255).astype(np.uint8)


def jpeg(image: Picture, quality: int) -> Picture:
    """Coded and decoded as JPEG 4:2:0."""
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    out: Any = cv2.imdecode(coded, cv2.IMREAD_COLOR)  # coded as if BGR: red and blue change places twice
    return np.asarray(out, np.uint8)


def tone(image: Picture, gain: float, gamma: float, offset: float, tint: tuple[float, float, float]) -> Picture:
    """``255 * (v / 255) ** gamma * gain * tint + offset``, clipped: dark, faded, burnt out, or tinted."""
    ramp = (np.arange(256, dtype=np.float32) / 255) ** gamma * (255 * gain)
    table = np.clip(ramp[:, None] * np.asarray(tint, np.float32) + offset, 0, 255).astype(np.uint8)  # [256, 3]
    out: Picture = cv2.LUT(image, table[None])
    return out


def grey(image: Picture) -> Picture:
    """Luma (BT.601) in all three channels."""
    luma: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.repeat(luma[:, :, None], 3, axis=2)


def photograph(image: Picture, rng: Generator) -> Picture:
    """Another exposure, contrast and white balance, within what leaves things recognisable; a third of the
    pictures without colour."""
    if rng.random() < 0.3:
        image = grey(image)
    if rng.random() < 0.7:
        tint = np.exp(rng.normal(0, 0.06, 3)) if rng.random() < 0.5 else np.ones(3)
        gain = float(np.exp(np.clip(rng.normal(0, 0.15), -0.35, 0.25)))
        if rng.random() < 0.1:
            gain *= rng.uniform(0.3, 0.6)
        gamma = float(np.exp(rng.normal(0, 0.2)))
        image = tone(image, gain, gamma, float(rng.normal(0, 8)), (tint[0], tint[1], tint[2]))
    return image


def lost_size(rng: Generator) -> float:
    """How many times smaller the picture once was: 1 for four in ten, up to 5 for the rest, often near 4."""
    kind = rng.random()
    if kind < 0.4:
        return 1.0
    return float(rng.uniform(3, 5) if kind < 0.6 else np.exp(rng.uniform(np.log(1.2), np.log(4.5))))


def degrade(image: Picture, factor: float, rng: Generator) -> Picture:
    """Blur, loss of size, noise and coding, each at random strength and often absent.

    Most pictures that lose size carry noise and coding at the small size, as an enlarged old clip does.
    """
    height, width = image.shape[:2]
    if rng.random() < 0.12:
        image = motion_blur(image, int(rng.integers(3, 12)), float(rng.uniform(0, np.pi)))
    if rng.random() < 0.2:
        image = blur(image, float(rng.uniform(0.4, 2.2)))
    if factor > 1:
        image = resized(image, round(width / factor), round(height / factor), int(rng.choice(DOWN)))
        up = int(rng.choice(UP, p=UP_SHARE))
        if rng.random() < 0.65:
            return resized(record(image, rng), width, height, up)
        image = resized(image, width, height, up)
    return record(image, rng)


def record(image: Picture, rng: Generator) -> Picture:
    """Sensor or film noise, then coding."""
    if rng.random() < 0.5:
        image = noise(image, float(rng.uniform(1, 12)), rng.random() < 0.6, rng)
    if rng.random() < 0.7:
        image = jpeg(image, int(rng.integers(18, 85)))
    return image
