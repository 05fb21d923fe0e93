"""Training batches of VSPBFR: whole faces, and the same as bad footage shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vidrestore.train.footage import drawn_to_restore, filmed

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.random import Generator
    from torch import Tensor

    from vidrestore.train.portraits import Portraits


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows in pairs: 2 i and 2 i + 1 are the same face in two frames of one clip."""

    damaged: Tensor  # f32 [n, 3, S, S] in -1..1
    truth: Tensor  # f32 [n, 3, S, S] in -1..1


@dataclass(frozen=True)
class Truths:
    """Faces as they are, f32 [n, 3, S, S] in -1..1."""

    portraits: Portraits
    faces: int  # a batch
    side: int  # S
    device: str = "cpu"

    def __call__(self, rng: Generator) -> Tensor:
        return ready(torch.stack([self.portraits.truth(rng) for _ in range(self.faces)]), self.side, self.device)


@dataclass(frozen=True)
class Clips:
    """Faces in two frames each. Each clip has a generator of its own, so that threads change nothing."""

    portraits: Portraits
    clips: int  # a batch
    side: int  # S
    device: str = "cpu"
    pool: ThreadPoolExecutor | None = None

    def __call__(self, rng: Generator) -> Batch:
        seeds = rng.integers(2**62, size=self.clips).tolist()
        parts = list(self.pool.map(self._clip, seeds) if self.pool else map(self._clip, seeds))
        damaged, truth = (torch.cat(column) for column in zip(*parts, strict=True))
        return Batch(ready(damaged, self.side, self.device), ready(truth, self.side, self.device))

    def _clip(self, seed: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        truth = self.portraits.truth(rng)
        return filmed(truth, drawn_to_restore(rng), rng).damaged, truth.expand(2, -1, -1, -1)


def ready(pictures: Tensor, side: int, device: str) -> Tensor:
    """0..1 -> -1..1 at the side, channels last, on the device."""
    if pictures.shape[-1] != side:
        pictures = F.interpolate(pictures, (side, side), mode="area")
    return (2 * pictures - 1).to(device, memory_format=torch.channels_last)
