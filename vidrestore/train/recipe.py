"""What the commands of all recipes share: phases, budgets, and the flags that set them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vidrestore.train.loop import Budget


@dataclass(frozen=True)
class Phase:
    """One part of a training."""

    name: str
    share: float  # of the minutes, over the shares of all phases that run
    rate: float  # of learning, at its peak
    last_rate: float
    faces: int  # a batch


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for."""

    data: Path
    size: str
    phases: list[Phase]
    minutes: float
    steps: int
    batch: float
    rate: float
    embedder: Path | None
    out: Path
    work: Path
    device: str
    seed: int
    threads: int

    def budget(self, phase: Phase) -> Budget:
        """A phase's part of the time; ``steps`` bounds each phase alike."""
        from vidrestore.train.loop import Budget

        share = phase.share / sum(p.share for p in self.phases)
        rate, last_rate = self.rate * phase.rate, self.rate * phase.last_rate
        return Budget(steps=self.steps, minutes=self.minutes * share, rate=rate, last_rate=last_rate)

    def faces(self, phase: Phase) -> int:
        """Of a batch: pairs of frames, so an even number."""
        return max(2, 2 * round(self.batch * phase.faces / 2))

    @contextmanager
    def begun(self) -> Iterator[ThreadPoolExecutor | None]:
        """Threads, seed and folder set; a pool for making batches where more than one thread may be used."""
        import cv2
        import torch

        torch.set_num_threads(self.threads)
        cv2.setNumThreads(1)
        torch.manual_seed(self.seed)  # the initial weights
        self.work.mkdir(parents=True, exist_ok=True)
        if self.threads < 2:
            yield None
            return
        with ThreadPoolExecutor(self.threads) as pool:
            yield pool


P = TypeVar("P", bound=Phase)


def recipe(
    name: str,
    text: str | None,
    phases: Mapping[str, P],
    sizes: Sequence[str],
    size: str,
    default: Sequence[str] = (),
    more: Sequence[click.Option] = (),
) -> Callable[[Callable[..., None]], Callable[[list[str]], None]]:
    """Makes the entry point of a recipe out of a function of `Wishes`.

    Args:
        text: the command's help.
        phases: by name, in the order in which they run; of them ``default`` runs unless told, else all.
        sizes: that can be trained; ``size`` unless told.
        more: options of this recipe alone; the function gets their values by name.
    """

    def read(_context: click.Context, _option: click.Parameter, given: str) -> list[Phase]:
        names = [part.strip() for part in given.split(",")]
        if unknown := set(names) - set(phases):
            raise click.BadParameter(f"no phase {min(unknown)}; have {', '.join(phases)}")
        return [phase for key, phase in phases.items() if key in names]

    path = click.Path(path_type=Path)
    shown = ",".join(default or phases)
    options: list[Any] = [
        click.Option(["--data"], type=path, required=True, help="Folder of faces.csv and its shards."),
        click.Option(["--size"], type=click.Choice(list(sizes)), default=size, show_default=True),
        click.Option(["--phases"], callback=read, default=shown, show_default=True, help=f"Of {', '.join(phases)}."),
        click.Option(["--minutes"], type=float, default=0.0, help="For all phases; checkpoints count what is spent."),
        click.Option(["--steps"], type=int, default=0, help="Of each phase; with --minutes, what ends first."),
        click.Option(["--batch"], type=float, default=1.0, show_default=True, help="Factor on every batch."),
        click.Option(["--rate"], type=float, default=1.0, show_default=True, help="Factor on every learning rate."),
        click.Option(["--embedder"], type=path, help="MobileFaceNet's safetensors: faces stay the same person."),
        click.Option(["--out"], type=path, default=Path(f"{name}_{size}.safetensors"), help="Weights."),
        click.Option(["--work"], type=path, default=Path(f"{name}.work"), help="Checkpoints (resumed), logs, sheets."),
        click.Option(["--device"], default="cpu", show_default=True),
        click.Option(["--seed"], type=int, default=0, show_default=True),
        click.Option(["--threads"], type=int, default=1, show_default=True, help="For arithmetic, and for damage."),
    ]

    def made(work: Callable[..., None]) -> Callable[[list[str]], None]:
        names = {field.name for field in fields(Wishes)}

        def called(**given: Any) -> None:
            own = {key: value for key, value in given.items() if key not in names}
            work(Wishes(**{key: value for key, value in given.items() if key in names}), **own)

        command = click.Command(name, params=[*options, *more], help=text, callback=called)

        def main(arguments: list[str]) -> None:
            command.main(arguments, prog_name=f"vidrestore train {name}", standalone_mode=False)

        return main

    return made
