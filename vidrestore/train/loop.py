"""The training loop: AdamW with a cosine rate, weights averaged over time, checkpoints that resume exactly.

A recipe hands in a network, a function that makes a batch from a random generator, and a function that gives
the losses of a batch. Everything a run depends on is in its checkpoint: network, average, optimiser, step,
seconds spent and both random states. A run that is budgeted in steps therefore gives the same weights whether
or not it was interrupted; one budgeted in minutes depends on the machine's speed.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from vidrestore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    Losses = dict[str, Tensor]  # scalars; "loss" is what is minimised, the others are logged

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Budget:
    """What one phase of training may take, and how fast it learns."""

    steps: int = 0  # 0: no bound
    minutes: float = 0.0  # 0: no bound; counted over all sessions of the run
    rate: float = 1e-3  # peak of the learning rate
    last_rate: float = 1e-6  # where the cosine ends
    warmup: int = 200  # steps over which the rate rises from 0

    def __post_init__(self) -> None:
        if self.steps <= 0 and self.minutes <= 0:
            raise UsageError("train", "a phase needs a budget", "give --minutes or --steps")

    def spent(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up, 0..1."""
        by_step = step / self.steps if self.steps > 0 else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes > 0 else 0.0
        return min(1.0, max(by_step, by_time))

    def rate_at(self, step: int, spent: float) -> float:
        cosine = self.last_rate + (self.rate - self.last_rate) * (1 + math.cos(math.pi * spent)) / 2
        return cosine * min(1.0, (step + 1) / max(1, self.warmup))


class Run:
    """A network in training with all its state."""

    def __init__(
        self,
        net: nn.Module,
        seed: int,
        *,
        decay: float = 0.999,
        weight_decay: float = 0.01,
        pace: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        """``pace`` of a parameter's name: the factor on its learning rate."""
        self.net, self.decay = net, decay
        self.average = copy.deepcopy(net).eval().requires_grad_(False)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, p in net.named_parameters():
            groups.setdefault((pace(name), p.ndim > 1), []).append(p)
        found = sorted(groups, reverse=True)
        self._paces = [factor for factor, _ in found]
        # biases and norms are not pulled to zero
        given = [{"params": groups[key], "weight_decay": weight_decay if key[1] else 0.0} for key in found]
        self.optimiser = torch.optim.AdamW(given, lr=0.0, foreach=True)
        self.rng = np.random.default_rng(seed)
        self.step, self.seconds = 0, 0.0

    def advance(self, losses: Callable[[nn.Module], Losses], rate: float, clip: float = 10.0) -> dict[str, float]:
        """One step of the optimiser and of the average. Gives the losses as numbers."""
        for group, pace in zip(self.optimiser.param_groups, self._paces, strict=True):
            group["lr"] = pace * rate
        self.optimiser.zero_grad(set_to_none=True)
        terms = losses(self.net.train())
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), clip)
        self.optimiser.step()
        self.step += 1
        self._average()
        return {name: float(value.detach()) for name, value in terms.items()}

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.decay, (1 + self.step) / (10 + self.step))  # early weights are soon forgotten
        for kept, new in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - keep)
            else:
                kept.copy_(new)

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Take up the state of a checkpoint, random states included."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])


class Log:
    """A CSV table of the mean losses, one row every few steps; a resumed run appends."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self._sums: dict[str, float] = {}

    def add(self, run: Run, rate: float, terms: dict[str, float]) -> str | None:
        """Count one step; the line that was written, every ``every`` steps."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if run.step % self.every:
            return None
        row: dict[str, str] = {"step": str(run.step), "seconds": f"{run.seconds:.0f}", "rate": f"{rate:.2e}"}
        row |= {name: f"{value / self.every:.4f}" for name, value in self._sums.items()}
        self._sums = {}
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        return "  ".join(f"{name} {value}" for name, value in row.items())


def fit(
    run: Run,
    budget: Budget,
    make: Callable[[np.random.Generator], Batch],
    losses: Callable[[nn.Module, Batch], Losses],
    *,
    log: Log | None = None,
    checkpoint: Path | None = None,
    save_every: int = 500,
    watch: Callable[[Run, str | None], None] | None = None,
) -> None:
    """Train until the budget is spent.

    ``watch`` is called after every step, with the log's line where one was written; what it does (printing,
    validation, samples) must not draw from the run's generator. The time it takes counts.
    """
    before, start = run.seconds, time.monotonic()
    while (spent := budget.spent(run.step, run.seconds)) < 1:
        rate = budget.rate_at(run.step, spent)
        batch = make(run.rng)
        terms = run.advance(lambda net, batch=batch: losses(net, batch), rate)  # type: ignore[misc]
        run.seconds = before + time.monotonic() - start
        line = log.add(run, rate, terms) if log else None
        if checkpoint and run.step % save_every == 0:
            run.save(checkpoint)
        if watch:
            watch(run, line)
    if checkpoint:
        run.save(checkpoint)
