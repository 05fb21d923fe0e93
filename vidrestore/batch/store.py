"""All that a batch knows: one SQLite file that several processes share.

A *job* is one film with its options and its output. It is worked in *tasks*: first one ``scan`` (the cuts, found once),
then one ``restore`` a segment, at last one ``join`` that publishes. A task is done by whoever holds its lease; the
lease of a process that has died is free at once.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from vidrestore.batch.owner import alive
from vidrestore.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER: Final = ".vidrestore"
_NAME: Final = "jobs.sqlite"
_PATIENCE: Final = 60.0  # seconds that a process waits for another's transaction

# Each brings a store one version on; what stands here is never changed, only added to.
_MIGRATIONS: Final = (
    """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- a number is never used again
        key TEXT NOT NULL UNIQUE,        -- source, chain, weights, encoder, output: what makes it this job
        source BLOB NOT NULL,            -- a path, as the system's bytes
        output BLOB NOT NULL,            -- relative to the output folder
        spec TEXT NOT NULL,              -- JSON: how it is run
        state TEXT NOT NULL,             -- open, done, failed, cancelled
        code INTEGER NOT NULL DEFAULT 0, -- exit code of a run that ended so
        reason TEXT NOT NULL DEFAULT '',
        sha256 TEXT NOT NULL DEFAULT '', -- of the output, known before it is published
        result TEXT NOT NULL DEFAULT '{}'
    );
    CREATE INDEX jobs_by_output ON jobs (output);
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE TABLE tasks (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES jobs (id),
        number INTEGER NOT NULL,         -- order within the job
        kind TEXT NOT NULL,              -- scan, restore, join
        begin INTEGER NOT NULL DEFAULT 0,    -- first frame of a segment
        end INTEGER NOT NULL DEFAULT 0,      -- the frame after its last
        continues INTEGER NOT NULL DEFAULT 0, -- needs the state that the segment before it leaves
        state TEXT NOT NULL DEFAULT 'waiting', -- waiting, running, done, failed
        owner TEXT,
        beat REAL NOT NULL DEFAULT 0,    -- last sign of life, seconds of the clock
        attempts INTEGER NOT NULL DEFAULT 0, -- that failed
        not_before REAL NOT NULL DEFAULT 0,
        result TEXT NOT NULL DEFAULT '{}',
        UNIQUE (job, number)
    );
    CREATE INDEX tasks_by_state ON tasks (state, job, number);
    """,
)
_READY: Final = """
    SELECT tasks.* FROM tasks JOIN jobs ON jobs.id = tasks.job
    WHERE tasks.state = 'waiting' AND jobs.state = 'open' AND tasks.not_before <= :now
      AND (NOT tasks.continues OR EXISTS (SELECT 1 FROM tasks AS one WHERE one.job = tasks.job
           AND one.number = tasks.number - 1 AND one.state = 'done'))
      AND (tasks.kind <> 'join' OR NOT EXISTS (SELECT 1 FROM tasks AS one WHERE one.job = tasks.job
           AND one.kind <> 'join' AND one.state <> 'done'))
    ORDER BY tasks.job, tasks.number LIMIT 1"""

Kind = Literal["scan", "restore", "join"]
State = Literal["open", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Job:
    """One film to be restored, with its options."""

    id: int
    key: str
    source: Path
    output: Path  # relative
    spec: str
    state: State
    code: int
    reason: str
    sha256: str
    result: str


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of a job's work."""

    id: int
    job: int
    number: int
    kind: Kind
    begin: int
    end: int
    continues: bool
    attempts: int
    result: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames that are restored and encoded by themselves."""

    begin: int
    end: int
    continues: bool  # a part of a shot that goes on from the segment before


class Lost(Exception):
    """The lease is no longer ours: another process has the task, or the job was cancelled."""


class Desk(Protocol):
    """What a worker needs of a store: it may lie in the same process, or on another machine. Its methods are those of
    `Store`."""

    out: Path
    folder: Path

    def job(self, number: int) -> Job: ...
    def tasks(self, job: int, kind: Kind = "restore") -> list[Task]: ...
    def beat(self, task: Task, owner: str) -> None: ...
    def planned(self, task: Task, owner: str, segments: Sequence[Segment], result: str) -> None: ...
    def restored(self, task: Task, owner: str, result: str) -> None: ...
    def redo(self, task: Task, owner: str, numbers: Sequence[int]) -> None: ...
    def publishing(self, task: Task, owner: str, sha256: str) -> None: ...
    def published(self, task: Task, owner: str, result: str, code: int, reason: str) -> None: ...
    def failed(self, task: Task, owner: str, code: int, reason: str, again_in: float | None) -> None: ...


class Store:
    """The jobs of an output folder. Every process opens its own."""

    def __init__(self, out: Path, *, blank: bool = False) -> None:
        """Open, or make, the store of an output folder; a ``blank`` one is in memory and leaves nothing behind.

        Raises OutputError (5), UsageError (2).
        """
        self.out = out
        self.folder = out / FOLDER
        try:
            if not blank:
                self.folder.mkdir(parents=True, exist_ok=True)
            where = ":memory:" if blank else self.folder / _NAME
            self._db = sqlite3.connect(where, timeout=_PATIENCE, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(str(out), f"no store can be made there: {error}") from error
        self._db.row_factory = sqlite3.Row
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate()
        except sqlite3.OperationalError as error:
            self._db.close()
            raise self._unwritable(error) from error
        except sqlite3.DatabaseError as error:
            self._db.close()
            what = f"is no store of vidrestore: {error}"
            raise OutputError(str(self.folder / _NAME), what, "move it away") from error

    @classmethod
    def existing(cls, out: Path) -> Store:
        """Open a store that is there. Raises UsageError (2)."""
        if not (out / FOLDER / _NAME).is_file():
            raise UsageError(str(out), "no batch was run into this folder", "vidrestore batch run SRC -o OUT")
        return cls(out)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- jobs ------------------------------------------------------------------------------------------

    def add(self, key: str, source: Path, output: Path, spec: str) -> Job:
        """Queue a job, unless there is one of this key: then that one. Other jobs of the same output are forgotten;
        a cancelled job is opened again."""
        with self._transaction() as db:
            rival = "(SELECT id FROM jobs WHERE output = ? AND key <> ?)"
            db.execute(f"DELETE FROM tasks WHERE job IN {rival}", (_bytes(output), key))
            db.execute("DELETE FROM jobs WHERE output = ? AND key <> ?", (_bytes(output), key))
            values = (key, _bytes(source), _bytes(output), spec)
            db.execute(
                "INSERT INTO jobs (key, source, output, spec, state) VALUES (?, ?, ?, ?, 'open')"
                " ON CONFLICT (key) DO UPDATE SET state = 'open', code = 0, reason = '' WHERE state = 'cancelled'",
                values,
            )
            db.execute("UPDATE jobs SET spec = ? WHERE key = ? AND state = 'open'", (spec, key))
            row = db.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone()
            db.execute("INSERT OR IGNORE INTO tasks (job, number, kind) VALUES (?, 0, 'scan')", (row["id"],))
            return _job(row)

    def job(self, number: int) -> Job:
        return _job(self._db.execute("SELECT * FROM jobs WHERE id = ?", (number,)).fetchone())

    def job_of(self, output: Path) -> Job | None:
        """The job that makes an output."""
        row = self._db.execute("SELECT * FROM jobs WHERE output = ?", (_bytes(output),)).fetchone()
        return None if row is None else _job(row)

    def jobs(self) -> list[Job]:
        """All of them, in the order in which they were queued."""
        return [_job(row) for row in self._db.execute("SELECT * FROM jobs ORDER BY id")]

    def tasks(self, job: int, kind: Kind = "restore") -> list[Task]:
        rows = self._db.execute("SELECT * FROM tasks WHERE job = ? AND kind = ? ORDER BY number", (job, kind))
        return [_task(row) for row in rows]

    def reopen(self, job: int, *, anew: bool = False, spec: str | None = None) -> None:
        """Let a job be worked on again: its failed tasks, or all of it ``anew``; with another ``spec`` where given."""
        with self._transaction() as db:
            if anew:
                db.execute("DELETE FROM tasks WHERE job = ?", (job,))
                db.execute("INSERT INTO tasks (job, number, kind) VALUES (?, 0, 'scan')", (job,))
            db.execute(
                "UPDATE tasks SET state = 'waiting', attempts = 0, not_before = 0 WHERE job = ? AND state = 'failed'",
                (job,),
            )
            again = "state = 'open', code = 0, reason = '', sha256 = '', spec = COALESCE(?, spec)"
            db.execute(f"UPDATE jobs SET {again} WHERE id = ?", (spec, job))

    def cancel(self, job: int) -> bool:
        """Take a job out of the queue; whoever works on it finds its lease lost. False where it has ended."""
        with self._transaction() as db:
            done = db.execute("UPDATE jobs SET state = 'cancelled' WHERE id = ? AND state = 'open'", (job,)).rowcount
            if done:
                db.execute("DELETE FROM tasks WHERE job = ?", (job,))
            return bool(done)

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        return dict(tuple(row) for row in self._db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state"))

    def failures(self) -> int:
        """Jobs that ended with an exit code other than 0."""
        found = self._db.execute("SELECT COUNT(*) FROM jobs WHERE code <> 0").fetchone()
        return int(found[0])

    # -- leases ----------------------------------------------------------------------------------------

    def claim(self, owner: str) -> Task | None:
        """The next task that can be done, leased to ``owner``. Films are finished one after another."""
        now = time.time()
        with self._transaction() as db:
            for row in db.execute("SELECT id, owner, beat FROM tasks WHERE state = 'running'").fetchall():
                if not alive(row["owner"], now - row["beat"]):
                    db.execute("UPDATE tasks SET state = 'waiting', owner = NULL WHERE id = ?", (row["id"],))
            row = db.execute(_READY, {"now": now}).fetchone()
            if row is not None:
                values = (owner, now, row["id"])
                db.execute("UPDATE tasks SET state = 'running', owner = ?, beat = ? WHERE id = ?", values)
            return None if row is None else _task(row)

    def beat(self, task: Task, owner: str) -> None:
        """A sign of life. Raises Lost."""
        with self._transaction() as db:
            self._held(db, task, owner, "beat = ?", time.time())

    def unfinished(self) -> bool:
        """Whether any job is still open."""
        return self._db.execute("SELECT 1 FROM jobs WHERE state = 'open' LIMIT 1").fetchone() is not None

    def busy(self, job: int) -> bool:
        """Whether somebody works on a job."""
        found = self._db.execute("SELECT 1 FROM tasks WHERE job = ? AND state = 'running'", (job,)).fetchone()
        return found is not None

    def held_by(self, owner: str) -> Task | None:
        """The task that a process has."""
        row = self._db.execute("SELECT * FROM tasks WHERE state = 'running' AND owner = ?", (owner,)).fetchone()
        return None if row is None else _task(row)

    # -- results ---------------------------------------------------------------------------------------

    def planned(self, task: Task, owner: str, segments: Sequence[Segment], result: str) -> None:
        """The scan is done: these are the segments. Raises Lost."""
        with self._transaction() as db:
            self._end(db, task, owner, result)
            rows = [(task.job, i + 1, s.begin, s.end, s.continues) for i, s in enumerate(segments)]
            insert = "INSERT INTO tasks (job, number, kind, begin, end, continues) VALUES (?, ?, 'restore', ?, ?, ?)"
            db.executemany(insert, rows)
            db.execute("INSERT INTO tasks (job, number, kind) VALUES (?, ?, 'join')", (task.job, len(segments) + 1))

    def restored(self, task: Task, owner: str, result: str) -> None:
        """A segment is done. Raises Lost."""
        with self._transaction() as db:
            self._end(db, task, owner, result)

    def redo(self, task: Task, owner: str, numbers: Sequence[int]) -> None:
        """The join has found segments that are gone: they are done again, then it. Raises Lost."""
        with self._transaction() as db:
            self._held(db, task, owner, "beat = ?", time.time())
            db.execute("UPDATE tasks SET state = 'waiting', owner = NULL WHERE id = ?", (task.id,))
            for number in numbers:
                db.execute("UPDATE tasks SET state = 'waiting' WHERE job = ? AND number = ?", (task.job, number))

    def publishing(self, task: Task, owner: str, sha256: str) -> None:
        """The output is whole and about to appear under its name. Raises Lost."""
        with self._transaction() as db:
            self._held(db, task, owner, "beat = ?", time.time())
            db.execute("UPDATE jobs SET sha256 = ? WHERE id = ?", (sha256, task.job))

    def published(self, task: Task, owner: str, result: str, code: int, reason: str) -> None:
        """The output is there. Raises Lost."""
        with self._transaction() as db:
            self._end(db, task, owner, "{}")
            values = (result, code, reason, task.job)
            db.execute("UPDATE jobs SET state = 'done', result = ?, code = ?, reason = ? WHERE id = ?", values)

    def failed(self, task: Task, owner: str, code: int, reason: str, again_in: float | None) -> None:
        """A task has failed; it is tried again in so many seconds, or its job has failed. Raises Lost."""
        with self._transaction() as db:
            if again_in is not None:
                self._held(db, task, owner, "attempts = attempts + 1, not_before = ?", time.time() + again_in)
                db.execute("UPDATE tasks SET state = 'waiting', owner = NULL WHERE id = ?", (task.id,))
                return
            self._held(db, task, owner, "attempts = attempts + 1, beat = ?", time.time())
            db.execute("UPDATE tasks SET state = 'failed', owner = NULL WHERE id = ?", (task.id,))
            values = (code, reason, task.job)
            db.execute("UPDATE jobs SET state = 'failed', code = ?, reason = ? WHERE id = ?", values)

    # -- within ----------------------------------------------------------------------------------------

    def _end(self, db: sqlite3.Connection, task: Task, owner: str, result: str) -> None:
        self._held(db, task, owner, "result = ?", result)
        db.execute("UPDATE tasks SET state = 'done', owner = NULL WHERE id = ?", (task.id,))

    def _held(self, db: sqlite3.Connection, task: Task, owner: str, change: str, value: Any) -> None:
        where = "id = ? AND state = 'running' AND owner = ?"
        if db.execute(f"UPDATE tasks SET {change} WHERE {where}", (value, task.id, owner)).rowcount != 1:
            raise Lost

    def _migrate(self) -> None:
        with self._transaction() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > len(_MIGRATIONS):
                raise UsageError(str(self.out), "its store was made by a later vidrestore", "update vidrestore")
            for script in _MIGRATIONS[version:]:
                for statement in script.split(";\n"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One that has the right to write from its beginning, so that nothing read in it can be out of date.

        Raises OutputError (5), and then has changed nothing.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise self._unwritable(error) from error
            raise

    def _unwritable(self, error: sqlite3.Error) -> OutputError:
        return OutputError(str(self.folder / _NAME), f"cannot be written: {error}", "make room and run the same again")


def _bytes(path: Path) -> bytes:
    return os.fsencode(path)


def _job(row: sqlite3.Row) -> Job:
    values = {**row, "source": Path(os.fsdecode(row["source"])), "output": Path(os.fsdecode(row["output"]))}
    return Job(**values)


def _task(row: sqlite3.Row) -> Task:
    kept = ("id", "job", "number", "kind", "begin", "end", "attempts", "result")
    return Task(**{k: row[k] for k in kept}, continues=bool(row["continues"]))
