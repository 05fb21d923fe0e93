"""A process that does task after task: ``python -m vidrestore.batch.worker OUT NTH RETRIES``.

It is told nothing and asks the store. Its standard input is a line to the runner that started it: when that ends, so
does this process, at once. To standard output it writes one JSON line a sign of life.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vidrestore.batch.owner import this_process
from vidrestore.batch.store import Lost, Store
from vidrestore.errors import BusyOutput, OutputError, VidrestoreError, exit_code_of, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidrestore.batch.store import Desk, Task

_AGAIN: Final = (1, 6, 7)  # exit codes after which another try may succeed
_BEAT: Final = 15.0  # seconds between two signs of life in the store
_SAY: Final = 0.5  # ... and on standard output
_IDLE: Final = 0.2  # seconds until the store is asked again


def back_off(attempt: int) -> float:
    """Seconds to wait after the n-th failure, counted from 0."""
    return float(min(600, 5 * 4**attempt))


def main(arguments: list[str]) -> None:
    out, nth, retries = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner hears it too, and ends this process
    threading.Thread(target=_end_with_runner, daemon=True).start()
    code = 0
    try:
        with Store.existing(out) as store:
            me = this_process().text()
            worker = Worker(store, me, retries, _say, device_of(nth))
            while store.unfinished():
                task = store.claim(me)
                if task is not None:
                    worker.do(task)
                    continue
                _say({"event": "idle"})
                time.sleep(_IDLE)
    except OutputError as error:  # the store itself cannot be written, and so nobody be told there
        code = error.exit_code
    sys.stdout.flush()
    os._exit(code)  # the thread above still listens


def _end_with_runner() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _say(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


class Worker:
    """Does one task after another, with models that stay loaded, and says what it does."""

    def __init__(
        self, store: Desk, owner: str, retries: int, say: Callable[[dict[str, Any]], None], device: str | None = None
    ) -> None:
        from vidrestore.batch.bench import Bench

        self._store, self._owner, self._retries, self._say = store, owner, retries, say
        self._bench = Bench(store, owner, self._beat, device)
        self._task: Task | None = None
        self._said = self._beaten = 0.0

    def do(self, task: Task) -> None:
        """A task that was leased to the owner. What goes wrong with it is entered in the store."""
        from vidrestore.batch.film import work

        self._task, self._beaten = task, time.monotonic()
        self._tell("begin", kind=task.kind, number=task.number)
        try:
            work(self._bench, task)
        except Lost:
            self._tell("lost")
        except Exception as error:
            self._fail(task, error)
        else:
            self._tell("end", kind=task.kind, frames=task.end - task.begin)

    def _fail(self, task: Task, error: Exception) -> None:
        code = (
            7 if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" else exit_code_of(error)
        )
        what = _said(error, str(self._store.job(task.job).source))
        passing = code in _AGAIN or isinstance(error, BusyOutput)
        again = back_off(task.attempts) if passing and task.attempts < self._retries else None
        try:
            self._store.failed(task, self._owner, code, printable(what)[:400], again)
        except Lost:
            return
        self._tell("failed", code=code, what=printable(what), again=again)

    def _beat(self, frames: int) -> None:
        now = time.monotonic()
        if now - self._beaten > _BEAT and self._task is not None:
            self._beaten = now
            self._store.beat(self._task, self._owner)
        if now - self._said > _SAY and self._task is not None:
            self._tell("alive", kind=self._task.kind, frames=frames)

    def _tell(self, event: str, **values: Any) -> None:
        assert self._task is not None
        self._said = time.monotonic()
        self._say({"event": event, "job": self._task.job, **values})


def _said(error: Exception, source: str) -> str:
    """What went wrong, without the film's name, which stands beside it."""
    if not isinstance(error, VidrestoreError):
        return f"{type(error).__name__}: {error}"
    if error.subject != source:
        return str(error)
    return f"{error.what}; {error.remedy}" if error.remedy else error.what


def device_of(nth: int) -> str | None:
    """The GPU of the n-th worker, where there are several."""
    if nth == 0:
        return None
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{nth % count}" if count > 1 else None


if __name__ == "__main__":
    main(sys.argv[1:])
