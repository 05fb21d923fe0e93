"""Woven fields in a film that says it is progressive: two times in one picture, which show as combs where it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from vidrestore.types import Frame, Plane

_EVERY: Final = 12  # frames between two looks
_LOOKS: Final = 60  # after which a film is believed
_COLUMNS: Final = 4  # of which one is looked at
_MOVED, _TOOTH, _ALIKE = 12 / 255, 12 / 255, 8 / 255  # of the range: a change, a tooth's height, lines of one field
_LEAST: Final = 200  # moving samples, else a look tells nothing
_SHARE: Final = 0.08  # of the moving samples that are teeth: real film has 0.05 at most, woven film 0.06 to 0.5
_AGREE: Final = 4  # looks that must find combs, and a quarter of all: telecine has them in two of five pictures


class Combs:
    """Looks at pairs of frames now and then."""

    def __init__(self) -> None:
        self._before: Plane | None = None
        self._looks = self._combed = 0

    def found(self, frame: Frame) -> bool:
        """Whether the film is woven; asked of every frame, true once at most."""
        if self._looks >= _LOOKS or frame.layout.height < 96:
            return False
        luma = frame.planes[0][:, ::_COLUMNS]
        if frame.index % _EVERY == 0:
            self._before = luma
        elif self._before is not None and self._before.shape == luma.shape:
            before, self._before = self._before, None
            share = teeth(luma, before, (1 << frame.layout.bits) - 1)
            if share is not None:
                self._looks += 1
                self._combed += share > _SHARE
                if self._combed >= _AGREE and 4 * self._combed >= self._looks:
                    self._looks = _LOOKS
                    return True
        return False


def teeth(luma: Plane, before: Plane, white: int) -> float | None:
    """Of the samples that have changed since the frame before, the share that differs from both lines around it, in
    one direction, while these two are alike; None where too little moves."""
    now = luma.astype(np.int32)
    moved = np.abs(now - before)[1:-1] > _MOVED * white
    up, down, middle = now[:-2], now[2:], now[1:-1]
    tooth = np.minimum(np.abs(middle - up), np.abs(middle - down)) > _TOOTH * white
    comb = moved & tooth & (np.abs(up - down) < _ALIKE * white)
    count = int(moved.sum())
    return None if count < _LEAST else float(comb.sum()) / count
