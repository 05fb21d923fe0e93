"""What tests of trainings share: the settings that a recipe changes in its process, and pictures to learn from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def settings_kept() -> Iterator[None]:
    """Threads and the global generator, which a recipe sets for its process, are put back."""
    before, threads = torch.get_num_threads(), cv2.getNumThreads()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)
    cv2.setNumThreads(threads)


def picture(seed: int) -> np.ndarray:
    """Ellipses at a face's places: RGB u8 [256, 256, 3]."""
    rng = np.random.default_rng(seed)
    out = np.full((256, 256, 3), rng.integers(60, 200, 3), np.uint8)
    for x, y, w, h in ((128, 140, 80, 100), (97, 120, 14, 8), (160, 120, 14, 8), (128, 186, 30, 10)):
        cv2.ellipse(out, (x, y), (w, h), 0, 0, 360, rng.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    return out
