"""``vidrestore train embed``: makes the bundled weights of embed=compact from a folder of faces and a teacher.

The student is shown a face and the same face damaged, and is to say of both what the teacher says of the face as it
was. So it learns who somebody is from the teacher, and to look past damage by itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vidrestore.train.recipe import Phase, Wishes, recipe

if TYPE_CHECKING:
    from pathlib import Path

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.loop import Run
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.embed.compact.network import Compact

LOOK_EVERY = 400  # steps
PHASES = {"embed": Phase("embed", 1.0, 3e-3, 1e-5, 32)}


@recipe("embed", __doc__, PHASES, ["nano", "small"], "small")
def main(wishes: Wishes) -> None:
    import torch

    from vidrestore.errors import UsageError
    from vidrestore.train.embedder import load_embedder
    from vidrestore.train.loop import Log, Run, fit
    from vidrestore.train.portraits import load_portraits
    from vidrestore_plugins.embed.compact.faces import Faces
    from vidrestore_plugins.embed.compact.learning import Student, losses
    from vidrestore_plugins.embed.compact.network import SIZES

    if wishes.embedder is None:
        raise UsageError("train embed", "a student needs a teacher", "give MobileFaceNet's safetensors with --embedder")
    phase = PHASES["embed"]
    with wishes.begun() as pool:
        device = torch.device(wishes.device)
        teacher = load_embedder(wishes.embedder).to(device).to(memory_format=torch.channels_last)
        trained, held = load_portraits(wishes.data, "train"), load_portraits(wishes.data, "val")
        click.echo(f"{len(trained)} faces, {len(held)} held out")
        student = Student(SIZES[wishes.size]).to(device).to(memory_format=torch.channels_last)
        run, checkpoint = Run(student, wishes.seed, decay=0.998), wishes.work / "embed.pt"
        if checkpoint.exists():
            run.load(checkpoint)
            click.echo(f"going on at step {run.step}")
        fit(
            run, wishes.budget(phase), Faces(trained, wishes.faces(phase), pool), partial(losses, teacher),
            log=Log(wishes.work / "embed.csv", 50), checkpoint=checkpoint, save_every=100,
            watch=partial(_watch, held=held, teacher=teacher, out=wishes.out),
        )  # fmt: skip
        _export(run, held, teacher, wishes.out)


def _watch(run: Run, line: str | None, *, held: Portraits, teacher: Embedder, out: Path) -> None:
    if line:
        click.echo(line)
    if run.step % LOOK_EVERY == 0:
        _export(run, held, teacher, out)


def _export(run: Run, held: Portraits, teacher: Embedder, out: Path) -> None:
    """Write the averaged weights; say how well they know held-out faces, beside the teacher."""
    from vidrestore_plugins.embed.compact.learning import known
    from vidrestore_plugins.halves import save

    average: Any = run.average
    net: Compact = average.net
    save(net, out)
    for line in known(net, held, teacher):
        click.echo(f"held out, step {run.step}: {line}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
