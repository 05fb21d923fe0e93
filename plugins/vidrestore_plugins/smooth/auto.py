"""smooth=auto: for each latent, by its name, the smoother that suits it.

output  fused along the motion, whatever restored it: measured best for LD-BFR and classic (bench/steady.py)
w       VSPBFR's codes pass a Kalman filter: plain filtering in W+ is meaningful, and they alone tell its diffuser
        of the frame. By reasoning, not by measurement

What is not named passes as it is. Among it are LD-BFR's h and g: its skips carry the picture past them, so that
smoothing them steadies nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from vidrestore_plugins.smooth.fuse import Fuse, FuseOptions
from vidrestore_plugins.smooth.kalman import Kalman, KalmanOptions

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import Smoother, Stretch


class AutoOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Auto:
    Options: ClassVar[type[BaseModel]] = AutoOptions

    def __init__(self, options: AutoOptions) -> None:
        fuse, kalman = Fuse(FuseOptions.model_validate({})), Kalman(KalmanOptions.model_validate({}))
        self._by_latent: dict[str, Smoother] = {"output": fuse, "w": kalman}
        self.lookahead = max(smoother.lookahead for smoother in self._by_latent.values())

    def wants(self, latent: str) -> bool:
        return latent in self._by_latent

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        return self._by_latent[stretch.latent].smooth(stretch, state)
