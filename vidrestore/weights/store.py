"""Finds weights: bundled with a plugin distribution, fetched into the user's cache, or given as a file."""

from __future__ import annotations

from pathlib import Path


def weights_path(name: str) -> Path:
    """The safetensors file of a name."""
    raise NotImplementedError(name)
