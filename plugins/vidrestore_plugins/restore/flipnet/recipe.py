"""``vidrestore train flipnet``: makes FLIPNET's weights from a folder of faces, phase by phase.

latents: the auto-encoder. reading: both encoders of face tokens. association: tokens of damaged faces become those of
undamaged ones. prior: faces from noise and tokens. degrade: the network learns to damage. offline: it damages the
faces. restore: it learns to restore what footage and itself have damaged. A phase that is not named is taken from
--work, where its training left it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vidrestore.train.recipe import Phase, Wishes, recipe

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import torch
    from torch import Tensor

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.loop import Run
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.restore.flipnet.model import FlipNet

PHASES = {
    phase.name: phase
    for phase in (
        Phase("latents", 0.06, 5e-4, 1e-5, 8),
        Phase("reading", 0.06, 1e-3, 1e-4, 8),
        Phase("association", 0.03, 5e-4, 1e-5, 8),
        Phase("prior", 0.25, 1e-3, 1e-5, 8),
        Phase("degrade", 0.1, 5e-4, 1e-5, 8),
        Phase("offline", 0.04, 0.0, 0.0, 8),
        Phase("restore", 0.46, 5e-4, 1e-5, 8),
    )
}
CROP = 128  # px of what the auto-encoder learns from
STEPS, DRAWS = 8, 4  # of degrading offline; of each face
EXPORT_EVERY = 500  # steps


@recipe("flipnet", __doc__, PHASES, ["nano", "mini", "tiny", "small"], "mini")
def main(wishes: Wishes) -> None:
    import torch

    from vidrestore.train.embedder import load_embedder
    from vidrestore.train.portraits import load_portraits
    from vidrestore_plugins.restore.flipnet.model import FlipNet
    from vidrestore_plugins.restore.flipnet.sizes import SIZES

    with wishes.begun() as pool:
        device = torch.device(wishes.device)
        net = FlipNet(SIZES[wishes.size]).to(device).eval().requires_grad_(False)  # type: ignore[index]
        trained, held = load_portraits(wishes.data, "train"), load_portraits(wishes.data, "val")
        click.echo(f"{len(trained)} faces, {len(held)} held out")
        teacher = load_embedder(wishes.embedder).to(device) if wishes.embedder else None
        job = Job(wishes, net, trained, held, teacher, device, pool)
        for phase in PHASES.values():
            if phase in wishes.phases:
                job.train(phase)
            else:
                job.take(phase)
            if phase is wishes.phases[-1]:
                break


@dataclass
class Job:
    """Trains the phases one after another; each leaves its averaged weights in ``net``."""

    wishes: Wishes
    net: FlipNet
    trained: Portraits
    held: Portraits
    embedder: Embedder | None
    device: torch.device
    pool: ThreadPoolExecutor | None

    def train(self, phase: Phase) -> None:
        from vidrestore.train.loop import Log, fit

        if phase.name == "offline":
            self._degrade_faces(phase)
            return
        checkpoint = self._checkpoint(phase)
        if phase.name == "latents" and self.net.size.vae.patch > 1 and not checkpoint.exists():
            self.net.vae.anchor(self._truths())
        run = self._run(phase)
        if checkpoint.exists():
            run.load(checkpoint)
            click.echo(f"{phase.name}: going on at step {run.step}")
        log = Log(self.wishes.work / f"{phase.name}.csv", 50)
        fit(
            run, self.wishes.budget(phase), self._batches(phase), partial(_losses, device=self.device),
            log=log, checkpoint=checkpoint, save_every=250, watch=partial(self._watch, phase=phase),
        )  # fmt: skip
        self._adopt(phase, run)
        self._show(phase, self.net)

    def take(self, phase: Phase) -> None:
        """What an earlier training left. Raises UsageError where there was none."""
        from vidrestore.errors import UsageError

        if phase.name == "offline":
            return
        if not self._checkpoint(phase).exists():
            remedy = "name it in --phases, or give the folder of its checkpoint with --work"
            raise UsageError(f"phase {phase.name}", f"not trained: no {self._checkpoint(phase)}", remedy)
        run = self._run(phase)
        run.load(self._checkpoint(phase))
        self._adopt(phase, run)

    def _checkpoint(self, phase: Phase) -> Path:
        return self.wishes.work / f"{phase.name}.pt"

    def _run(self, phase: Phase) -> Run:
        from vidrestore.train.loop import Run
        from vidrestore_plugins.restore.flipnet import phases as tasks

        net, kinds = self.net, list(PHASES)
        made: dict[str, Any] = {
            "latents": lambda: tasks.Latents(net).requires_grad_(True),
            "reading": lambda: tasks.Reading(net).requires_grad_(True),
            "association": lambda: tasks.Associating(net).requires_grad_(True),
            "prior": lambda: tasks.Imagining(net).requires_grad_(True),
            "degrade": lambda: tasks.prepared(net, restoring=False),
            "restore": lambda: tasks.prepared(net, restoring=True),
        }
        task = made[phase.name]().to(self.device)
        return Run(task, self.wishes.seed + kinds.index(phase.name), pace=task.pace)

    def _batches(self, phase: Phase) -> Any:
        from vidrestore_plugins.restore.flipnet.batches import Faces

        side, count = self.net.size.image_size, self.wishes.faces(phase)
        crop = min(CROP, side) if phase.name == "latents" and side > CROP else 0
        made = self._offline() if phase.name == "restore" else []
        damages = phase.name not in ("latents", "prior")
        return Faces(self.trained, count, side, self.device.type, self.pool, crop, damages, made)

    def _watch(self, run: Run, line: str | None, phase: Phase) -> None:
        if line:
            click.echo(f"{phase.name}: {line}")
        if run.step % EXPORT_EVERY == 0 and phase.name in ("latents", "restore"):
            average: Any = run.average
            self._show(phase, average.net)

    def _adopt(self, phase: Phase, run: Run) -> None:
        """Take the averaged weights over, and the scale of the latents where they are new."""
        from vidrestore_plugins.restore.flipnet.phases import measured

        task: Any = run.net
        task.load_state_dict(run.average.state_dict())
        task.eval().requires_grad_(False)
        if phase.name == "latents":
            self.net.resize(measured(self.net, self._truths()))
        if phase.name == "prior":
            self.net.grow_hubs()  # from the prior as it is now

    def _truths(self) -> Tensor:
        import torch

        from vidrestore.train.portraits import as_tensor

        chosen = self.trained.images[:: max(1, len(self.trained) // 64)]
        faces = torch.stack([as_tensor(image) for image in chosen]).to(self.device)
        side = self.net.size.image_size
        return 2 * torch.nn.functional.interpolate(faces, (side, side), mode="area") - 1

    def _show(self, phase: Phase, net: FlipNet) -> None:
        """How held-out faces come out; the weights, once they restore."""
        from vidrestore.train.held_out import examine
        from vidrestore_plugins.restore.flipnet.files import PARTS, TRAINED, save
        from vidrestore_plugins.restore.flipnet.lora import taken
        from vidrestore_plugins.restore.flipnet.made import merged, seen

        net.eval()
        if phase.name == "restore":
            own = net.size.own_prior
            whole, updates = (merged(net), None) if own else (net, taken(net.unet))
            save(whole, self.wishes.out, PARTS if own else ("encoders", *TRAINED), updates)
        if phase.name in ("latents", "restore", "degrade"):
            picture = self.wishes.work / f"{phase.name}.png"
            examine(partial(seen, net, phase.name), self.held, self.embedder, self.device, picture, click.echo)

    def _degrade_faces(self, phase: Phase) -> None:
        """Damage the faces by the network, ``DRAWS`` times each or as often as the time allows; a file a batch."""
        import numpy as np

        from vidrestore_plugins.restore.flipnet.made import damaged_pairs

        folder = self.wishes.work / "offline"
        folder.mkdir(exist_ok=True)
        budget, began = self.wishes.budget(phase), time.monotonic()
        count = self.wishes.faces(phase)
        batches = -(-DRAWS * len(self.trained) // count)
        for number in range(batches if not self.wishes.steps else min(batches, self.wishes.steps)):
            path = folder / f"{number:06}.npz"
            if path.exists():
                continue
            if budget.minutes and time.monotonic() - began > 60 * budget.minutes:
                break
            truth, damaged = damaged_pairs(self.net, self.trained, number, count, STEPS, self.device)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez_compressed(file, truth=truth, damaged=damaged)
            part.replace(path)
        click.echo(f"offline: {sum(len(t) for t, _ in self._offline())} faces damaged by the network")

    def _offline(self) -> list[tuple[Any, Any]]:
        import numpy as np

        found = []
        for path in sorted((self.wishes.work / "offline").glob("*.npz")):
            with np.load(path) as file:
                if len(file["truth"]):
                    found.append((file["truth"], file["damaged"]))
        return found


def _losses(task: Any, batch: Any, device: torch.device) -> dict[str, Any]:
    import torch

    with torch.autocast(device.type, torch.bfloat16):
        return task.losses(batch)  # type: ignore[no-any-return]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
