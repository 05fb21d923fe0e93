"""Ctrl-C and SIGTERM: the first ends the run in good order, the second at once."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from vidrestore.errors import Stopped

if TYPE_CHECKING:
    from types import FrameType

_SOON: Final = 0.05  # seconds until a signal that went unheard is heard again


def stop_on_signals() -> None:
    """From here on the signals raise `Stopped` in the main thread."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    usual = sys.unraisablehook

    def unraisable(what: Any) -> None:
        if isinstance(what.exc_value, Stopped):
            _raise_again(what.exc_value)
        else:
            usual(what)

    sys.unraisablehook = unraisable


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, lambda n, f: os._exit(128 + n))
    raise Stopped(number)


def _raise_again(stopped: Stopped) -> None:
    """A signal that comes while a destructor or a weak reference's callback runs (importing makes many of these) ends
    only that: Python prints the exception and goes on."""

    def again(number: int, frame: FrameType | None) -> None:
        raise stopped

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, _SOON)
