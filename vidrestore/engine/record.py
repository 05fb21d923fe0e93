"""The run record: what was done to a film, written beside it, on failure too.

A JSON file that answers an archive's questions: what made it, from what, how it can be made again, which faces
were changed when, and what went wrong. It holds no clock time, so that equal runs give equal records but for
the seconds that they took.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import vidrestore
from vidrestore.engine.course import Course
from vidrestore.engine.gate import CAUSES
from vidrestore.engine.roll import Roll
from vidrestore.errors import Stopped, VidrestoreError, exit_code_of, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidrestore.config import RunConfig
    from vidrestore.notes import Notes
    from vidrestore.types import FloatArray, Frame, Judged, Patch, Window

SCHEMA = 1
NOTICE = (
    "Faces in this film were changed by software. It is not evidence of anybody's identity, and no material for "
    "recognising faces."
)
SMALL, EXCLUDED, SHARP, HELD, SAME = (
    "smaller than min_size", "turned away, hardly seen, not asked for, or one too many", "as sharp as it can be shown",
    "held back by the gate", "the restorer changed nothing",
)  # fmt: skip


@dataclass(slots=True)
class _Followed:
    """One face through one shot."""

    track: int
    shot: int
    first_frame: int
    last_frame: int
    first_pts: int
    last_pts: int
    frames: int = 0  # how many of them count
    box: list[float] = field(default_factory=list)  # display px, in its last frame


@dataclass(slots=True)
class TrackRecord(_Followed):
    """In the frames in which it was asked to be restored; those count in which its pixels were changed."""

    region: list[int] = field(default_factory=list)  # x0 y0 x1 y1, stored luma samples: it changed none beyond
    mask_area: float = 0.0  # luma samples that may have been changed, mean of those frames
    score: float = 0.0  # best of the detector
    mean_change: float = 0.0  # of R'G'B' in the changed pixels, 0..1
    identity: float | None = None  # least cosine to the source's face, by the gate
    held_back: list[HeldBack] = field(default_factory=list)


@dataclass(slots=True)
class Unaltered(_Followed):
    """In the frames in which it was seen and nothing of it was changed."""

    score: float = 0.0  # best of the detector
    reasons: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Shot:
    """Where it begins."""

    shot: int
    first_frame: int
    first_pts: int


@dataclass(slots=True)
class HeldBack:
    """A stretch of frames in which the gate asked for less than all of a face's change."""

    first_frame: int
    last_frame: int
    first_pts: int
    last_pts: int
    least_share: float  # 0: the source alone
    causes: list[str]


@dataclass(slots=True)
class Strengths:
    """How much of the change went in, over all faces and frames of a run."""

    faces: int = 0
    untouched: int = 0  # faces of strength 0
    total: float = 0.0

    def see(self, strengths: FloatArray) -> None:
        self.faces += len(strengths)
        self.untouched += int((strengths == 0).sum())
        self.total += float(strengths.sum())

    def as_dict(self) -> dict[str, float] | None:
        """Share of the faces that were left as they are, and the mean; None where there was no face."""
        if not self.faces:
            return None
        return {"untouched": round(self.untouched / self.faces, 4), "mean": round(self.total / self.faces, 4)}


@dataclass(slots=True)
class Record:
    """Filled while a run goes on."""

    source: str
    target: str
    config: RunConfig
    weights: Mapping[str, str] = field(default_factory=dict)
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    shots: Roll[Shot] = field(default_factory=Roll)
    tracks: Roll[TrackRecord] = field(default_factory=Roll)
    unaltered: Roll[Unaltered] = field(default_factory=Roll)
    strengths: Strengths = field(default_factory=Strengths)
    course: Course = field(default_factory=Course)
    masks: dict[str, Any] | None = None  # the film of masks beside the output, where that was asked
    seconds: dict[str, Any] = field(default_factory=dict)
    frames_out: int = 0
    frames_changed: int = 0
    device: str = ""
    torch_threads: int = 0  # CPU threads of the networks; the encoder's are in ``output``
    faces: int = 0
    notice: str = NOTICE
    _shot: int = -1  # the one that was seen last
    degrade: dict[str, Any] | None = None  # what damaged the film, where that was asked
    parts: list[dict[str, Any]] = field(default_factory=list)  # of a film that was split, this one the first
    fallback: dict[str, Any] | None = None  # the encoder that failed before this one took over, and why

    def see(self, frame: Frame, window: Window | None) -> None:
        """Enter one finished frame; without a window it went through unseen."""
        if window is None:
            self.frames_out += 1
            return
        row = self.frames_out - window.frames[0].index
        if self._shot != window.scene.number:
            self._shot = window.scene.number
            for roll in (self.shots, self.tracks, self.unaltered):  # no track goes on behind a cut
                roll.close()
            self.shots.setdefault(self._shot, Shot(self._shot, frame.index, frame.pts))
        if row == 0 and window.strengths is not None:
            self.strengths.see(window.strengths)
        self.frames_out += 1
        self.frames_changed += any(p.row == row for p in window.patches)
        if window.placed is not None:
            rows = (window.placed.rows == row).nonzero()[0].tolist()
            here = {int(window.placed.tracks[at]): at for at in rows}
            for i, track in enumerate(window.faces[row].tracks.tolist()):
                patch = next((p for p in window.patches if p.row == row and p.track == track), None)
                if track in here:
                    self._see_face(track, i, row, frame, window, patch)
                if patch is None:
                    self._see_unaltered(track, i, row, frame, window, here.get(track))
        self._see_judged(frame, row, window)
        self.course.see(frame, row, window)

    def _see_face(self, track: int, i: int, row: int, frame: Frame, window: Window, patch: Patch | None) -> None:
        self.faces += 1
        at = (frame.index, frame.index, frame.pts, frame.pts)
        known = self.tracks.setdefault(track, TrackRecord(track, window.scene.number, *at))
        _seen_again(known, i, row, frame, window)
        if patch is None:
            return
        known.frames += 1
        height, width = patch.alpha.shape
        known.region = around(known.region, [patch.x0, patch.y0, patch.x0 + width, patch.y0 + height])
        known.mean_change += (float(patch.difference.abs().mean()) - known.mean_change) / known.frames
        known.mask_area += (float((patch.alpha > 0).sum()) - known.mask_area) / known.frames

    def _see_unaltered(self, track: int, i: int, row: int, frame: Frame, window: Window, placed: int | None) -> None:
        at = (frame.index, frame.index, frame.pts, frame.pts)
        known = self.unaltered.setdefault(track, Unaltered(track, window.scene.number, *at))
        _seen_again(known, i, row, frame, window)
        known.frames += 1
        reason = self._reason(track, i, row, window, placed)
        known.reasons += [reason] if reason not in known.reasons else []

    def _reason(self, track: int, i: int, row: int, window: Window, placed: int | None) -> str:
        """Why nothing of a face was changed. ``placed``: its place among those that were to be restored."""
        if placed is None:
            box = window.faces[row].boxes[i]
            small = float(box[2] - box[0]) < self.config.step("align").options.model_dump()["min_size"]
            return SMALL if small else EXCLUDED
        if window.strengths is not None and window.strengths[placed] == 0:
            return SHARP
        held = any(((j.tracks == track) & (j.rows == row) & (j.shares == 0)).any() for j in window.judged)
        return HELD if held else SAME

    def _see_judged(self, frame: Frame, row: int, window: Window) -> None:
        for judged in window.judged:
            for i in (judged.rows == row).nonzero()[0].tolist():
                track = self.tracks.get(int(judged.tracks[i]))
                if track is not None:
                    _hold(track, frame, judged, i)

    def _held_back(self) -> int:
        return sum(h.last_frame - h.first_frame + 1 for t in self.tracks.values() for h in t.held_back)

    def as_dict(self, notes: Notes, error: BaseException | None) -> dict[str, Any]:
        """Plain data for JSON."""
        config = self.config
        return {
            "schema": SCHEMA,
            "notice": self.notice,
            "vidrestore": vidrestore.__version__,
            "source": printable(self.source),
            "target": printable(self.target),
            "exit_code": 0 if error is None else exit_code_of(error),
            "error": _error(error),
            "chain": config.chain,
            "chain_sha256": config.chain_hash,
            "seed": config.step("restore").options.model_dump().get("seed", config.settings.seed),
            "weights": dict(self.weights),
            "settings": config.settings.model_dump(mode="json"),
            "encoder": dict(config.encoder),
            "device": self.device,
            "torch_threads": self.torch_threads,
            "input": self.input,
            "output": self.output,
            "frames_out": self.frames_out,
            "frames_changed": self.frames_changed,
            "faces": self.faces,
            "strength": self.strengths.as_dict(),
            "gate": {"mode": config.step("gate").options.model_dump()["mode"], "faces_held_back": self._held_back()},
            **({"degrade": self.degrade} if self.degrade else {}),
            **({"parts": self.parts} if self.parts else {}),
            **({"fallback": self.fallback} if self.fallback else {}),
            "shots": [asdict(s) for s in self.shots.values()],
            "tracks": [_rounded(asdict(t)) for t in self.tracks.values()],
            "unaltered": [asdict(t) for t in self.unaltered.values()],
            "course": self.course.as_dict(),
            "masks": self.masks,
            "notes": [asdict(n) for n in notes.all()],
            "seconds": self.seconds,
            "versions": versions(),
        }


def _seen_again(known: TrackRecord | Unaltered, i: int, row: int, frame: Frame, window: Window) -> None:
    known.last_frame, known.last_pts = frame.index, frame.pts
    known.box = [round(float(v), 1) for v in window.faces[row].boxes[i]]
    known.score = max(known.score, round(float(window.faces[row].scores[i]), 3))


def around(one: list[int], other: list[int]) -> list[int]:
    """The least x0 y0 x1 y1 around two; [] is nothing."""
    if not one or not other:
        return one or other
    return [*(min(a, b) for a, b in zip(one[:2], other[:2], strict=True)),
            *(max(a, b) for a, b in zip(one[2:], other[2:], strict=True))]  # fmt: skip


def _hold(track: TrackRecord, frame: Frame, judged: Judged, i: int) -> None:
    """Enter what the gate found of one face of a frame."""
    identity, share = float(judged.identity[i]), round(float(judged.shares[i]), 3)
    if identity == identity:  # it looked
        track.identity = round(min(identity, 1.0 if track.identity is None else track.identity), 3)
    if share >= 1:
        return
    last = track.held_back[-1] if track.held_back else None
    if last is None or last.last_frame != frame.index - 1:
        last = HeldBack(frame.index, frame.index, frame.pts, frame.pts, share, [])
        track.held_back.append(last)
    last.last_frame, last.last_pts, last.least_share = frame.index, frame.pts, min(last.least_share, share)
    cause = CAUSES[judged.causes[i]] if judged.causes[i] >= 0 else None
    if cause is not None and cause not in last.causes:
        last.causes.append(cause)


def comment(tags: Mapping[str, str], notice: str) -> dict[str, str]:
    """The notice as a tag that players show, unless the film has a comment of its own."""
    return {} if any(key.lower() == "comment" for key in tags) else {"comment": notice}


def versions() -> dict[str, str]:
    """Of what can change a frame."""
    names = ("av", "torch", "kornia", "facexlib", "numpy", "scenedetect")
    return {"python": platform.python_version(), **{n: version(n) for n in names}}


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write whole or not at all."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all."""
    part = path.with_name(f".{path.name}.part"[-200:])
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _error(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    what = error.what if isinstance(error, VidrestoreError | Stopped) else f"{type(error).__name__}: {error}"
    return {"kind": type(error).__name__, "what": printable(what), "line": printable(str(error))}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"mean_change": round(row["mean_change"], 5), "mask_area": round(row["mask_area"])}
