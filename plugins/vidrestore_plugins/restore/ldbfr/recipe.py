"""``vidrestore train ldbfr``: makes LD-BFR's weights from a folder of faces, phase by phase."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import torch

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.loop import Run
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.restore.ldbfr.batches import Footages
    from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ

EXPORT_EVERY = 500  # steps


@dataclass(frozen=True)
class Phase:
    """What is trained, on what, and for how much of the time."""

    name: str
    share: float  # of the minutes
    rate: float
    last_rate: float
    clips: int  # a batch
    side: int  # px of the crops, 0: whole faces
    places: int  # crops a clip


PHASES = (
    Phase("dictionary", 0.1, 1e-3, 1e-4, 4, 128, 2),
    Phase("restoration", 0.5, 1e-3, 3e-4, 3, 128, 2),
    Phase("faces", 0.4, 3e-4, 1e-5, 2, 0, 1),
)


@click.command("ldbfr", help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of faces.csv and its shards.")
@click.option("--size", type=click.Choice(["nano", "tiny", "small"]), default="tiny", show_default=True)
@click.option("--minutes", type=float, default=0.0, help="Time for all phases; checkpoints count what is spent.")
@click.option("--steps", type=int, default=0, help="Steps of each phase; with --minutes, what ends first.")
@click.option(
    "--embedder",
    type=click.Path(path_type=Path),
    default=None,
    help="MobileFaceNet's safetensors: whole faces are then also trained to stay the same person.",
)
@click.option("--start", type=click.Path(path_type=Path), default=None, help="Weights to go on from; no dictionary.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("ldbfr_tiny.safetensors"), help="Weights.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("ldbfr.work"), help="Checkpoints (resumed), logs, sheets."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="Threads for arithmetic, and for damage.")
@click.option("--rate", type=float, default=1.0, show_default=True, help="Factor on every learning rate.")
def command(
    data: Path,
    size: str,
    minutes: float,
    steps: int,
    embedder: Path | None,
    start: Path | None,
    out: Path,
    work: Path,
    device: str,
    seed: int,
    threads: int,
    rate: float,
) -> None:
    import cv2
    import torch

    from vidrestore.train.embedder import load_embedder
    from vidrestore.train.loop import Budget
    from vidrestore.train.portraits import load_portraits
    from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ
    from vidrestore_plugins.restore.ldbfr.sizes import SIZES, LiteVQSize

    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    torch.manual_seed(seed)  # the initial weights
    work.mkdir(parents=True, exist_ok=True)
    stage1 = SIZES[size].stage1
    assert isinstance(stage1, LiteVQSize)
    place = torch.device(device)
    net = LiteVQ(stage1).to(place).to(memory_format=torch.channels_last)
    phases: tuple[Phase, ...] = PHASES
    if start:
        _load(net, start)
        phases = PHASES[1:]
    trained, held = load_portraits(data, "train"), load_portraits(data, "val")
    click.echo(f"{len(trained)} faces, {len(held)} held out")
    teacher = load_embedder(embedder).to(place) if embedder else None
    whole = sum(phase.share for phase in phases)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        for number, phase in enumerate(phases):
            budget = Budget(
                steps=steps,
                minutes=minutes * phase.share / whole,
                rate=rate * phase.rate,
                last_rate=rate * phase.last_rate,
            )
            job = Job(phase, net, trained, held, teacher, out, work, place, pool, seed + number)
            job.train(budget)


def main(arguments: list[str]) -> None:
    """The recipe's entry point."""
    command.main(arguments, prog_name="vidrestore train ldbfr", standalone_mode=False)


@dataclass
class Job:
    """One phase: trains ``net`` and leaves the averaged weights in it."""

    phase: Phase
    net: LiteVQ
    trained: Portraits
    held: Portraits
    embedder: Embedder | None
    out: Path
    work: Path
    device: torch.device
    pool: ThreadPoolExecutor | None
    seed: int

    def train(self, budget: Any) -> None:
        from vidrestore.train.loop import Log, Run, fit
        from vidrestore_plugins.restore.ldbfr.phases import Dictionary, Restoration

        name = self.phase.name
        if name == "restoration":
            self.net.join()  # a warm start from exactly the input
        whole = self.embedder if self.phase.side == 0 else None
        task = Dictionary(self.net) if name == "dictionary" else Restoration(self.net, whole)
        run = Run(task, self.seed, decay=0.998, weight_decay=1e-4)
        checkpoint = self.work / f"{name}.pt"
        if checkpoint.exists():
            run.load(checkpoint)
            click.echo(f"{name}: going on at step {run.step}")
        log = Log(self.work / f"{name}.csv", 50)
        losses = partial(_losses, device=self.device)
        fit(run, budget, self._batches(), losses, log=log, checkpoint=checkpoint, save_every=250, watch=self._watch)
        self.net.load_state_dict(run.average.net.state_dict())  # type: ignore[union-attr]
        self._export(run)

    def _batches(self) -> Footages:
        from vidrestore_plugins.restore.ldbfr.batches import Footages

        p = self.phase
        return Footages(self.trained, p.clips, p.side, p.places, self.pool, self.device.type)

    def _watch(self, run: Run, line: str | None) -> None:
        if line:
            click.echo(f"{self.phase.name}: {line}")
        if run.step % EXPORT_EVERY == 0:
            self._export(run)

    def _export(self, run: Run) -> None:
        """The averaged weights as f16 safetensors, and how they do on held-out faces."""
        from vidrestore_plugins.restore.ldbfr.held_out import examine

        net: Any = run.average.net
        save_weights({name: value.half() for name, value in net.state_dict().items()}, self.out)
        examine(net, self.held, self.embedder, self.device, self.work / f"{self.phase.name}.png", click.echo)


def _losses(net: Any, batch: Any, device: torch.device) -> dict[str, Any]:
    import torch

    with torch.autocast(device.type, torch.bfloat16):
        return net.losses(batch)  # type: ignore[no-any-return]


def save_weights(tensors: dict[str, torch.Tensor], out: Path) -> None:
    """As safetensors, whole or not at all."""
    from safetensors.torch import save_file

    part = out.with_suffix(".part")
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, part)
    part.replace(out)


def _load(net: LiteVQ, path: Path) -> None:
    from safetensors.torch import load_file

    net.load_state_dict({name: value.float() for name, value in load_file(path).items()})


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
