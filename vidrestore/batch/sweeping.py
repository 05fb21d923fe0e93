"""What killed and cancelled work has left behind goes."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from vidrestore.media.publish import part_name

if TYPE_CHECKING:
    from vidrestore.batch.store import Store


def sweep(store: Store) -> None:
    """Remove the segments of jobs that have ended and of jobs that are no more; those of failed ones stay, for
    another try."""
    jobs = {str(job.id): job for job in store.jobs()}
    for folder in store.folder.iterdir():
        job = jobs.get(folder.name)
        if folder.is_dir() and folder.name.isdigit() and (job is None or job.state in ("done", "cancelled")):
            shutil.rmtree(folder, ignore_errors=True)
    for job in jobs.values():
        if job.state == "cancelled":
            with suppress(OSError):
                (store.out / job.output).with_name(part_name(job.output.name)).unlink()
