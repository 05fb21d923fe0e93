"""Another program with a pipe to it and one from it: its words kept, its end waited for, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from vidrestore.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT: Final = 1 << 16  # bytes of what it says; only the last are of use
_PATIENCE: Final = 30.0  # seconds that a program may take to end once its pipes are closed
_SPEAKER = re.compile(r"^(\[[^\]]*\]\s*)+")
# What ffmpeg says after the line that names the cause.
_AFTERMATH = (
    "Conversion failed", "Nothing was written", "Terminating thread", "Task finished", "Could not open encoder",
    "Error splitting", "Error opening", "Error while opening", "Error submitting", "Error muxing",
    "Received no packets", "Error sending frames", "Error while filtering",
)  # fmt: skip


class Child:
    """A running program. ``stdin`` and ``stdout`` are unbuffered; whoever is done with ``stdin`` closes it."""

    def __init__(self, command: Sequence[str], subject: str) -> None:
        """Start it. Raises ResourceError (7) where there is no such program."""
        self.name = os.path.basename(command[0]).split("-")[0]  # noqa: PTH119 - names are shown as given
        try:
            self._process: Any = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                start_new_session=True,  # a group of its own: it ends with us, by our hand and in our order
            )  # fmt: skip
        except OSError as error:
            what = f"{command[0]} cannot be run: {error.strerror}"
            raise ResourceError(subject, what, "see its option bin") from error
        self.stdin: Any = self._process.stdin
        self.stdout: Any = self._process.stdout
        self._said = bytearray()
        self._listener = Thread(target=self._listen, name=f"{self.name} says", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        while data := self._process.stderr.read(4096):
            self._said += data
            del self._said[:-_KEPT]

    @property
    def said(self) -> list[str]:
        """Its lines on standard error, the last 64 KiB of them."""
        return [line.strip() for line in self._said.decode(errors="replace").splitlines() if line.strip()]

    @property
    def complaint(self) -> str:
        """The last line that names a cause; nothing where it said nothing."""
        plain = [_SPEAKER.sub("", line).rstrip(".") for line in self.said]
        causes = [line for line in plain if line and not line.startswith(_AFTERMATH)]
        return f"{self.name}: {(causes or plain)[-1]}" if plain else ""

    def wait(self) -> str:
        """Wait for its end; what went wrong, nothing where all went well. Its standard input must be closed."""
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.name} does not end"
        self._listener.join(_PATIENCE)
        return "" if code == 0 else self.complaint or f"{self.name} ended with code {code}"

    def kill(self) -> None:
        """End it and all that it has started, at once. Harmless when it has ended."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Let go of the pipes, once nobody uses them."""
        self.stdin.close()
        self.stdout.close()
