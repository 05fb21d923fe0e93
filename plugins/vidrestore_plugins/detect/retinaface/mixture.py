"""Training batches: crops of photographs, faces pasted into them, and the damage done to both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from vidrestore.train.damage import degrade, photograph
from vidrestore_plugins.detect.retinaface.faces import (
    SIDE,
    Gallery,
    box_at,
    paste,
    points_at,
    shape_mask,
    similarity,
)
from vidrestore_plugins.detect.retinaface.loss import Labels, Targets, match
from vidrestore_plugins.detect.retinaface.priors import priors
from vidrestore_plugins.detect.retinaface.scenes import Scene, random_crop, visible

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

    F32 = NDArray[np.float32]

SHAPES = ((256, 24), (320, 16), (384, 11), (448, 8))  # side in px, pictures: about as many pixels each
FACE_SHARE = 0.73  # longer side of a typical face box over the side of its cut-out


@dataclass(frozen=True, eq=False)
class Batch:
    images: Tensor  # u8 RGB [b, side, side, 3]
    targets: list[Targets]


@dataclass(frozen=True, eq=False)
class Pose:
    """Where and how a cut-out is laid into a picture."""

    which: int  # row of the gallery
    scale: float  # picture px per cut-out px
    mirror: bool
    matrix: NDArray[np.float64]  # [2, 3], cut-out -> picture
    box: F32  # [4]


class Mixture:
    """Makes batches from photographs and cut-outs."""

    def __init__(self, scenes: list[Scene], gallery: Gallery, shapes: tuple[tuple[int, int], ...] = SHAPES) -> None:
        self.with_faces = [s for s in scenes if len(s.boxes)]
        self.without = [s for s in scenes if not len(s.boxes)]
        self.gallery, self.shapes = gallery, shapes
        self._priors = {side: priors(side, side) for side, _ in shapes}

    def __call__(self, rng: Generator) -> Batch:
        side, count = self.shapes[rng.integers(len(self.shapes))]
        scenes = [self.picture(side, rng) for _ in range(count)]
        images = torch.from_numpy(np.stack([s.image for s in scenes]))
        return Batch(images, [match(labels(s), self._priors[side]) for s in scenes])

    def picture(self, side: int, rng: Generator) -> Scene:
        """One training picture: a photograph's crop, half of them with pasted faces, damaged."""
        kind = rng.random()
        pool = self.with_faces if kind < 0.42 else self.without
        scene = random_crop(pool[rng.integers(len(pool))], self.backdrop(side, rng), rng)
        if kind >= 0.42 and rng.random() < 0.15:  # upside down or lying: other textures that are no faces
            scene = _turned(scene, int(rng.integers(1, 4)))
        if kind >= 0.54 or (kind < 0.12):
            scene = self.with_pasted(scene, rng)
        image = photograph(scene.image, rng)
        if rng.random() < 0.8:
            image = degrade(image, rng)
        return replace(scene, image=image)

    def backdrop(self, side: int, rng: Generator) -> NDArray[np.uint8]:
        """What is seen beyond a photograph: another one without faces, stretched; or one colour."""
        if rng.random() < 0.2:
            return np.full((side, side, 3), 0 if rng.random() < 0.6 else rng.integers(256), np.uint8)
        scene = self.without[rng.integers(len(self.without))].image
        return np.asarray(cv2.resize(scene, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)

    def with_pasted(self, scene: Scene, rng: Generator) -> Scene:
        """Some faces of the gallery laid where no other face is; now and then a patch that is none."""
        side = scene.image.shape[0]
        canvas = scene.image.copy()
        boxes, points = list(scene.boxes), list(scene.landmarks)
        taken = [*scene.boxes, *scene.ignore]
        for _ in range(int(rng.choice((1, 1, 1, 2, 3, 5)))):
            pose = self._pose(side, taken, rng)
            if pose is None:
                continue
            levels = self.gallery.images[pose.which]
            if pose.scale > 0.5 and rng.random() < 0.5:
                levels = [photograph(levels[0], rng)]
            paste(canvas, levels, shape_mask(rng), pose.matrix)
            if rng.random() < 0.18:
                self._occlude(canvas, pose.box, rng)
            taken.append(pose.box)
            boxes.append(pose.box)
            points.append(points_at(self.gallery.landmarks[pose.which], pose.matrix, pose.mirror))
        if rng.random() < 0.4:
            self._decoy(canvas, taken, rng)
        ends = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(points, np.float32).reshape(-1, 5, 2)
        return Scene(canvas, *ends, scene.ignore)

    def _pose(self, side: int, taken: list[F32], rng: Generator) -> Pose | None:
        """A face, its pose and its box, clear of the others; None where a few tries did not find room."""
        which = int(rng.integers(len(self.gallery.images)))
        for _ in range(6):
            size = float(np.exp(rng.uniform(np.log(14), np.log(0.95 * side))))
            scale = size / (FACE_SHARE * SIDE)
            angle = float(rng.normal(0, 13) if rng.random() < 0.85 else rng.uniform(-60, 60))
            mirror = rng.random() < 0.5
            margin = 0.42 * size
            x, y = rng.uniform(min(margin, side / 2 - 1), max(side - margin, side / 2 + 1), 2)
            box = box_at(self.gallery.boxes[which], scale, angle, mirror) + np.array((x, y, x, y), np.float32)
            if visible(box[None], side)[0] >= 0.65 and not any(_near(box, other) for other in taken):
                return Pose(which, scale, mirror, similarity(scale, angle, mirror, (float(x), float(y))), box)
        return None

    def _occlude(self, canvas: NDArray[np.uint8], box: F32, rng: Generator) -> None:
        """Cover a part of a face by a smooth blob of a scene's colours."""
        size = (box[2:] - box[:2]).max()
        scene = self.without[rng.integers(len(self.without))].image
        middle = (box[:2] + box[2:]) / 2 + rng.uniform(-0.55, 0.55, 2) * size
        axes = (rng.uniform(0.08, 0.28) * size, rng.uniform(0.08, 0.4) * size)
        _blob(canvas, scene, middle, axes, rng)

    def _decoy(self, canvas: NDArray[np.uint8], taken: list[F32], rng: Generator) -> None:
        """Lay a patch of another scene over the picture, in the shapes faces are pasted in."""
        side = canvas.shape[0]
        size = float(np.exp(rng.uniform(np.log(16), np.log(0.6 * side))))
        x, y = rng.uniform(0, side, 2)
        box = np.array((x - size / 2, y - size / 2, x + size / 2, y + size / 2), np.float32)
        if any(_near(box, other) for other in taken):
            return
        scene = self.without[rng.integers(len(self.without))].image
        square = min(scene.shape[:2])
        patch = cv2.resize(scene[:square, :square], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        matrix = similarity(0.7 * size / (FACE_SHARE * SIDE), float(rng.uniform(-30, 30)), False, (float(x), float(y)))
        paste(canvas, [patch], shape_mask(rng), matrix)


def _blob(
    canvas: NDArray[np.uint8], source: NDArray[np.uint8], middle: F32, axes: tuple[float, float], rng: Generator
) -> None:
    """An ellipse filled with a patch of another picture."""
    mask = np.zeros(canvas.shape[:2], np.uint8)
    centre = (round(float(middle[0])), round(float(middle[1])))
    cv2.ellipse(
        mask, centre, (max(1, int(axes[0])), max(1, int(axes[1]))), float(rng.uniform(0, 180)), 0, 360, (255,), -1
    )
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return
    height, width = source.shape[:2]
    y, x = int(rng.integers(height)), int(rng.integers(width))
    canvas[rows, columns] = source[(rows + y) % height, (columns + x) % width] if rng.random() < 0.5 else source[y, x]


def _near(a: F32, b: F32) -> bool:
    """Whether two boxes touch when each is enlarged by a fifth."""
    grow = 0.2 * np.minimum(a[2:] - a[:2], b[2:] - b[:2])
    return bool(np.all(np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:]) + grow))


def _turned(scene: Scene, quarters: int) -> Scene:
    """A picture without faces, turned by quarter turns."""
    return replace(scene, image=np.ascontiguousarray(np.rot90(scene.image, quarters)))


def labels(scene: Scene) -> Labels:
    return Labels(torch.from_numpy(scene.boxes), torch.from_numpy(scene.landmarks), torch.from_numpy(scene.ignore))
