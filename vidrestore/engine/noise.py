"""Keyed noise: a random number is a function of who asks for it, never of when.

Philox 4x64 (Salmon et al., SC 2011), a counter-based generator, on the CPU, keyed by a BLAKE2b hash of what
identifies the draw. Device, batch, worker, order and resume point cannot change a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TrackKey:
    """What a track is, whichever run, part or worker sees it."""

    shot: int  # pts of the shot's first frame
    birth: int  # the track's first frame, counted in the shot
    rank: int  # left-to-right among the tracks of that frame


def keyed_noise(seed: int, track: TrackKey, name: str, shape: tuple[int, ...], frame: int | None = None) -> Tensor:
    """Unit Gaussian f32 of ``shape`` on the CPU; one frame's draw where ``frame`` is given."""
    words = (seed, track.shot, track.birth, track.rank, name, "track" if frame is None else frame)
    digest = blake2b("/".join(map(str, words)).encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
