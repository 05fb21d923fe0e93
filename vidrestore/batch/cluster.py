"""Workers on many machines: Ray's actors, each with its models loaded, one task at a time.

The driver alone leases tasks. It hands one to an actor that is free and no second before that has ended, so nothing
piles up anywhere. Beside the driver lives a *keeper*: actors ask it for what the store knows and tell it what they
have done, as SQLite is not for network disks. Films, segments and outputs lie on a disk that all machines see under
the same path: paths and results travel, frames never do.

A lease belongs to the driver and to the actor for which it took it. An actor that is lost loses what it had in hand;
with a driver all its actors end, and the next driver finds their leases free.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from vidrestore.batch.owner import this_process
from vidrestore.batch.runner import DEATHS, TICK, let_go, stalled
from vidrestore.batch.store import FOLDER, Lost, Store
from vidrestore.batch.worker import Worker
from vidrestore.errors import OutputError, ResourceError, RunError, UsageError, VidrestoreError
from vidrestore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vidrestore.batch.runner import Rules
    from vidrestore.batch.store import Job, Kind, Segment, Task

_QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
_GET: Final = "pip install 'vidrestore[ray]'"
Event = dict[str, Any]


def run(store: Store, rules: Rules, address: str, tell: Callable[[Event], None]) -> None:
    """As `runner.run`, with workers in the Ray cluster at ``address``; "auto" is the one that this machine belongs to.

    ``tell`` gets {"event": "ready", "worker", "node", "host"} as well. Raises UsageError (2), ResourceError (7).
    """
    with _connected(address) as ray:
        driver = _Driver(ray, store, rules, tell)
        try:
            driver.run()
        finally:
            driver.end()


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    if "://" in address or address == "local":
        remedy = "--ray HOST:PORT of its head, or auto, from a machine of the cluster; without one, --workers"
        raise UsageError("--ray", f"'{address}' is no cluster that this machine belongs to", remedy)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    ours = signal.getsignal(signal.SIGTERM)
    try:
        import ray
    except ImportError as error:
        raise ResourceError("--ray", "Ray is not installed", _GET) from error
    try:
        _check_answers(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise ResourceError("--ray", f"no cluster at {address}: {what}", "ray start --head begins one") from error
    finally:
        signal.signal(signal.SIGTERM, ours)  # Ray has put its own there
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes. Raises OSError, ValueError."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()


# -- in the driver -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Hand:
    """An actor, as the driver sees it."""

    nth: int
    actor: Any
    owner: str
    call: Any  # what it is doing, as Ray's reference; at first: saying who it is
    heard: float = field(default_factory=time.monotonic)
    ready: bool = False
    task: bool = False  # what it is doing is a task
    deaths: int = 0  # one after another, without a task


class _Driver:
    def __init__(self, ray: Any, store: Store, rules: Rules, tell: Callable[[Event], None]) -> None:
        self._ray, self._store, self._rules, self._tell = ray, store, rules, tell
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._out = str(store.out.absolute())
        self._keeper = ray.remote(Keeper).options(num_cpus=0, scheduling_strategy=here).remote(self._out)
        self._gpus = int(ray.cluster_resources().get("GPU", 0))
        machines = sum(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in ray.nodes())
        count = rules.workers or self._gpus or max(1, machines)
        self._hands = [self._start(nth) for nth in range(count)]

    def run(self) -> None:
        before = self._store.failures()
        while self._busy() and (self._rules.keep_going or self._store.failures() <= before):
            self._hand_out()
            self._gather()
            self._listen()
            self._watch()
        self._listen()

    def _busy(self) -> bool:
        """Whether anything is open, or somebody still clears up behind a film that is published."""
        return self._store.unfinished() or any(hand.task for hand in self._hands)

    def end(self) -> None:
        """No actor outlives this."""
        for hand in self._hands:
            self._ray.kill(hand.actor)
        self._ray.kill(self._keeper)

    def _start(self, nth: int, deaths: int = 0) -> _Hand:
        name = uuid4().hex
        options = {"num_cpus": 1, "num_gpus": 1 if self._gpus else 0, "scheduling_strategy": "SPREAD"}
        owner = this_process(name).text()
        actor = (
            self._ray.remote(Hand).options(**options).remote(self._out, owner, nth, self._rules.retries, self._keeper)
        )
        return _Hand(nth, actor, owner, actor.hello.remote(), deaths=deaths)

    def _hand_out(self) -> None:
        """A task for everyone who is free."""
        for hand in self._hands:
            if hand.ready and hand.call is None and (task := self._store.claim(hand.owner)) is not None:
                hand.call, hand.task, hand.heard = hand.actor.do.remote(task), True, time.monotonic()

    def _gather(self) -> None:
        """Whatever has come to an end, after waiting a moment for it."""
        calls = [hand.call for hand in self._hands if hand.call is not None]
        if not calls:
            time.sleep(TICK)
            return
        ended, _ = self._ray.wait(calls, timeout=TICK)
        for i, hand in enumerate(self._hands):
            if hand.call is None or hand.call not in ended:
                continue
            try:
                self._greet(hand, self._ray.get(hand.call))
            except self._ray.exceptions.RayError as error:
                self._replace(i, "died", f"its worker ended: {_first_line(error)}")
            else:
                hand.call, hand.task, hand.deaths = None, False, 0

    def _greet(self, hand: _Hand, card: Event | None) -> None:
        """Look at what a new actor says of itself. Raises ResourceError (7)."""
        if card is None:
            return
        where = f"--ray: on {card['host']}"
        if card["version"] != __version__:
            raise ResourceError(where, f"vidrestore is {card['version']}, here it is {__version__}", "install the same")
        if not card["sees"]:
            remedy = "use an output folder that all machines see under one path"
            raise ResourceError(where, f"there is no {self._out}", remedy)
        hand.ready = True
        self._tell({"event": "ready", "worker": hand.nth, "node": card["node"], "host": card["host"]})

    def _replace(self, i: int, event: str, what: str) -> None:
        """Another actor takes the place of one that is lost; its task is free again."""
        hand = self._hands[i]
        self._ray.kill(hand.actor)
        held = let_go(self._store, hand.owner, self._rules, self._tell, event, what)
        deaths = 0 if held else hand.deaths + 1
        if deaths >= DEATHS:
            raise RunError("--ray", f"workers end before they begin: {what}", f"on every machine: {_GET}")
        self._hands[i] = self._start(hand.nth, deaths)

    def _listen(self) -> None:
        try:
            events = self._ray.get(self._keeper.heard.remote())
        except self._ray.exceptions.RayError as error:
            what = f"nobody keeps the store any more: {_first_line(error)}"
            raise RunError("--ray", what, "run the same again") from error
        for owner, event in events:
            hand = next((hand for hand in self._hands if hand.owner == owner), None)
            if hand is not None:  # else one that was lost has said it before
                hand.heard = time.monotonic()
                self._tell({**event, "worker": hand.nth})

    def _watch(self) -> None:
        for i, hand in enumerate(self._hands):
            if hand.task and time.monotonic() - hand.heard > self._rules.stall:
                self._replace(i, "stalled", stalled(self._rules))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0]


# -- in actors -----------------------------------------------------------------------------------------------------


class Keeper:
    """The store, for those who cannot open it. It runs on the driver's machine."""

    def __init__(self, out: str) -> None:
        self._store = Store.existing(Path(out))
        self._events: list[tuple[str, Event]] = []

    def ask(self, name: str, *values: Any) -> tuple[str, Any]:
        """Call a method of the store. Gives ("", what it gave), ("lost", None) or ("failed", its error's words)."""
        try:
            return "", getattr(self._store, name)(*values)
        except Lost:
            return "lost", None
        except VidrestoreError as error:
            return "failed", (error.subject, error.what, error.remedy)

    def tell(self, owner: str, event: Event) -> None:
        """Keep an event until the driver asks."""
        self._events.append((owner, event))

    def heard(self) -> list[tuple[str, Event]]:
        """What was told since the last time: (owner, event)."""
        events, self._events = self._events, []
        return events


class Hand:
    """A worker."""

    def __init__(self, out: str, owner: str, nth: int, retries: int, keeper: Any) -> None:
        self._store = _FarStore(Path(out), keeper)
        self._worker = Worker(self._store, owner, retries, lambda event: keeper.tell.remote(owner, event))

    def hello(self) -> Event:
        """Where it is and what it finds there."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        sees = self._store.folder.is_dir()
        return {"node": node, "host": socket.gethostname(), "version": __version__, "sees": sees}

    def do(self, task: Task) -> None:
        self._worker.do(task)


class _FarStore:
    """The store as an actor has it. Raises Lost and OutputError as the store does."""

    def __init__(self, out: Path, keeper: Any) -> None:
        self.out, self.folder, self._keeper = out, out / FOLDER, keeper

    def job(self, number: int) -> Job:
        return self._ask("job", number)  # type: ignore[no-any-return]

    def tasks(self, job: int, kind: Kind = "restore") -> list[Task]:
        return self._ask("tasks", job, kind)  # type: ignore[no-any-return]

    def beat(self, task: Task, owner: str) -> None:
        self._ask("beat", task, owner)

    def planned(self, task: Task, owner: str, segments: Sequence[Segment], result: str) -> None:
        self._ask("planned", task, owner, segments, result)

    def restored(self, task: Task, owner: str, result: str) -> None:
        self._ask("restored", task, owner, result)

    def redo(self, task: Task, owner: str, numbers: Sequence[int]) -> None:
        self._ask("redo", task, owner, numbers)

    def publishing(self, task: Task, owner: str, sha256: str) -> None:
        self._ask("publishing", task, owner, sha256)

    def published(self, task: Task, owner: str, result: str, code: int, reason: str) -> None:
        self._ask("published", task, owner, result, code, reason)

    def failed(self, task: Task, owner: str, code: int, reason: str, again_in: float | None) -> None:
        self._ask("failed", task, owner, code, reason, again_in)

    def _ask(self, name: str, *values: Any) -> Any:
        import ray

        fault, value = ray.get(self._keeper.ask.remote(name, *values))
        if fault == "lost":
            raise Lost
        if fault:
            raise OutputError(*value)
        return value
