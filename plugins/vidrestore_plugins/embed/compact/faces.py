"""Faces to learn from, more than there are: each truth is turned, toned, bent and mixed with others at random.

Whose face a mixture is nobody can say but the teacher, and that is enough: it is asked about each truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from vidrestore.train.damage import degrade, lost_size
from vidrestore.train.footage import drawn, filmed
from vidrestore.train.portraits import as_tensor, jittered

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.random import Generator
    from torch import Tensor

    from vidrestore.train.portraits import Portraits
    from vidrestore.train.shards import Picture

_FILMED = 0.25  # share of the damaged faces that went through a real video codec
_MIXED, _BENT = 0.6, 0.5


@dataclass(frozen=True, eq=False)
class Pairs:
    """Faces on the FFHQ template and the same damaged, f32 [n, 3, 256, 256] in 0..1."""

    truth: Tensor
    damaged: Tensor


@dataclass(frozen=True)
class Faces:
    """Makes batches. Each face has a generator of its own, so that threads change nothing."""

    portraits: Portraits
    count: int  # a batch
    pool: ThreadPoolExecutor | None = None

    def __call__(self, rng: Generator) -> Pairs:
        seeds = rng.integers(2**62, size=self.count).tolist()
        parts = list(self.pool.map(self._pair, seeds) if self.pool else map(self._pair, seeds))
        truth, damaged = (torch.stack(column) for column in zip(*parts, strict=True))
        return Pairs(truth, damaged)

    def _pair(self, seed: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        picture = self._picture(rng)
        if rng.random() < _MIXED:
            picture = mixed(picture, self._picture(rng), rng)
        if rng.random() < _BENT:
            picture = bent(picture, rng)
        truth = as_tensor(picture)
        if rng.random() < _FILMED:
            return truth, filmed(truth, drawn(rng), rng, length=2, keep=1).damaged[0]
        return truth, as_tensor(degrade(picture, lost_size(rng), rng))

    def _picture(self, rng: Generator) -> Picture:
        return jittered(self.portraits.images[rng.choice(len(self.portraits), p=self.portraits.shares)], rng)


def mixed(one: Picture, other: Picture, rng: Generator) -> Picture:
    """Two faces in one: both everywhere, or one on each side of a soft line through the middle of the face."""
    side = one.shape[0]
    if rng.random() < 0.4:
        share: Any = np.float32(rng.uniform(0.25, 0.75))
    else:
        y, x = np.mgrid[:side, :side].astype(np.float32)
        angle, width = rng.uniform(0, 2 * np.pi), rng.uniform(4, 40)
        middle = side * rng.uniform(0.4, 0.65, 2)
        distance = (x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle)
        share = (np.clip(distance / width, -0.5, 0.5) + 0.5).astype(np.float32)[..., None]
    out: Picture = np.rint(share * one + (1 - share) * other).astype(np.uint8)
    return out


def bent(picture: Picture, rng: Generator) -> Picture:
    """Moved by a smooth random field of some px: features of another shape, at other distances."""
    side = picture.shape[0]
    cells = int(rng.integers(3, 7))
    field = rng.normal(0, rng.uniform(1, 4), (cells, cells, 2)).astype(np.float32)
    shift = cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    out: Any = cv2.remap(
        picture, x + shift[..., 0], y + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(out, np.uint8)
