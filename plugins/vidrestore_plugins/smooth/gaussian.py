"""smooth=gaussian: a mean over time, bell-shaped, that reaches no further than what has not changed.

w_s = exp(-(t_s - t)^2 / 2 sigma^2) exp(-follow |E_s - E_t|),   E the evidence summed up to a frame
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from vidrestore_plugins.smooth.options import SmoothOptions

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import Stretch


class GaussianOptions(SmoothOptions):
    sigma: float = Field(0.1, gt=0, description="seconds; wider is steadier")
    follow: float = Field(8.0, ge=0, description="how fast frames lose weight across a change; 0 = not at all")
    lookahead: int = Field(6, ge=1, description="frames on either side that count")


class Gaussian:
    """As many frames of the future as of the past, so there is no lag."""

    Options: ClassVar[type[BaseModel]] = GaussianOptions

    def __init__(self, options: GaussianOptions) -> None:
        self.options, self.lookahead = options, options.lookahead

    def wants(self, latent: str) -> bool:
        return self.options.want(latent)

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        import torch

        from vidrestore_plugins.smooth.past import joined, remembered

        reach, n, k = self.lookahead, stretch.n_now, len(stretch.x)
        times = stretch.times.expand(k, -1)
        now = {"x": stretch.x.float(), "evidence": stretch.evidence.float(), "t": times, "there": stretch.present}
        table = joined(now, state, reach)
        changed = table["evidence"].cumsum(1)
        total, weights = torch.zeros_like(now["x"][:, :n]), torch.zeros_like(now["evidence"][:, :n])
        here = slice(reach, reach + n)
        for offset in range(-reach, reach + 1):
            at = (torch.arange(n, device=times.device) + reach + offset).clamp(max=table["t"].shape[1] - 1)
            inside = torch.arange(n, device=times.device) + reach + offset < table["t"].shape[1]
            age = (table["t"][:, at] - table["t"][:, here]) / self.options.sigma
            near = torch.exp(-0.5 * age**2) * (table["there"][:, at] & inside)
            same = torch.exp(-self.options.follow * (changed[:, at] - changed[:, here]).abs())
            weight = near.float().reshape(k, n, *(1 for _ in same.shape[2:])) * same
            total, weights = total + weight * table["x"][:, at], weights + weight
        return total / weights.clamp(min=1e-12), remembered(table, reach, n)
