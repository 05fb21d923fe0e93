"""``vidrestore train ldbfr``: makes LD-BFR's weights from a folder of faces, phase by phase.

dictionary: faces through the codes alone. restoration: damaged crops to their truth. faces: the same on whole
faces, which must stay the same person. latents and diffusion: the second stage, which wants a GPU.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.loop import Budget, Run
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.restore.ldbfr.model import LDBFR

EXPORT_EVERY = 500  # steps


@dataclass(frozen=True)
class Phase:
    """What is trained, on what, and for how much of the time."""

    name: str
    part: str  # of the network
    share: float  # of the minutes, over the shares of all phases that run
    rate: float
    last_rate: float
    clips: int  # a batch
    side: int  # px of the crops, 0: whole faces
    places: int  # crops a clip


PHASES = {
    phase.name: phase
    for phase in (
        Phase("dictionary", "stage1", 0.06, 1e-3, 1e-4, 4, 128, 2),
        Phase("restoration", "stage1", 0.3, 1e-3, 3e-4, 3, 128, 2),
        Phase("faces", "stage1", 0.24, 3e-4, 1e-5, 2, 0, 1),
        Phase("latents", "ae", 0.1, 1e-3, 1e-5, 4, 128, 2),
        Phase("diffusion", "unet", 0.3, 5e-4, 1e-5, 8, 0, 1),
    )
}


def _phases(_context: click.Context, _option: click.Parameter, text: str) -> list[Phase]:
    names = [name.strip() for name in text.split(",")]
    if unknown := set(names) - set(PHASES):
        raise click.BadParameter(f"no phase {min(unknown)}; have {', '.join(PHASES)}")
    return [phase for name, phase in PHASES.items() if name in names]


@click.command("ldbfr", help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of faces.csv and its shards.")
@click.option("--size", type=click.Choice(["nano", "tiny", "small"]), default="tiny", show_default=True)
@click.option(
    "--phases",
    callback=_phases,
    default="dictionary,restoration,faces",
    show_default=True,
    help="Which of dictionary, restoration, faces, latents, diffusion.",
)
@click.option("--minutes", type=float, default=0.0, help="Time for all phases; checkpoints count what is spent.")
@click.option("--steps", type=int, default=0, help="Steps of each phase; with --minutes, what ends first.")
@click.option("--batch", type=float, default=1.0, show_default=True, help="Factor on every batch.")
@click.option("--rate", type=float, default=1.0, show_default=True, help="Factor on every learning rate.")
@click.option(
    "--embedder",
    type=click.Path(path_type=Path),
    default=None,
    help="MobileFaceNet's safetensors: whole faces are then also trained to stay the same person.",
)
@click.option("--start", type=click.Path(path_type=Path), default=None, help="Weights to go on from.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("ldbfr_tiny.safetensors"), help="Weights.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("ldbfr.work"), help="Checkpoints (resumed), logs, sheets."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="Threads for arithmetic, and for damage.")
def command(
    data: Path,
    size: str,
    phases: list[Phase],
    minutes: float,
    steps: int,
    batch: float,
    rate: float,
    embedder: Path | None,
    start: Path | None,
    out: Path,
    work: Path,
    device: str,
    seed: int,
    threads: int,
) -> None:
    import cv2
    import torch

    from vidrestore.train.embedder import load_embedder
    from vidrestore.train.loop import Budget
    from vidrestore.train.portraits import load_portraits

    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    torch.manual_seed(seed)  # the initial weights
    work.mkdir(parents=True, exist_ok=True)
    place = torch.device(device)
    model, done = _begun(size, start, place)
    trained, held = load_portraits(data, "train"), load_portraits(data, "val")
    click.echo(f"{len(trained)} faces, {len(held)} held out")
    teacher = load_embedder(embedder).to(place) if embedder else None
    whole = sum(phase.share for phase in phases)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        for phase in phases:
            done.add(phase.part)
            budget = Budget(
                steps=steps,
                minutes=minutes * phase.share / whole,
                rate=rate * phase.rate,
                last_rate=rate * phase.last_rate,
            )
            clips = max(1, round(batch * phase.clips))
            job = Job(phase, model, trained, held, teacher, out, work, place, pool, clips, sorted(done))
            job.train(budget, seed + list(PHASES).index(phase.name))


def main(arguments: list[str]) -> None:
    """The recipe's entry point."""
    command.main(arguments, prog_name="vidrestore train ldbfr", standalone_mode=False)


@dataclass
class Job:
    """One phase: trains its part of ``model`` and leaves the averaged weights in it."""

    phase: Phase
    model: LDBFR
    trained: Portraits
    held: Portraits
    embedder: Embedder | None
    out: Path
    work: Path
    device: torch.device
    pool: ThreadPoolExecutor | None
    clips: int
    parts: list[str]  # that are exported

    def train(self, budget: Budget, seed: int) -> None:
        from vidrestore.train.loop import Log, Run, fit
        from vidrestore_plugins.restore.ldbfr.batches import Footages

        name, phase = self.phase.name, self.phase
        run = Run(self._task(), seed, decay=0.998, weight_decay=1e-4)
        checkpoint = self.work / f"{name}.pt"
        if checkpoint.exists():
            run.load(checkpoint)
            click.echo(f"{name}: going on at step {run.step}")
        batches = Footages(self.trained, self.clips, phase.side, phase.places, self.pool, self.device.type)
        log = Log(self.work / f"{name}.csv", 50)
        losses = partial(_losses, device=self.device)
        fit(run, budget, batches, losses, log=log, checkpoint=checkpoint, save_every=250, watch=self._watch)
        self._export(run)
        getattr(self.model, phase.part).load_state_dict(run.average.net.state_dict())  # type: ignore[union-attr]

    def _task(self) -> Any:
        from vidrestore_plugins.restore.ldbfr.phases import Dictionary, Diffusion, Latents, Restoration

        model: Any = self.model
        if self.phase.name == "dictionary":
            return Dictionary(model.stage1)
        if self.phase.name == "restoration":
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
        from vidrestore_plugins.restore.ldbfr.files import save
        from vidrestore_plugins.restore.ldbfr.held_out import examine

        average: Any = run.average
        if self.phase.name == "latents":
            average.standardise(self._truths())
        shown = copy.copy(self.model)  # shares all parts but the averaged one
        shown._modules = {**self.model._modules, self.phase.part: average.net}
        save(shown, self.out, self.parts)
        see = partial(restored, shown.eval(), self.phase)
        examine(see, self.held, self.embedder, self.device, self.work / f"{self.phase.name}.png", click.echo)

    def _truths(self) -> Tensor:
        import torch

        from vidrestore.train.portraits import as_tensor

        chosen = self.trained.images[:: max(1, len(self.trained) // 64)]
        return 2 * torch.stack([as_tensor(image) for image in chosen]).to(self.device) - 1


def restored(model: LDBFR, phase: Phase, x: Tensor) -> Tensor:
    """What the phase in training makes of pictures [n, 3, s, s] in -1..1."""
    import torch

    from vidrestore_plugins.restore.ldbfr.colour import recoloured
    from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ
    from vidrestore_plugins.restore.ldbfr.sampler import sample, start
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


def run_down(walk: Any) -> Tensor:
    """The end of a sampler that shows nothing on its way."""
    try:
        next(walk)
    except StopIteration as end:
        last: Tensor = end.value
        return last
    raise ValueError("the sampler was asked to show x0")


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
