"""Sampling, as a generator: whoever drives it may change x0 on the way (smooth it, move it to codes)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vidrestore.api import Latent

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

    from torch import Tensor

    from vidrestore_plugins.restore.ldbfr.injection import Prepared
    from vidrestore_plugins.restore.ldbfr.schedule import Schedule
    from vidrestore_plugins.restore.ldbfr.unet import UNet


def start(schedule: Schedule, steps: Sequence[int], eps: Tensor, z0: Tensor | None = None) -> Tensor:
    """z [n, 3, s, s] for the first of the steps: noise alone, or a picture's latent ``z0`` under that noise.

    The noise level is that of the step that begins, so that the network meets what it is told to expect.
    """
    return eps.float() if z0 is None else schedule.q_sample(z0, steps[0], eps)


def sample(
    unet: UNet,
    prepared: list[Prepared],
    z: Tensor,
    schedule: Schedule,
    steps: Sequence[int],
    *,
    show: Collection[int] = (),
    eta: float = 0.0,
    noises: Sequence[Tensor] = (),
) -> Generator[Tensor, Tensor, Tensor]:
    """Goes down the steps (`Schedule.steps`) from z f32 [n, 3, s, s] (`start`) and returns the last x0, f32.

    Args:
        prepared: ``unet.prepare(g)`` of the same faces.
        show: times (members of ``steps``) at which x0 is yielded; what is sent back takes its place.
        eta: 0 takes no noise; 1 is ancestral sampling.
        noises: for ``eta`` > 0 one tensor like z for each step but the last.
    """
    kind = next(unet.parameters()).dtype
    x0 = z
    for i, t in enumerate(steps):
        times = torch.full((len(z),), t, device=z.device)
        x0, eps = schedule.x0_eps(z, unet(z.to(kind), times, prepared), t)
        if t in show:
            x0 = yield x0
        if i + 1 < len(steps):
            z = schedule.step(x0, eps, t, steps[i + 1], eta, noises[i] if eta else None)
    return x0


def named(walk: Generator[Tensor, Tensor, Tensor], name: str) -> Generator[Latent, Tensor, Tensor]:
    """A sampler as a restorer yields it: what it shows on its way is a latent of this name."""
    sent: Any = None
    while True:
        try:
            shown = walk.send(sent)
        except StopIteration as end:
            last: Tensor = end.value
            return last
        sent = yield Latent(name, shown)


def run_down(walk: Generator[Tensor, Tensor, Tensor]) -> Tensor:
    """The end of a sampler that shows nothing on its way."""
    try:
        next(walk)
    except StopIteration as end:
        last: Tensor = end.value
        return last
    raise ValueError("the sampler was asked to show something on its way")
