"""How a batch is told on standard error: a line a film, JSON lines, or a bar on a terminal."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vidrestore.cli.failing import say
from vidrestore.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidrestore.batch.store import Store

_EVERY = 1.0  # seconds between two looks at the counts


@contextmanager
def telling(mode: str, store: Store) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Who tells what the workers say: "json", "none", or "auto"."""
    if mode == "json":
        yield lambda event: print(json.dumps(event), file=sys.stderr, flush=True)
    elif mode == "none":
        yield lambda event: None
    elif sys.stderr.isatty():
        with _Bar(store) as bar:
            yield bar
    else:
        yield _Lines(store)


class _Lines:
    """One line when a film is done, and when something goes wrong."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "end" and event["kind"] == "join":
            say(f"{printable(str(self._store.job(event['job']).output))}: done")
        elif event["event"] in ("failed", "stalled", "died"):
            again = f"; again in {event['again']:.0f} s" if event["again"] is not None else ""
            say(f"warning: {printable(str(self._store.job(event['job']).source))}: {event['what']}{again}")


class _Bar(_Lines):
    """Films that are done of all, and what is being worked on."""

    def __init__(self, store: Store) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(store)
        self._rich = Progress(
            TextColumn("{task.completed}/{task.total} films"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._rich.add_task("", total=None)
        self._looked = 0.0

    def __enter__(self) -> _Bar:
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        super().__call__(event)
        if event["event"] == "alive":
            name = printable(self._store.job(event["job"]).source.name)
            self._rich.update(self._task, description=f"{name}: {event['kind']}, frame {event['frames']}")
        now = time.monotonic()
        if now - self._looked > _EVERY:
            self._looked = now
            states = self._store.counts()
            total = sum(states.values())
            self._rich.update(self._task, total=total, completed=total - states.get("open", 0))
