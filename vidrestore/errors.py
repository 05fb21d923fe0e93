"""One tree of errors. Each is a line with a remedy and has an exit code that scripts may rely on.

::

    VidrestoreError
    +-- UsageError         2    flags, chain, unknown plugin, option or value
    +-- InputAccessError   3    missing, permission, a directory, a refused protocol
    +-- InputMediaError    4    not media, no video, no frames, unsupported or encrypted
    +-- OutputError        5    exists, same file, not writable, disk full, container or encoder cannot hold it
    |   +-- BusyOutput     5    another run is writing it; that passes
    |   +-- EncoderRefused 5    the encoder does not take these pictures, or its hardware is not here
    +-- RunError           6    a failure after the first frame
    |   +-- PartialInput   6    the input broke off; the frames before were published
    |   +-- EncoderFailed  6    the encoder broke off
    +-- ResourceError      7    weights, optional packages, devices, memory
    +-- ClosedPipe       141    the reader of our standard output has gone

    Stopped              130    SIGINT; 143 for SIGTERM

A programming error stays a ``ValueError`` or ``TypeError`` and ends as code 1.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

BUG = 1


class VidrestoreError(Exception):
    """A fault of input, set-up or plugin, shown as one line without traceback."""

    exit_code: ClassVar[int] = BUG

    def __init__(self, subject: str, what: str, remedy: str = "") -> None:
        self.subject, self.what, self.remedy = subject, what, remedy
        super().__init__(f"{printable(subject)}: {what}" + (f"; {remedy}" if remedy else ""))


class UsageError(VidrestoreError):
    exit_code = 2


class InputAccessError(VidrestoreError):
    exit_code = 3


class InputMediaError(VidrestoreError):
    exit_code = 4


class OutputError(VidrestoreError):
    exit_code = 5


class BusyOutput(OutputError):
    """Another run is writing it just now."""


class EncoderRefused(OutputError):
    """The encoder does not take these pictures, or its hardware is not here: nothing has been encoded."""


class RunError(VidrestoreError):
    exit_code = 6


class PartialInput(RunError):
    """Raised after publishing: the output holds every frame that the broken input gave."""


class EncoderFailed(RunError):
    """The encoder took pictures and broke off."""


class ResourceError(VidrestoreError):
    exit_code = 7


class Stopped(BaseException):
    """The run was asked to stop by a signal. As with KeyboardInterrupt, ``except Exception`` around whatever just then
    runs (a library's import of an optional part, say) must not swallow it."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        self.what = {2: "interrupted", 15: "terminated"}.get(signal_number, f"signal {signal_number}")
        super().__init__(f"stopped: {self.what}")

    @property
    def code(self) -> int:
        return 128 + self.signal_number


class ClosedPipe(VidrestoreError):
    exit_code = 141


def exit_code_of(error: BaseException) -> int:
    """The process exit code that belongs to an exception."""
    if isinstance(error, Stopped):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, VidrestoreError) else BUG


def printable(text: str) -> str:
    """The text on one line: control characters and lone surrogates as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known word, or nothing."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
