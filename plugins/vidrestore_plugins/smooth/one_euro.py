"""smooth=one_euro: a low-pass whose cut-off rises with speed.

G. Casiez, N. Roussel and D. Vogel, "1 Euro Filter", CHI 2012.
"""

from __future__ import annotations

from math import tau
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from vidrestore_plugins.smooth.options import SmoothOptions
from vidrestore_plugins.smooth.stepping import Stepping

if TYPE_CHECKING:
    from torch import Tensor


class OneEuroOptions(SmoothOptions):
    cutoff: float = Field(1.0, gt=0, description="Hz below which a latent at rest passes; lower is steadier")
    beta: float = Field(0.3, ge=0, description="rise of the cut-off in Hz per change of the latent's own size a second")
    speed_cutoff: float = Field(1.0, gt=0, description="Hz of the low-pass that the speed goes through")
    lookahead: int = Field(6, ge=0, description="frames of the future it sees; 0 = it lags")


class OneEuro(Stepping):
    Options: ClassVar[type[BaseModel]] = OneEuroOptions

    def begin(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": x.clone(), "speed": x.new_zeros(x.shape), "unit": x.flatten(1).square().mean(1).sqrt()}

    def step(self, memory: dict[str, Tensor], x: Tensor, dt: Tensor, evidence: Tensor) -> dict[str, Tensor]:
        y, o = memory["y"], self.options
        unit = memory["unit"].reshape(dt.shape).clamp(min=1e-12)
        speed = memory["speed"] + _share(o.speed_cutoff, dt) * ((x - y) / dt.clamp(min=1e-9) - memory["speed"])
        a = _share(o.cutoff + o.beta * speed.abs() / unit, dt)
        a = a + evidence.to(a.dtype) * (1 - a)
        return {"y": y + a * (x - y), "speed": speed, "unit": memory["unit"]}


def _share(cutoff: Any, dt: Tensor) -> Any:
    """Weight of the new sample, 1 / (1 + tau / T_e) with tau = 1 / (2 pi f)."""
    w = tau * cutoff * dt
    return w / (1 + w)
