"""What a system in training makes, to be looked at: the same codes each time, no noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vidrestore.train.sheet import sheet, write_png
from vidrestore_plugins.restore.vspbfr.model import Given
from vidrestore_plugins.restore.vspbfr.phases import styles

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from vidrestore_plugins.restore.vspbfr.phases import System

COUNT = 16


@torch.inference_mode()
def imagined(system: System, picture: Path) -> None:
    """Write faces of random styles."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(31)
        w = styles(system.generator, system.net.size, COUNT, system.net.latent_avg)
    faces = (system.picture(w) / 2 + 0.5).clamp(0, 1)
    write_png(picture, sheet(list((faces * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()), COUNT // 2))


def shown(system: System, phase: str, x: Tensor) -> Tensor:
    """What the phase in training makes of pictures [n, 3, s, s] in -1..1."""
    side = system.net.size.side
    y = _made(system, phase, F.interpolate(x, (side, side), mode="area"))
    return F.interpolate(y, x.shape[-2:], mode="bilinear")


def _made(system: System, phase: str, x: Tensor) -> Tensor:
    net, source = system.net, torch.Generator().manual_seed(31)
    w = net.encode(x)
    if phase == "encoder":
        return system.picture(w)
    start = torch.randn(w.shape, generator=source).to(w)
    w = system.healed(w, start)
    if phase == "diffuser":
        return system.picture(w)
    still = [[x.new_zeros(1, 1, s, s) for s in part.noise_sides] for part in (net.bank, net.restoration)]
    held = net.held(torch.randn(len(x), 1, net.size.style_dim, generator=source).to(w))
    return net.restore(x, w, Given(start, held, *still))
