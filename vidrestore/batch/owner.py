"""Who holds a lease: a process that can be told from every later one with the same number."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SILENT: Final = 120.0  # seconds without a sign of life after which another machine's process counts as dead


@dataclass(frozen=True, slots=True)
class Owner:
    """One process of one boot of one machine."""

    host: str  # its name, and its space of process numbers: containers on one machine do not see one another's
    boot: str
    pid: int
    start: str  # clock ticks after boot; a number that is used again begins at another time
    hand: str = ""  # which of those that work for it elsewhere, and end with it

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def this_process(hand: str = "") -> Owner:
    """The process that asks."""
    return Owner(_host(), _boot(), os.getpid(), start_of(os.getpid()) or "", hand)


def alive(text: str, silent: float) -> bool:
    """Whether a lease's owner still runs. ``silent``: seconds since its last sign of life, which decides where its
    processes cannot be seen from here."""
    owner = Owner(**json.loads(text))
    if owner.host != _host():
        return silent < SILENT
    return owner.boot == _boot() and start_of(owner.pid) == owner.start


def _host() -> str:
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_of(pid: int) -> str | None:
    """When a process began; None where there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, IndexError):
        return None
    try:  # a system without /proc
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return ""
