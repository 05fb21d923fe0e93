"""How a system in training does on held-out faces at medium damage: a line, and a sheet to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidrestore.quality.measures import agreeing_detail, psnr
from vidrestore.train.footage import drawn, filmed
from vidrestore.train.portraits import as_tensor
from vidrestore.train.sheet import sheet, write_png
from vidrestore_plugins.restore.vspbfr.batches import ready
from vidrestore_plugins.restore.vspbfr.model import Given
from vidrestore_plugins.restore.vspbfr.phases import styles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.restore.vspbfr.phases import System

COUNT = 16


@torch.inference_mode()
def examine(
    system: System, phase: str, held: Portraits, device: torch.device, picture: Path, say: Callable[[str], Any]
) -> None:
    """Says one line: input and output against the truth; writes input, output, truth in rows, or what is made up."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(31)  # the same codes each time
        if phase == "prior":
            like = system.net.latent_avg
            faces = system.picture(styles(system.generator, system.net.size, COUNT, like))
            _write(picture, [faces / 2 + 0.5], COUNT // 2)
            return
        rng, step = np.random.default_rng(31), max(1, len(held) // COUNT)  # and the same faces and damage
        truth = torch.stack([as_tensor(image) for image in held.images[::step][:COUNT]])
        seen = torch.stack([filmed(face, drawn(rng, "medium"), rng, keep=1).damaged[0] for face in truth])
        side = system.net.size.side
        x, wanted = (ready(pictures, side, device.type) for pictures in (seen, truth))
        y = torch.cat([shown(system, phase, one[None]) for one in x])
    rows = [(t.float().cpu() / 2 + 0.5).clamp(0, 1) for t in (x, y, wanted)]
    measures = {"PSNR": psnr, "detail": agreeing_detail}
    parts = [
        f"{name} {' -> '.join(f'{float(measure(t, rows[2]).mean()):.3f}' for t in rows[:2])}"
        for name, measure in measures.items()
    ]
    say(f"held out, medium: {'  '.join(parts)}")
    _write(picture, rows, len(truth))


def shown(system: System, phase: str, x: Tensor) -> Tensor:
    """What the phase in training makes of pictures [n, 3, S, S] in -1..1; without noise."""
    net, n = system.net, len(x)
    w = net.encode(x)
    if phase == "encoder":
        return system.picture(w)
    start = torch.randn(w.shape).to(w)
    w = system.healed(w, start)
    if phase == "diffuser":
        return system.picture(w)
    still = [[x.new_zeros(1, 1, s, s) for s in part.noise_sides] for part in (net.bank, net.restoration)]
    held = net.held(torch.randn(n, 1, net.size.style_dim).to(w))
    return net.restore(x, w, Given(start, held, *still))


def _write(path: Path, rows: list[Tensor], columns: int) -> None:
    pictures = (torch.cat(rows).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    write_png(path, sheet(list(pictures), columns))
