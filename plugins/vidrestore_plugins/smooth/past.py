"""The last frames of the past in front of a stretch: what a filter over a window of frames remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

Table = dict[str, "Tensor"]  # tensors [k, frames, ...]


def joined(now: Table, state: Any, past: int) -> Table:
    """``past`` frames of the state, then those of now; at a track's start zeros, which is absent."""
    before = state or {key: value.new_zeros(len(value), past, *value.shape[2:]) for key, value in now.items()}
    return {key: torch.cat([before[key], value], 1) for key, value in now.items()}


def remembered(table: Table, past: int, n_now: int) -> Table:
    """The state after the first ``n_now`` frames of now: the ``past`` frames up to there."""
    return {key: value[:, n_now : n_now + past] for key, value in table.items()}
