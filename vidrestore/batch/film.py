"""The work on one film: scan -> restore every segment -> join.

Each step is a function of a job and what the store knows of it; all it leaves lies in the job's folder of the store
until the output is published.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidrestore.batch.joining import join
from vidrestore.batch.restoring import restore
from vidrestore.batch.scanning import scan
from vidrestore.batch.spec import Spec

if TYPE_CHECKING:
    from vidrestore.batch.bench import Bench
    from vidrestore.batch.store import Task
    from vidrestore.config import RunConfig


def work(bench: Bench, task: Task) -> None:
    """Do one task of a film. Raises VidrestoreError; Lost where the task has become another's."""
    job = bench.store.job(task.job)
    config = Spec.read(job.spec).config()
    if bench.device is not None and config.settings.device == "auto":
        config = _on(config, bench.device)
    try:
        {"scan": scan, "restore": restore, "join": join}[task.kind](bench, job, task, config)
    except BaseException:
        bench.forget()
        raise


def _on(config: RunConfig, device: str) -> RunConfig:
    return replace(config, settings=config.settings.model_copy(update={"device": device}))
