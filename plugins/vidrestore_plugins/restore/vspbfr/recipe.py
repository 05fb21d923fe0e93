"""``vidrestore train vspbfr``: makes VSPBFR's weights in a size of our own from a folder of faces, phase by phase.

prior: a generator of faces. encoder: faces to its codes, and the generator to the faces of these codes. diffuser:
codes of damaged faces to those of healthy ones. restoration: damaged faces to their truth, prompted by the codes, fed
by the generator. adversarial: the same, judged. A phase that is not named is taken from --work, where its training
left it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vidrestore.train.recipe import Phase, Wishes, recipe

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import torch

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.loop import Run
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.restore.vspbfr.phases import System

EXPORT_EVERY = 500  # steps
GAME = (0.0, 0.99)  # no momentum where two networks play against each other


@dataclass(frozen=True)
class Part(Phase):
    """A phase and how its optimiser and its arithmetic are set."""

    betas: tuple[float, float] = (0.9, 0.999)
    half: bool = True  # on a CPU; not with dilated kernels, whose gradients oneDNN gives as NaN in bf16, channels last


PHASES = {
    part.name: part
    for part in (
        Part("prior", 0.3, 2e-3, 5e-4, 8, GAME),
        Part("encoder", 0.2, 1e-3, 1e-5, 8),
        Part("diffuser", 0.1, 5e-4, 1e-5, 8),
        Part("restoration", 0.4, 3e-3, 1e-5, 4, half=False),
        Part("adversarial", 0.2, 5e-4, 1e-5, 4, GAME, half=False),
    )
}


@recipe("vspbfr", __doc__, PHASES, ["nano", "xs"], "xs", ["prior", "encoder", "diffuser", "restoration"])
def main(wishes: Wishes) -> None:
    import torch

    from vidrestore.train.embedder import load_embedder
    from vidrestore.train.portraits import load_portraits
    from vidrestore_plugins.restore.vspbfr.phases import System
    from vidrestore_plugins.restore.vspbfr.sizes import OWN

    with wishes.begun() as pool:
        device = torch.device(wishes.device)
        system = System(OWN[wishes.size]).to(device).eval().requires_grad_(False)
        trained, held = load_portraits(wishes.data, "train"), load_portraits(wishes.data, "val")
        click.echo(f"{len(trained)} faces, {len(held)} held out")
        teacher = load_embedder(wishes.embedder).to(device) if wishes.embedder else None
        job = Job(wishes, system, trained, held, teacher, device, pool)
        for part in PHASES.values():
            if part in wishes.phases:
                job.train(part)
            else:
                job.take(part)
            if part is wishes.phases[-1]:
                break


@dataclass
class Job:
    """Trains the phases one after another; each leaves its averaged weights in ``system``."""

    wishes: Wishes
    system: System
    trained: Portraits
    held: Portraits
    embedder: Embedder | None
    device: torch.device
    pool: ThreadPoolExecutor | None

    def train(self, part: Part) -> None:
        from vidrestore.train.loop import Log, fit

        run, checkpoint = self._run(part), self._checkpoint(part)
        if checkpoint.exists():
            run.load(checkpoint)
            click.echo(f"{part.name}: going on at step {run.step}")
        log = Log(self.wishes.work / f"{part.name}.csv", 50)
        fit(
            run, self.wishes.budget(part), self._batches(part), partial(_losses, part=part),
            log=log, checkpoint=checkpoint, save_every=250, watch=partial(self._watch, part=part),
        )  # fmt: skip
        self._export(part, run)
        self._adopt(part, run)

    def take(self, part: Part) -> None:
        """What an earlier training left. Raises UsageError where there was none."""
        from vidrestore.errors import UsageError

        if not self._checkpoint(part).exists():
            remedy = "name it in --phases, or give the folder of its checkpoint with --work"
            raise UsageError(f"phase {part.name}", f"not trained: no {self._checkpoint(part)}", remedy)
        run = self._run(part)
        run.load(self._checkpoint(part))
        self._adopt(part, run)

    def _checkpoint(self, part: Part) -> Path:
        return self.wishes.work / f"{part.name}.pt"

    def _run(self, part: Part) -> Run:
        from vidrestore.train.loop import Run
        from vidrestore_plugins.restore.vspbfr.phases import Codes, Healing, Prior, Restoring

        system, embedder = self.system, self.embedder
        tasks: dict[str, Any] = {
            "prior": lambda: Prior(system),
            "encoder": lambda: Codes(system, embedder),
            "diffuser": lambda: Healing(system, embedder),
            "restoration": lambda: Restoring(system, embedder),
            "adversarial": lambda: Restoring(system, embedder, real=True),
        }
        task = tasks[part.name]().to(self.device).requires_grad_(True)
        run = Run(task, self.wishes.seed + list(PHASES).index(part.name), decay=0.998, weight_decay=0.0)
        for group in run.optimiser.param_groups:
            group["betas"] = part.betas
        return run

    def _batches(self, part: Part) -> Any:
        from vidrestore_plugins.restore.vspbfr.batches import Clips, Truths

        faces, side, device = self.wishes.faces(part), self.system.net.size.side, self.device.type
        if part.name == "prior":
            return Truths(self.trained, faces, side, device)
        return Clips(self.trained, faces // 2, side, device, self.pool)

    def _watch(self, run: Run, line: str | None, *, part: Part) -> None:
        if line:
            click.echo(f"{part.name}: {line}")
        if run.step % EXPORT_EVERY == 0:
            self._export(part, run)

    def _export(self, part: Part, run: Run) -> None:
        """See how the averaged weights do on held-out faces; write them, once they restore."""
        from vidrestore.train.held_out import examine
        from vidrestore_plugins.restore.vspbfr.files import save
        from vidrestore_plugins.restore.vspbfr.shown import imagined, shown

        system, picture = _averaged(run), self.wishes.work / f"{part.name}.png"
        if part.name == "prior":
            imagined(system, picture)
            return
        if part.name in ("restoration", "adversarial"):
            save(system.net, self.wishes.out)
        examine(partial(shown, system, part.name), self.held, self.embedder, self.device, picture, click.echo)

    def _adopt(self, part: Part, run: Run) -> None:
        self.system.load_state_dict(_averaged(run).state_dict())
        self.system.take_bank()
        if part.name == "prior":
            self.system.take_mean()
        self.system.eval().requires_grad_(False)


def _averaged(run: Run) -> System:
    """The system with the part in training averaged over time."""
    average: Any = run.average
    system: System = average.system
    return system


def _losses(net: Any, batch: Any, part: Part) -> dict[str, Any]:
    import torch

    device = next(net.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=part.half or device == "cuda"):
        return net.losses(batch)  # type: ignore[no-any-return]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
