"""Cut-out faces to paste into training pictures, with the boxes the teacher gives them at every angle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vidrestore.train.portraits import load_portraits
from vidrestore_plugins.detect.retinaface.heads import some_head

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    from vidrestore_plugins.detect.retinaface.teacher import Picture, YuNet

    F32 = NDArray[np.float32]

SIDE = 256  # px of a cut-out
CENTRE = (SIDE - 1) / 2
ANGLES = np.arange(-60, 61, 15)  # degrees at which the teacher looks
CANVAS = 288  # px of the picture it looks at


@dataclass(frozen=True, eq=False)
class Gallery:
    """Cut-outs of one split."""

    images: list[list[Picture]]  # each face at 256, 128, 64 and 32 px, so that shrinking does not alias
    landmarks: F32  # [n, 5, 2] px at 256
    boxes: F32  # [n, angles, 4] about the cut-out's centre after turning it, px at 256


def load_gallery(folder: Path, split: str, teacher: YuNet, cache: Path | None = None, limit: int = 0) -> Gallery:
    """The free faces of a split (the first ``limit`` where given) and each of them once more with its head turned,
    as the teacher sees them; those that it does not find upright are left out.

    What it saw is kept in the file ``cache``, where given, for the next time.
    """
    portraits = load_portraits(folder, split).images
    rng = np.random.default_rng(len(portraits))
    portraits = portraits[: limit or None]
    portraits += [some_head(portrait, rng) for portrait in portraits]
    if cache and cache.exists():
        seen = dict(np.load(cache))
    else:
        sights = [sight(portrait, teacher) for portrait in portraits]
        which = [i for i, s in enumerate(sights) if s is not None]
        seen = {"which": np.asarray(which), "landmarks": np.asarray([s[0] for s in sights if s is not None])}
        seen["boxes"] = np.asarray([s[1] for s in sights if s is not None])
        if cache:
            np.savez(cache, **seen)
    return Gallery([pyramid(portraits[i]) for i in seen["which"]], seen["landmarks"], seen["boxes"])


def pyramid(image: Picture) -> list[Picture]:
    """256, 128, 64 and 32 px, by means of 2x2."""
    levels: list[Any] = [image]
    for _ in range(3):
        side = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (side, side), interpolation=cv2.INTER_AREA))
    return levels


def sight(portrait: Picture, teacher: YuNet) -> tuple[F32, F32] | None:
    """Landmarks ``[5, 2]``, the median of those seen at the angles up to 45 degrees and turned back, and boxes
    ``[angles, 4]`` about the centre; an angle at which the face was not found takes the nearest one's box."""
    scale, middle = 0.625, (CANVAS - 1) / 2
    boxes: dict[int, F32] = {}
    points: list[F32] = []
    for angle in ANGLES:
        matrix = similarity(scale, float(angle), False, (middle, middle))
        turned: Picture = cv2.warpAffine(
            portrait, matrix, (CANVAS, CANVAS), flags=cv2.INTER_AREA, borderValue=(110, 110, 110)
        )
        faces = teacher(turned, 0.5)
        box = (faces.boxes[0] - middle) / scale if len(faces) else np.zeros(4, np.float32)
        if np.abs(box[:2] + box[2:]).max() < 100 and 70 < box[3] - box[1] < 250:
            boxes[int(angle)] = box
            if abs(angle) <= 45:
                points.append(np.linalg.solve(matrix[:, :2], (faces.landmarks[0] - matrix[:, 2]).T).T)
    if 0 not in boxes:
        return None
    known = np.array(list(boxes))
    table = np.stack([boxes[int(known[np.abs(known - angle).argmin()])] for angle in ANGLES])
    return np.median(points, axis=0).astype(np.float32), table.astype(np.float32)


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
