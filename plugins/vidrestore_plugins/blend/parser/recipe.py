"""``vidrestore train parser``: makes a small parser for ``blend=parsing:weights=FILE`` from faces and their masks.

None is bundled: the masks that there are (CelebAMask-HQ) are for research only.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vidrestore.train.recipe import Phase, Wishes, recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from vidrestore.train.loop import Run
    from vidrestore_plugins.blend.parser.faces import Annotated, Masked

LOOK_EVERY = 200  # steps
PHASES = {"parser": Phase("parser", 1.0, 3e-3, 1e-5, 16)}


@recipe("parser", __doc__, PHASES, ["nano", "small"], "small")
def main(wishes: Wishes) -> None:
    import torch

    from vidrestore.train.loop import Log, Run, fit
    from vidrestore_plugins.blend.parser.faces import Faces, load_annotated
    from vidrestore_plugins.blend.parser.network import SIZES, Parser

    phase = PHASES["parser"]
    with wishes.begun() as pool:
        trained, held = load_annotated(wishes.data)
        click.echo(f"{len(trained)} faces with masks, {len(held)} held out")
        net = Parser(SIZES[wishes.size]).to(wishes.device).to(memory_format=torch.channels_last)  # type: ignore[index]
        run, checkpoint = Run(net, wishes.seed, decay=0.99), wishes.work / "parser.pt"
        if checkpoint.exists():
            run.load(checkpoint)
            click.echo(f"going on at step {run.step}")
        fit(
            run, wishes.budget(phase), Faces(trained, wishes.faces(phase), pool), losses,
            log=Log(wishes.work / "parser.csv", 50), checkpoint=checkpoint, save_every=100,
            watch=partial(_watch, held=held, out=wishes.out),
        )  # fmt: skip
        _export(run, held, wishes.out)


def losses(net: nn.Module, batch: Masked) -> dict[str, Tensor]:
    """Cross entropy where the class is known, and one minus the overlap of face and found (soft Dice)."""
    import torch.nn.functional as F

    device = next(net.parameters()).device
    crops, face, known = (x.to(device) for x in (batch.crops, batch.face, batch.known))
    logit = net(crops)
    entropy = (F.binary_cross_entropy_with_logits(logit, face, reduction="none") * known).sum() / known.sum()
    found = logit.sigmoid() * known
    dice = 1 - 2 * (found * face).sum() / (found + face * known).sum().clamp(min=1e-6)
    return {"loss": entropy + dice, "entropy": entropy, "dice": dice}


def overlap(net: nn.Module, held: Annotated) -> float:
    """Intersection over union of face, over all held-out px whose class is known."""
    import torch

    batch = held.whole()
    with torch.inference_mode():
        found = torch.cat([net(part) for part in torch.split(batch.crops, 16)]) > 0
    face, known = batch.face > 0.5, batch.known > 0.5
    return float((found & face & known).sum() / ((found | face) & known).sum())


def _watch(run: Run, line: str | None, *, held: Annotated, out: Path) -> None:
    if line:
        click.echo(line)
    if run.step % LOOK_EVERY == 0:
        _export(run, held, out)


def _export(run: Run, held: Annotated, out: Path) -> None:
    """Write the averaged weights; say how well they find held-out faces."""
    from vidrestore_plugins.halves import save

    net: Any = run.average
    net.eval()
    save(net, out)
    click.echo(f"held out, step {run.step}: intersection over union {overlap(net, held):.3f}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
