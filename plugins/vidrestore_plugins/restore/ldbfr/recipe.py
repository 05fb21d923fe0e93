"""``vidrestore train ldbfr``: makes LD-BFR's weights from a folder of faces, phase by phase.

dictionary: faces through the codes alone. restoration: damaged crops to their truth. faces: the same on whole
faces, which must stay the same person. latents and diffusion: the second stage, which wants a GPU.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidrestore.train.recipe import Phase, Wishes, recipe

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from torch import Tensor

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.loop import Run
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.restore.ldbfr.model import LDBFR

EXPORT_EVERY = 500  # steps


@dataclass(frozen=True)
class Part(Phase):
    """What is trained, and on what."""

    part: str = "stage1"  # of the network
    side: int = 0  # px of the crops, 0: whole faces
    places: int = 1  # crops a clip


PHASES = {
    phase.name: phase
    for phase in (
        Part("dictionary", 0.06, 1e-3, 1e-4, 8, side=128, places=2),
        Part("restoration", 0.3, 1e-3, 3e-4, 6, side=128, places=2),
        Part("faces", 0.24, 3e-4, 1e-5, 4),
        Part("latents", 0.1, 1e-3, 1e-5, 8, part="ae", side=128, places=2),
        Part("diffusion", 0.3, 5e-4, 1e-5, 16, part="unet"),
    )
}
_START = click.Option(["--start"], type=click.Path(path_type=Path), help="Weights to go on from.")


@recipe(
    "ldbfr",
    __doc__,
    PHASES,
    sizes=["nano", "tiny", "small"],
    size="tiny",
    default=["dictionary", "restoration", "faces"],
    more=[_START],
)
def main(wishes: Wishes, start: Path | None) -> None:
    import torch

    from vidrestore.train.embedder import load_embedder
    from vidrestore.train.portraits import load_portraits

    with wishes.begun() as pool:
        device = torch.device(wishes.device)
        model, done = _begun(wishes.size, start, device)
        trained, held = load_portraits(wishes.data, "train"), load_portraits(wishes.data, "val")
        click.echo(f"{len(trained)} faces, {len(held)} held out")
        teacher = load_embedder(wishes.embedder).to(device) if wishes.embedder else None
        for phase in PHASES.values():
            if phase in wishes.phases:
                done.add(phase.part)
                Job(phase, wishes, model, trained, held, teacher, device, pool, sorted(done)).train()


@dataclass
class Job:
    """One phase: trains its part of ``model`` and leaves the averaged weights in it."""

    phase: Part
    wishes: Wishes
    model: LDBFR
    trained: Portraits
    held: Portraits
    embedder: Embedder | None
    device: torch.device
    pool: ThreadPoolExecutor | None
    parts: list[str]  # that are exported

    def train(self) -> None:
        from vidrestore.train.loop import Log, Run, fit
        from vidrestore_plugins.restore.ldbfr.batches import Footages

        phase, work = self.phase, self.wishes.work
        seed = self.wishes.seed + list(PHASES).index(phase.name)
        run = Run(self._task(), seed, decay=0.998, weight_decay=1e-4)
        checkpoint = work / f"{phase.name}.pt"
        if checkpoint.exists():
            run.load(checkpoint)
            click.echo(f"{phase.name}: going on at step {run.step}")
        batches = Footages(
            self.trained, self.wishes.faces(phase) // 2, phase.side, phase.places, self.pool, self.device.type
        )
        fit(
            run, self.wishes.budget(phase), batches, partial(_losses, device=self.device),
            log=Log(work / f"{phase.name}.csv", 50), checkpoint=checkpoint, save_every=250, watch=self._watch,
        )  # fmt: skip
        self._export(run)
        getattr(self.model, phase.part).load_state_dict(run.average.net.state_dict())  # type: ignore[union-attr]

    def _task(self) -> Any:
        from vidrestore_plugins.restore.ldbfr.phases import Dictionary, Diffusion, Latents, Restoration

        model: Any = self.model
        if self.phase.name == "dictionary":
            return Dictionary(model.stage1)
        if self.phase.name == "restoration":
            if not model.stage1.restores:
                model.stage1.join()  # a warm start from exactly the input
            return Restoration(model.stage1)
        if self.phase.name == "faces":
            return Restoration(model.stage1, self.embedder)
        return Latents(model.ae, model.stage1) if self.phase.name == "latents" else Diffusion(model)

    def _watch(self, run: Run, line: str | None) -> None:
        if line:
            click.echo(f"{self.phase.name}: {line}")
        if run.step % EXPORT_EVERY == 0:
            self._export(run)

    def _export(self, run: Run) -> None:
        """Write the averaged weights, and see how they do on held-out faces."""
        from vidrestore.train.held_out import examine
        from vidrestore_plugins.restore.ldbfr.files import save

        average: Any = run.average
        if self.phase.name == "latents":
            average.standardise(self._truths())
        shown = copy.copy(self.model)  # shares all parts but the averaged one
        shown._modules = {**self.model._modules, self.phase.part: average.net}
        save(shown, self.wishes.out, self.parts)
        see = partial(restored, shown.eval(), self.phase)
        picture = self.wishes.work / f"{self.phase.name}.png"
        examine(see, self.held, self.embedder, self.device, picture, click.echo)

    def _truths(self) -> Tensor:
        import torch

        from vidrestore.train.portraits import as_tensor

        chosen = self.trained.images[:: max(1, len(self.trained) // 64)]
        return 2 * torch.stack([as_tensor(image) for image in chosen]).to(self.device) - 1


def restored(model: LDBFR, phase: Part, x: Tensor) -> Tensor:
    """What the phase in training makes of pictures [n, 3, s, s] in -1..1."""
    import torch

    from vidrestore_plugins.restore.ldbfr.colour import recoloured
    from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ
    from vidrestore_plugins.restore.ldbfr.sampler import run_down, sample, start
    from vidrestore_plugins.restore.ldbfr.schedule import passes

    if phase.name == "dictionary" and isinstance(model.stage1, LiteVQ):
        return model.stage1.dictionary(x)[0]
    if phase.part == "ae":
        y: Tensor = model.ae.decode(model.ae.encode(x))
        return y
    h, features = model.stage1.encode(x)
    g = model.stage1.look_up(model.stage1.book.nearest(h), h)
    y1: Tensor = model.stage1.decode(g, x, features)
    if phase.part == "stage1":
        return y1
    z0 = model.ae.encode(y1)
    steps = passes(model.schedule, 8, int(0.4 * model.schedule.size.T))
    eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(5)).to(z0)
    x0 = run_down(
        sample(model.unet, model.unet.prepare(g), start(model.schedule, steps, eps, z0), model.schedule, steps)
    )
    return recoloured(model.ae.decode(x0), y1)


def _begun(size: str, start: Path | None, device: torch.device) -> tuple[LDBFR, set[str]]:
    """A fresh network, or that of a file with what it lacks fresh; and the parts that the file had."""
    import torch

    from vidrestore_plugins.restore.ldbfr.files import load
    from vidrestore_plugins.restore.ldbfr.model import LDBFR
    from vidrestore_plugins.restore.ldbfr.sizes import SIZES

    model, done = LDBFR(SIZES[size]), set[str]()
    if start:
        given, parts = load(start)
        if given.size != model.size:
            raise click.BadParameter(f"{start} is not of size {size}", param_hint="--start")
        for part in parts:
            getattr(model, part).load_state_dict(getattr(given, part).state_dict())
        done = set(parts)
    return model.to(device).to(memory_format=torch.channels_last), done


def _losses(net: Any, batch: Any, device: torch.device) -> dict[str, Any]:
    import torch

    with torch.autocast(device.type, torch.bfloat16):
        return net.losses(batch)  # type: ignore[no-any-return]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
