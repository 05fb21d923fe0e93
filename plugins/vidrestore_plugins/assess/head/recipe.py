"""``vidrestore train assess``: makes the bundled head of assess=head from faces that are damaged on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidrestore.api import write_weights

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.train.loop import Run
    from vidrestore_plugins.assess.head.clips import Clips

BATCH = 256
LOOK_EVERY = 1000  # steps


@click.command("assess", help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the shards and their index.")
@click.option("--minutes", type=float, default=0.0, help="Time to train for, once the clips are there.")
@click.option("--steps", type=int, default=0, help="Steps to train for; with --minutes, what ends first.")
@click.option("--clips", type=int, default=8000, show_default=True, help="Clips to film; a tenth more are held out.")
@click.option("--rate", type=float, default=2e-3, show_default=True, help="Peak of the learning rate.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("assess_head.safetensors"), help="Weights.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("assess.work"), help="Clips, checkpoint, log.")
@click.option("--resume", type=click.Path(path_type=Path), default=None, help="Checkpoint to go on from.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="Threads for the arithmetic.")
def command(
    data: Path,
    minutes: float,
    steps: int,
    clips: int,
    rate: float,
    out: Path,
    work: Path,
    resume: Path | None,
    seed: int,
    threads: int,
) -> None:
    import cv2
    import torch

    from vidrestore.train.loop import Budget, Log, Run, fit
    from vidrestore_plugins.assess.head.network import Head

    budget = Budget(steps=steps, minutes=minutes, rate=rate)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.manual_seed(seed)  # the initial weights
    work.mkdir(parents=True, exist_ok=True)
    trained = filmed_once(data, "train", clips, work, seed)
    net = Head()
    net.scale_to(trained.power)
    run = Run(net, seed)
    if resume:
        run.load(resume)
    watch = Watch(filmed_once(data, "val", -(-clips // 10), work, seed), out)
    log = Log(work / "log.csv", 100)
    fit(run, budget, lambda rng: trained.batch(rng, BATCH), losses, log=log, checkpoint=work / "run.pt", watch=watch)
    watch.look(run)


def main(arguments: list[str]) -> None:
    """The recipe's entry point."""
    command.main(arguments, prog_name="vidrestore train assess", standalone_mode=False)


def filmed_once(data: Path, split: str, count: int, work: Path, seed: int) -> Clips:
    """Clips of a split; kept in ``work`` for the next time."""
    import numpy as np
    from safetensors.torch import load_file

    from vidrestore_plugins.assess.head.clips import Clips, filmed_clips, portraits

    kept = work / f"clips-{split}-{count}-{seed}.safetensors"
    if not kept.is_file():
        click.echo(f"filming {count} clips ({split})")
        made = filmed_clips(portraits(data, split), count, np.random.default_rng([seed, split == "val"]))
        write_weights(kept, {"power": made.power, "damage": made.damage})
    return Clips(**load_file(kept))


def losses(net: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Huber loss on the three logarithms, in which the same ratio costs the same."""
    import torch.nn.functional as F

    from vidrestore_plugins.assess.head.network import encoded

    power, damage = batch
    each = F.smooth_l1_loss(net.read(power), encoded(damage), beta=0.3, reduction="none").mean(0)
    return {"loss": each.sum(), "resolution": each[0], "noise": each[1], "coding": each[2]}


@dataclass
class Watch:
    """Prints the log; now and then exports the averaged weights and measures them on held-out faces."""

    held_out: Clips
    out: Path

    def __call__(self, run: Run, line: str | None) -> None:
        if line:
            click.echo(line)
        if run.step % LOOK_EVERY == 0:
            self.look(run)

    def look(self, run: Run) -> None:
        """Median and 90th percentile of the errors: octaves of resolution, steps of 8 bits of the other two."""
        import torch

        from vidrestore_plugins.assess.head.network import decoded

        average: Any = run.average
        write_weights(self.out, {name: value.half() for name, value in average.state_dict().items()})
        with torch.inference_mode():
            found = decoded(average.read(self.held_out.power))
        true = self.held_out.damage
        error = torch.cat([(found[:, :1] / true[:, :1]).log2(), 255 * (found - true)[:, 1:]], 1).abs()
        middle, most = error.quantile(torch.tensor([0.5, 0.9]), 0)
        names = ("resolution (octaves)", "noise (/255)", "coding (/255)")
        told = (f"{n} {m:.2f} {h:.2f}" for n, m, h in zip(names, middle.tolist(), most.tolist(), strict=True))
        click.echo(f"held out, step {run.step}, error in the middle and at 90 %: " + "; ".join(told))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
