"""What libavfilter's graphs give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av

if TYPE_CHECKING:
    from collections.abc import Iterator


def pulled(graph: Any) -> Iterator[Any]:
    """The pictures that are ready: none any more where more must go in first, or after the end."""
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
