"""``vidrestore train vspbfr``: makes VSPBFR's weights in a size of our own from a folder of faces, phase by phase.

prior: a generator of faces. encoder: faces to its codes, and the generator to the faces of these codes. diffuser:
codes of damaged faces to those of healthy ones. restoration: damaged faces to their truth, prompted by the codes, fed
by the generator. adversarial: the same, judged. A phase that is not named is taken from --work, where its training
left it.
"""

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
    from vidrestore.train.loop import Budget, Run
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.restore.vspbfr.phases import System

EXPORT_EVERY = 500  # steps


@dataclass(frozen=True)
class Phase:
    """What is trained, and for how much of the time."""

    name: str
    share: float  # of the minutes, over the shares of all phases that run
    rate: float
    last_rate: float
    faces: int  # a batch; two of each clip where clips are filmed
    betas: tuple[float, float] = (0.9, 0.999)
    half: bool = True  # on a CPU; not with dilated kernels, whose gradients oneDNN gives as NaN in bf16, channels last


GAME = (0.0, 0.99)  # no momentum where two networks play against each other
PHASES = {
    phase.name: phase
    for phase in (
        Phase("prior", 0.3, 2e-3, 5e-4, 8, GAME),
        Phase("encoder", 0.2, 1e-3, 1e-5, 8),
        Phase("diffuser", 0.1, 5e-4, 1e-5, 8),
        Phase("restoration", 0.4, 2e-3, 1e-5, 4, half=False),
        Phase("adversarial", 0.2, 5e-4, 1e-5, 4, GAME, half=False),
    )
}


def _phases(_context: click.Context, _option: click.Parameter, text: str) -> list[Phase]:
    names = [name.strip() for name in text.split(",")]
    if unknown := set(names) - set(PHASES):
        raise click.BadParameter(f"no phase {min(unknown)}; have {', '.join(PHASES)}")
    return [phase for name, phase in PHASES.items() if name in names]


@click.command("vspbfr", help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of faces.csv and its shards.")
@click.option("--size", type=click.Choice(["nano", "xs"]), default="xs", show_default=True)
@click.option(
    "--phases",
    callback=_phases,
    default="prior,encoder,diffuser,restoration",
    show_default=True,
    help="Which of prior, encoder, diffuser, restoration, adversarial.",
)
@click.option("--minutes", type=float, default=0.0, help="Time for all phases; checkpoints count what is spent.")
@click.option("--steps", type=int, default=0, help="Steps of each phase; with --minutes, what ends first.")
@click.option("--batch", type=float, default=1.0, show_default=True, help="Factor on every batch.")
@click.option("--rate", type=float, default=1.0, show_default=True, help="Factor on every learning rate.")
@click.option(
    "--embedder",
    type=click.Path(path_type=Path),
    default=None,
    help="MobileFaceNet's safetensors: faces are then also trained to stay the same person.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("vspbfr_xs.safetensors"), help="Weights.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("vspbfr.work"), help="Checkpoints (resumed), logs, sheets."
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
    from vidrestore_plugins.restore.vspbfr.phases import System
    from vidrestore_plugins.restore.vspbfr.sizes import OWN

    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    torch.manual_seed(seed)  # the initial weights
    work.mkdir(parents=True, exist_ok=True)
    place = torch.device(device)
    system = System(OWN[size]).to(place).eval().requires_grad_(False)
    trained, held = load_portraits(data, "train"), load_portraits(data, "val")
    click.echo(f"{len(trained)} faces, {len(held)} held out")
    teacher = load_embedder(embedder).to(place) if embedder else None
    whole = sum(phase.share for phase in phases)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        for number, phase in enumerate(PHASES.values()):
            faces = max(2, 2 * round(batch * phase.faces / 2))
            job = Job(phase, system, trained, held, teacher, out, work, place, pool, faces, seed + number)
            if phase not in phases:
                job.take()
                continue
            budget = Budget(
                steps=steps,
                minutes=minutes * phase.share / whole,
                rate=rate * phase.rate,
                last_rate=rate * phase.last_rate,
            )
            job.train(budget)
            if phase is phases[-1]:
                break


def main(arguments: list[str]) -> None:
    """The recipe's entry point."""
    command.main(arguments, prog_name="vidrestore train vspbfr", standalone_mode=False)


@dataclass
class Job:
    """One phase: trains its part of the system and leaves the averaged weights there."""

    phase: Phase
    system: System
    trained: Portraits
    held: Portraits
    embedder: Embedder | None
    out: Path
    work: Path
    device: torch.device
    pool: ThreadPoolExecutor | None
    faces: int  # a batch
    seed: int

    def train(self, budget: Budget) -> None:
        from vidrestore.train.loop import Log, fit
        from vidrestore_plugins.restore.vspbfr.batches import Clips, Truths

        name, side, device = self.phase.name, self.system.net.size.side, self.device.type
        run = self._run()
        if self._checkpoint.exists():
            run.load(self._checkpoint)
            click.echo(f"{name}: going on at step {run.step}")
        clips = Clips(self.trained, self.faces // 2, side, device, self.pool)
        batches: Any = Truths(self.trained, self.faces, side, device) if name == "prior" else clips
        log, losses = Log(self.work / f"{name}.csv", 50), partial(_losses, phase=self.phase)
        fit(run, budget, batches, losses, log=log, checkpoint=self._checkpoint, save_every=250, watch=self._watch)
        self._export(run)
        self._adopt(run)

    def take(self) -> None:
        """What an earlier training left. Raises UsageError where there was none."""
        from vidrestore.errors import UsageError

        if not self._checkpoint.exists():
            remedy = "name it in --phases, or give the folder of its checkpoint with --work"
            raise UsageError(f"phase {self.phase.name}", f"not trained: no {self._checkpoint}", remedy)
        run = self._run()
        run.load(self._checkpoint)
        self._adopt(run)

    @property
    def _checkpoint(self) -> Path:
        return self.work / f"{self.phase.name}.pt"

    def _run(self) -> Run:
        from vidrestore.train.loop import Run

        run = Run(self._task().requires_grad_(True), self.seed, decay=0.998, weight_decay=0.0)
        for group in run.optimiser.param_groups:
            group["betas"] = self.phase.betas
        return run

    def _task(self) -> Any:
        from vidrestore_plugins.restore.vspbfr.phases import Codes, Healing, Prior, Restoring

        tasks: dict[str, Any] = {
            "prior": lambda: Prior(self.system),
            "encoder": lambda: Codes(self.system, self.embedder),
            "diffuser": lambda: Healing(self.system, self.embedder),
            "restoration": lambda: Restoring(self.system, self.embedder),
            "adversarial": lambda: Restoring(self.system, self.embedder, real=True),
        }
        return tasks[self.phase.name]().to(self.device)

    def _watch(self, run: Run, line: str | None) -> None:
        if line:
            click.echo(f"{self.phase.name}: {line}")
        if run.step % EXPORT_EVERY == 0:
            self._export(run)

    def _export(self, run: Run) -> None:
        """See how the averaged weights do on held-out faces; write them, once they restore."""
        from vidrestore_plugins.restore.vspbfr.files import save
        from vidrestore_plugins.restore.vspbfr.held_out import examine

        name, average = self.phase.name, _averaged(run)
        if name in ("restoration", "adversarial"):
            save(average.net, self.out)
        examine(average, name, self.held, self.device, self.work / f"{name}.png", click.echo)

    def _adopt(self, run: Run) -> None:
        self.system.load_state_dict(_averaged(run).state_dict())
        self.system.take_bank()
        if self.phase.name == "prior":
            self.system.take_mean()
        self.system.eval().requires_grad_(False)


def _averaged(run: Run) -> System:
    """The system with the part in training averaged over time."""
    average: Any = run.average
    system: System = average.system
    return system


def _losses(net: Any, batch: Any, phase: Phase) -> dict[str, Any]:
    import torch

    device = next(net.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=phase.half or device == "cuda"):
        return net.losses(batch)  # type: ignore[no-any-return]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
