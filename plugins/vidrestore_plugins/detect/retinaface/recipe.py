"""``vidrestore train retinaface``: makes the bundled detector from photographs, cut-out faces and a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidrestore.api import write_weights

if TYPE_CHECKING:
    from torch import nn

    from vidrestore.train.loop import Run
    from vidrestore_plugins.detect.retinaface.mixture import Mixture
    from vidrestore_plugins.detect.retinaface.scenes import Scene

EXPORT_EVERY = 1000  # steps


@click.command("retinaface", help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the shards and their indexes.")
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="YuNet's ONNX file.")
@click.option("--minutes", type=float, default=0.0, help="Time to train for; checkpoints count what is spent.")
@click.option("--steps", type=int, default=0, help="Steps to train for; with --minutes, what ends first.")
@click.option("--rate", type=float, default=2.5e-3, show_default=True, help="Peak of the learning rate.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("retinaface_mobile025.safetensors"), help="Weights."
)
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("retinaface.work"), help="Checkpoint, log, sheets."
)
@click.option("--resume", type=click.Path(path_type=Path), default=None, help="Checkpoint to go on from.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="Threads for the arithmetic.")
def command(
    data: Path,
    teacher: Path,
    minutes: float,
    steps: int,
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
    from vidrestore_plugins.detect.retinaface.network import build

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.manual_seed(seed)  # the initial weights
    work.mkdir(parents=True, exist_ok=True)
    run = Run(started(build("mobile0.25")), seed)
    if resume:
        run.load(resume)
    mixture, held_out = load(data, teacher, work)
    click.echo(
        f"{len(mixture.with_faces)} scenes with faces, {len(mixture.without)} without, "
        f"{len(mixture.gallery.images)} cut-outs"
    )
    watch = Watch(held_out, out, work)
    budget = Budget(steps=steps, minutes=minutes, rate=rate)
    fit(run, budget, mixture, losses, log=Log(work / "log.csv", 100), checkpoint=work / "run.pt", watch=watch)
    write_weights(out, run.average.state_dict())


def main(arguments: list[str]) -> None:
    """The recipe's entry point."""
    command.main(arguments, prog_name="vidrestore train retinaface", standalone_mode=False)


def started(net: nn.Module) -> nn.Module:
    """The network ready for training: a face is expected at one prior in a hundred."""
    import torch

    heads: Any = net.ClassHead
    with torch.no_grad():
        for head in heads:
            head.conv1x1.bias.copy_(torch.tensor([2.3, -2.3]).repeat(head.num_anchors))
    return net.to(memory_format=torch.channels_last)


def load(data: Path, teacher: Path, work: Path) -> tuple[Mixture, Mixture]:
    """What is trained on, and what is held out. Raises InputAccessError where a file is missing."""
    from vidrestore.errors import InputAccessError
    from vidrestore_plugins.detect.retinaface.faces import load_gallery
    from vidrestore_plugins.detect.retinaface.mixture import Mixture
    from vidrestore_plugins.detect.retinaface.scenes import load_scenes
    from vidrestore_plugins.detect.retinaface.teacher import YuNet

    for path in (teacher, *(data / name for name in ("scenes.json", "scenes.tar", "faces.csv"))):
        if not path.is_file():
            raise InputAccessError(str(path), "no such file", "see --data and --teacher")
    look = YuNet(teacher)
    trained, held = (
        Mixture(load_scenes(data, split), load_gallery(data, split, look, work / f"seen-{split}.npz"))
        for split in ("train", "val")
    )
    return trained, held


def losses(net: nn.Module, batch: Any) -> dict[str, Any]:
    from vidrestore_plugins.detect.retinaface.loss import multibox
    from vidrestore_plugins.detect.retinaface.network import network_input

    return multibox(net(network_input(batch.images)), batch.targets)


@dataclass
class Watch:
    """Prints the log, and now and then exports the averaged weights and looks at held-out pictures."""

    held_out: Mixture
    out: Path
    work: Path

    def __call__(self, run: Run, line: str | None) -> None:
        if line:
            click.echo(line)
        if run.step == 1 or run.step % EXPORT_EVERY == 0:
            write_weights(self.out, run.average.state_dict())
            self.look(run)

    def look(self, run: Run) -> None:
        import numpy as np
        import torch

        rng = np.random.default_rng(20)  # the same pictures each time
        batches = [self.held_out(rng) for _ in range(6)]
        with torch.inference_mode():
            found = [losses(run.average, batch) for batch in batches]
        means = {name: float(np.mean([f[name].item() for f in found])) for name in found[0]}
        click.echo(f"held out, step {run.step}: " + "  ".join(f"{k} {v:.4f}" for k, v in means.items()))
        if run.step == 1:
            self.samples()

    def samples(self) -> None:
        """A sheet of held-out training pictures with their labels."""
        import numpy as np

        from vidrestore.train.sheet import sheet, write_png

        rng = np.random.default_rng(21)
        write_png(self.work / "samples.png", sheet([drawn(self.held_out.picture(320, rng)) for _ in range(24)], 6))


def drawn(scene: Scene) -> Any:
    """The picture with boxes, landmarks and ignored regions drawn in."""
    import cv2

    image = scene.image.copy()
    for boxes, colour in ((scene.boxes, (0, 255, 0)), (scene.ignore, (120, 120, 120))):
        for x0, y0, x1, y1 in boxes.round().astype(int).tolist():
            cv2.rectangle(image, (x0, y0), (x1, y1), colour, 1)
    for x, y in scene.landmarks.reshape(-1, 2).round().astype(int).tolist():
        cv2.circle(image, (x, y), 1, (255, 0, 0), -1)
    return image


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
