"""The command line: one file a command, no logic. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from typing import Final

COMMANDS: Final = {
    "batch": "restore a tree of films; stopped or killed, it goes on where it was",
    "demo": "see it at work on a clip that comes with it",
    "degrade": "damage a film on purpose, for training and tests",
    "faces": "who is in a film: numbers, times, sizes, pictures",
    "evaluate": "measure a restored film against its source or the truth",
    "plan": "what a run will do and cost, without doing it",
    "plugins": "plugins, their options and where they come from",
    "config": "what a run would do, and where each value comes from",
    "weights": "list, fetch, import and verify weights",
    "train": "make a bundled weights file anew",
}


def main(argv: list[str] | None = None) -> None:
    """The console script: run one command and leave with its exit code."""
    code = run(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the reader has gone: nothing is left to say
            code = code or 141
    if threading.active_count() > 1 or code == 141:
        os._exit(code)  # a stage that was stopped may still be inside a network: it is not waited for
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run one command; its exit code."""
    from vidrestore.cli.failing import guarded

    name = argv[0] if argv and argv[0] in COMMANDS else "restore"
    arguments = argv[1:] if argv and argv[0] in COMMANDS else argv
    return guarded(lambda: import_module(f"vidrestore.cli.{name}").command, name, arguments)
