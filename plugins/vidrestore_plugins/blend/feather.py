"""blend=feather: a soft oval around the face, with the source's own colour.

The mask is fixed in the aligned crop, so it moves as steadily as the crop does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import FaceBatch

# The head in the FFHQ crop of 512 px, hair to below the chin: centre and half axes, px
_CENTRE: Final = (256.0, 262.0)
_AXES: Final = (212.0, 250.0)
_POWER: Final = 2.5  # between an ellipse (2) and a rectangle
_LOW: Final = 4  # cells a side: what is coarser is colour; blocks and ringing, which must go, are finer


class FeatherOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: float = Field(48, ge=1, le=256, description="width of the soft border in px of a crop of 512")
    color: float = Field(1.0, ge=0, le=1, description="how far the source's low frequencies are kept; 1 = entirely")


class Feather:
    Options: ClassVar[type[BaseModel]] = FeatherOptions

    def __init__(self, options: FeatherOptions) -> None:
        self.options = options

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        """restored f32 [n, 3, S, S] -> (colour-matched, alpha [n, 1, S, S])."""
        import torch.nn.functional as F

        size = restored.shape[-1]
        alpha = oval(size, self.options.radius).to(restored).expand(len(faces), 1, size, size)
        if self.options.color:
            drift = F.adaptive_avg_pool2d(restored - faces.crops, _LOW)
            drift = F.interpolate(drift, size=(size, size), mode="bicubic", align_corners=False)
            restored = restored - self.options.color * drift
        return restored, alpha


@lru_cache(maxsize=8)
def oval(size: int, radius: float) -> Tensor:
    """f32 [1, S, S]: 1 inside the oval, 0 outside, a smooth step of ``radius`` (px of 512) at its border."""
    import torch

    at = torch.arange(size, dtype=torch.float32) * (512 / size)
    x, y = (at - _CENTRE[0]).abs() / _AXES[0], (at - _CENTRE[1]).abs() / _AXES[1]
    distance = (x[None, :] ** _POWER + y[:, None] ** _POWER) ** (1 / _POWER)  # 1 on the border
    inside = ((1 - distance) * min(_AXES) / radius).clamp(0, 1)
    edge = torch.minimum(at, 511 - at).clamp(min=0)  # the crop's own border is always 0
    inside = inside * (torch.minimum(edge[None, :], edge[:, None]) / radius).clamp(0, 1)
    step: Tensor = inside * inside * (3 - 2 * inside)
    return step[None]
