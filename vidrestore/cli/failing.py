"""Whatever goes wrong becomes one line on standard error and an exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from vidrestore.errors import BUG, ClosedPipe, Stopped, UsageError, VidrestoreError, exit_code_of, printable

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 400  # characters of a line; what libraries say can be pages


def guarded(load: Callable[[], Any], name: str, arguments: list[str]) -> int:
    """Load a click command and run it; its exit code. ``--debug`` lets tracebacks through."""
    try:
        return _invoke(load(), name, arguments)
    except BaseException as error:
        if "--debug" in arguments and not isinstance(error, click.ClickException):
            import traceback

            traceback.print_exc()
        return report(error)


def _invoke(command: Any, name: str, arguments: list[str]) -> int:
    program = "vidrestore" if name == "restore" else f"vidrestore {name}"
    try:
        result = command.main(args=arguments, prog_name=program, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        raise UsageError(program, _click_message(error), f"see: {program} --help") from error


def _click_message(error: click.ClickException) -> str:
    text = error.format_message().strip().rstrip(".")
    return text[:1].lower() + text[1:]


def report(error: BaseException) -> int:
    """Say an error in one line; its exit code."""
    if isinstance(error, ClosedPipe):
        return error.exit_code
    code = exit_code_of(error)
    if isinstance(error, VidrestoreError) and code == 0:
        say(str(error))
    elif isinstance(error, VidrestoreError | Stopped):
        say(f"error: {error}")
    elif isinstance(error, KeyboardInterrupt):
        say("error: stopped: interrupted")
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        say("error: memory: not enough; use a smaller --set batch=N or another --device")
        return 7
    else:
        say(f"error: internal: {type(error).__name__}: {error}; run with --debug for the traceback")
        return BUG
    return code


def say(line: str) -> None:
    """One line on standard error."""
    text = printable(line)
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    try:
        print(f"vidrestore: {short}", file=sys.stderr, flush=True)
    except OSError:
        return  # nobody listens
