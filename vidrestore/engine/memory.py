"""What a shot remembers from window to window, with look-ahead windows on top that can be forgotten.

Windows overlap in time: while one waits for its look-ahead, the next ones have begun. Each writes to its own
layer and reads through the layers before it; when a window leaves, its layer joins the base. So the base is
always the memory right after the last window that left: what a resumed run starts from.
"""

from __future__ import annotations

from typing import Any

Key = tuple[Any, ...]


class Memory:
    """The base layer: everything known after the last window that left."""

    def __init__(self, data: dict[Key, Any] | None = None) -> None:
        self.data: dict[Key, Any] = dict(data or {})

    def get(self, key: Key) -> Any:
        return self.data.get(key)


class Layer:
    """The memory of one window in flight."""

    def __init__(self, below: Layer | Memory) -> None:
        self._below: Layer | Memory = below
        self._own: dict[Key, Any] = {}
        self._left = False

    def get(self, key: Key) -> Any:
        """The newest value, None where there is none."""
        layer: Layer | Memory = self
        while isinstance(layer, Layer):
            if key in layer._own:
                return layer._own[key]
            layer = layer._below
        return layer.get(key)

    def set(self, key: Key, value: Any) -> None:
        self._own[key] = value

    def leave(self) -> None:
        """Join the base: windows leave in their order."""
        while isinstance(self._below, Layer) and self._below._left:
            self._below = self._below._below
        if not isinstance(self._below, Memory):
            raise RuntimeError("a window left before the one in front of it")
        self._below.data.update(self._own)
        self._own, self._left = {}, True
