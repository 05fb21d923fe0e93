"""Where the time goes: wall and CPU seconds a stage, summed over threads."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Sums the seconds spent inside ``with clock("stage")``. CPU seconds are those of the calling thread."""

    def __init__(self) -> None:
        self._wall: dict[str, float] = defaultdict(float)
        self._cpu: dict[str, float] = defaultdict(float)
        self._lock = Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            with self._lock:
                self._wall[stage] += wall
                self._cpu[stage] += cpu

    def seconds(self) -> dict[str, dict[str, float]]:
        """Stage -> {"wall", "cpu"} in seconds."""
        with self._lock:
            return {s: {"wall": round(self._wall[s], 3), "cpu": round(self._cpu[s], 3)} for s in self._wall}
