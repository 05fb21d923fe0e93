"""gate=quality: restored faces that are another person, flicker, or lose or invent detail are held back.

Three measures of every restored face against its source:

- identity: the cosine between its embedding and the source's, of the same frame or, where that is larger, of the
  track so far, a running mean in which frames unlike the others (an occluded face, a profile) weigh little;
- flicker: how many times more than its source it changes from one frame to the next;
- detail: how many times more of the source's band of fine structure it has, the source's noise taken off.

Each is averaged over a few frames and turned into a share: 1 where it is as good as asked, 0 where a face looks like
somebody else, flickers twice as much, has half of the detail or twice as much. The least of the three counts. What
goes into the picture is the largest share that never exceeds these and never moves by more than ``1 / fade`` a frame:
it has begun to fall before the first bad frame, for the gate sees ``fade`` frames ahead, and nothing pops.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vidrestore.engine.fading import followed, foreseen
from vidrestore.types import Judged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.engine.clock import Clock
    from vidrestore.engine.latents import Item
    from vidrestore.hooks import Embedder
    from vidrestore.notes import Notes

    F64 = NDArray[np.float64]

EVERY: Final = 4  # frames from one embedding to the next: it is what costs
STRANGER: Final = 0.15  # below the least cosine: it is somebody else
HALF: Final = 2  # frames on either side over which measures are averaged; EVERY frames hold one embedding at least
FLOOR: Final = (1.5 / 255) ** 2  # changes below it are rounding and coding
# face's centre in the small grey crop: eyes, nose and mouth, as in the measures of quality
_ROWS, _COLUMNS = slice(20, 113), slice(28, 100)
SIMILARITY, CHANGE, SOURCE_CHANGE, DETAIL = range(4)  # columns of what is measured
CAUSES: Final = ("identity", "flicker", "detail")
_FAULTS: Final = {
    "identity": "restored faces look like somebody else",
    "flicker": "restored faces flicker more than their source",
    "detail": "restored faces have too little or too much detail",
}
_DONE: Final = {"on": "they are held back", "warn": "they are shown all the same"}


class GateOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["on", "warn", "off"] = Field("on", description="on: hold back; warn: only say so; off: do not look")
    identity: float = Field(0.7, ge=0, le=1, description="least cosine to the source's face; nothing at 0.15 less")
    flicker: float = Field(1.6, ge=1, description="times more than its source a face may flicker; nothing at twice")
    least: float = Field(0.5, ge=0, le=1, description="share of the source's detail a face must keep; nothing at half")
    most: float = Field(3.0, ge=1, description="times the source's detail that it may have; nothing is left at twice")
    fade: int = Field(12, ge=1, description="frames in which a face goes from all to nothing")


class QualityGate:
    """The step as a chain names it: what it works on is the engine's."""

    Options: ClassVar[type[BaseModel]] = GateOptions

    def __init__(self, options: GateOptions) -> None:
        self.options = options


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate at work. ``embedder``: opened."""

    options: GateOptions
    embedder: Embedder

    @property
    def lookahead(self) -> int:
        """Frames of the future that a share depends on."""
        return self.options.fade - 1 + HALF

    def ramps(self, measures: F64) -> F64:
        """Measures [t, 4], NaN where there is none -> shares [t, 3], of identity, flicker, detail."""
        o = self.options
        flicker = np.sqrt((measures[:, CHANGE] + FLOOR) / (measures[:, SOURCE_CHANGE] + FLOOR))
        detail = measures[:, DETAIL]
        identity = _ramp(measures[:, SIMILARITY], o.identity - STRANGER, o.identity)
        few, many = _ramp(detail, o.least / 2, o.least), _ramp(-detail, -2 * o.most, -o.most)
        return np.stack([identity, _ramp(-flicker, -2 * o.flicker, -o.flicker), np.minimum(few, many)], 1)


def gated(items: Iterable[Item], gate: Gate, notes: Notes, clock: Clock) -> Iterator[Item]:
    """Every item with what was found of its faces. Its look-ahead holds as many windows as that of a smoother."""
    held: deque[tuple[Item, _Measured | None]] = deque()
    for item in items:
        with clock("gate"):
            held.append((item, _measured(item, gate.embedder)))
        while held and _ready(held, gate.lookahead):
            with clock("gate"):
                judged = _judged(held, gate)
            held.popleft()
            _say(judged.judged, gate, notes)
            yield judged


def _say(judged: Judged | None, gate: Gate, notes: Notes) -> None:
    for i, cause in enumerate(CAUSES):
        if judged is not None and (n := int((judged.causes == i).sum())):
            text = f"{_FAULTS[cause]}; {_DONE[gate.options.mode]}"
            notes.warn(f"gate_{cause}", "gate", text, times=n)


def _ready(held: deque[tuple[Item, Any]], lookahead: int) -> bool:
    newest, first = held[-1][0], held[0][0]
    return newest.final and (newest.window.last or newest.window.stop >= first.window.stop + lookahead)


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Of one item's faces, rows as in its batch."""

    tracks: NDArray[np.int64]
    frames: NDArray[np.int64]  # positions in the shot
    values: F64  # [n, 4], NaN where not measured


def _measured(item: Item, embedder: Embedder) -> _Measured | None:
    """Everything that looks at pictures; what a track's next frame is compared with goes into the item's layer."""
    run = item.run
    import torch

    if run is None or run.result is None or not item.strengths.any() or torch.equal(run.result, run.faces.crops):
        return None  # nothing of these faces will change

    with torch.inference_mode():
        source, restored = run.faces.crops, run.result
        faces, layer = run.faces, item.layer
        shown = item.strengths > 0
        values = np.full((len(faces), 4), np.nan)
        values[:, DETAIL] = _detail(source, restored)
        small = torch.stack([_small(source), _small(restored)], 1)
        for track in dict.fromkeys(faces.tracks.tolist()):
            rows = np.flatnonzero(faces.tracks == track)
            before = layer.get(("gate_small", track))
            rows = rows[shown[rows]]
            if not len(rows):
                continue
            values[rows, CHANGE], values[rows, SOURCE_CHANGE] = _changes(small[rows], faces.frames[rows], before)
            layer.set(("gate_small", track), {"at": int(faces.frames[rows[-1]]), "small": small[rows[-1]].clone()})
        looked = np.flatnonzero(shown & (faces.frames % EVERY == 0))
        if len(looked):
            vectors = embedder.embed(torch.cat([source[looked], restored[looked]])).cpu().double().numpy()
            seen, made = np.split(vectors, 2)
            for track in dict.fromkeys(faces.tracks[looked].tolist()):
                of = np.flatnonzero(faces.tracks[looked] == track)
                total = layer.get(("gate_face", track))
                similarity, total = _similarities(seen[of], made[of], None if total is None else np.array(total))
                values[looked[of], SIMILARITY] = similarity
                layer.set(("gate_face", track), total.tolist())
    values[~shown] = np.nan
    return _Measured(faces.tracks, faces.frames, values)


def _similarities(seen: F64, made: F64, total: F64 | None) -> tuple[F64, F64]:
    """Cosines of restored faces [m, d] to the source's now or to its weighted sum so far, and that sum [d]."""
    found = np.empty(len(seen))
    for i, (source, restored) in enumerate(zip(seen, made, strict=True)):
        weight = 1.0 if total is None else max(0.1, float(source @ total) / max(float(np.linalg.norm(total)), 1e-9))
        total = weight * source + (0 if total is None else total)
        found[i] = max(float(restored @ source), float(restored @ total) / max(float(np.linalg.norm(total)), 1e-9))
    assert total is not None
    return found, total


def _small(crops: Tensor) -> Tensor:
    """The face's centre, grey, [n, 46, 36]."""
    import torch.nn.functional as F

    from vidrestore.engine.evidence import small_grey

    return F.avg_pool2d(small_grey(crops)[:, None, _ROWS, _COLUMNS], 2)[:, 0]


def _changes(small: Tensor, frames: NDArray[np.int64], before: dict[str, Any] | None) -> tuple[F64, F64]:
    """Mean squares of the change since the frame before, of the restored and of the source, NaN where there is no
    frame before. small: [m, 2, h, w]."""
    import torch

    first = small[:1] if before is None else before["small"][None]
    squares = (small - torch.cat([first, small[:-1]])).square().mean((2, 3)).cpu().double().numpy()
    last = -2 if before is None else int(before["at"])
    squares[np.diff(frames, prepend=last) != 1] = np.nan
    return squares[:, 1], squares[:, 0]


def _detail(source: Tensor, restored: Tensor) -> F64:
    """Ratio [n] of the amplitudes of what is finer than 9 px at a crop of 128 px, in the face's centre."""
    import torch.nn.functional as F

    from vidrestore.engine.evidence import noise, small_grey

    def energy(grey: Tensor) -> Tensor:
        fine = grey - F.avg_pool2d(F.pad(grey[:, None], (4,) * 4, mode="reflect"), 9, 1)[:, 0]
        return fine[:, _ROWS, _COLUMNS].square().mean((1, 2))

    grey = small_grey(source)
    true = (energy(grey) - noise(grey).square()).clamp(min=FLOOR)
    ratio: F64 = (energy(small_grey(restored)).clamp(min=FLOOR) / true).sqrt().cpu().double().numpy()
    return ratio


def _judged(held: deque[tuple[Item, _Measured | None]], gate: Gate) -> Item:
    """The first item with the verdict on its faces; a track's past goes into its layer."""
    item, measured = held[0]
    if item.run is None:
        return item
    n = len(item.run.faces)
    shares, table = np.ones(n), np.full((n, 3), np.nan, np.float32)
    causes = np.full(n, -1)
    if measured is not None:
        start, stop, step = item.window.start, item.window.stop, 1 / gate.options.fade
        span = (start - HALF, stop + gate.lookahead)
        ahead = [m for other, m in held if m is not None and other.window.scene == item.window.scene]
        for track in dict.fromkeys(measured.tracks.tolist()):
            rows = np.flatnonzero(measured.tracks == track)
            past = item.layer.get(("gate_past", track))
            values = _along(ahead, track, span, past)
            means = np.where(np.isnan(values[:, DETAIL:]), np.nan, _box(values))  # of frames that are not judged: none
            wanted = gate.ramps(means)
            at = measured.frames[rows] - span[0]
            least = np.where(np.isnan(wanted), 1, wanted)
            most, before = foreseen(least.min(1), step)[at], None if past is None else (past["at"], past["share"])
            shares[rows] = followed(most, measured.frames[rows], step, before)
            table[rows] = _shown(means[at])
            causes[rows] = np.where(least[at].min(1) < 1, least[at].argmin(1), -1)
            keep = slice(stop - HALF - span[0], stop - span[0])
            item.layer.set(
                ("gate_past", track),
                {"stop": stop, "at": int(measured.frames[rows[-1]]), "share": float(shares[rows[-1]])}
                | {"values": values[keep].tolist()},
            )
    faces = item.run.faces
    identity, flicker, detail = table.T
    rows = faces.frames - item.window.start
    verdict = Judged(faces.tracks, rows, shares.astype(np.float32), identity, flicker, detail, causes)
    return replace(item, judged=verdict)


def _along(ahead: list[_Measured], track: int, span: tuple[int, int], past: dict[str, Any] | None) -> F64:
    """What was measured of a track at each position of the span, [t, 4]."""
    values = np.full((span[1] - span[0], 4), np.nan)
    if past is not None:
        for i, row in enumerate(past["values"]):
            position = past["stop"] - len(past["values"]) + i
            if position >= span[0]:
                values[position - span[0]] = row
    for one in ahead:
        rows = np.flatnonzero((one.tracks == track) & (one.frames < span[1]))
        values[one.frames[rows] - span[0]] = one.values[rows]
    return values


def _box(values: F64) -> F64:
    """Means over 2 HALF + 1 frames of what was measured in them; beyond the span there is nothing."""
    padded = np.pad(values, ((HALF, HALF), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * HALF + 1, axis=0)
    known = ~np.isnan(windows)
    total = np.where(known, windows, 0).sum(-1)
    return np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)


def _shown(means: F64) -> F64:
    """Identity, flicker, detail [t, 3], as the record tells them."""
    flicker = np.sqrt((means[:, CHANGE] + FLOOR) / (means[:, SOURCE_CHANGE] + FLOOR))
    return np.stack([means[:, SIMILARITY], flicker, means[:, DETAIL]], 1)


def _ramp(value: F64, none: float, all_: float) -> F64:
    """0 at ``none``, 1 at ``all_``, NaN where the value is."""
    return np.clip((value - none) / max(all_ - none, 1e-9), 0, 1)
