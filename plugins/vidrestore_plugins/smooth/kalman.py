"""smooth=kalman: each value is a level that wanders, seen through noise; how far it may wander, the evidence says.

    P- = P + Q,  K = P- / (P- + R),  m = m- + K (x - m-),  P = (1 - K) P-        (R = 1: only Q / R matters)
    back from frame t + L:  G_j = P_j / P-_(j+1),  s_j = m_j + G_j (s_(j+1) - m_j)

H. E. Rauch, F. Tung, C. T. Striebel: "Maximum likelihood estimates of linear dynamic systems", AIAA Journal 3(8), 1965.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from vidrestore_plugins.smooth.options import SmoothOptions

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import Stretch


class KalmanOptions(SmoothOptions):
    rest: float = Field(2.0, ge=0, description="variance that a still face's latent gains a second; its noise has 1")
    moving: float = Field(500.0, ge=0, description="the same where the evidence says that the picture changed")
    lookahead: int = Field(6, ge=0, description="frames of the future it sees; 0 = it lags")


class Kalman:
    """A fixed-lag smoother: forward over all the past, back from ``lookahead`` frames ahead."""

    Options: ClassVar[type[BaseModel]] = KalmanOptions

    def __init__(self, options: KalmanOptions) -> None:
        self.options, self.lookahead = options, options.lookahead

    def wants(self, latent: str) -> bool:
        return self.options.want(latent)

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        import torch

        ms, Ps, priors = self._filtered(stretch, state)
        m, P, prior = torch.stack(ms, 1), torch.stack(Ps, 1), torch.stack(priors, 1)
        now, last = stretch.n_now - 1, m.shape[1] - 1
        after = {"m": m[:, now], "P": P[:, now], "at": stretch.times[now].repeat(len(m))}
        frames = torch.arange(stretch.n_now, device=m.device)
        s = m[:, (frames + self.lookahead).clamp(max=last)]
        for ahead in range(self.lookahead - 1, -1, -1):
            j = (frames + ahead).clamp(max=last)
            following = (j + 1).clamp(max=last)
            gain = torch.where(prior[:, following].isinf(), 0.0, P[:, j] / prior[:, following])
            inside = (frames + ahead < last).reshape(-1, *(1 for _ in m.shape[2:]))
            s = torch.where(inside, m[:, j] + gain * (s - m[:, j]), m[:, j])
        return s, after

    def _filtered(self, stretch: Stretch, state: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Mean, variance and variance before the observation of every frame, [k, ...] each."""
        import torch

        ms: list[Tensor] = []
        Ps: list[Tensor] = []
        priors: list[Tensor] = []
        evidence = stretch.evidence.float()
        q = self.options.rest + (self.options.moving - self.options.rest) * evidence
        if state is None:
            m, P = torch.zeros_like(stretch.x[:, 0], dtype=torch.float32), torch.full_like(evidence[:, 0], torch.inf)
            before = stretch.times[0].expand(len(m))
        else:
            m, P, before = state["m"], state["P"], state["at"]
        for i, now in enumerate(stretch.times):
            dt = (now - before).clamp(min=0).float().reshape(-1, *(1 for _ in P.shape[1:]))
            prior = P + q[:, i] * dt
            # an infinite variance: nothing is known yet, the observation is all
            K = torch.where(prior.isinf(), 1.0, prior / (prior + 1))
            here = stretch.present[:, i].reshape(dt.shape)
            m = torch.where(here, m + K * (stretch.x[:, i].float() - m), m)
            P = torch.where(here, torch.where(prior.isinf(), 1.0, (1 - K) * prior), prior)
            before = now.expand(len(m))
            for values, value in ((ms, m), (Ps, P), (priors, prior)):
                values.append(value)
        return ms, Ps, priors
