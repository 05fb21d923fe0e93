"""Keeps workers at work until no job is open: starts them, listens, ends those that stall, takes the place of none.

Workers are processes of the runner's own group and end with it, however it ends.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vidrestore.batch.owner import Owner, start_of, this_process
from vidrestore.batch.store import Lost
from vidrestore.batch.worker import back_off
from vidrestore.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidrestore.batch.store import Store

TICK: Final = 0.2  # seconds
DEATHS: Final = 3  # one after another, without a task


@dataclass(frozen=True, slots=True)
class Rules:
    """How a batch is run."""

    workers: int | None = None  # None: one, or in a cluster one a GPU, or one a machine where there is none
    keep_going: bool = False  # go on with the other films when one has failed
    retries: int = 2  # of a task, after faults that may pass
    stall: float = 300.0  # seconds without a sign of life after which a worker is ended


@dataclass(slots=True)
class _Hand:
    """One worker."""

    nth: int
    process: subprocess.Popen[bytes]
    owner: str
    heard: float = field(default_factory=time.monotonic)
    deaths: int = 0  # one after another, without a task


def run(store: Store, rules: Rules, tell: Callable[[dict[str, Any]], None]) -> None:
    """Work until every job has ended, or one has failed and the others are not to go on. ``tell`` gets what workers
    say: {"event": begin | end | alive | failed | stalled | died, "job", "worker", ...}."""
    lines: queue.Queue[tuple[_Hand, bytes]] = queue.Queue()
    before = store.failures()
    hands = [_start(store, rules, nth, lines) for nth in range(rules.workers or 1)]
    try:
        while hands and (rules.keep_going or store.failures() <= before):
            _listen(lines, tell)
            for i, hand in enumerate(hands):
                if hand.process.poll() is None and time.monotonic() - hand.heard > rules.stall:
                    hand.process.kill()
                    hand.process.wait()
                    _let_go(store, hand, rules, tell, "stalled", stalled(rules))
                elif hand.process.poll():
                    code = hand.process.returncode
                    what = f"its worker was ended by signal {-code}" if code < 0 else f"its worker ended with {code}"
                    _let_go(store, hand, rules, tell, "died", what)
                if hand.process.poll():
                    if hand.deaths >= DEATHS:
                        raise RunError("batch", "workers end before they begin", "see what they say above")
                    hands[i] = _start(store, rules, hand.nth, lines, hand.deaths)
            hands = [hand for hand in hands if hand.process.poll() is None or hand.process.returncode]
    finally:
        for hand in hands:
            hand.process.kill()
            hand.process.wait()
    while not lines.empty():
        _listen(lines, tell)


def _start(store: Store, rules: Rules, nth: int, lines: queue.Queue[tuple[_Hand, bytes]], deaths: int = 0) -> _Hand:
    command = [sys.executable, "-m", "vidrestore.batch.worker", str(store.out), str(nth), str(rules.retries)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    hand = _Hand(nth, process, _owner(process.pid), deaths=deaths)
    threading.Thread(target=_read, args=(hand, lines), daemon=True).start()
    return hand


def _owner(pid: int) -> str:
    me = this_process()
    return Owner(me.host, me.boot, pid, start_of(pid) or "").text()


def _read(hand: _Hand, lines: queue.Queue[tuple[_Hand, bytes]]) -> None:
    assert hand.process.stdout is not None
    for line in hand.process.stdout:
        lines.put((hand, line))


def _listen(lines: queue.Queue[tuple[_Hand, bytes]], tell: Callable[[dict[str, Any]], None]) -> None:
    """Everything that is to be heard now, after waiting a moment for it."""
    with suppress(queue.Empty):
        hand, line = lines.get(timeout=TICK)
        while True:
            hand.heard = time.monotonic()
            with suppress(ValueError):
                tell({**json.loads(line), "worker": hand.nth})
            hand, line = lines.get_nowait()


def _let_go(
    store: Store, hand: _Hand, rules: Rules, tell: Callable[[dict[str, Any]], None], event: str, what: str
) -> None:
    held = let_go(store, hand.owner, rules, tell, event, what)
    hand.deaths = 0 if held else hand.deaths + 1


def let_go(
    store: Store, owner: str, rules: Rules, tell: Callable[[dict[str, Any]], None], event: str, what: str
) -> bool:
    """What a worker that is gone was doing has failed. False where it was doing nothing."""
    task = store.held_by(owner)
    if task is None:
        return False
    again = back_off(task.attempts) if task.attempts < rules.retries else None
    with suppress(Lost):
        store.failed(task, owner, 6, what, again)
        tell({"event": event, "job": task.job, "what": what, "again": again})
    return True


def stalled(rules: Rules) -> str:
    """What is said of a worker that was ended."""
    return f"no frame for {rules.stall:.0f} s"
