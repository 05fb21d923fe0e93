"""A restored film measured against the truth, or against its source where the truth is not known.

Faces are found and tracked in one film, the guide, and the same crops are cut out of all. Numbers are added up frame
by frame: of every track no more than its last frames is held.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from vidrestore.engine.clock import Clock
from vidrestore.engine.job import Progress
from vidrestore.engine.pipeline import device_of
from vidrestore.quality.faces import landmarks
from vidrestore.quality.instep import in_step, opened
from vidrestore.quality.measures import agreeing_detail, centre, detail_ratio, psnr, seam, ssim
from vidrestore.quality.metrics import REFERENCE, RESTORED, SOURCE
from vidrestore.quality.perceptual import distances
from vidrestore.quality.result import Evaluation, Track
from vidrestore.quality.series import Moments, Series, Spread
from vidrestore.quality.shown import MOST, sample
from vidrestore.quality.steadiness import (
    identity_motion,
    jitter,
    landmark_error,
    landmark_motion_error,
    motion,
    motion_difference,
    steadied,
    warping_error,
)
from vidrestore.types import FaceBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.config import RunConfig
    from vidrestore.hooks import Blender
    from vidrestore.notes import Notes
    from vidrestore.quality.instep import Moment
    from vidrestore.quality.result import Key

    Who = Callable[[Tensor], Tensor]  # aligned faces f32 [n, 3, s, s] in 0..1 -> f32 [n, d] of length 1

MOST_SHOWN: Final = 12  # tracks of which pictures are kept
_SMOOTHING: Final = 13  # frames over which the source's landmarks are smoothed


def evaluate(
    paths: Mapping[str, str],
    config: RunConfig,
    notes: Notes,
    *,
    who: Who | None = None,
    side: int = 256,
    tell: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Measure the film ``paths["restored"]`` against ``paths["reference"]``, ``paths["source"]`` or both.

    who: says who a face is in place of the chain's ``embed`` step; side: px of the aligned crops. Raises
    InputAccessError and InputMediaError for films that cannot be read or do not match.
    """
    guide = REFERENCE if REFERENCE in paths else SOURCE
    perceptual, missing = distances() if REFERENCE in paths else ({}, [])
    device, identity = device_of(config.settings.device), "an embedder that was given"
    if who is None:
        embedder = config.step("embed").make()
        embedder.open(device)
        identity = config.step("embed").canon()

        def who(crops: Tensor) -> Tensor:
            vectors: Tensor = embedder.embed(crops.to(device)).cpu()
            return vectors

    result = Evaluation(dict(paths), side, identity, missing)
    clock = Clock()
    with opened(paths, config, notes) as sources, torch.inference_mode():
        detector = config.step("detect").make()
        detector.open(device)
        meter = _Meter(result, guide, config, lambda crops: landmarks(crops.to(device), detector), who, perceptual)
        total = sources[guide].info.frames
        for moment in in_step(sources, guide, config, notes, clock):
            meter.see(moment)
            if tell is not None:
                tell(Progress(result.frames, total, result.faces, moment.seconds))
        meter.finish()
    return result


@dataclass(slots=True)
class _Memory:
    """What the next frame of a track needs of those before."""

    index: int
    crops: dict[str, Tensor]  # [3, s, s] by role
    who: dict[str, NDArray[np.float32]]  # [d]
    points: deque[dict[str, NDArray[np.float32]]]  # three frames' [5, 2]; empty where a face was not found
    bends: deque[dict[str, NDArray[np.float32]]]  # second differences [5, 2]


class _Meter:
    """Adds up what every frame gives."""

    def __init__(
        self,
        result: Evaluation,
        guide: str,
        config: RunConfig,
        find: Callable[[Tensor], NDArray[np.float32]],
        who: Who,
        perceptual: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    ) -> None:
        self.result, self.guide, self.find, self.who, self.perceptual = result, guide, find, who, perceptual
        self.blender: Blender = config.step("blend").make()
        self.judged = [role for role in (RESTORED, SOURCE) if role in result.paths]
        self._memory: dict[int, _Memory] = {}
        self._open: dict[int, Track] = {}

    def see(self, moment: Moment) -> None:
        pictures = moment.pictures()
        self._at = moment
        self.result.frames += 1
        self.result.faces += len(moment.tracks)
        if self.result.has_reference:
            for role in self.judged:
                if pictures[role].shape == pictures[REFERENCE].shape:
                    whole = psnr(pictures[role][None], pictures[REFERENCE][None])
                    self._add("psnr_picture", role, float(whole))
        if len(moment.tracks):
            self._faces(moment, pictures)
        self._close(moment)

    def finish(self) -> None:
        for track in self._open.values():
            self._end(track)
        self.result.tracks.sort(key=lambda t: t.number)

    # -- one frame ---------------------------------------------------------------------------------------------

    def _faces(self, moment: Moment, pictures: Mapping[str, Tensor]) -> None:
        crops = moment.crops(pictures, self.result.side)
        who = {role: self.who(x).numpy() for role, x in crops.items()}
        points = {role: self.find(x) for role, x in crops.items()}
        for i, number in enumerate(moment.tracks.tolist()):
            track = self._open.get(number)
            if track is None:
                track = self._open[number] = Track(number, moment.seconds, moment.seconds, 0)
            track.end, track.frames = moment.seconds, track.frames + 1
            track.samples.offer(partial(sample, moment, pictures, i))
        for i, row in enumerate(self._alone(crops, who, points)):
            self._enter(int(moment.tracks[i]), row)
        for i, number in enumerate(moment.tracks.tolist()):
            now = {role: x[i] for role, x in crops.items()}
            here = {role: x[i] for role, x in points.items()}
            ids = {role: x[i] for role, x in who.items()}
            seen = here if all(np.isfinite(p).all() for p in here.values()) else {}
            self._enter(number, self._in_time(number, now, ids, seen))

    def _alone(
        self,
        crops: Mapping[str, Tensor],
        who: Mapping[str, NDArray[np.float32]],
        points: Mapping[str, NDArray[np.float32]],
    ) -> list[dict[Key, float]]:
        """What a frame tells by itself, of each face."""
        found: dict[Key, Any] = {}
        scale = 512 / self.result.side
        for role in self.judged if REFERENCE in crops else ():
            ours, truth = crops[role], crops[REFERENCE]
            found["psnr", role] = psnr(ours, truth)
            found["psnr_face", role] = psnr(centre(ours), centre(truth))
            found["ssim", role] = ssim(ours, truth)
            found["detail", role] = agreeing_detail(ours, truth)
            for name, distance in self.perceptual.items():
                found[name, role] = distance(ours, truth)
            found["ids", role] = (who[role] * who[REFERENCE]).sum(1)
            pairs = zip(points[role], points[REFERENCE], strict=True)
            found["akd", role] = [landmark_error(a * scale, b * scale) for a, b in pairs]
        if SOURCE in crops:
            ours, source = crops[RESTORED], crops[SOURCE]
            found["sharpness", RESTORED] = detail_ratio(ours, source)
            found["id_source", RESTORED] = (who[RESTORED] * who[SOURCE]).sum(1)
        before = crops[SOURCE if SOURCE in crops else REFERENCE]
        found["seam", RESTORED] = seam(crops[RESTORED], before, self._mask(before))
        return [{key: float(values[i]) for key, values in found.items()} for i in range(len(before))]

    def _mask(self, crops: Tensor) -> Tensor:
        """What the chain's blender would let through."""
        n, zero = len(crops), np.zeros(len(crops), np.int64)
        batch = FaceBatch(crops, zero, zero, np.zeros(n), torch.zeros(n, 32, 32), np.ones(n, np.float32))
        return self.blender.blend(batch, crops)[1]

    # -- frames in time ----------------------------------------------------------------------------------------

    def _in_time(
        self,
        number: int,
        crops: dict[str, Tensor],
        who: dict[str, NDArray[np.float32]],
        points: dict[str, NDArray[np.float32]],
    ) -> dict[Key, float]:
        """What a face's frame tells beside the one before it."""
        index = self._at.index
        past = self._memory.get(number)
        found: dict[Key, float] = {}
        if past is None or past.index != index - 1:
            past = _Memory(index, crops, who, deque(maxlen=3), deque(maxlen=_SMOOTHING))
            self._memory[number] = past
        else:
            found |= self._pixels(past.crops, crops)
            found |= {("vidd", role): identity_motion(np.stack([past.who[role], who[role]])) for role in who}
        if not points:
            past.points.clear()
            past.bends.clear()
        else:
            past.points.append(points)
            found |= self._motion(past)
        past.index, past.crops, past.who = index, crops, who
        return found

    def _pixels(self, before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[Key, float]:
        pair = {role: centre(torch.stack([before[role], now[role]])) for role in now}
        films = {role: x.permute(0, 2, 3, 1).contiguous().numpy() for role, x in pair.items()}
        eight = {role: np.rint(x * 255).astype(np.uint8) for role, x in films.items()}
        flow = [motion(*eight[self.guide])]
        found: dict[Key, float] = {("e_warp", r): 1000 * warping_error(x, flow) for r, x in films.items()}
        if REFERENCE not in now:
            return found
        lpips = self.perceptual.get("lpips")
        for role in self.judged:
            found["e_warp_error", role] = 1000 * warping_error(films[role] - films[REFERENCE], flow)
            truth = eight[REFERENCE]
            found["tof", role] = motion_difference((eight[role][0], eight[role][1]), (truth[0], truth[1]))
            if lpips:
                a, b = (float(lpips(before[r][None], now[r][None])) for r in (role, REFERENCE))
                found["tlp", role] = 100 * abs(a - b)
        return found

    def _motion(self, past: _Memory) -> dict[Key, float]:
        """Of the landmarks."""
        found: dict[Key, float] = {}
        last = past.points[-1]
        eyes = float(np.linalg.norm(last[self.guide][1] - last[self.guide][0]))
        paths = {role: np.stack([p[role] for p in past.points]) for role in last}
        if len(past.points) >= 2 and REFERENCE in paths:
            truth = paths[REFERENCE][-2:]
            found |= {("lme", r): landmark_motion_error(paths[r][-2:], truth, eyes) for r in self.judged}
        if len(past.points) < 3:
            return found
        found |= {("jitter", role): jitter(path, eyes) for role, path in paths.items()}
        if REFERENCE in paths:
            found |= {("jitter_error", r): jitter(paths[r] - paths[REFERENCE], eyes) for r in self.judged}
        else:
            past.bends.append({role: path[2] - 2 * path[1] + path[0] for role, path in paths.items()})
            found |= _beside_steadied(past.bends, eyes)
        return found

    # -- adding up ---------------------------------------------------------------------------------------------

    def _enter(self, number: int, row: Mapping[Key, float]) -> None:
        for key, value in row.items():
            self._add(*key, value)
            self._open[number].values.setdefault(key, Moments()).add(value)

    def _add(self, metric: str, role: str, value: float) -> None:
        series = self.result.series.setdefault((metric, role), Series())
        series.add(self._at.index, self._at.seconds, value)

    def _close(self, moment: Moment) -> None:
        """Let go of the tracks that have ended."""
        for number in [n for n in self._open if n not in moment.alive]:
            self._memory.pop(number, None)
            self._end(self._open.pop(number))

    def _end(self, track: Track) -> None:
        """Of the tracks that are over, the longest keep their pictures."""
        self.result.tracks.append(track)
        with_pictures = sorted((t for t in self.result.tracks if t.samples.items), key=lambda t: -t.frames)
        for one in with_pictures[MOST_SHOWN:]:
            one.samples = Spread(MOST)


def _beside_steadied(bends: Sequence[Mapping[str, NDArray[np.float32]]], eyes: float) -> dict[Key, float]:
    """Jitter of the restored film and of the source, smoothed, at one and the same frame: the middle one of those
    held. None near the ends of a track."""
    if len(bends) < _SMOOTHING:
        return {}
    source = steadied(np.stack([b[SOURCE] for b in bends]))
    restored = bends[_SMOOTHING // 2][RESTORED]
    pair = {RESTORED: restored, SOURCE: source}
    return {("jitter_beside", r): float(100 * np.linalg.norm(b, axis=1).mean() / eyes) for r, b in pair.items()}
