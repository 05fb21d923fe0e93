"""libav's errors in our words: what went wrong, as one line, with the exit code that scripts rely on.

libav logs nothing while we work (its handlers and our threads do not mix), so an error carries only its number.
The line libav would have printed is fetched by doing the failed step once more under ``av.logging.Capture``.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import av
import av.logging

from vidrestore.errors import ClosedPipe, InputAccessError, InputMediaError, OutputError, VidrestoreError

if TYPE_CHECKING:
    from collections.abc import Callable

# What ``except`` must name to catch everything PyAV raises: its own tree, and plain errors of its Python layer.
AV_ERRORS = (av.FFmpegError, OSError, ValueError, EOFError, RuntimeError)


_BOXES = (b"ftyp", b"mdat", b"moov", b"free", b"skip", b"wide", b"pnot")  # what QuickTime files begin with


def reason(error: BaseException) -> str:
    """libav's own words for an error, without number and file name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = str(text).strip().rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def libav_lines(step: Callable[[], Any]) -> list[str]:
    """Run a step that failed once more and give what libav says about it: the most severe messages, a line each."""
    before, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as lines, suppress(*AV_ERRORS):
            step()
        return [" ".join(text.split()) for level, _, text in lines if level <= av.logging.ERROR and text.strip()]
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(skip)


def open_error(subject: str, error: BaseException, lines: list[str], head: bytes = b"") -> VidrestoreError:
    """Why an input could not be opened. ``head``: its first bytes."""
    said = " ".join(lines)
    if isinstance(error, FileNotFoundError):
        return InputAccessError(subject, "no such file")
    if isinstance(error, IsADirectoryError):
        return InputAccessError(subject, "is a directory", "use vidrestore batch for folders")
    if isinstance(error, PermissionError):
        return InputAccessError(subject, "permission denied")
    if "not on whitelist" in said.lower() or isinstance(error, av.error.ProtocolNotFoundError):
        return InputAccessError(subject, "playlists and addresses are refused", "give a local media file")
    if "moov atom not found" in said and head[4:8] in _BOXES:
        return InputMediaError(
            subject,
            "moov atom missing (the recording was cut off)",
            "try untrunc or remux with the camera's tool",
        )
    if isinstance(error, av.error.ExitError):
        return InputAccessError(subject, "does not answer")
    if isinstance(error, EOFError):
        return InputMediaError(subject, "no frames (it ends with its header)")
    if isinstance(error, (av.InvalidDataError, av.error.ArgumentError)):
        return InputMediaError(subject, "is not a media file that libav can read")
    return InputMediaError(subject, f"cannot be opened: {reason(error)}")


def of_the_disk(error: BaseException) -> bool:
    """Whether a failed write is the file system's or pipe's doing, not the muxer's."""
    disk = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE, errno.EIO, errno.EACCES, errno.EROFS, errno.EBADF)
    return getattr(error, "errno", None) in disk


def write_error(subject: str, error: BaseException) -> VidrestoreError:
    """Why an output could not be written."""
    if isinstance(error, VidrestoreError):
        return error
    if isinstance(error, BrokenPipeError) or getattr(error, "errno", None) == errno.EPIPE:
        return ClosedPipe(subject, "the reader has gone")
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(subject, "no space left on device")
    if number == errno.EFBIG:
        return OutputError(subject, "the file system holds no file of this size")
    if number in (errno.EACCES, errno.EROFS):
        return OutputError(subject, "permission denied")
    if number == errno.ENOENT:
        return OutputError(subject, "no such folder")
    return OutputError(subject, f"cannot be written: {reason(error)}")
