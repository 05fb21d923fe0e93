"""Training batches of FLIPNET: whole faces with the same as bad footage, or the network itself, shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vidrestore.train.footage import drawn_to_restore, filmed
from vidrestore_plugins.restore.flipnet.phases import Batch

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.train.portraits import Portraits

    Pictures = NDArray[np.uint8]  # [n, S, S, 3]

BY_DEGRADING = 0.5  # share of the faces that were damaged by the network, once there are such
_LEAST, _MOST, _OFF = 14.0, 34.0, 0.12  # PSNR of a damaged face that is learnt from; mean difference of its low band


@dataclass(frozen=True)
class Faces:
    """Each face has a generator of its own, so that threads change nothing."""

    portraits: Portraits
    faces: int  # a batch
    side: int  # S
    device: str = "cpu"
    pool: ThreadPoolExecutor | None = None
    crop: int = 0  # px; 0: whole faces
    damages: bool = True  # else the damaged face is the face: for what learns from undamaged ones alone
    made: list[tuple[Pictures, Pictures]] = field(default_factory=list)  # truths and what degrading made of them

    def __call__(self, rng: Generator) -> Batch:
        seeds = rng.integers(2**62, size=self.faces).tolist()
        rows = list(self.pool.map(self._face, seeds) if self.pool else map(self._face, seeds))
        damaged, truth = (torch.stack(column) for column in zip(*rows, strict=True))
        return Batch(self._ready(damaged), self._ready(truth))

    def _face(self, seed: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        if self.made and rng.random() < BY_DEGRADING:
            truths, damaged = self.made[int(rng.integers(len(self.made)))]
            row, flip = int(rng.integers(len(truths))), slice(None, None, -1 if rng.random() < 0.5 else 1)
            seen, face = (torch.from_numpy(x[row][:, flip].copy()).permute(2, 0, 1) / 255 for x in (damaged, truths))
        else:
            face = self.portraits.truth(rng)
            seen = filmed(face, drawn_to_restore(rng), rng, keep=1).damaged[0] if self.damages else face
            if not self.crop and face.shape[-1] != self.side:
                seen, face = (F.interpolate(p[None], (self.side, self.side), mode="area")[0] for p in (seen, face))
        if self.crop:
            x, y = rng.integers(0, face.shape[-1] - self.crop + 1, 2).tolist()
            seen, face = (p[:, y : y + self.crop, x : x + self.crop] for p in (seen, face))
        return seen, face

    def _ready(self, pictures: Tensor) -> Tensor:
        """0..1 -> -1..1, channels last, on the device."""
        return (2 * pictures - 1).to(self.device, memory_format=torch.channels_last)


def usable(damaged: Tensor, truth: Tensor) -> Tensor:
    """bool [n]: damaged as footage is, and still the same picture. Both [n, 3, S, S] in 0..1."""
    psnr = -10 * torch.log10((damaged - truth).square().mean((1, 2, 3)).clamp(min=1e-10))
    low = F.avg_pool2d(damaged - truth, 8).abs().mean((1, 2, 3))
    return (psnr >= _LEAST) & (psnr <= _MOST) & (low < _OFF)
