"""What the head learns from: faces of known damage, and the damage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vidrestore.train.damage import photograph
from vidrestore.train.footage import drawn, filmed
from vidrestore.train.portraits import as_tensor, load_portraits
from vidrestore_plugins.assess.head.network import luma_256, spectra

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from torch import Tensor

    from vidrestore.train.footage import Level
    from vidrestore.train.shards import Picture

_KEEP: Final = 2  # frames kept of each clip
_REDUCED: Final = 0.8  # a face counts as sharp at 256 px where its photograph was reduced at least to this
# Where a face stops being sound, between clean and medium, is where errors cost most.
_SHARES: Final[dict[Level, float]] = {"clean": 0.25, "mild": 0.3, "medium": 0.25, "heavy": 0.1, "small": 0.1}


@dataclass(frozen=True, eq=False)
class Clips:
    """Crops of damaged faces, as far as the head sees them."""

    power: Tensor  # f32 [n, 140], from ``spectra``
    damage: Tensor  # f32 [n, 3]: resolution, noise, coding

    def batch(self, rng: Generator, size: int) -> tuple[Tensor, Tensor]:
        """Power [size, 140] and damage [size, 3], each crop at another contrast, which scales noise and coding error
        with the rest and leaves resolution."""
        rows = torch.from_numpy(rng.integers(0, len(self.power), size))
        gain = torch.from_numpy(np.exp(rng.uniform(-0.7, 0.5, size))).float()
        scaled = torch.stack([torch.ones(size), gain, gain], 1)
        return self.power[rows] * gain[:, None] ** 2, self.damage[rows] * scaled


def portraits(folder: Path, split: str) -> list[Picture]:
    """The free faces of a split that are truly sharp at 256 px. Raises as ``load_portraits``."""
    return load_portraits(folder, split, keep=lambda row: float(row["scale"]) <= _REDUCED and row["tag"] != "bw").images


def sharpened(image: Picture, sigma: float, amount: float) -> Picture:
    """Unsharp mask, as cameras do it: strong detail in itself is no sign of a fine grid."""
    out: Picture = cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), sigma), -amount, 0)
    return out


def filmed_clips(faces: list[Picture], count: int, rng: Generator) -> Clips:
    """``count`` clips of the faces, each face as often as the others."""
    order = np.concatenate([rng.permutation(len(faces)) for _ in range(-(-count // len(faces)))])[:count]
    power, damage = [], []
    for face in order.tolist():
        picture = photograph(faces[face], rng)
        if rng.random() < 0.4:
            picture = sharpened(picture, float(rng.uniform(0.6, 1.5)), float(rng.uniform(0.3, 1.5)))
        level = list(_SHARES)[rng.choice(len(_SHARES), p=list(_SHARES.values()))]
        footage = filmed(as_tensor(picture), drawn(rng, level), rng, keep=_KEEP)
        crops = luma_256(footage.damaged)
        if rng.random() < 0.5:  # as from a restorer whose crops have 512 px
            twice = F.interpolate(crops, scale_factor=2, mode="bilinear", align_corners=False)
            crops = F.interpolate(twice, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)
        power.append(spectra(crops))
        damage += [[footage.resolution, footage.noise, footage.coding]] * _KEEP
    return Clips(torch.cat(power), torch.tensor(damage))
