"""Cut-out faces to paste into training pictures, with the boxes the teacher gives them at every angle."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vidrestore.train.shards import pictures

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    from vidrestore_plugins.detect.retinaface.teacher import Picture, YuNet

    F32 = NDArray[np.float32]

SIDE = 256  # px of a cut-out
CENTRE = (SIDE - 1) / 2
ANGLES = np.arange(-60, 61, 15)  # degrees at which the teacher looked


@dataclass(frozen=True, eq=False)
class Gallery:
    """Cut-outs of one split."""

    images: list[list[Picture]]  # each face at 256, 128, 64 and 32 px, so that shrinking does not alias
    landmarks: F32  # [n, 5, 2] px at 256
    boxes: F32  # [n, angles, 4] about the cut-out's centre after turning it, px at 256


def load_gallery(folder: Path, split: str, teacher: YuNet, limit: int = 0) -> Gallery:
    """The free faces of a split (the first ``limit`` where given), seen once by the teacher at each angle.

    Faces it does not find upright are left out.
    """
    with (folder / "faces.csv").open(newline="") as file:
        rows = {f"{r['stem']}.jpg": r for r in csv.DictReader(file) if r["terms"] == "free" and r["split"] == split}
    images: list[list[Picture]] = []
    points: list[list[list[float]]] = []
    boxes: list[F32] = []
    for shard in sorted(folder.glob("faces256-free-*.tar")):
        for name, image in pictures(shard, set(rows)):
            if limit and len(images) == limit:
                break
            table = turned_boxes(image, teacher)
            if table is not None:
                images.append(pyramid(image))
                points.append([[float(rows[name][f"{axis}{k}"]) for axis in "xy"] for k in range(5)])
                boxes.append(table)
    return Gallery(images, np.asarray(points, np.float32), np.asarray(boxes, np.float32))


def pyramid(image: Picture) -> list[Picture]:
    """256, 128, 64 and 32 px, by means of 2x2."""
    levels: list[Any] = [image]
    for _ in range(3):
        side = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (side, side), interpolation=cv2.INTER_AREA))
    return levels


def turned_boxes(image: Picture, teacher: YuNet) -> F32 | None:
    """``[angles, 4]`` about the centre; angles at which the face was not found take the nearest one's box."""
    scale, canvas = 0.625, 288
    found: dict[int, F32] = {}
    for angle in ANGLES:
        matrix = similarity(scale, float(angle), False, ((canvas - 1) / 2, (canvas - 1) / 2))
        turned: Any = cv2.warpAffine(image, matrix, (canvas, canvas), flags=cv2.INTER_AREA, borderValue=(110, 110, 110))
        faces = teacher(turned, 0.5)
        if len(faces):
            box = (faces.boxes[0] - (canvas - 1) / 2) / scale
            middle = (box[:2] + box[2:]) / 2
            if np.abs(middle).max() < 50 and 70 < box[3] - box[1] < 240:
                found[int(angle)] = box
    if 0 not in found:
        return None
    known = np.array(list(found))
    return np.stack([found[int(known[np.abs(known - angle).argmin()])] for angle in ANGLES])


def similarity(scale: float, angle: float, mirror: bool, centre: tuple[float, float]) -> NDArray[np.float64]:
    """``[2, 3]``: mirror at the vertical, scale, turn by ``angle`` degrees (clockwise as seen), and carry the
    cut-out's centre to ``centre``."""
    c, s = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
    linear = np.array([[-c, -s], [-s, c]]) if mirror else np.array([[c, -s], [s, c]])
    shift = np.asarray(centre) - linear @ (CENTRE, CENTRE)
    return np.concatenate((linear, shift[:, None]), axis=1)


def box_at(table: F32, scale: float, angle: float, mirror: bool) -> F32:
    """The teacher's box about the centre of a face placed by `similarity`; turned faces between two angles
    get a box between."""
    look = -angle if mirror else angle
    box = np.array([np.interp(look, ANGLES, table[:, i]) for i in range(4)]) * scale
    return np.array((-box[2], box[1], -box[0], box[3]) if mirror else box, np.float32)


def points_at(points: F32, matrix: NDArray[np.float64], mirror: bool) -> F32:
    """Landmarks carried by the matrix; a mirrored face swaps its sides."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return (moved[[1, 0, 2, 4, 3]] if mirror else moved).astype(np.float32)


def shape_mask(rng: Generator) -> F32:
    """f32 [256, 256], 0..1: what of a cut-out is pasted.

    Feathered ovals of many sizes, the whole cut-out with soft margins, or the plain square: the network must
    not learn the seam.
    """
    kind = rng.random()
    if kind < 0.12:
        return np.ones((SIDE, SIDE), np.float32)
    mask = np.zeros((SIDE, SIDE), np.float32)
    if kind < 0.35:
        margin = int(rng.integers(6, 30))
        mask[margin:-margin, margin:-margin] = 1
        sigma = margin / 2.5
    else:
        axes = (int(rng.integers(70, 118)), int(rng.integers(92, 122)))
        centre = (int(128 + rng.integers(-6, 7)), int(132 + rng.integers(-8, 9)))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(-8, 8)), 0, 360, (1.0,), -1)
        sigma = float(rng.uniform(1, 9))
    soft: F32 = cv2.GaussianBlur(mask, (0, 0), sigma)
    return soft


def paste(canvas: Picture, levels: list[Picture], mask: F32, matrix: NDArray[np.float64]) -> None:
    """Lay a cut-out over the canvas, in place."""
    span = np.hypot(matrix[0, 0], matrix[1, 0])
    level = int(np.clip(np.floor(np.log2(1 / span)), 0, len(levels) - 1)) if span < 1 else 0
    half = np.array(matrix)
    factor = 2**level  # pixel centres: full = factor * small + (factor - 1) / 2
    half[:, 2] += half[:, :2] @ np.full(2, (factor - 1) / 2)
    half[:, :2] *= factor
    x0, y0, x1, y1 = footprint(matrix, canvas.shape)
    if x1 <= x0 or y1 <= y0:
        return
    size = (int(x1 - x0), int(y1 - y0))
    half[:, 2] -= (x0, y0)
    small: Any = cv2.resize(mask, levels[level].shape[1::-1], interpolation=cv2.INTER_AREA)
    patch: Any = cv2.warpAffine(levels[level], half, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha: Any = cv2.warpAffine(small, half, size, flags=cv2.INTER_LINEAR)
    below = canvas[y0:y1, x0:x1]
    below[:] = (below + (patch.astype(np.float32) - below) * alpha[:, :, None] + 0.5).astype(np.uint8)


def footprint(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Whole pixels of the canvas that a cut-out may touch: x0 y0 x1 y1, end exclusive."""
    corner = np.array([(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)]) @ matrix[:, :2].T + matrix[:, 2]
    low, high = np.floor(corner.min(0)).astype(int) - 1, np.ceil(corner.max(0)).astype(int) + 2
    return max(0, low[0]), max(0, low[1]), min(shape[1], high[0]), min(shape[0], high[1])
