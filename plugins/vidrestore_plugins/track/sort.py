"""track=sort: Kalman prediction and one association on overlap, after Bewley et al., "Simple online and realtime
tracking", ICIP 2016.

Filter and association are facexlib's; its loop is not used, as it prints, numbers faces by a counter that all films
share, and compares arrays in a way that NumPy 2 refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from vidrestore.api import Faces


class SortOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap: float = Field(0.25, ge=0, le=1, description="IoU with the predicted box that a detection needs")
    lost: int = Field(5, ge=0, description="detections that a track may miss in a row")
    begin: float = Field(0.6, ge=0, le=1, description="score from which a detection may begin a track")


class Sort:
    Options: ClassVar[type[BaseModel]] = SortOptions

    def __init__(self, options: SortOptions) -> None:
        self.options = options
        self.reset()

    def reset(self) -> None:
        self._filters: list[Any] = []  # facexlib's, one a track
        self._ids: list[int] = []
        self._next = 0

    def state(self) -> dict[str, Any]:
        kept = [{"x": f.kf.x.tolist(), "P": f.kf.P.tolist(), "missed": f.time_since_update} for f in self._filters]
        return {"filters": kept, "ids": list(self._ids), "next": self._next}

    def restore_state(self, state: dict[str, Any]) -> None:
        self._filters = [_filter(np.array([0.0, 0.0, 1.0, 1.0])) for _ in state["filters"]]
        for one, kept in zip(self._filters, state["filters"], strict=True):
            one.kf.x, one.kf.P = np.array(kept["x"], float), np.array(kept["P"], float)
            one.time_since_update = kept["missed"]
        self._ids, self._next = list(state["ids"]), state["next"]

    def update(self, faces: Faces) -> Faces:
        """One step: predict, match, correct, begin, forget. Faces that belong to no track are left out."""
        from facexlib.tracking.data_association import associate_detections_to_trackers

        boxes = faces.boxes.astype(np.float64)
        predicted = np.array([f.predict() for f in self._filters]).reshape(-1, 4)
        ids = np.full(len(faces), -1, np.int64)
        if len(boxes):
            pairs, _, _ = associate_detections_to_trackers(boxes, predicted, self.options.overlap)
            for row, track in pairs:
                _correct(self._filters[track], boxes[row])
                ids[row] = self._ids[track]
        alive = [i for i, f in enumerate(self._filters) if f.time_since_update <= self.options.lost]
        self._filters, self._ids = [self._filters[i] for i in alive], [self._ids[i] for i in alive]
        for row in np.flatnonzero((ids < 0) & (faces.scores >= self.options.begin)):
            self._filters.append(_filter(boxes[row]))
            self._ids.append(self._next)
            ids[row] = self._next
            self._next += 1
        return faces.with_tracks(ids)[ids >= 0]


def _correct(one: Any, box: Any) -> None:
    from facexlib.tracking.kalman_tracker import convert_bbox_to_z

    one.kf.update(convert_bbox_to_z(box))
    one.time_since_update = 0


def _filter(box: Any) -> Any:
    from facexlib.tracking.kalman_tracker import KalmanBoxTracker

    return KalmanBoxTracker(box)
