"""What looks a little like a face, or hides one: laid into training pictures, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from vidrestore_plugins.detect.retinaface.faces import SIDE, paste, shape_mask, similarity

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from vidrestore_plugins.detect.retinaface.teacher import Picture

    F32 = NDArray[np.float32]

FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&?!:"))


def touch(a: F32, b: F32) -> bool:
    """Whether two boxes meet, or come nearer than a fifth of the smaller one."""
    grow = 0.2 * np.minimum(a[2:] - a[:2], b[2:] - b[:2])
    return bool(np.all(np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:]) + grow))


def patch(canvas: Picture, other: Picture, taken: list[F32], rng: Generator) -> None:
    """A part of another picture in the shapes that faces are pasted in, clear of the boxes taken."""
    side = canvas.shape[0]
    size = float(np.exp(rng.uniform(np.log(16), np.log(0.6 * side))))
    x, y = (float(v) for v in rng.uniform(0, side, 2))
    box = np.array((x - size / 2, y - size / 2, x + size / 2, y + size / 2), np.float32)
    if any(touch(box, face) for face in taken):
        return
    cut = int(rng.uniform(0.4, 1.0) * min(other.shape[:2]))
    top, left = (int(rng.integers(extent - cut + 1)) for extent in other.shape[:2])
    tile: Picture = cv2.resize(other[top : top + cut, left : left + cut], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    paste(canvas, [tile], shape_mask(rng), similarity(size / SIDE, float(rng.uniform(-30, 30)), False, (x, y)))


def letters(canvas: Picture, taken: list[F32], rng: Generator) -> None:
    """A few lines of writing, as on titles and signs, on a plain board or none, clear of the boxes taken."""
    side = canvas.shape[0]
    font, scale = int(rng.choice(FONTS)), float(np.exp(rng.uniform(np.log(0.4), np.log(3.5))))
    thick = max(1, round(scale * np.exp(rng.uniform(np.log(0.8), np.log(7.0)))))
    lines = ["".join(rng.choice(LETTERS, int(rng.integers(2, 16)))) for _ in range(int(rng.integers(1, 5)))]
    sizes = [cv2.getTextSize(line, font, scale, thick)[0] for line in lines]
    step, width = int(1.5 * sizes[0][1]) + 4, max(size[0] for size in sizes)
    x, y = int(rng.integers(-width // 3, side - 10)), int(rng.integers(-10, side - 10))
    box = np.array((x - 8, y - 8, x + width + 8, y + step * len(lines) + 8), np.float32)
    if any(touch(box, face) for face in taken):
        return
    ink, board = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
    if rng.random() < 0.5:
        cv2.rectangle(canvas, box[:2].astype(int).tolist(), box[2:].astype(int).tolist(), board, -1)
    for i, line in enumerate(lines):
        cv2.putText(canvas, line, (x, y + step * (i + 1) - 4), font, scale, ink, thick, cv2.LINE_AA)


def shapes(canvas: Picture, taken: list[F32], rng: Generator) -> None:
    """An oval or a rounded board, plain, rimmed or shaded, a few lines or dots on it, clear of the boxes taken."""
    side = canvas.shape[0]
    size = float(np.exp(rng.uniform(np.log(14), np.log(0.5 * side))))
    half = np.array((size * rng.uniform(0.6, 1.1), size)) / 2
    middle = rng.uniform(0, side, 2)
    box = np.concatenate((middle - half, middle + half)).astype(np.float32)
    if any(touch(box, face) for face in taken):
        return
    centre, axes = middle.astype(int).tolist(), np.maximum(half, 1).astype(int).tolist()
    colours = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(3)]
    tilt, rim = float(rng.uniform(-30, 30)), max(1, int(size * rng.uniform(0.02, 0.3)))
    for share in np.linspace(1, 0, int(rng.integers(1, 6)), endpoint=False):  # steps of shade
        shade = tuple(int(share * a + (1 - share) * b) for a, b in zip(colours[0], colours[1], strict=True))
        cv2.ellipse(canvas, centre, [max(1, int(a * share)) for a in axes], tilt, 0, 360, shade, -1, cv2.LINE_AA)
    if rng.random() < 0.6:
        cv2.ellipse(canvas, centre, axes, tilt, 0, 360, colours[2], rim, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):
        spot = (middle + rng.uniform(-0.7, 0.7, 2) * half).astype(int)
        if rng.random() < 0.5:
            cv2.circle(canvas, spot.tolist(), max(1, int(0.1 * size)), colours[2], -1, cv2.LINE_AA)
        else:
            end = (spot + rng.uniform(-0.5, 0.5, 2) * size).astype(int)
            cv2.line(canvas, spot.tolist(), end.tolist(), colours[2], max(1, int(0.05 * size)), cv2.LINE_AA)


def cover(canvas: Picture, other: Picture, box: F32, rng: Generator) -> None:
    """Hide a part of a face behind an ellipse of another picture's texture, or of one of its colours."""
    size = (box[2:] - box[:2]).max()
    middle = (box[:2] + box[2:]) / 2 + rng.uniform(-0.55, 0.55, 2) * size
    axes = (max(1, int(rng.uniform(0.05, 0.22) * size)), max(1, int(rng.uniform(0.08, 0.35) * size)))
    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.ellipse(mask, middle.round().astype(int).tolist(), axes, float(rng.uniform(0, 180)), 0, 360, (255,), -1)
    rows, columns = np.nonzero(mask)
    height, width = other.shape[:2]
    y, x = int(rng.integers(height)), int(rng.integers(width))
    canvas[rows, columns] = other[(rows + y) % height, (columns + x) % width] if rng.random() < 0.5 else other[y, x]
