"""What tests of trainings share: the settings that a recipe changes in its process, and pictures to learn from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch

from vidrestore.train.loop import Budget, Run, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor


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


class PowerCutError(Exception):
    """The lights go out."""


def assert_a_power_cut_changes_nothing(begun: Callable[[], Run], batches: Any, checkpoint: Path) -> None:
    """A phase of four steps that is cut in its third, and taken up from its checkpoint, ends with the same weights."""
    budget = Budget(steps=4, rate=1e-2, warmup=1)

    def losses(task: Any, batch: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor] = task.losses(batch)
        return found

    def cut(run: Run, line: str | None) -> None:
        if run.step == 3:
            raise PowerCutError

    whole = begun()
    fit(whole, budget, batches, losses)
    with pytest.raises(PowerCutError):
        fit(begun(), budget, batches, losses, checkpoint=checkpoint, save_every=2, watch=cut)
    again = begun()
    again.load(checkpoint)
    assert again.step == 2
    fit(again, budget, batches, losses)
    for a, b in ((whole.net, again.net), (whole.average, again.average)):
        assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
