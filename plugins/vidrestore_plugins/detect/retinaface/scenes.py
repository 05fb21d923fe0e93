"""Photographs with the teacher's labels, and crops of them at any scale."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vidrestore.train.damage import resized
from vidrestore.train.shards import pictures

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    from vidrestore_plugins.detect.retinaface.teacher import Picture

    F32 = NDArray[np.float32]

SMALLEST = 16.0  # px of a face's longer side; smaller ones are not asked for


@dataclass(frozen=True, eq=False)
class Scene:
    """One photograph, or a crop of one."""

    image: Picture
    boxes: F32  # [n, 4]
    landmarks: F32  # [n, 5, 2]
    ignore: F32  # [m, 4]

    def mirrored(self) -> Scene:
        last = self.image.shape[1] - 1
        points = self.landmarks[:, [1, 0, 2, 4, 3]] * (-1, 1) + (last, 0)
        return Scene(
            np.ascontiguousarray(self.image[:, ::-1]),
            _flip(self.boxes, last),
            points.astype(np.float32),
            _flip(self.ignore, last),
        )


def _flip(boxes: F32, last: int) -> F32:
    return np.stack((last - boxes[:, 2], boxes[:, 1], last - boxes[:, 0], boxes[:, 3]), axis=1)


def load_scenes(folder: Path, split: str) -> list[Scene]:
    """Photographs of a split, in the order of their names."""
    entries = {e["image"]: e for e in json.loads((folder / "scenes.json").read_text())["images"] if e["split"] == split}
    images = dict(pictures(folder / "scenes.tar", set(entries)))
    return [_scene(images[name], entries[name]) for name in sorted(entries)]


def _scene(image: Picture, entry: dict[str, Any]) -> Scene:
    faces = entry["faces"]
    return Scene(
        image,
        _corners([f["box"] for f in faces]),
        np.asarray([f["lm"] for f in faces], np.float32).reshape(-1, 5, 2),
        _corners([i[:4] for i in entry["ignore"]]),
    )


def _corners(boxes: list[list[float]]) -> F32:
    out = np.asarray(boxes, np.float32).reshape(-1, 4)
    out[:, 2:] += out[:, :2]
    return out


def crop(scene: Scene, zoom: float, corner: tuple[float, float], backdrop: Picture) -> Scene:
    """The photograph enlarged ``zoom`` times, as seen through a window that starts at its pixel ``corner``.

    The window has the size of the (square) backdrop, which fills what lies beyond the photograph. Faces mostly
    outside, and those that became too small, turn into regions to ignore.
    """
    side = backdrop.shape[0]
    height, width = scene.image.shape[:2]
    image, rest = scene.image, zoom
    if zoom < 0.7:  # area means first, so that shrinking does not alias
        image = resized(image, round(width * zoom), round(height * zoom), cv2.INTER_AREA)
        rest = 1.0
    shift = (rest - 1) / 2  # pixel centres: x' + 1/2 = rest (x + 1/2)
    matrix = np.array([[rest, 0, shift - corner[0]], [0, rest, shift - corner[1]]])
    out = backdrop.copy()
    flags = cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_LINEAR
    cv2.warpAffine(image, matrix, (side, side), dst=out, flags=flags, borderMode=cv2.BORDER_TRANSPARENT)
    scale = np.array((image.shape[1] / width, image.shape[0] / height), np.float32) * np.float32(rest)
    offset = (scale - 1) / 2 - np.asarray(corner, np.float32)

    def carry(points: F32) -> F32:
        return (points.reshape(-1, 2) * scale + offset).reshape(points.shape).astype(np.float32)

    boxes, points, ignore = carry(scene.boxes), carry(scene.landmarks), carry(scene.ignore)
    return only(Scene(out, boxes, points, ignore), visible(boxes, side) >= 0.6, SMALLEST)


def only(scene: Scene, kept: NDArray[np.bool_], smallest: float) -> Scene:
    """The scene with those faces (bool [n]) that are not too small; the others turn into regions to ignore."""
    kept = kept & ((scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1, initial=0) >= smallest)
    ignore = np.concatenate((scene.ignore, scene.boxes[~kept]))
    return replace(scene, boxes=scene.boxes[kept], landmarks=scene.landmarks[kept], ignore=ignore)


def faded(scene: Scene, smallest: float) -> Scene:
    """The scene with the faces that damage left recognisable: those of that many px or more."""
    return only(scene, np.ones(len(scene.boxes), np.bool_), smallest)


def visible(boxes: F32, side: int) -> F32:
    """[n]: share of each box that lies in the picture."""
    inside = np.clip(boxes, 0, side)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3), axis=1)
    return np.asarray(np.prod(inside[:, 2:] - inside[:, :2], axis=1) / area, np.float32)


def rarity(scene: Scene) -> F32:
    """[n]: how often each face is to be shown; turned ones, of which there are few, three times as often, and
    those of a crowd less each."""
    eyes = np.hypot(*(scene.landmarks[:, 1] - scene.landmarks[:, 0]).T)
    turned = eyes < 0.36 * (scene.boxes[:, 2] - scene.boxes[:, 0])
    return np.asarray(np.where(turned, 3.0, 1.0) / np.sqrt(max(1, len(eyes))), np.float32)


def crop_about(scene: Scene, face: int, backdrop: Picture, rng: Generator) -> Scene:
    """A crop with that face in it, brought to a random size."""
    side = backdrop.shape[0]
    box = scene.boxes[face]
    size = float((box[2:] - box[:2]).max())
    target = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(max(min(0.9 * side, 3 * size), SMALLEST + 1)))))
    zoom = max(target / size, 0.5 * side / max(scene.image.shape[:2]))
    reach = max(0.0, side / 2 - 0.6 * size * zoom)
    if rng.random() < 0.08:  # now and then the border cuts the face
        reach = side / 2
    x, y = (box[:2] + box[2:]) / 2 * zoom - side / 2 + rng.uniform(-reach, reach, 2)
    out = crop(scene, zoom, (round(x), round(y)), backdrop)
    return out.mirrored() if rng.random() < 0.5 else out


def crop_anywhere(scene: Scene, backdrop: Picture, rng: Generator) -> Scene:
    """A crop of any part at any size."""
    side = backdrop.shape[0]
    height, width = scene.image.shape[:2]
    zoom = float(np.exp(rng.uniform(np.log(0.8 * side / max(height, width)), np.log(2.5))))
    x = rng.uniform(min(0, width * zoom - side), max(0, width * zoom - side))
    y = rng.uniform(min(0, height * zoom - side), max(0, height * zoom - side))
    out = crop(scene, zoom, (round(x), round(y)), backdrop)
    return out.mirrored() if rng.random() < 0.5 else out
