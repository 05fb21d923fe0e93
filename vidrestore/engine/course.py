"""How a run went, second by second: what the gate measured, and how much of it was shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor
from operator import add
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from vidrestore.types import Frame, Window

COLUMNS: Final = ("second", "faces", "share", "identity", "least_identity", "flicker", "most_flicker")
# Of a second: faces that were changed, counted a frame; least share that was shown; sum, count and least of the cosines
# to the source; sum, count and most of the flicker, as times the source's.
_NOTHING: Final = (0, 1.0, 0.0, 0, 1.0, 0.0, 0, 0.0)
_MERGE: Final[tuple[Callable[[float, float], float], ...]] = (add, min, add, add, min, add, add, max)


@dataclass(slots=True)
class Course:
    """Sums of every second; seconds in which no face was seen are left out."""

    seconds: dict[int, list[float]] = field(default_factory=dict)

    def see(self, frame: Frame, row: int, window: Window) -> None:
        """Enter a finished frame, the ``row``-th of its window."""
        faces = sum(patch.row == row for patch in window.patches)
        found: list[float] = list(_NOTHING)
        found[0] = faces
        for judged in window.judged:
            here = judged.rows == row
            if not here.any():
                continue
            shares, identity, flicker = judged.shares[here], judged.identity[here], judged.flicker[here]
            identity, flicker = identity[~np.isnan(identity)], flicker[~np.isnan(flicker)]
            found[1] = min(found[1], float(shares.min()))
            if len(identity):
                found[2:5] = (
                    found[2] + float(identity.sum()),
                    found[3] + len(identity),
                    min(found[4], *identity.tolist()),
                )
            if len(flicker):
                found[5:8] = found[5] + float(flicker.sum()), found[6] + len(flicker), max(found[7], *flicker.tolist())
        if faces or found[1:] != list(_NOTHING[1:]):
            self.add(floor(frame.seconds), found)

    def add(self, second: int, found: list[float]) -> None:
        """Enter sums of a second, or of a part of it."""
        known = self.seconds.get(second, list(_NOTHING))
        self.seconds[second] = [merge(a, b) for merge, a, b in zip(_MERGE, known, found, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: a row a second, null where nothing was measured."""
        rows = []
        for second, (faces, share, identity, looked, least, flicker, compared, most) in sorted(self.seconds.items()):
            alike = [round(identity / looked, 3), round(least, 3)] if looked else [None, None]
            unrest = [round(flicker / compared, 2), round(most, 2)] if compared else [None, None]
            rows.append([second, int(faces), round(share, 3), *alike, *unrest])
        return {"columns": COLUMNS, "rows": rows}
