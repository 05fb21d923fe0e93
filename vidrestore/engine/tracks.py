"""The tracks of one shot: sightings in, faces of every frame out, gaps filled from both sides.

Every answer about frame t depends on sightings up to t + ``reach`` only, so that it is the same for any window
length and for a shot worked in parts.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vidrestore.types import Faces

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class Track:
    """One face through a shot. ``values`` are box (4) and landmarks (10) of its sightings."""

    id: int  # unique within a run
    birth: int  # position of its first sighting in the shot
    rank: int  # left-to-right among those born in the same frame
    at: list[int] = field(default_factory=list)  # positions of sightings; old ones are dropped
    values: list[NDArray[np.float64]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    sightings: int = 0


class ShotTracks:
    """Sightings of a shot's faces and what follows from them.

    every: frames between two detections; max_gap: longest gap that is filled; fade: frames over which a track
    appears and vanishes; min_sightings: fewer are taken for false hits.
    """

    def __init__(self, every: int, max_gap: int, fade: int, first_id: int = 0, min_sightings: int = 2) -> None:
        self.every, self.max_gap, self.fade, self.min_sightings = every, max_gap, fade, min_sightings
        self.next_id = first_id
        self.live: dict[int, Track] = {}  # by the tracker's own id
        self.tracks: list[Track] = []
        self.reached = 0  # frames of the shot that were analysed
        self.over = False  # no frame of the shot is left

    @property
    def reach(self) -> int:
        """Frames of the future that an answer may depend on."""
        return self.max_gap + self.fade

    def see(self, position: int, faces: Faces) -> None:
        """Enter the tracked faces of the frame at ``position``."""
        born: list[tuple[float, Track]] = []
        for row, number in enumerate(faces.tracks.tolist()):
            track = self.live.get(number)
            if track is None or position - track.at[-1] > self.max_gap:
                track = Track(self.next_id, position, 0)
                self.next_id += 1
                self.live[number] = track
                self.tracks.append(track)
                born.append((float(faces.boxes[row, 0] + faces.boxes[row, 2]), track))
            track.at.append(position)
            track.values.append(np.concatenate([faces.boxes[row], faces.landmarks[row].ravel()]).astype(np.float64))
            track.scores.append(float(faces.scores[row]))
            track.sightings += 1
        for rank, (_, track) in enumerate(sorted(born, key=lambda pair: pair[0])):
            track.rank = rank

    def between(self, start: int, stop: int) -> list[Segment]:
        """The tracks' faces in start <= position < stop, gaps filled; false hits left out."""
        found = (self._segment(track, start, stop) for track in self.tracks if self._believed(track))
        return [segment for segment in found if segment is not None]

    def forget(self, before: int) -> None:
        """Drop what no answer about ``before`` or later needs."""
        for track in self.tracks:
            keep = next((i for i, at in enumerate(track.at) if at > before), len(track.at))
            cut = max(0, min(keep - 1, len(track.at) - 1))
            del track.at[:cut], track.values[:cut], track.scores[:cut]
        self.tracks = [t for t in self.tracks if t.at[-1] + self.max_gap + self.every >= before]
        alive = {id(t) for t in self.tracks}
        self.live = {number: t for number, t in self.live.items() if id(t) in alive}

    def snapshot(self) -> dict[str, Any]:
        """All memory as plain data."""
        tracks = [(t.id, t.birth, t.rank, list(t.at), [v.tolist() for v in t.values], list(t.scores), t.sightings)
                  for t in self.tracks]  # fmt: skip
        live = {number: t.id for number, t in self.live.items()}
        return {"tracks": tracks, "live": live, "next_id": self.next_id, "reached": self.reached, "over": self.over}

    def load(self, data: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        data = deepcopy(data)
        self.tracks = [
            Track(i, birth, rank, at, [np.array(v) for v in values], scores, n)
            for i, birth, rank, at, values, scores, n in data["tracks"]
        ]
        by_id = {t.id: t for t in self.tracks}
        self.live = {number: by_id[i] for number, i in data["live"].items()}
        self.next_id, self.reached, self.over = data["next_id"], data["reached"], data["over"]

    def _believed(self, track: Track) -> bool:
        if track.sightings >= self.min_sightings:
            # sightings rise one gap at a time: whoever has two had the second within max_gap of the first
            return True
        return self.over and self.reached <= track.birth + self.every  # no second look was possible

    def _segment(self, track: Track, start: int, stop: int) -> Segment | None:
        end = track.at[-1]
        ended = self.over or end + self.max_gap < self.reached
        if self.over and self.reached - 1 - end < self.every:
            end = self.reached - 1  # nobody looked at the last frames of the shot: the face is held
        first, last = max(start, track.birth), min(stop - 1, end)
        if first > last:
            return None
        positions = np.arange(first, last + 1)
        values = np.stack([np.interp(positions, track.at, column) for column in np.array(track.values).T], 1)
        seen = dict(zip(track.at, track.scores, strict=True))
        scores = np.array([seen.get(p, 0.0) for p in positions.tolist()], np.float32)
        weights = self._weights(track, positions, end, ended)
        return Segment(track, positions, values, scores, self._certainty(track, positions), weights)

    def _certainty(self, track: Track, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The detector's score, between sightings that of both; where it missed the face for long, less with each
        frame from the nearest sighting."""
        at = np.array(track.at)
        away = np.abs(positions[:, None] - at[None]).min(1)
        missed = np.clip((away - self.every) / max(self.fade, 1), 0, 1)
        certain: NDArray[np.float32] = (np.interp(positions, at, track.scores) * (1 - missed)).astype(np.float32)
        return certain

    def _weights(self, track: Track, positions: NDArray[np.int64], end: int, ended: bool) -> NDArray[np.float32]:
        """How much of a track shows: it fades in and out, but not at the shot's own ends."""
        weights = np.ones(len(positions), np.float32)
        if track.birth > 0:
            weights = np.minimum(weights, (positions - track.birth + 1) / (self.fade + 1))
        if ended and not (self.over and end == self.reached - 1):
            weights = np.minimum(weights, (end - positions + 1) / (self.fade + 1))
        return weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one track: every frame from its first to its last position."""

    track: Track
    positions: NDArray[np.int64]  # [m], rising by one
    values: NDArray[np.float64]  # [m, 14] box and landmarks, display px
    scores: NDArray[np.float32]  # [m], 0 where filled in
    certainty: NDArray[np.float32]  # [m], 0..1: how surely the face is there and seen
    weights: NDArray[np.float32]  # [m], 0..1

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """f32 [m, 5, 2]"""
        return self.values[:, 4:].reshape(-1, 5, 2).astype(np.float32)

    @property
    def widths(self) -> NDArray[np.float64]:
        """Box widths [m], display px."""
        return self.values[:, 2] - self.values[:, 0]


def faces_at(segments: list[Segment], position: int) -> Faces:
    """The faces of one frame out of segments."""
    rows = [(s, position - int(s.positions[0])) for s in segments if s.positions[0] <= position <= s.positions[-1]]
    if not rows:
        return Faces.empty()
    values = np.stack([s.values[i] for s, i in rows]).astype(np.float32)
    scores = np.array([s.scores[i] for s, i in rows], np.float32)
    ids = np.array([s.track.id for s, _ in rows], np.int64)
    return Faces(values[:, :4], values[:, 4:].reshape(-1, 5, 2), scores, ids)
