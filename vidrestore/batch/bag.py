"""The films of a batch as a BagIt 1.0 bag (RFC 8493): what an archive takes in, with sums of every file.

The bag holds what was published, never the sources: those are named, with their sums, in ``original-ref.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from vidrestore.batch.report import as_json, rows
from vidrestore.engine.record import NOTICE
from vidrestore.errors import OutputError, printable
from vidrestore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidrestore.batch.store import Job, Store

_SUMS: Final = ("sha256", "sha512")
_FILMS, _REPORTS = "data/restored", "data/reports"
_BLOCK: Final = 1 << 24  # bytes that are read at once
Sums = dict[str, tuple[str, ...]]  # path in the bag -> one sum for each of _SUMS


@dataclass(frozen=True, slots=True)
class Bagged:
    """What became of a batch's films."""

    films: int
    left_out: tuple[str, ...]  # outputs that are not there: a line each


def make_bag(store: Store, target: Path) -> Bagged:
    """Make a bag of every film that was published. Files are linked where the disk allows that, else copied.

    Raises OutputError (5) where the target is there already, a name cannot stand in a bag, or a film is no longer
    what was published. Then nothing is left.
    """
    if os.path.lexists(target):
        raise OutputError(str(target), "exists", "name another folder")
    part = target.absolute().with_name(f".{target.name}.vidrestore-part")
    shutil.rmtree(part, ignore_errors=True)
    done = [job for job in store.jobs() if job.state == "done"]
    try:
        _fill(store, done, part)
        sums = _sums_of(part)
        for job in done:
            if sums[f"{_FILMS}/{job.output.as_posix()}"][_SUMS.index("sha256")] != job.sha256:
                raise OutputError(str(store.out / job.output), "differs from what was published", "see batch verify")
        _describe(part, sums, len(done))
        part.rename(target)
    except OSError as error:
        raise OutputError(str(target), f"the bag cannot be made: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    left_out = [f"{row['output']}: {row['state']}" for row in rows(store) if row["state"] not in ("done", "partial")]
    return Bagged(len(done), tuple(left_out))


def _fill(store: Store, done: Sequence[Job], part: Path) -> None:
    """The payload."""
    originals = []
    for job in done:
        film = store.out / job.output
        if not film.is_file():
            raise OutputError(str(film), "is gone", "run the same batch again")
        if "%" in str(job.output) or not _is_utf8(str(job.output)):
            what = "its name cannot stand in a bag that every validator reads: it holds %, or is no UTF-8"
            raise OutputError(str(film), what, "name another output in a manifest")
        _put(film, part / _FILMS / job.output)
        for beside in sorted(film.parent.iterdir()):
            if beside.name.startswith(film.name + "."):
                _put(beside, part / _REPORTS / job.output.with_name(beside.name))
        sha256 = json.loads(job.result)["source_sha256"]
        originals.append({"source": printable(str(job.source)), "sha256": sha256, "restored": str(job.output)})
    (part / _REPORTS).mkdir(parents=True, exist_ok=True)
    (part / "data/original-ref.json").write_text(json.dumps(originals, indent=1) + "\n", encoding="utf-8")
    (part / _REPORTS / "batch.json").write_text(as_json(rows(store)) + "\n", encoding="utf-8")


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _put(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        to.hardlink_to(file)
    except OSError:  # another disk, or one without links
        shutil.copy2(file, to)


def _sums_of(part: Path) -> Sums:
    """The sums of all that is in the bag so far."""
    files = sorted(path for path in part.rglob("*") if path.is_file())
    return {path.relative_to(part).as_posix(): _sums(path) for path in files}


def _sums(path: Path) -> tuple[str, ...]:
    found = [hashlib.new(name) for name in _SUMS]
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for one in found:
                one.update(block)
    return tuple(one.hexdigest() for one in found)


def _describe(part: Path, sums: Sums, films: int) -> None:
    """The tag files, and manifests of the payload and of them."""
    size = sum((part / name).stat().st_size for name in sums)
    info = {
        "Bag-Software-Agent": f"vidrestore {__version__}",
        "Bagging-Date": datetime.now(UTC).date().isoformat(),
        "External-Description": f"{films} restored films with their records. {NOTICE}",
        "Payload-Oxum": f"{size}.{len(sums)}",
    }
    (part / "bagit.txt").write_bytes(b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    (part / "bag-info.txt").write_bytes("".join(f"{key}: {value}\n" for key, value in info.items()).encode())
    _write_manifests(part, "manifest", sums)
    tags = {path.name: _sums(path) for path in sorted(part.iterdir()) if path.is_file()}
    _write_manifests(part, "tagmanifest", tags)


def _write_manifests(part: Path, kind: str, sums: Sums) -> None:
    for i, name in enumerate(_SUMS):
        lines = (f"{found[i]}  {_encoded(path)}\n" for path, found in sums.items())
        (part / f"{kind}-{name}.txt").write_bytes("".join(lines).encode())


def _encoded(path: str) -> str:
    """RFC 8493, 2.1.3: ends of lines in names."""
    return path.replace("\r", "%0D").replace("\n", "%0A")
