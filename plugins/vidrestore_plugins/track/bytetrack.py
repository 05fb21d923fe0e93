"""track=bytetrack: two-stage association on overlap, after Zhang et al., "ByteTrack", ECCV 2022.

First the sure detections are matched to the predicted boxes of all tracks, then the doubtful ones to the tracks
that are still without: a face that blurs or turns keeps its number. Prediction is a constant-velocity Kalman
filter on (centre x, centre y, width, height) with noise in proportion to the face's height. All tracks at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidrestore.api import Faces

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

# Standard deviations in face heights (a step is one detection): the paper's code uses these for pedestrians
_POSITION: Final = 1 / 20
_VELOCITY: Final = 1 / 80  # faces are small against their motion


class ByteTrackOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    high: float = Field(0.6, ge=0, le=1, description="score from which a detection is sure and may begin a track")
    overlap: float = Field(0.2, ge=0, le=1, description="IoU with the predicted box that a sure detection needs")
    doubtful: float = Field(0.4, ge=0, le=1, description="IoU that a doubtful detection needs")
    lost: int = Field(5, ge=0, description="detections that a track may miss in a row")


@dataclass(slots=True)
class _Tracks:
    """State of all tracks, a row each."""

    ids: Ints
    mean: Floats  # [n, 8] centre x, y, width, height and their velocities a step
    cov: Floats  # [n, 8, 8]
    missed: Ints  # [n] detections in a row

    def take(self, rows: Any) -> _Tracks:
        return _Tracks(self.ids[rows], self.mean[rows], self.cov[rows], self.missed[rows])

    @staticmethod
    def none() -> _Tracks:
        return _Tracks(np.zeros(0, np.int64), np.zeros((0, 8)), np.zeros((0, 8, 8)), np.zeros(0, np.int64))


class ByteTrack:
    Options: ClassVar[type[BaseModel]] = ByteTrackOptions

    def __init__(self, options: ByteTrackOptions) -> None:
        self.options = options
        self.reset()

    def reset(self) -> None:
        self._tracks, self._next = _Tracks.none(), 0

    def state(self) -> dict[str, Any]:
        t = self._tracks
        return {
            "ids": t.ids.tolist(), "mean": t.mean.tolist(), "cov": t.cov.tolist(), "missed": t.missed.tolist(),
            "next": self._next,
        }  # fmt: skip

    def restore_state(self, state: dict[str, Any]) -> None:
        n = len(state["ids"])
        self._tracks = _Tracks(
            np.array(state["ids"], np.int64),
            np.array(state["mean"], float).reshape(n, 8),
            np.array(state["cov"], float).reshape(n, 8, 8),
            np.array(state["missed"], np.int64),
        )
        self._next = state["next"]

    def update(self, faces: Faces) -> Faces:
        """One step of the paper's algorithm 1. Faces that belong to no track are left out."""
        boxes = _centred(faces.boxes.astype(np.float64))
        sure = faces.scores >= self.options.high
        tracks = _predicted(self._tracks)
        ids = np.full(len(faces), -1, np.int64)

        # first association: sure detections, all tracks
        free = self._match(tracks, np.arange(len(tracks.ids)), boxes, np.flatnonzero(sure), self.options.overlap, ids)
        # second association: doubtful detections, tracks that were seen last time and are still without
        recent = free[tracks.missed[free] == 0]
        self._match(tracks, recent, boxes, np.flatnonzero(~sure), self.options.doubtful, ids)

        tracks.missed = np.where(np.isin(tracks.ids, ids), 0, tracks.missed + 1)
        new = np.flatnonzero(sure & (ids < 0))
        ids[new] = self._next + np.arange(len(new))
        self._next += len(new)
        kept = tracks.take(tracks.missed <= self.options.lost)
        self._tracks = _joined(kept, ids[new], boxes[new])
        return faces[ids >= 0].with_tracks(ids[ids >= 0])

    def _match(self, tracks: _Tracks, rows: Ints, boxes: Floats, found: Ints, least: float, ids: Ints) -> Ints:
        """Match some tracks with some detections, correct the tracks; gives the tracks left over."""
        from scipy.optimize import linear_sum_assignment

        overlap = _iou(tracks.mean[rows, :4], boxes[found])
        i, j = linear_sum_assignment(1 - overlap)
        good = overlap[i, j] >= least
        hit, detection = rows[i[good]], found[j[good]]
        ids[detection] = tracks.ids[hit]
        tracks.mean[hit], tracks.cov[hit] = _corrected(tracks.mean[hit], tracks.cov[hit], boxes[detection])
        return np.setdiff1d(rows, hit)


def _centred(boxes: Floats) -> Floats:
    """x0 y0 x1 y1 -> centre x, y, width, height."""
    size = boxes[:, 2:] - boxes[:, :2]
    return np.column_stack([boxes[:, :2] + size / 2, size])


def _iou(a: Floats, b: Floats) -> Floats:
    """[n, 4] and [m, 4] (centre, size) -> [n, m], 0..1."""
    low = np.maximum((a[:, :2] - a[:, 2:] / 2)[:, None], (b[:, :2] - b[:, 2:] / 2)[None])
    high = np.minimum((a[:, :2] + a[:, 2:] / 2)[:, None], (b[:, :2] + b[:, 2:] / 2)[None])
    common = np.clip(high - low, 0, None).prod(-1)
    union = a[:, 2:].prod(-1)[:, None] + b[:, 2:].prod(-1)[None] - common
    overlap: Floats = common / np.maximum(union, 1e-9)
    return overlap


_F: Final = np.eye(8) + np.eye(8, k=4)  # constant velocity
_H: Final = np.eye(4, 8)


def _predicted(t: _Tracks) -> _Tracks:
    height = t.mean[:, 3:4]
    spread = np.hstack([np.repeat(_POSITION * height, 4, 1), np.repeat(_VELOCITY * height, 4, 1)])
    noise = np.eye(8) * (spread**2)[:, None]
    mean = t.mean @ _F.T
    mean[:, 2:4] = np.maximum(mean[:, 2:4], 1)  # a shrinking box stays a box
    return _Tracks(t.ids, mean, _F @ t.cov @ _F.T + noise, t.missed)


def _corrected(mean: Floats, cov: Floats, boxes: Floats) -> tuple[Floats, Floats]:
    height = mean[:, 3, None]
    r = np.eye(4) * ((_POSITION * np.repeat(height, 4, 1)) ** 2)[:, None]
    s = _H @ cov @ _H.T + r
    gain = cov @ _H.T @ np.linalg.inv(s)
    mean = mean + (gain @ (boxes - mean[:, :4])[..., None])[..., 0]
    return mean, cov - gain @ s @ gain.transpose(0, 2, 1)


def _joined(tracks: _Tracks, ids: Ints, boxes: Floats) -> _Tracks:
    height = boxes[:, 3:4]
    spread = np.hstack([np.repeat(2 * _POSITION * height, 4, 1), np.repeat(10 * _VELOCITY * height, 4, 1)])
    return _Tracks(
        np.concatenate([tracks.ids, ids]),
        np.concatenate([tracks.mean, np.hstack([boxes, np.zeros_like(boxes)])]),
        np.concatenate([tracks.cov, np.eye(8) * (spread**2)[:, None]]),
        np.concatenate([tracks.missed, np.zeros(len(ids), np.int64)]),
    )
