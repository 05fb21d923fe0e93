"""Run records of segments, put together to the one of the film."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vidrestore.engine.record import HeldBack, Record, Shot, TrackRecord, Unaltered, around

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidrestore.notes import Notes

_SUMS = ("frames_out", "frames_changed", "faces")


def page_of(record: Record, notes: Notes, begin: int, next_track: int) -> dict[str, Any]:
    """What a segment's record says, as plain data. ``next_track``: number of the first track after it."""
    return {
        "frames_out": record.frames_out - begin,
        "frames_changed": record.frames_changed,
        "faces": record.faces,
        "shots": [asdict(shot) for shot in record.shots.values()],
        "tracks": [asdict(track) for track in record.tracks.values()],
        "unaltered": [asdict(track) for track in record.unaltered.values()],
        "strengths": asdict(record.strengths),
        "course": list(record.course.seconds.items()),
        "seconds": record.seconds,
        "device": record.device,
        "torch_threads": record.torch_threads,
        "weights": dict(record.weights),
        "notes": [asdict(note) for note in notes.all()],
        "next_track": next_track,
    }


def put_together(record: Record, notes: Notes, pages: Iterable[tuple[bool, dict[str, Any]]]) -> None:
    """Enter the pages of a film's segments, in order; each with whether it continues the shot of the one before.

    Tracks are numbered through the film, as in a run at once.
    """
    offset = next_track = 0
    for continues, page in pages:
        if not continues:
            offset = next_track
        next_track = offset + page["next_track"]
        for name in _SUMS:
            setattr(record, name, getattr(record, name) + page[name])
        for shot in page["shots"]:
            record.shots.setdefault(shot["shot"], Shot(**shot))
        for row in page["tracks"]:
            _enter(record, _track(row, offset))
        for row in page["unaltered"]:
            _enter_unaltered(record, Unaltered(**{**row, "track": row["track"] + offset}))
        strengths = record.strengths
        strengths.faces += page["strengths"]["faces"]
        strengths.untouched += page["strengths"]["untouched"]
        strengths.total += page["strengths"]["total"]
        for second, found in page["course"]:
            record.course.add(second, found)
        for stage, spent in page["seconds"].items():
            sums = record.seconds.setdefault(stage, {"wall": 0.0, "cpu": 0.0})
            for kind, seconds in spent.items():
                sums[kind] = round(sums[kind] + seconds, 3)
        record.device, record.torch_threads = page["device"], page["torch_threads"]
        record.weights = page["weights"]
        for note in page["notes"]:
            notes.warn(note["kind"], note["subject"], note["text"], times=note["count"], quiet=note["quiet"])


def _track(row: dict[str, Any], offset: int) -> TrackRecord:
    held = [HeldBack(**h) for h in row["held_back"]]
    return TrackRecord(**{**row, "track": row["track"] + offset, "held_back": held})


def _enter(record: Record, track: TrackRecord) -> None:
    """Add a track, or what a later part of its shot tells of it."""
    known = record.tracks.setdefault(track.track, track)
    if known is track:
        return
    frames = known.frames + track.frames
    known.mean_change += (track.mean_change - known.mean_change) * track.frames / max(frames, 1)
    known.mask_area += (track.mask_area - known.mask_area) * track.frames / max(frames, 1)
    known.last_frame, known.last_pts, known.frames = track.last_frame, track.last_pts, frames
    known.box, known.score = track.box, max(known.score, track.score)
    known.region = around(known.region, track.region)
    seen = [identity for identity in (known.identity, track.identity) if identity is not None]
    known.identity = min(seen, default=None)
    for held in track.held_back:
        last = known.held_back[-1] if known.held_back else None
        if last is None or last.last_frame != held.first_frame - 1:
            known.held_back.append(held)
            continue
        last.last_frame, last.last_pts = held.last_frame, held.last_pts
        last.least_share = min(last.least_share, held.least_share)
        last.causes += [cause for cause in held.causes if cause not in last.causes]


def _enter_unaltered(record: Record, track: Unaltered) -> None:
    """Add a face that was left alone, or what a later part of its shot tells of it."""
    known = record.unaltered.setdefault(track.track, track)
    if known is track:
        return
    known.last_frame, known.last_pts, known.frames = track.last_frame, track.last_pts, known.frames + track.frames
    known.box, known.score = track.box, max(known.score, track.score)
    known.reasons += [reason for reason in track.reasons if reason not in known.reasons]
