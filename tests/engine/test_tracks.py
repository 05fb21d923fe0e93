"""Tracks of a shot: gaps filled, false hits left out, fades, ranks; ByteTrack's own habits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fakes import face, faces
from hypothesis import given
from hypothesis import strategies as st

from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.tracks import Segment, ShotTracks, faces_at
from vidrestore.types import Faces
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from collections.abc import Iterator


def tracked(*found: tuple[int, Any]) -> Faces:
    """Faces with the tracker's own ids."""
    table = faces(*(f for _, f in found))
    return table.with_tracks(np.array([i for i, _ in found], np.int64))


def shot(script: dict[int, list[tuple[int, Any]]], n: int, every: int = 1, fade: int = 3) -> ShotTracks:
    tracks = ShotTracks(every, max_gap=6, fade=fade)
    for position in range(0, n, every):
        tracks.see(position, tracked(*script.get(position, [])))
    tracks.reached, tracks.over = n, True
    return tracks


def test_a_short_miss_is_filled_on_the_line_between() -> None:
    tracks = shot({i: [(0, face(10.0 * i, 50, 40))] for i in range(20) if i not in (7, 8, 9)}, 20)
    (segment,) = tracks.between(0, 20)
    centres = (segment.values[:, 0] + segment.values[:, 2]) / 2
    np.testing.assert_allclose(centres, np.arange(20) * 10.0, atol=1e-4)
    assert (segment.scores[7:10] == 0).all() and (segment.scores[:7] > 0).all()
    assert (segment.weights == 1).all()


def test_a_long_miss_ends_the_track_and_both_ends_fade() -> None:
    tracks = shot({i: [(0, face(50, 50, 40))] for i in range(40) if not 10 <= i < 25}, 40)
    first, second = tracks.between(0, 40)
    assert first.track.id != second.track.id
    np.testing.assert_allclose(first.weights[-4:], [1, 3 / 4, 2 / 4, 1 / 4])
    np.testing.assert_allclose(second.weights[:4], [1 / 4, 2 / 4, 3 / 4, 1])
    assert first.weights[0] == 1 and second.weights[-1] == 1, "no fade at the shot's own ends"
    assert len(faces_at([first, second], 17)) == 0


def test_a_single_sighting_is_a_false_hit() -> None:
    script = {i: [(0, face(50, 50, 40))] for i in range(20)}
    script[8] = [*script[8], (1, face(150, 50, 40))]
    assert len(shot(script, 20).between(0, 20)) == 1


@pytest.mark.parametrize("n", [1, 2])
def test_in_a_shot_of_one_look_one_sighting_counts(n: int) -> None:
    tracks = shot({0: [(0, face(50, 50, 40))]}, n, every=2)
    (segment,) = tracks.between(0, n)
    assert len(segment.positions) == n, "the frames nobody looked at hold the face"


def test_ranks_run_from_left_to_right() -> None:
    born = [(5, face(200, 50, 40)), (3, face(20, 50, 40)), (9, face(100, 50, 40))]
    tracks = shot(dict.fromkeys(range(4), born), 4)
    assert {t.at[0]: None for t in tracks.tracks} == {0: None}
    assert {t.id: t.rank for t in tracks.tracks} == {0: 2, 1: 0, 2: 1}


def told(segment: Segment) -> Iterator[tuple[int, Any]]:
    """What a segment says of each position."""
    columns = (segment.positions, segment.weights, segment.certainty)
    return ((p, (w, c)) for p, w, c in zip(*(column.tolist() for column in columns), strict=True))


@given(st.integers(1, 20), st.integers(0, 60))
def test_answers_depend_on_the_bounded_future_only(window: int, seed: int) -> None:
    """Placing windows as they come gives what the whole shot gives."""
    rng = np.random.default_rng(seed)
    script = {i: [(0, face(50 + i, 50, 40))] for i in range(60) if rng.random() > 0.4}
    whole = {p: v for s in shot(script, 60).between(0, 60) for p, v in told(s)}
    tracks = ShotTracks(1, max_gap=6, fade=3)
    seen: dict[int, Any] = {}
    read = 0
    for start in range(0, 60, window):
        stop = min(60, start + window)
        while read < min(60, stop + tracks.reach):
            tracks.see(read, tracked(*script.get(read, [])))
            read += 1
        tracks.reached, tracks.over = read, read == 60
        for s in tracks.between(start, stop):
            seen |= dict(told(s))
        tracks.forget(stop)
    assert seen == whole


def test_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    script = {i: [(0, face(50 + i, 50, 40))] for i in range(30)}
    one = shot(script, 30)
    two = ShotTracks(1, 6, 3)
    two.load(one.snapshot())
    assert two.snapshot() == one.snapshot()


def drive(tracker: ByteTrack, frames: list[Faces]) -> list[list[int]]:
    return [tracker.update(f).tracks.tolist() for f in frames]


def test_crossing_faces_keep_their_ids_by_their_motion() -> None:
    frames = [faces(face(40 + 8 * i, 60, 40), face(280 - 8 * i, 96, 40)) for i in range(30)]
    seen = drive(ByteTrack(ByteTrackOptions()), frames)
    assert all(s == [0, 1] for s in seen)


def test_a_doubtful_detection_keeps_a_track_but_begins_none() -> None:
    tracker = ByteTrack(ByteTrackOptions(high=0.6))
    sure, doubtful = faces(face(50, 50, 40, 0.9)), faces(face(51, 50, 40, 0.3))
    assert drive(tracker, [doubtful, sure, doubtful, doubtful]) == [[], [0], [0], [0]]


def test_a_lost_track_comes_back_within_its_time_and_not_after() -> None:
    here, gone = faces(face(50, 50, 40)), faces()
    assert drive(ByteTrack(ByteTrackOptions(lost=3)), [here, here, gone, gone, gone, here])[-1] == [0]
    assert drive(ByteTrack(ByteTrackOptions(lost=3)), [here, here, gone, gone, gone, gone, here])[-1] == [1]


def test_two_trackers_share_nothing() -> None:
    one, two = ByteTrack(ByteTrackOptions()), ByteTrack(ByteTrackOptions())
    drive(one, [faces(face(50, 50, 40)), faces(face(200, 50, 40))])
    assert drive(two, [faces(face(50, 50, 40))]) == [[0]]


def test_a2_077_more_faces_than_allowed_leave_out_the_smallest() -> None:
    sizes = [20, 60, 30, 50]
    script = {i: [(k, face(60 + 90 * k, 80, s)) for k, s in enumerate(sizes)] for i in range(8)}
    align = FFHQ(AlignOptions(min_size=8, max_faces=2))
    segments = shot(script, 8).between(0, 8)
    placed, left_out = align.place(segments, np.arange(8) / 25, 0, 8, {})
    kept = {int(t) for t in placed.tracks}
    assert kept == {s.track.id for s in segments if s.widths[0] >= 50} and left_out == 16


def test_a_long_miss_is_less_certain_the_farther_from_its_sightings() -> None:
    script = {i: [(0, face(50, 50, 40, 0.9 if i < 10 else 0.6))] for i in range(26) if not 10 <= i < 15}
    (segment,) = shot(script, 26).between(0, 26)
    np.testing.assert_allclose(segment.certainty[:10], 0.9, rtol=1e-6)
    np.testing.assert_allclose(segment.certainty[15:], 0.6, rtol=1e-6)
    np.testing.assert_allclose(segment.certainty[10:15], [0.85, 0.8 * 2 / 3, 0.75 / 3, 0.7 * 2 / 3, 0.65], rtol=1e-5)


def weights_of(script: dict[int, list[tuple[int, Any]]], n: int, window: int, **options: Any) -> np.ndarray:
    """Weights of the only face of each frame, placed in windows."""
    align = FFHQ(AlignOptions(min_size=8, **options))
    tracks, state, found = shot(script, n, fade=align.options.fade), {}, []
    for start in range(0, n, window):
        count = min(window, n - start)
        times = np.arange(start, min(n, start + count + align.reach)) / 25
        segments = tracks.between(start, start + count + align.lookahead)
        found.append(align.place(segments, times, start, count, state)[0])
    weights = np.zeros(n)
    for i, placed in enumerate(found):
        weights[i * window + placed.rows] = placed.weights
    return weights


def turned(degrees: float) -> tuple[list[float], np.ndarray, float]:
    """A face at (100, 80) whose head is turned aside: the template's five points in space, seen from afar."""
    box, points, score = face(100, 80, 60)
    depth = np.array([0, 0, 0.6, 0, 0]) * (points[1, 0] - points[0, 0])
    aside = points.copy()
    yaw = np.radians(degrees)
    aside[:, 0] = 100 + (points[:, 0] - 100) * np.cos(yaw) + depth * np.sin(yaw)
    return box, aside, score


def test_a_head_that_turns_away_fades_and_comes_back_in_small_steps() -> None:
    angles = np.concatenate([np.zeros(20), np.linspace(0, 45, 10), np.full(12, 80.0), np.full(20, 30.0)])
    script = {i: [(0, turned(a))] for i, a in enumerate(angles)}
    weights = weights_of(script, len(angles), 16)
    assert (weights[:24] == 1).all() and (weights[-13:] == 1).all(), "three quarters of a face are a face"
    assert (weights[30:42] == 0).all(), "a profile is left as it is"
    assert np.abs(np.diff(weights)).max() <= 1 / 7 + 1e-6, "though it turns from one frame to the next"
    for window in (1, 5, 62):
        np.testing.assert_allclose(weights_of(script, len(angles), window), weights, atol=1e-6)


def test_a_face_that_is_hardly_seen_fades_in_small_steps() -> None:
    scores = np.concatenate([np.full(20, 0.95), np.full(10, 0.45), np.full(20, 0.95)])
    script = {i: [(0, face(100, 80, 60, s))] for i, s in enumerate(scores)}
    weights = weights_of(script, 50, 16)
    np.testing.assert_allclose(weights[20:30], (0.45 - 0.4) / 0.3, atol=1e-5)
    assert (weights[:13] == 1).all() and np.abs(np.diff(weights)).max() <= 1 / 7 + 1e-6
    np.testing.assert_allclose(weights_of(script, 50, 3), weights, atol=1e-6)
    assert (weights_of(script, 50, 16, doubt=0.4) == 1).all()


def test_faces_below_the_least_size_fade_out_instead_of_popping() -> None:
    script = {i: [(0, face(100, 80, 40 - i))] for i in range(30)}
    align = FFHQ(AlignOptions(min_size=25))
    placed, _ = align.place(shot(script, 30).between(0, 30), np.arange(30) / 25, 0, 30, {})
    weights = placed.weights
    assert weights[0] == 1 and len(weights) < 30
    assert np.abs(np.diff(weights)).max() <= 0.25 and weights[-1] < 0.3
