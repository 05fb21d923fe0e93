"""Portraits seen a little from the side, above or below: the cut-outs are nearly all frontal, films are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from vidrestore_plugins.detect.retinaface.teacher import Picture

    F32 = NDArray[np.float32]

MIDDLE, RADII = (127.5, 140.0), (92.0, 120.0)  # px of the head in a cut-out of 256 px


def turned_head(image: Picture, yaw: float, pitch: float, stretch: tuple[float, float]) -> Picture:
    """The portrait painted on an ellipsoid and seen after turning that by angles in radians, then stretched.

    The hidden side repeats the visible one; around the head the picture gives way smoothly.
    """
    v, u = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    x, y = ((w - m) / (r * s) for w, m, r, s in zip((u, v), MIDDLE, RADII, stretch, strict=True))
    z = np.sqrt(np.maximum(0, 1 - x * x - y * y))
    y, z = y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)
    x = x * np.cos(yaw) - z * np.sin(yaw)
    source = [(w * r + m).astype(np.float32) for w, m, r in zip((x, y), MIDDLE, RADII, strict=True)]
    out: Picture = cv2.remap(image, source[0], source[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return out


def some_head(image: Picture, rng: Generator) -> Picture:
    """Turned by up to 40 degrees to a side and 20 up or down, up to a seventh longer or broader."""
    yaw = np.radians(rng.uniform(8, 40)) * rng.choice((-1, 1))
    stretch = np.exp(rng.uniform(-0.14, 0.14, 2))
    return turned_head(image, float(yaw), float(np.radians(rng.uniform(-20, 20))), (stretch[0], stretch[1]))
