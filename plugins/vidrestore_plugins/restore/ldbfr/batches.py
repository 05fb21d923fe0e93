"""Training batches of LD-BFR: crops of truths and of the same faces as bad footage shows them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from vidrestore.train.footage import drawn_to_restore, filmed

if TYPE_CHECKING:
    from numpy.random import Generator
    from torch import Tensor

    from vidrestore.train.portraits import Portraits

FACE = 28  # px left out around the part of a face of 256 px that an embedder looks at
LENGTHS = (2, 4)  # frames a clip: the last two are seen, and a codec's first frame looks unlike those after it


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows in pairs: 2 i and 2 i + 1 are the same part of the same face in two frames of one clip."""

    damaged: Tensor  # f32 [n, 3, s, s] in -1..1
    truth: Tensor  # f32 [n, 3, s, s] in -1..1
    weight: Tensor  # f32 [n, 1, s, s], mean 1 over a whole face: eyes and mouth count more


@dataclass(frozen=True)
class Footages:
    """Makes batches. Each clip has a generator of its own, so that threads change nothing."""

    portraits: Portraits
    clips: int  # a batch
    side: int  # px of the crops; 0: the face without its surroundings
    places: int = 1  # crops a clip
    pool: ThreadPoolExecutor | None = None
    device: str = "cpu"

    def __call__(self, rng: Generator) -> Batch:
        seeds = rng.integers(2**62, size=self.clips).tolist()
        parts = list(self.pool.map(self._clip, seeds) if self.pool else map(self._clip, seeds))
        damaged, truth, weight = (torch.cat(column).to(self.device) for column in zip(*parts, strict=True))
        plain = torch.channels_last
        return Batch((2 * damaged - 1).contiguous(memory_format=plain), 2 * truth - 1, weight)

    def _clip(self, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        truth = self.portraits.truth(rng)
        seen = filmed(truth, drawn_to_restore(rng), rng, length=int(rng.choice(LENGTHS))).damaged
        weight = importance(truth.shape[-1])
        rows = []
        for _ in range(self.places):
            x, y, side = self._place(truth.shape[-1], rng)
            cut = (..., slice(y, y + side), slice(x, x + side))
            rows.append((seen[cut], truth[cut].expand(2, -1, -1, -1), weight[cut].expand(2, -1, -1, -1)))
        damaged, truths, weights = (torch.cat(column) for column in zip(*rows, strict=True))
        return damaged, truths, weights

    def _place(self, whole: int, rng: Generator) -> tuple[int, int, int]:
        if not self.side:
            return FACE, FACE, whole - 2 * FACE
        room = whole - self.side
        low, high = (room // 4, room - room // 4) if rng.random() < 0.6 else (0, room)
        x, y = rng.integers(low, high + 1, 2).tolist()
        return x, y, self.side


def importance(side: int) -> Tensor:
    """f32 [1, 1, side, side], mean 1: eyes and mouth most, then the face, then what is around it."""
    ticks = (torch.arange(side) + 0.5) / side
    x, y = ticks[None], ticks[:, None]
    total = 0.7 + 0.5 * torch.exp(-(((x - 0.5) / 0.22) ** 2 + ((y - 0.55) / 0.3) ** 2))
    for cx, cy, sx, sy in ((0.378, 0.47, 0.07, 0.05), (0.624, 0.47, 0.07, 0.05), (0.502, 0.727, 0.09, 0.055)):
        total = total + 1.2 * torch.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2)
    return (total / total.mean())[None, None]
