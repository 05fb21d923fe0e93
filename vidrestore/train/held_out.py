"""How a network in training does on held-out faces at medium damage, in numbers and as a sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidrestore.quality.measures import agreeing_detail, psnr
from vidrestore.train.embedder import on_template
from vidrestore.train.footage import drawn, filmed
from vidrestore.train.portraits import as_tensor
from vidrestore.train.sheet import sheet, write_png

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.portraits import Portraits

    Measure = Callable[[Tensor, Tensor], Tensor]

COUNT = 16


@torch.inference_mode()
def examine(
    restore: Callable[[Tensor], Tensor],
    held: Portraits,
    embedder: Embedder | None,
    device: torch.device,
    picture: Path,
    say: Callable[[str], Any],
) -> None:
    """Says one line: input and output against the truth; writes input, output, truth in rows.

    ``restore`` takes and gives pictures [1, 3, s, s] in -1..1.
    """
    rng = np.random.default_rng(31)  # the same faces and damage each time
    step = max(1, len(held) // COUNT)
    truth = torch.stack([as_tensor(image) for image in held.images[::step][:COUNT]])
    seen = torch.stack([filmed(face, drawn(rng, "medium"), rng, keep=1).damaged[0] for face in truth])
    out = [restore(2 * face[None].to(device) - 1)[0].float().cpu() / 2 + 0.5 for face in seen]
    restored = torch.stack(out).clamp(0, 1)
    named: dict[str, Measure] = {"PSNR": psnr, "detail": agreeing_detail}
    parts = [f"{name} {_change(measure, seen, restored, truth)}" for name, measure in named.items()]
    if embedder is not None:
        vectors = [embedder(on_template(x.to(device)))[0].cpu() for x in (seen, restored, truth)]
        before, after = (float((v * vectors[2]).sum(1).mean()) for v in vectors[:2])
        parts.append(f"identity {before:.4f} -> {after:.4f}")
    say(f"held out, medium: {'  '.join(parts)}")
    rows = (torch.cat([seen, restored, truth]) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    write_png(picture, sheet(list(rows), len(truth)))


def _change(measure: Measure, seen: Tensor, out: Tensor, truth: Tensor) -> str:
    return f"{float(measure(seen, truth).mean()):.3f} -> {float(measure(out, truth).mean()):.3f}"
