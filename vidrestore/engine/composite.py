"""Patches into pictures: the difference is added to the native planes; a frame without one stays as decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vidrestore.engine.fields import of_frames, weave
from vidrestore.media.colour import Region, add_difference
from vidrestore.media.planes import editable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vidrestore.engine.clock import Clock
    from vidrestore.types import Frame, Patch, Window


def composited(windows: Iterable[Window], clock: Clock) -> Iterator[tuple[Frame, Window]]:
    """The finished frames, in order, each with the window it came from. Fields come out woven, windows in frames."""
    for window in windows:
        apart = window.frames[0].field is not None
        whole = of_frames(window) if apart else window
        for number, frame in enumerate(whole.frames):
            rows = (2 * number, 2 * number + 1) if apart else (number,)
            patches = [[p for p in window.patches if p.row == row] for row in rows]
            if any(patches):
                with clock("composite"):
                    parts = [changed(window.frames[r], found) for r, found in zip(rows, patches, strict=True) if found]
                    frame = weave(frame, parts) if apart else parts[0]
            yield frame, whole


def changed(frame: Frame, patches: list[Patch]) -> Frame:
    """The frame with its patches added; where several overlap, they share what one would have had."""
    frame = editable(frame)
    for group in _overlapping(patches):
        region, difference, alpha = _merged(group)
        add_difference(frame, region, difference, alpha)
    return frame


def _region(patch: Patch) -> Region:
    height, width = patch.alpha.shape
    return Region(patch.x0, patch.y0, patch.x0 + width, patch.y0 + height)


def _overlapping(patches: list[Patch]) -> list[list[Patch]]:
    """Patches in groups that touch one another."""
    groups: list[list[Patch]] = []
    for patch in patches:
        touching = [g for g in groups if any(_touch(_region(patch), _region(p)) for p in g)]
        groups = [g for g in groups if g not in touching]
        groups.append([patch, *(p for g in touching for p in g)])
    return groups


def _touch(a: Region, b: Region) -> bool:
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def _merged(group: list[Patch]) -> tuple[Region, torch.Tensor, torch.Tensor]:
    """One difference and alpha for a group. Where alphas sum to more than 1, the sum is scaled back to 1."""
    if len(group) == 1:
        return _region(group[0]), group[0].difference, group[0].alpha
    regions = [_region(p) for p in group]
    whole = Region(
        min(r.x0 for r in regions), min(r.y0 for r in regions), max(r.x1 for r in regions), max(r.y1 for r in regions)
    )
    difference, alpha = torch.zeros(3, *whole.size), torch.zeros(whole.size)
    for patch, r in zip(group, regions, strict=True):
        rows, columns = slice(r.y0 - whole.y0, r.y1 - whole.y0), slice(r.x0 - whole.x0, r.x1 - whole.x0)
        difference[:, rows, columns] += patch.difference
        alpha[rows, columns] += patch.alpha
    return whole, difference / alpha.clamp(min=1), alpha.clamp(max=1)
