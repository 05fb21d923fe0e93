"""Noise levels of the prior, the times at which it is asked, and the way from noise to a face.

The levels are Stable Diffusion's. Solver: C. Lu et al.: "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion
Probabilistic Models", 2022, of second order, by diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from diffusers import DPMSolverMultistepScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence

    from torch import Tensor

T = 1000
_LEVELS = {"num_train_timesteps": T, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

Spacing = Literal["quadratic", "lambda"]


def abar() -> Tensor:
    """f64 [T]: ``abar_t = prod_{i<=t} (1 - beta_i)``, the square root of beta growing linearly."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, T, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def times(steps: int, start: int = T - 1, spacing: Spacing = "quadratic") -> list[int]:
    """Falling times from ``start``, at most ``steps`` of them: what falls together is asked once.

    quadratic: ``t_i = round(start (1 - i / S)^2)``: near the end, where fine texture is decided, steps are small.
    lambda: equal steps of the log signal-to-noise ratio, for very few of them.
    """
    if spacing == "quadratic":
        found = [round(start * (1 - i / steps) ** 2) for i in range(steps)]
    else:
        a = abar()[: start + 1]
        level = (a / (1 - a)).log() / 2
        wanted = torch.linspace(float(level[-1]), float(level[0]), steps, dtype=torch.float64)
        found = [int((level - w).abs().argmin()) for w in wanted]
    return list(dict.fromkeys(found))


def diffused(z0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """``z_t = sqrt(abar_t) z0 + sqrt(1 - abar_t) eps``; ``t`` an integer or i64 [n]."""
    signal, noise = _scales(z0, t)
    return signal * z0 + noise * eps


def denoised(z: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """``z0 = (z_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)``."""
    signal, noise = _scales(z, t)
    return (z - noise * eps) / signal


def noise_between(z0: Tensor, t: int | Tensor, z: Tensor) -> Tensor:
    """The noise that makes z of z0 at t: ``eps = (z - sqrt(abar_t) z0) / sqrt(1 - abar_t)``."""
    signal, noise = _scales(z, t)
    return (z - signal * z0) / noise


def sample(
    noise_of: Callable[[Tensor, int], Tensor], z: Tensor, asked: Sequence[int], show: Collection[int] = ()
) -> Generator[Tensor, Tensor, Tensor]:
    """From z f32 [n, c, s, s] at the first of the times ``asked`` (falling) down; returns the last z0.

    Args:
        noise_of: the network: z and a time -> the noise in it.
        show: times at which z0 is yielded; what is sent back takes its place.
    """
    solver = DPMSolverMultistepScheduler(**_LEVELS, prediction_type="sample", final_sigmas_type="zero")
    solver.set_timesteps(timesteps=list(asked))
    z0 = z
    for t in asked:
        z0 = denoised(z, t, noise_of(z, t).float())
        if t in show:
            z0 = yield z0
        z = solver.step(z0, t, z).prev_sample
    return z0


def _scales(like: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
    a = abar()[torch.as_tensor(t).cpu()].view(-1, 1, 1, 1)
    return a.sqrt().to(like), (1 - a).sqrt().to(like)
