"""A stage in a thread of its own, with a queue bounded in bytes.

An exception of the stage travels downstream with its cause; closing the consumer stops the stage. How much is
prefetched cannot change a result: stages never look at the queue.
"""

from __future__ import annotations

from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_PATIENCE = 1.0  # seconds; a stage inside a network cannot be stopped, and a user who wants to leave does not wait


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


def in_thread(make: Callable[[], Iterable[T]], name: str, budget: int, torch_threads: int) -> Iterator[T]:
    """The items of ``make()``, which runs in a thread of its own.

    budget: bytes that may wait in the queue; one item may always wait, however large. torch_threads: CPU
    threads of torch in that thread.
    """
    queue: _Queue[T] = _Queue(budget)
    thread = Thread(target=_fill, args=(make, queue, torch_threads), name=name, daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            yield item[0]
    finally:
        queue.close()
        thread.join(timeout=_PATIENCE)


def _fill(make: Callable[[], Iterable[T]], queue: _Queue[T], torch_threads: int) -> None:
    torch.set_num_threads(torch_threads)
    items = iter(make())
    try:
        for item in items:
            if not queue.put(item):
                break
    except BaseException as error:
        queue.finish(error)
    else:
        queue.finish(None)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


class _Queue(Generic[T]):
    def __init__(self, budget: int) -> None:
        self._budget, self._bytes = budget, 0
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closed = self._finished = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room; False when nobody reads any more."""
        size = item.nbytes
        with self._changed:
            while self._items and self._bytes + size > self._budget and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._bytes += size
            self._changed.notify_all()
            return True

    def get(self) -> tuple[T] | None:
        """The next item, None at the end.

        Raises:
            BaseException: what ended the stage, after the items before it.
        """
        with self._changed:
            while not self._items and not self._finished:
                self._changed.wait()
            if self._items:
                item = self._items.popleft()
                self._bytes -= item.nbytes
                self._changed.notify_all()
                return (item,)
            if self._error is not None:
                raise self._error
            return None

    def finish(self, error: BaseException | None) -> None:
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
