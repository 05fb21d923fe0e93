"""Training batches: crops of photographs, faces pasted into them, and the damage done to both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from vidrestore.train.damage import degrade, lost_size, photograph
from vidrestore_plugins.detect.retinaface.decoys import cover, letters, patch, shapes, touch
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
from vidrestore_plugins.detect.retinaface.scenes import (
    SMALLEST,
    Scene,
    crop_about,
    crop_anywhere,
    faded,
    rarity,
    visible,
)

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

    F32 = NDArray[np.float32]

SHAPES = ((256, 24), (320, 16), (384, 11), (448, 8))  # side in px, pictures: about as many pixels each
SCENES = 0.45  # share of the pictures that begin with a photograph of people
LEAST = 12.0  # px of a face's longer side at which nothing can be asked any more
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
        self.faces = [(scene, face) for scene in self.with_faces for face in range(len(scene.boxes))]
        shares = np.concatenate([rarity(scene) for scene in self.with_faces]).cumsum(dtype=np.float64)
        self._shares = shares / shares[-1]
        self._priors = {side: priors(side, side) for side, _ in shapes}

    def __call__(self, rng: Generator) -> Batch:
        side, count = self.shapes[rng.integers(len(self.shapes))]
        scenes = [self.picture(side, rng) for _ in range(count)]
        images = torch.from_numpy(np.stack([s.image for s in scenes]))
        return Batch(images, [match(labels(s), self._priors[side]) for s in scenes])

    def picture(self, side: int, rng: Generator) -> Scene:
        """One training picture: a photograph's crop, most of them with pasted faces, damaged."""
        kind = rng.random()
        scene = self.photograph(kind < SCENES, self.backdrop(side, rng), rng)
        if kind >= SCENES and rng.random() < 0.15:  # upside down or lying: other textures that are no faces
            scene = _turned(scene, int(rng.integers(1, 4)))
        if kind < 0.14 or kind >= SCENES + 0.2:
            scene = self.with_pasted(scene, rng)
        scene = replace(scene, image=photograph(scene.image, rng))
        if rng.random() < 0.8:
            factor = lost_size(rng)
            scene = faded(replace(scene, image=degrade(scene.image, factor, rng)), LEAST * factor)
        return scene

    def photograph(self, faces: bool, backdrop: NDArray[np.uint8], rng: Generator) -> Scene:
        """A crop of a photograph with or without faces."""
        if not faces:
            return crop_anywhere(self.without[rng.integers(len(self.without))], backdrop, rng)
        scene, face = self.faces[np.searchsorted(self._shares, rng.random(), side="right")]
        if rng.random() < 0.12:
            return crop_anywhere(scene, backdrop, rng)
        return crop_about(scene, face, backdrop, rng)

    def backdrop(self, side: int, rng: Generator) -> NDArray[np.uint8]:
        """What is seen beyond a photograph: another one without faces, stretched; or one colour."""
        if rng.random() < 0.2:
            return np.full((side, side, 3), 0 if rng.random() < 0.6 else rng.integers(256), np.uint8)
        return np.asarray(cv2.resize(self.other(rng), (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)

    def other(self, rng: Generator) -> NDArray[np.uint8]:
        """Some photograph without faces."""
        return self.without[rng.integers(len(self.without))].image

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
                cover(canvas, self.other(rng), pose.box, rng)
            taken.append(pose.box)
            boxes.append(pose.box)
            points.append(points_at(self.gallery.landmarks[pose.which], pose.matrix, pose.mirror))
        if rng.random() < 0.4:
            patch(canvas, self.other(rng), taken, rng)
        if rng.random() < 0.25:
            letters(canvas, taken, rng)
        if rng.random() < 0.2:
            shapes(canvas, taken, rng)
        ends = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(points, np.float32).reshape(-1, 5, 2)
        return Scene(canvas, *ends, scene.ignore)

    def _pose(self, side: int, taken: list[F32], rng: Generator) -> Pose | None:
        """A face, its pose and its box, clear of the others; None where a few tries did not find room."""
        which = int(rng.integers(len(self.gallery.images)))
        for _ in range(6):
            size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(0.95 * side))))
            scale = size / (FACE_SHARE * SIDE)
            angle = float(rng.normal(0, 13) if rng.random() < 0.85 else rng.uniform(-60, 60))
            mirror = rng.random() < 0.5
            margin = 0.42 * size
            x, y = rng.uniform(min(margin, side / 2 - 1), max(side - margin, side / 2 + 1), 2)
            box = box_at(self.gallery.boxes[which], scale, angle, mirror) + np.array((x, y, x, y), np.float32)
            if visible(box[None], side)[0] >= 0.65 and not any(touch(box, other) for other in taken):
                return Pose(which, scale, mirror, similarity(scale, angle, mirror, (float(x), float(y))), box)
        return None


def _turned(scene: Scene, quarters: int) -> Scene:
    """A picture without faces, turned by quarter turns."""
    return replace(scene, image=np.ascontiguousarray(np.rot90(scene.image, quarters)))


def labels(scene: Scene) -> Labels:
    return Labels(torch.from_numpy(scene.boxes), torch.from_numpy(scene.landmarks), torch.from_numpy(scene.ignore))
