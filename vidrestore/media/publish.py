"""Outputs appear whole or not at all: written beside the target, synced, then renamed over it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from vidrestore.errors import BusyOutput, OutputError, UsageError
from vidrestore.media.faults import write_error
from vidrestore.media.opening import address_scheme, is_sequence, local_path

if TYPE_CHECKING:
    from types import TracebackType

try:
    import fcntl
except ImportError:  # Windows: two runs with one target are told apart by sharing rules alone
    fcntl = None  # type: ignore[assignment]


class PartFile:
    """The file an output is written to until it is complete: ``.<name>.vidrestore-part`` in the target's folder."""

    def __init__(self, target: Path, source: str, *, overwrite: bool, preserve: bool = False) -> None:
        """Check everything that can be known beforehand and create the file. It is published with the time and mode
        of the source's file (``preserve``), or its own. Raises OutputError (5)."""
        self.target, self._overwrite = target, overwrite
        self._like = state_of(source) if preserve else None
        check_target(target, source, overwrite=overwrite)
        self.path = target.absolute().parent / part_name(target.name)
        try:
            self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise _folder_error(target, error) from error
        if not _locked(self._lock):
            os.close(self._lock)
            raise BusyOutput(str(target), "is being written by another run")
        os.truncate(self.path, 0)
        if self._like is not None:
            self._try_dressing()

    def publish(self) -> None:
        """Sync and rename over the target. Raises OutputError (5)."""
        try:
            os.fsync(self._lock)
            if self._like is not None:  # not before its bytes are down: a late one would set the time anew
                self._dress(self._like.st_mtime_ns, stat.S_IMODE(self._like.st_mode) & 0o777)
                os.fsync(self._lock)
            if not self._overwrite and os.path.lexists(self.target):
                what = f"has appeared during the run; the finished film is {self.path.name}"
                raise OutputError(str(self.target), what)
            self.path.replace(self.target)
            _sync_folder(self.target.absolute().parent)
        except OSError as error:
            raise write_error(str(self.target), error) from error
        finally:
            self.close()

    def _dress(self, mtime: int, mode: int) -> None:
        os.utime(self.path, ns=(self.path.stat().st_atime_ns, mtime))
        self.path.chmod(mode)

    def _try_dressing(self) -> None:
        """Not every file system lets anybody set these: that is to be known now."""
        own = self.path.stat()
        try:
            self._dress(own.st_mtime_ns, stat.S_IMODE(own.st_mode))
        except OSError as error:
            self.discard()
            what = f"its time and mode cannot be set there: {error.strerror}"
            raise OutputError(str(self.target), what, "leave out --preserve") from error

    def discard(self) -> None:
        """Remove the file; nothing is left behind."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _locked(handle: int) -> bool:
    """Take the file for this run; False if another has it. File systems without locks are taken at their word."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def state_of(source: str) -> os.stat_result:
    """The state of a source's file, whose time and mode an output is to have. Raises UsageError (2) where the source is
    none, InputAccessError (3)."""
    if source == "-" or address_scheme(source) or is_sequence(source) or not local_path(source).is_file():
        what = f"{'standard input' if source == '-' else source} is no file that has a time and a mode"
        raise UsageError("--preserve", what, "leave it out")
    return Path(source).stat()


def part_name(name: str) -> str:
    """The hidden name of an unfinished output; names near the limit of 255 bytes are shortened to a hash."""
    part = f".{name}.vidrestore-part"
    if len(os.fsencode(part)) <= 255:
        return part
    return f".{sha256(os.fsencode(name)).hexdigest()[:24]}.vidrestore-part"


def check_target(target: Path, source: str, *, overwrite: bool) -> None:
    """Raise OutputError (5) for a target that must not or cannot be written."""
    subject = str(target)
    try:
        exists, linked = target.exists(), target.is_symlink()
    except OSError as error:
        raise _folder_error(target, error) from error
    if linked:
        raise OutputError(subject, "output is a symlink", f"name the file it points to: {target.readlink()}")
    if exists and target.is_dir():
        raise OutputError(subject, "is a directory")
    if exists and source != "-" and _same(source, target):
        raise OutputError(subject, "output is the input", "name another file")
    if exists and not overwrite:
        raise OutputError(subject, "exists", "use -y to replace or -n to skip")
    if exists and not target.is_file():
        raise OutputError(subject, "is no regular file")


def _same(source: str, target: Path) -> bool:
    return Path(source).exists() and Path(source).samefile(target)


def _folder_error(target: Path, error: OSError) -> OutputError:
    folder = str(target.absolute().parent)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return OutputError(str(target), f"no such folder: {folder}", "make it first")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(str(target), f"folder {folder} is not writable")
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(str(target), "name is too long")
    problem = write_error(str(target), error)
    return problem if isinstance(problem, OutputError) else OutputError(str(target), str(error))


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself last; not every system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
