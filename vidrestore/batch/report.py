"""What became of every film of a batch: for a terminal, for programs, and as one page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from vidrestore.batch.page import page
from vidrestore.batch.spec import Spec, remembers
from vidrestore.engine.record import write_text
from vidrestore.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidrestore.batch.store import Job, Store

_ORDER: Final = ("failed", "partial", "cancelled", "running", "waiting", "done")
Row = dict[str, Any]


def rows(store: Store) -> list[Row]:
    """One a film, failures first: source, output, state, code, reason, segments, frames, faces, seconds, ..."""
    found = [_row(store, job) for job in store.jobs()]
    return sorted(found, key=lambda row: _ORDER.index(row["state"]))


def _row(store: Store, job: Job) -> Row:
    tasks = store.tasks(job.id)
    ready = sum(task.result != "{}" for task in tasks)
    state: str = job.state
    if state == "open":
        state = "running" if store.busy(job.id) or ready else "waiting"
    elif state == "done" and job.code:
        state = "partial"
    return {
        "id": job.id,
        "state": state,
        "source": printable(str(job.source)),
        "output": printable(str(job.output)),
        "code": job.code,
        "reason": job.reason,
        "segments": len(tasks),
        "segments_done": ready,
        "sha256": job.sha256,
        "job": job.key,
        "spec": job.spec,
        **json.loads(job.result),
    }


def as_json(found: Sequence[Row]) -> str:
    films = [{key: value for key, value in row.items() if key != "spec"} for row in found]
    return json.dumps({"films": films, "counts": counts(found)}, indent=1)


def counts(found: Sequence[Row]) -> dict[str, int]:
    """Films by state."""
    return {state: n for state in _ORDER if (n := sum(row["state"] == state for row in found))}


def summary(found: Sequence[Row]) -> str:
    """One line."""
    return ", ".join(f"{n} {state}" for state, n in reversed(counts(found).items())) or "no film"


def status_lines(found: Sequence[Row]) -> list[str]:
    """One line a film that is not simply done, and the counts."""
    lines = []
    for row in found:
        if row["state"] in ("failed", "partial"):
            lines.append(f"{row['state']:9} {row['output']}: {row['reason']} (code {row['code']})")
        elif row["state"] == "running":
            part = f"{row['segments_done']}/{row['segments']} segments" if row["segments"] else "looking for cuts"
            lines.append(f"{row['state']:9} {row['output']}: {part}{in_one_piece(row['spec'])}")
        elif row["state"] == "cancelled":
            lines.append(f"{row['state']:9} {row['output']}")
    return [*lines, summary(found)]


def in_one_piece(spec: str) -> str:
    """What is said of a film that cannot be worked in segments; nothing of others."""
    return "; in one piece, as its filters look at more than one frame" if remembers(Spec.read(spec).config()) else ""


def write_report(store: Store, found: Sequence[Row]) -> list[Path]:
    """Write report.json and report.html into the output folder. Gives what was written."""
    data, html = store.out / "report.json", store.out / "report.html"
    write_text(data, as_json(found) + "\n")
    write_text(html, page(store.out, found, counts(found)))
    return [data, html]
