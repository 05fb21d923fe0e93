"""smooth=gated: an average whose gate opens where the latent moves more than it trembles.

d = ||v_t - v~||_2 / (sqrt(C) s_t), s_t the running median of ||v_t - v_(t-1)||_2 / sqrt(C)
a = a_min + (1 - a_min)(1 - exp(-(d / theta)^2));   v~ <- a v_t + (1 - a) v~
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field

from vidrestore_plugins.smooth.options import SmoothOptions
from vidrestore_plugins.smooth.stepping import Stepping

if TYPE_CHECKING:
    from torch import Tensor


RATE = 25.0  # frames a second for which a_min and the median's decay are given
KEEP = 0.9  # of the running median, a frame


class GatedOptions(SmoothOptions):
    least: float = Field(0.35, gt=0, le=1, description="share of the new frame where nothing moves, at 25 frames/s")
    theta: float = Field(2.5, gt=0, description="movement, in units of the usual trembling, at which the gate is open")
    lookahead: int = Field(6, ge=0, description="frames of the future it sees; 0 = it lags")


class Gated(Stepping):
    Options: ClassVar[type[BaseModel]] = GatedOptions

    def begin(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": x.clone(), "v": x.clone(), "s": x.new_zeros(len(x))}

    def step(self, memory: dict[str, Tensor], x: Tensor, dt: Tensor, evidence: Tensor) -> dict[str, Tensor]:
        import torch

        frames = RATE * dt
        usual = _distance(x, memory["v"]).flatten(1).median(1).values
        keep = KEEP ** frames.flatten()
        s = torch.where(memory["s"] > 0, keep * memory["s"] + (1 - keep) * usual, usual)
        d = _distance(x, memory["y"]) / s.reshape(-1, *(1 for _ in x.shape[1:])).clamp(min=1e-12)
        a = _boxed(self.options.least + (1 - self.options.least) * (1 - torch.exp(-((d / self.options.theta) ** 2))))
        a = 1 - (1 - a).clamp(min=0) ** frames
        a = torch.maximum(a, evidence.to(a.dtype))
        return {"y": memory["y"] + a * (x - memory["y"]), "v": x, "s": s}


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square over channels: the first axis of maps [r, C, h, w], the last of vectors [r, ..., C]."""
    return (a - b).square().mean(1 if a.ndim == 4 else -1, keepdim=True).sqrt()


def _boxed(a: Tensor) -> Tensor:
    """Maps averaged over 3 x 3 places, so that the gate has no holes; vectors as they are."""
    import torch.nn.functional as F

    return F.avg_pool2d(a, 3, 1, 1, count_include_pad=False) if a.ndim == 4 else a
