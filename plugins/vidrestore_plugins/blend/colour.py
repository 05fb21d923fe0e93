"""The source's own colour in a restored face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

_LOW: Final = 4  # cells a side: what is coarser is colour; blocks and ringing, which must go, are finer


def coloured(restored: Tensor, source: Tensor, share: float) -> Tensor:
    """Restored crops [n, 3, S, S] whose low frequencies are, by ``share`` 0..1, those of the source."""
    drift = F.adaptive_avg_pool2d(restored - source, _LOW)
    drift = F.interpolate(drift, size=restored.shape[-2:], mode="bicubic", align_corners=False)
    return restored - share * drift
