"""The store of a batch: several processes, leases of the living and of the dead, changes that are whole or not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vidrestore.batch.owner import Owner, alive, this_process
from vidrestore.batch.store import FOLDER, Lost, Segment, Store
from vidrestore.errors import OutputError, UsageError

ME = this_process().text()

WORKER = """
import sys
from pathlib import Path
from vidrestore.batch.owner import this_process
from vidrestore.batch.store import Segment, Store
me = this_process().text()
with Store(Path(sys.argv[1])) as store:
    while store.unfinished():
        task = store.claim(me)
        if task is None:
            continue
        if task.kind == "scan":
            store.planned(task, me, [Segment(i, i + 1, False) for i in range(4)], "{}")
        elif task.kind == "restore":
            store.restored(task, me, "{}")
        else:
            store.published(task, me, "{}", 0, "")
        print(task.job, task.number, flush=True)
"""
HOLDER = """
import sys
from pathlib import Path
from vidrestore.batch.owner import this_process
from vidrestore.batch.store import Store
with Store(Path(sys.argv[1])) as store:
    print(store.claim(this_process().text()).id, flush=True)
    sys.stdin.read()
"""


def process(code: str, out: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, str(out)], stdin=pipe, stdout=pipe, text=True)


def queue(store: Store, name: str = "a", key: str = "") -> int:
    return store.add(key or name, Path(f"/films/{name}"), Path(name), "{}").id


def test_a_job_goes_its_way(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        queue(store)
        scan = store.claim(ME)
        assert scan is not None and scan.kind == "scan" and store.claim(ME) is None
        store.planned(scan, ME, [Segment(0, 16, False), Segment(16, 20, True), Segment(20, 30, False)], "{}")
        first = store.claim(ME)
        other = store.claim(ME)
        assert first is not None and other is not None
        assert (first.begin, other.begin) == (0, 20), "a part waits for the part before it"
        assert store.claim(ME) is None
        store.restored(first, ME, '{"frames": 16}')
        second = store.claim(ME)
        assert second is not None and (second.begin, second.continues) == (16, True)
        store.restored(second, ME, "{}")
        assert store.claim(ME) is None, "not joined before all is there"
        store.restored(other, ME, "{}")
        join = store.claim(ME)
        assert join is not None and join.kind == "join"
        store.published(join, ME, "{}", 0, "")
        assert store.counts() == {"done": 1} and not store.unfinished()
        assert [t.result for t in store.tasks(first.job)] == ['{"frames": 16}', "{}", "{}"]


def test_films_are_finished_one_after_another(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        queue(store, "a"), queue(store, "b")
        scan = store.claim(ME)
        assert scan is not None
        store.planned(scan, ME, [Segment(0, 1, False)], "{}")
        tasks = [store.claim(ME), store.claim(ME)]
        assert [t.kind for t in tasks if t] == ["restore", "scan"], "the first film's before the second's"


def test_the_same_again_is_the_same_job_and_a_change_is_another(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        first = queue(store, "a", "one")
        assert queue(store, "a", "one") == first
        assert queue(store, "a", "two") != first and len(store.jobs()) == 1
        assert store.job_of(Path("a")).key == "two"


def test_a_living_owner_keeps_its_lease_and_a_dead_ones_is_free_at_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        queue(store)
        holder = process(HOLDER, tmp_path)
        assert holder.stdout is not None
        held = int(holder.stdout.readline())
        assert store.claim(ME) is None
        holder.kill()
        holder.wait()
        again = store.claim(ME)
        assert again is not None and again.id == held


def test_a_lost_lease_cannot_end_a_task(tmp_path: Path) -> None:
    gone = replace(this_process(), start="1").text()
    with Store(tmp_path) as store:
        queue(store)
        stale = store.claim(gone)
        mine = store.claim(ME)
        assert stale is not None and mine == stale
        for call in (
            lambda: store.planned(stale, gone, [Segment(0, 1, False)], "{}"),
            lambda: store.beat(stale, gone),
            lambda: store.failed(stale, gone, 6, "no", None),
        ):
            with pytest.raises(Lost):
                call()
        store.planned(mine, ME, [Segment(0, 1, False)], "{}")
        assert len(store.tasks(mine.job)) == 1


def test_who_is_alive() -> None:
    me = this_process()
    assert alive(me.text(), 1e9)
    assert not alive(replace(me, start=me.start + "1").text(), 0), "the number is used again"
    assert not alive(replace(me, boot="another").text(), 0)
    far = Owner("elsewhere", "b", 1, "1").text()
    assert alive(far, 10) and not alive(far, 1000), "only its signs of life are seen from here"
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(replace(me, pid=child.pid).text(), 0), "a corpse holds nothing"
    child.wait()


def test_failures_wait_and_end_a_job(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        job = queue(store)
        for again in (3600.0, None):
            task = store.claim(ME)
            assert task is not None
            store.failed(task, ME, 6, "it broke", again)
            assert store.claim(ME) is None
            store._db.execute("UPDATE tasks SET not_before = 0")
        ended = store.job(job)
        assert (ended.state, ended.code, ended.reason) == ("failed", 6, "it broke")
        store.reopen(job)
        task = store.claim(ME)
        assert task is not None and task.attempts == 0


def test_a_cancelled_job_is_lost_to_its_worker(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        job = queue(store)
        task = store.claim(ME)
        assert task is not None and store.cancel(job) and not store.cancel(job)
        with pytest.raises(Lost):
            store.beat(task, ME)
        assert store.claim(ME) is None
        assert queue(store) == job and store.claim(ME) is not None, "queued again it begins anew"


def test_many_processes_do_every_task_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for name in "abcdef":
            queue(store, name)
    workers = [process(WORKER, tmp_path) for _ in range(4)]
    lines = [line for w in workers for line in w.communicate()[0].splitlines()]
    assert all(w.returncode == 0 for w in workers)
    assert len(lines) == len(set(lines)) == 6 * 6
    with Store(tmp_path) as store:
        assert store.counts() == {"done": 6}


def test_names_may_hold_any_byte(tmp_path: Path) -> None:
    name = Path(os.fsdecode(b"tape \xff\n.mp4"))
    with Store(tmp_path) as store:
        store.add("k", name, name, "{}")
        assert store.jobs()[0].source == name


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Store.existing(tmp_path)
    Store(tmp_path).close()
    path = tmp_path / FOLDER / "jobs.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="later"):
        Store(tmp_path)
    path.write_bytes(b"something else" * 100)
    with pytest.raises(OutputError, match="no store"):
        Store(tmp_path)


def test_a_full_disk_changes_nothing_and_is_said(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        queue(store, "a")
        full = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {full}")
        with pytest.raises(OutputError, match="make room"):
            store.add("b", Path("b"), Path("b"), "x" * 100_000)
        assert [job.key for job in store.jobs()] == ["a"]
        store._db.execute("PRAGMA max_page_count = 100000")
        queue(store, "b")
        assert store.claim(ME) is not None
