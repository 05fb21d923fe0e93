"""align=ffhq: where each face is cut out: the FFHQ template, steady over time, fading in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidrestore.engine.tracks import Segment
    from vidrestore.types import Placed

SIZE: Final = 512  # px; matrices are given for a crop of this side
PROFILE: Final = 20.0  # degrees over which a head that turns away fades
UNSURE: Final = 0.3  # of the detector's score over which a face that is hardly seen fades


class AlignOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    min_size: int = Field(20, ge=1, description="px of face width; smaller faces are left alone")
    max_faces: int = Field(24, ge=1, description="faces in one frame; the smallest beyond it are left alone")
    fade: int = Field(6, ge=0, description="frames over which a face fades in and out")
    max_gap: int = Field(10, ge=1, description="longest miss of the detector that is filled, in frames")
    lookahead: int = Field(6, ge=0, description="frames of the future the smoothing of the crop sees")
    yaw: float = Field(50, gt=0, le=90, description="degrees from which a turned head fades out; gone 20 further")
    doubt: float = Field(0.7, ge=0, le=1, description="score of the detector below which a face fades out")
    faces: str = Field(
        "all", pattern=r"^(all|largest|\d+(\+\d+)*)$", description="all, largest, or tracks by number: 0+3"
    )
    region: str | None = Field(
        None, pattern=r"^\d+\+\d+\+[1-9]\d*\+[1-9]\d*$", description="X+Y+W+H in px: only faces whose middle lies there"
    )
    push: float = Field(0.05, gt=0, description="how wildly heads move, in face widths^2 / s^3; lower is steadier")
    noise: float = Field(0.005, gt=0, description="error of a detection, in face widths; higher is steadier")


class FFHQ:
    """Poses of faces, smoothed along each track."""

    Options: ClassVar[type[BaseModel]] = AlignOptions

    def __init__(self, options: AlignOptions) -> None:
        from vidrestore.geometry.steady import FixedLag

        self.options = options
        self._filter = FixedLag(options.push, options.noise, options.lookahead)

    @property
    def lookahead(self) -> int:
        """Frames of the future whose faces a frame's depend on."""
        return max(self.options.fade, self.options.lookahead)

    @property
    def reach(self) -> int:
        """Frames of the future that placing a frame depends on: those it takes to fill a gap there."""
        return self.options.max_gap + self.lookahead

    def place(
        self, segments: list[Segment], times: NDArray[np.float64], start: int, n_now: int, state: dict[int, Any]
    ) -> tuple[Placed, int]:
        """Poses of the faces in the window's ``n_now`` frames from position ``start`` of the shot on.

        times: seconds of these frames and of the look-ahead. state: per track, is updated. Gives the faces and
        how many were left out because a frame holds more than ``max_faces``.
        """
        chosen = self._chosen(segments)
        here = [(s, c) for s, c in zip(segments, chosen, strict=True) if s.positions[0] < start + n_now]
        found = [self._track(s, c, times, start, n_now, state) for s, c in here]
        return _limited(_stacked([p for p in found if len(p.rows)]), self.options.max_faces)

    def _chosen(self, segments: list[Segment]) -> list[NDArray[np.bool_]]:
        """Of each segment's frames those in which the face is one that was asked for."""
        from vidrestore.engine.selection import inside, largest, numbered

        o = self.options
        chosen = [np.ones(len(s.positions), bool) for s in segments]
        if o.faces == "largest":
            chosen = largest(segments)
        elif o.faces != "all":
            chosen = numbered(segments, o.faces)
        return [c & inside(s, o.region) for s, c in zip(segments, chosen, strict=True)] if o.region else chosen

    def _track(
        self,
        segment: Segment,
        chosen: NDArray[np.bool_],
        times: NDArray[np.float64],
        start: int,
        n_now: int,
        state: dict[int, Any],
    ) -> _Poses:
        from vidrestore.geometry.template import FFHQ_512, fit_similarity, matrix_of, pose_of

        pose = pose_of(fit_similarity(segment.landmarks, FFHQ_512), SIZE)
        rows = segment.positions - start
        now = int((rows < n_now).sum())
        known = state.get(segment.track.id)
        unit = float(np.exp(pose[0, 2])) * SIZE / 2 if known is None else known[0]  # about one face width in px
        scaled = pose / np.array([unit, unit, 1.0, 1.0])
        seen, before = segment.scores > 0, None if known is None else known[1]
        smoothed, after = self._filter.smooth(scaled, times[rows], seen, now, before)
        shares = self._shares(segment, chosen, now, None if known is None else known[2])
        state[segment.track.id] = (unit, after, (int(segment.positions[now - 1]), float(shares[-1])))
        matrices = matrix_of(smoothed * np.array([unit, unit, 1.0, 1.0]), SIZE)
        return _Poses(segment, rows[:now], matrices, self._weights(segment, shares))

    def _shares(
        self, segment: Segment, chosen: NDArray[np.bool_], now: int, before: tuple[int, float] | None
    ) -> NDArray[np.float64]:
        """Less of a face that is turned away or hardly seen, none of one not asked for, without a jump: [now]."""
        from vidrestore.engine.fading import followed, foreseen
        from vidrestore.geometry.template import yaw_of

        o, step = self.options, 1 / (self.options.fade + 1)
        turned = (o.yaw + PROFILE - yaw_of(segment.landmarks)) / PROFILE
        seen = (segment.certainty - o.doubt + UNSURE) / UNSURE
        wanted = np.where(chosen, np.clip(np.minimum(turned, seen), 0, 1), 0).astype(np.float64)
        return followed(foreseen(wanted, step)[:now], segment.positions[:now], step, before)

    def _weights(self, segment: Segment, shares: NDArray[np.float64]) -> NDArray[np.float32]:
        """The track's fade, and a soft step at the least size: a face that shrinks through it does not pop."""
        now = len(shares)
        size = np.clip((segment.widths[:now] / self.options.min_size - 0.9) / 0.2, 0, 1)
        weights: NDArray[np.float32] = (np.minimum(segment.weights[:now], shares) * size).astype(np.float32)
        return weights


@dataclass(frozen=True, slots=True)
class _Poses:
    segment: Segment
    rows: NDArray[np.int64]
    matrices: NDArray[np.float64]
    weights: NDArray[np.float32]


def _stacked(parts: list[_Poses]) -> Placed:
    """One table of all tracks, without faces that do not show."""
    from vidrestore.types import Placed

    def column(name: str, dtype: type) -> NDArray[Any]:
        values = [np.full(len(p.rows), getattr(p.segment.track, name)) for p in parts]
        return np.concatenate([np.zeros(0), *values]).astype(dtype)

    table = Placed(
        tracks=column("id", np.int64),
        births=column("birth", np.int64),
        ranks=column("rank", np.int64),
        rows=np.concatenate([np.zeros(0, np.int64), *(p.rows for p in parts)]),
        matrices=np.concatenate([np.zeros((0, 2, 3)), *(p.matrices for p in parts)]),
        weights=np.concatenate([np.zeros(0, np.float32), *(p.weights for p in parts)]),
    )
    usable = (table.weights > 0) & (np.abs(np.linalg.det(table.matrices[:, :, :2])) > 1e-6)
    return table[usable]


def _limited(table: Placed, most: int) -> tuple[Placed, int]:
    """At most ``most`` faces in a frame: the largest."""
    keep = np.ones(len(table), bool)
    scale = np.abs(np.linalg.det(table.matrices[:, :, :2]))  # small = large face
    for row in np.unique(table.rows):
        here = np.flatnonzero(table.rows == row)
        if len(here) > most:
            keep[here[np.argsort(scale[here], kind="stable")[most:]]] = False
    return (table, 0) if keep.all() else (table[keep], int((~keep).sum()))
