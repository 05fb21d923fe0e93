"""What an evaluation gives: numbers of the film and of each track, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vidrestore.quality.metrics import REFERENCE, RESTORED, SOURCE
from vidrestore.quality.series import Moments, Series, Spread
from vidrestore.quality.shown import MOST, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    Key = tuple[str, str]  # metric, role

FLOW: Final = "DIS medium (E_warp), Farneback (tOF)"


@dataclass(slots=True)
class Track:
    """One face's numbers."""

    number: int
    begin: float  # seconds
    end: float
    frames: int
    values: dict[Key, Moments] = field(default_factory=dict)
    samples: Spread[Sample] = field(default_factory=lambda: Spread(MOST))


@dataclass(slots=True)
class Evaluation:
    """All that was measured."""

    paths: dict[str, str]  # by role
    side: int  # px of the crops
    identity: str  # who says whom a face shows
    left_out: list[str]  # lines that say what could not be measured, and why
    frames: int = 0
    faces: int = 0
    tracks: list[Track] = field(default_factory=list)
    series: dict[Key, Series] = field(default_factory=dict)

    @property
    def has_reference(self) -> bool:
        return REFERENCE in self.paths

    def value(self, metric: str, role: str) -> float | None:
        """The film's mean, derived ones among them; None where it was not measured."""
        means = {key: series.moments.mean for key, series in self.series.items() if series.moments.count}
        return _derived(metric, role, means, self._wavering())

    def track_value(self, track: Track, metric: str, role: str) -> float | None:
        """The same of one face."""
        means = {key: moments.mean for key, moments in track.values.items() if moments.count}
        own = track.values.get(("ids", role))
        return _derived(metric, role, means, {role: own.std} if own and own.count else {})

    def _wavering(self) -> dict[str, float]:
        """Sigma of identity by role: each track's own, the mean over all by their frames."""
        found = {}
        for role in (RESTORED, SOURCE):
            own = [m for t in self.tracks if (m := t.values.get(("ids", role))) and m.count]
            if own:
                found[role] = sum(m.std * m.count for m in own) / sum(m.count for m in own)
        return found


def _derived(metric: str, role: str, means: Mapping[Key, float], wavering: Mapping[str, float]) -> float | None:
    def excess(of: str) -> float | None:
        ours, theirs = means.get((of, role)), means.get((of, REFERENCE))
        return None if ours is None or theirs is None or role == REFERENCE else ours - theirs

    def ratio(of: str, base: str) -> float | None:
        ours, theirs = means.get((of, role)), means.get((of, base))
        return None if ours is None or not theirs or role == base else ours / theirs

    if metric == "sigma_ids":
        return wavering.get(role)
    if metric in ("vidd_excess", "e_warp_excess"):
        return excess(metric.removesuffix("_excess"))
    if metric == "jitter_ratio" and ("jitter", REFERENCE) in means:
        return ratio("jitter", REFERENCE)
    if metric == "jitter_ratio":
        return ratio("jitter_beside", SOURCE)
    return means.get((metric, role))
