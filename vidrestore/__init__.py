"""Restores faces in video: steady from frame to frame, everything else untouched.

In Python: ``vidrestore.input("old.mp4").filter("restore", "ldbfr").output("new.mkv").run()`` (`vidrestore.fluent`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidrestore.version import __version__

if TYPE_CHECKING:
    from vidrestore.fluent import input

__all__ = ["__version__", "input"]


def __getattr__(name: str) -> Any:
    if name == "input":  # on first use: the command line's help wants none of it
        from importlib import import_module

        return import_module("vidrestore.fluent").input
    raise AttributeError(f"vidrestore has no name '{name}'")
