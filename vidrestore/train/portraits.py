"""Aligned faces to learn from: those that anyone may use, by split, with the jitter of another photograph."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from vidrestore.errors import InputAccessError
from vidrestore.train.damage import grey, tone
from vidrestore.train.shards import pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.train.shards import Picture

    Row = dict[str, str]  # of faces.csv

# synthetic faces have their generator's smooth skin, and some of them are soft: seen less often than photographs
_SOURCE_SHARE = {"sfhqt2i": 0.6, "sfhq": 0.15}


@dataclass(frozen=True, eq=False)
class Portraits:
    """Faces in memory, 256 px a side, and how often each is drawn."""

    images: list[Picture]
    shares: NDArray[np.float64]  # sum 1

    def __len__(self) -> int:
        return len(self.images)

    def truth(self, rng: Generator) -> Tensor:
        """One face f32 [3, 256, 256] in 0..1, mirrored, turned and toned at random."""
        return as_tensor(jittered(self.images[rng.choice(len(self.images), p=self.shares)], rng))


def load_portraits(
    folder: Path, split: str, terms: str = "free", limit: int = 0, keep: Callable[[Row], bool] | None = None
) -> Portraits:
    """The faces of a split ("train", "val") whose terms are as given; the first ``limit`` of them where given.

    ``keep`` chooses among the index's rows.

    Raises InputAccessError where the index or every shard is missing.
    """
    index = folder / "faces.csv"
    shards = sorted(folder.glob(f"faces256-{terms}-*.tar"))
    if not index.is_file() or not shards:
        raise InputAccessError(str(folder), "no faces.csv or no shards in it", "give the folder of faces with --data")
    with index.open(newline="") as file:
        chosen = [r for r in csv.DictReader(file) if r["terms"] == terms and r["split"] == split]
        rows = {r["stem"]: r for r in chosen if keep is None or keep(r)}
    wanted = {f"{stem}.jpg" for stem in rows}
    found = [(name, picture) for shard in shards for name, picture in pictures(shard, wanted)][: limit or None]
    if not found:
        raise InputAccessError(str(folder), f"no {terms} faces of the split {split}", "see faces.csv")
    shares = np.array([_SOURCE_SHARE.get(rows[name.removesuffix(".jpg")].get("source", ""), 1.0) for name, _ in found])
    return Portraits([picture for _, picture in found], shares / shares.sum())


def as_tensor(picture: Picture) -> Tensor:
    """u8 [h, w, 3] -> f32 [3, h, w] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


def jittered(picture: Picture, rng: Generator) -> Picture:
    """Mirrored, turned by up to 6 degrees, scaled by up to 8 %, moved by up to 4 %, in another light."""
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.5:  # the other half keeps its pixels: interpolation softens
        side = picture.shape[0]
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, rng.uniform(-6, 6), rng.uniform(0.92, 1.08))
        matrix[:, 2] += rng.uniform(-0.04, 0.04, 2) * side
        turned: Any = cv2.warpAffine(
            np.ascontiguousarray(picture),
            matrix,
            (side, side),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        picture = turned
    if rng.random() < 0.6:
        red, blue = np.exp(rng.normal(0, 0.05, 2))
        gain, gamma = float(np.exp(rng.uniform(-0.25, 0.1))), float(np.exp(rng.normal(0, 0.15)))
        picture = tone(np.ascontiguousarray(picture), gain, gamma, float(rng.uniform(0, 10)), (red, 1.0, blue))
    if rng.random() < 0.06:
        picture = grey(np.ascontiguousarray(picture))
        if rng.random() < 0.3:
            picture = tone(picture, 1.0, 1.0, 0.0, (1.0, 0.94, 0.78))
    return np.ascontiguousarray(picture)
