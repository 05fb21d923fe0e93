"""What a worker keeps between tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from socket import gethostname
from typing import TYPE_CHECKING

from vidrestore.batch.reel import Reel
from vidrestore.engine.staging import stages_of
from vidrestore.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vidrestore.batch.store import Desk, Job
    from vidrestore.config import RunConfig
    from vidrestore.engine.pipeline import Stages
    from vidrestore.engine.record import Record


@dataclass(slots=True)
class Bench:
    """What a worker keeps between tasks: the store, its name there, models that are loaded, a film that is open."""

    store: Desk
    owner: str
    beat: Callable[[int], None]  # called with the frames that are done
    device: str | None = None  # instead of the spec's "auto"
    stages: dict[str, tuple[Stages, Record]] = field(default_factory=dict)
    reels: dict[int, Reel] = field(default_factory=dict)

    def alive(self) -> None:
        """Something goes on that counts no frames."""
        self.beat(0)

    def folder(self, job: int) -> Path:
        return self.store.folder / str(job)

    def reel(self, job: Job, config: RunConfig) -> Reel:
        """The job's film, open where the last segment ended."""
        if job.id not in self.reels:
            self.forget()
            self.reels[job.id] = Reel(str(job.source), config)
        return self.reels[job.id]

    def models(self, config: RunConfig, record: Record, weights: Mapping[str, str]) -> Stages:
        """All plugins, opened once. Raises ResourceError where their weights are not those that were asked for."""
        key = config.chain + repr(config.settings)
        if key not in self.stages:
            self.stages.clear()  # one model a device
            self.stages[key] = (stages_of(config, record), record)
        stages, first = self.stages[key]
        record.device, record.torch_threads, record.weights = first.device, first.torch_threads, first.weights
        other = next((name for name, found in record.weights.items() if weights.get(name) != found), None)
        if other is not None:
            what = f"the weights '{other}' on {gethostname()} are not those that the batch was begun with"
            raise ResourceError("batch", what, "vidrestore weights list shows what is there")
        return stages

    def forget(self) -> None:
        """Close the open film."""
        for reel in self.reels.values():
            reel.close()
        self.reels.clear()
