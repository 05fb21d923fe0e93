"""The diffusion of latents: how noise grows, what the network's answer says of x0 and eps, one step back.

J. Ho, A. Jain, P. Abbeel: "Denoising Diffusion Probabilistic Models", NeurIPS 2020; J. Song, C. Meng, S. Ermon:
"Denoising Diffusion Implicit Models", ICLR 2021 (step, grid); T. Salimans, J. Ho: "Progressive Distillation",
ICLR 2022 (v). All arithmetic is f32, whatever the network computes in.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore_plugins.restore.ldbfr.sizes import DiffusionSize


class Schedule:
    """Times t are 0..T-1, an int or one a face (i64 [n]); latents are [n, c, h, w].

    diffusers gives noise levels and grid; the step is ours, since x0 may change between its two halves.
    """

    def __init__(self, size: DiffusionSize) -> None:
        self.size = size
        with torch.device("cpu"):  # real numbers, even where a model is built on "meta"
            self._ddim = DDIMScheduler(size.T, size.beta_start, size.beta_end, "scaled_linear", steps_offset=1)
        self.betas: Tensor = self._ddim.betas  # f32 [T]
        self.abar: Tensor = self._ddim.alphas_cumprod  # f32 [T], product of 1 - beta up to t

    def steps(self, count: int, t0: int | None = None) -> list[int]:
        """The grid ``{0, c, 2c, ..} + 1``, ``c = T // count``, from above; of it what lies at or below ``t0``.

        Raises ValueError where the grid does not fit (count over T / 2) or nothing of it lies below ``t0``.
        """
        if not 1 <= count <= self.size.T // 2:
            raise ValueError(f"{count} steps; have 1..{self.size.T // 2}")
        self._ddim.set_timesteps(count)
        grid: list[int] = self._ddim.timesteps.tolist()
        below = [t for t in grid if t0 is None or t <= t0]
        if not below:
            raise ValueError(f"none of the steps {grid} is at or below {t0}")
        return below

    def q_sample(self, z0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
        """``z_t = sqrt(abar) z0 + sqrt(1 - abar) eps``, f32."""
        a, s = self._roots(t, z0)
        return a * z0.float() + s * eps.float()

    def target(self, z0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
        """What the network is to answer: eps, or ``v = sqrt(abar) eps - sqrt(1 - abar) z0``; f32."""
        if self.size.objective == "eps":
            return eps.float()
        a, s = self._roots(t, z0)
        return a * eps.float() - s * z0.float()

    def x0_eps(self, z: Tensor, out: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """(x0, eps) that the network's answer to z_t amounts to; f32."""
        a, s = self._roots(t, z)
        z, out = z.float(), out.float()
        if self.size.objective == "eps":
            return (z - s * out) / a, out
        return a * z - s * out, a * out + s * z

    def step(self, x0: Tensor, eps: Tensor, t: int, t1: int, eta: float = 0.0, noise: Tensor | None = None) -> Tensor:
        """z at the lower time ``t1``; after the last step it is 0: a last z still holds noise (abar_0 < 1), x0 none.

        ``z' = sqrt(a') x0 + sqrt(1 - a' - s^2) eps + s n``, ``s = eta sqrt((1 - a') / (1 - a) (1 - a / a'))``.
        Raises ValueError where ``eta`` asks for noise and none is handed in.
        """
        a, a1 = float(self.abar[t]), float(self.abar[t1])
        s = eta * sqrt((1 - a1) / (1 - a) * (1 - a / a1))
        z = sqrt(a1) * x0.float() + sqrt(1 - a1 - s**2) * eps.float()
        if s == 0:
            return z
        if noise is None:
            raise ValueError(f"{eta = } needs a noise tensor for the step from {t}")
        return z + s * noise.float()

    def _roots(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t), f32, to be broadcast over ``like``."""
        abar = self.abar.to(like.device)[t].reshape(-1, *([1] * (like.ndim - 1)))
        return abar.sqrt(), (1 - abar).sqrt()


def passes(schedule: Schedule, count: int, t0: int) -> list[int]:
    """``count`` steps from ``t0`` downwards, of the finest even grid that has no more of them."""
    t0 = min(t0, schedule.size.T - 1)
    most = schedule.size.T // 2
    grids = (schedule.steps(whole, t0) for whole in range(most, 0, -1) if (schedule.size.T // whole) < t0)
    return next((grid for grid in grids if len(grid) <= count), [t0])
