"""Faces and their masks to learn a parser from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import torch

from vidrestore.errors import InputAccessError
from vidrestore.train.damage import degrade, lost_size
from vidrestore.train.portraits import as_tensor
from vidrestore.train.shards import members, pictures
from vidrestore_plugins.blend.parser.network import SIDE
from vidrestore_plugins.blend.parsing import FACE

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.train.shards import Picture

UNKNOWN: Final = 255  # outside of the photograph
_DAMAGED, _TURN, _SCALE, _SHIFT = 0.5, 12.0, 0.12, 0.06


@dataclass(frozen=True, eq=False)
class Masked:
    """Crops f32 [n, 3, 128, 128] in 0..1; whether a px is of the face [n, 1, 128, 128], and where that is known."""

    crops: Tensor
    face: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class Annotated:
    """Aligned faces u8 [256, 256, 3] with the class of each px u8 [256, 256]."""

    images: list[Picture]
    masks: list[NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.images)

    def whole(self) -> Masked:
        """All of them, as they are."""
        rows = [row(image, mask) for image, mask in zip(self.images, self.masks, strict=True)]
        return Masked(*(torch.stack(column) for column in zip(*rows, strict=True)))


def load_annotated(folder: Path) -> tuple[Annotated, Annotated]:
    """Those that have a mask, to learn from and held out: one in twenty, told by the index.

    Raises InputAccessError where masks or shards are missing.
    """
    import csv

    index, archive = folder / "faces.csv", folder / "masks.tar"
    if not index.is_file() or not archive.is_file():
        raise InputAccessError(
            str(folder), "no faces.csv or no masks.tar in it", "give the folder of faces with --data"
        )
    with index.open(newline="") as file:
        splits = {r["stem"]: r["split"] for r in csv.DictReader(file)}
    masks: dict[str, Any] = {}
    for name, content in members(archive):
        masks[name.removesuffix(".png")] = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    wanted = {f"{stem}.jpg" for stem in masks}
    found: dict[str, Annotated] = {"train": Annotated([], []), "val": Annotated([], [])}
    for shard in sorted(folder.glob("faces256-*.tar")):
        for name, picture in pictures(shard, wanted):
            stem = name.removesuffix(".jpg")
            of_split = found[splits[stem]]
            of_split.images.append(picture)
            of_split.masks.append(masks[stem])
    return found["train"], found["val"]


@dataclass(frozen=True)
class Faces:
    """Makes batches. Each face has a generator of its own, so that threads change nothing."""

    annotated: Annotated
    count: int  # a batch
    pool: ThreadPoolExecutor | None = None

    def __call__(self, rng: Generator) -> Masked:
        seeds = rng.integers(2**62, size=self.count).tolist()
        rows = list(self.pool.map(self._row, seeds) if self.pool else map(self._row, seeds))
        return Masked(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _row(self, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """One face, mirrored, turned, scaled, moved and, often, damaged: what is restored is not sharp everywhere."""
        rng = np.random.default_rng(seed)
        i = int(rng.integers(len(self.annotated)))
        image, mask = self.annotated.images[i], self.annotated.masks[i]
        side = image.shape[0]
        turn = cv2.getRotationMatrix2D(
            ((side - 1) / 2,) * 2, rng.uniform(-_TURN, _TURN), rng.uniform(1 - _SCALE, 1 + _SCALE)
        )
        turn[:, 2] += rng.uniform(-_SHIFT, _SHIFT, 2) * side
        if rng.random() < 0.5:
            turn = np.array([[-1, 0, side - 1], [0, 1, 0]]) @ np.vstack([turn, [0, 0, 1]])
        size = (side, side)
        moved: Any = cv2.warpAffine(image, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        classes: Any = cv2.warpAffine(
            mask, turn, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=UNKNOWN
        )
        if rng.random() < _DAMAGED:
            moved = degrade(moved, lost_size(rng), rng)
        toned = np.clip(moved * rng.uniform(0.6, 1.2) + rng.uniform(-15, 15), 0, 255).astype(np.uint8)
        return row(toned, classes)


def row(image: Picture, classes: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
    """A crop, the share of each of its px that is face, and where that is known."""
    size = (SIDE, SIDE)
    crop: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    face: Any = cv2.resize(np.isin(classes, FACE).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    known: Any = cv2.resize((classes != UNKNOWN).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    return as_tensor(crop), torch.from_numpy(face)[None], torch.from_numpy(known)[None]
