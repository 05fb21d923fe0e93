"""One restorer's generator over one batch of faces, and the smoothing of what it yields.

A run stops at each latent. ``smoothed`` holds runs at a latent until enough of the future has arrived there,
smooths the present and lets it go on: one such stage a latent, chained. So the smoother sees the past and a
bounded future, and the whole equals smoothing a shot at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from vidrestore.errors import ResourceError
from vidrestore.types import FaceBatch, Latent, Stretch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.engine.clock import Clock
    from vidrestore.engine.context import RunContext
    from vidrestore.engine.memory import Layer
    from vidrestore.hooks import Restorer, Smoother
    from vidrestore.types import FloatArray, Judged, Window

CROP, OUTPUT = "crop", "output"
_FORGET = 64  # frames without a face after which a track's smoothing begins anew


def steps(restorer: Restorer, faces: FaceBatch, ctx: RunContext) -> Generator[Latent, Tensor, Tensor]:
    """The crop before the network, the network's own latents, and what it changed: all are smoothed alike.

    The change rather than the picture is the last latent: a smoother that averages it cannot smear what the
    source itself does.
    """
    crops = yield Latent(CROP, faces.crops)
    restored = yield from restorer.restore(replace(faces, crops=crops), ctx)
    change = yield Latent(OUTPUT, restored - faces.crops)
    return faces.crops + change


@dataclass(slots=True, eq=False)
class _Part:
    """A generator over some rows of a run's batch."""

    rows: NDArray[np.int64]
    faces: FaceBatch
    context: RunContext
    generator: Generator[Latent, Tensor, Tensor]
    handed: list[Tensor]  # what it was given so far: enough to bring a fresh generator to the same place
    pending: Latent | None = None
    result: Tensor | None = None

    def step(self, value: Tensor | None) -> None:
        with torch.inference_mode():
            try:
                self.pending = next(self.generator) if value is None else self.generator.send(value)
            except StopIteration as end:
                self.pending, self.result = None, end.value
        if value is not None:
            self.handed.append(value)


Begin = Callable[[FaceBatch], tuple["RunContext", "Generator[Latent, Tensor, Tensor]"]]


class Run:
    """A generator in flight: ``pending`` is the latent it waits at, ``result`` what it gave in the end.

    Out of device memory the batch goes on in halves; ``on_split`` is told.

    Raises:
        ResourceError: when even one face does not fit.
    """

    def __init__(self, faces: FaceBatch, begin: Begin, on_split: Callable[[], None]) -> None:
        self.faces, self._begin, self._on_split = faces, begin, on_split
        self.pending: Latent | None = None
        self.result: Tensor | None = None
        self._parts = self._start(np.arange(len(faces)), [], None)
        self._gather()

    def advance(self, value: Tensor) -> None:
        """Hand the latent back; go on to the next one or to the end."""
        parts = [self._advance(part, value[part.rows]) for part in self._parts]
        self._parts = [p for some in parts for p in some]
        self._gather()

    def _start(self, rows: NDArray[np.int64], handed: list[Tensor], value: Tensor | None) -> list[_Part]:
        """A fresh generator over these rows, brought to where ``handed`` and ``value`` lead."""
        faces = self.faces if len(rows) == len(self.faces) else self.faces[rows]
        part = _Part(rows, faces, *self._begin(faces), [])
        parts = self._advance(part, None)
        for one in [*handed, *([] if value is None else [value])]:
            local = {int(row): i for i, row in enumerate(rows)}
            parts = [q for p in parts for q in self._advance(p, one[[local[int(r)] for r in p.rows]])]
        return parts

    def _advance(self, part: _Part, value: Tensor | None) -> list[_Part]:
        try:
            part.step(value)
        except torch.OutOfMemoryError as error:
            if len(part.rows) == 1:
                what, remedy = "out of memory with a single face", "use --device cpu or a smaller size"
                raise ResourceError(str(part.context.device), what, remedy) from error
            part.context.undo()
            part.generator.close()
            self._on_split()
            middle = (len(part.rows) + 1) // 2
            halves = [np.arange(middle), np.arange(middle, len(part.rows))]
            return [
                q
                for half in halves
                for q in self._start(part.rows[half], [h[half] for h in part.handed], _rows(value, half))
            ]
        return [part]

    def _gather(self) -> None:
        first = self._parts[0]
        if len(self._parts) == 1:
            self.pending, self.result = first.pending, first.result
            return
        if first.pending is None:
            self.pending, self.result = None, torch.cat([_result(p) for p in self._parts])
        else:
            self.pending = Latent(first.pending.name, torch.cat([_waiting(p) for p in self._parts]))


def _rows(value: Tensor | None, rows: NDArray[np.int64]) -> Tensor | None:
    return None if value is None else value[rows]


def _waiting(part: _Part) -> Tensor:
    if part.pending is None:
        raise ValueError("a restorer must yield the same latents for every batch")
    return part.pending.value


def _result(part: _Part) -> Tensor:
    if part.result is None:
        raise ValueError("a restorer must yield the same latents for every batch")
    return part.result


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One batch of faces of a window on its way through the latents, or an empty window."""

    window: Window
    run: Run | None
    layer: Layer
    final: bool  # the last item of its window
    strengths: FloatArray  # f32 [n], 0..1: how much of each face's change goes in
    judged: Judged | None = None  # by the gate, once it has seen the result


def smoothed(items: Iterable[Item], name: str, smoother: Smoother, clock: Clock) -> Iterator[Item]:
    """Every item with its latent ``name`` smoothed and handed back."""
    held: deque[Item] = deque()
    lookahead = smoother.lookahead if smoother.wants(name) else 0
    for item in items:
        held.append(item)
        while held and _ready(held, lookahead):
            yield _smooth(held, name, smoother, clock)
            held.popleft()
    if held:
        raise RuntimeError("a shot did not end")


def _ready(held: deque[Item], lookahead: int) -> bool:
    newest, first = held[-1], held[0]
    if lookahead == 0:
        return True
    return newest.final and (newest.window.last or newest.window.stop >= first.window.stop + lookahead)


def _smooth(held: deque[Item], name: str, smoother: Smoother, clock: Clock) -> Item:
    item = held[0]
    run = item.run
    if run is None or run.pending is None:
        return item
    if run.pending.name != name:
        raise ValueError(f"the restorer yielded '{run.pending.name}' where it had declared '{name}'")
    if not smoother.wants(name):
        run.advance(run.pending.value)
        return item
    ahead = [h for h in held if h.window is not item.window and h.window.scene == item.window.scene]
    out = run.pending.value.clone()
    tracks = np.unique(run.faces.tracks)
    states = [_state(item, name, int(t)) for t in tracks]
    with clock("smooth"):
        for known in (False, True):
            chosen = [(int(t), s) for t, s in zip(tracks, states, strict=True) if (s is not None) == known]
            if chosen:
                _smooth_tracks(item, ahead, name, smoother, chosen, out)
    run.advance(out)
    return item


def _state(item: Item, name: str, track: int) -> Any:
    """The smoother's memory of a track, None where it is new or was away for long."""
    kept = item.layer.get(("smooth", name, track))
    if kept is None or item.window.start - int(kept["last"]) > _FORGET:
        return None
    return kept["state"]


def _smooth_tracks(
    item: Item, ahead: list[Item], name: str, smoother: Smoother, chosen: list[tuple[int, Any]], out: Tensor
) -> None:
    window, run = item.window, item.run
    assert run is not None and run.pending is not None
    stretch = _stretch(item, ahead, name, smoother.lookahead, [track for track, _ in chosen])
    before = None if chosen[0][1] is None else _stacked([s for _, s in chosen])
    result, after = smoother.smooth(stretch, before)
    for i, (track, _) in enumerate(chosen):
        rows = torch.from_numpy(np.flatnonzero(run.faces.tracks == track)).to(out.device)
        at = torch.from_numpy(run.faces.frames[run.faces.tracks == track] - window.start).to(out.device)
        out[rows] = result[i, at].to(out.dtype)
        state = {key: part[i].clone() for key, part in (after or {}).items()}
        last = int(run.faces.frames[run.faces.tracks == track].max())
        item.layer.set(("smooth", name, track), {"last": last, "state": state})


def _stretch(item: Item, ahead: list[Item], name: str, lookahead: int, tracks: list[int]) -> Stretch:
    """The table of tracks and frames: the item's window and what is known of the frames after it."""
    window, run = item.window, item.run
    assert run is not None and run.pending is not None
    seconds = [f.seconds for f in window.frames] + _future_times(ahead, window.stop, lookahead)
    value, faces = run.pending.value, run.faces
    k, t = len(tracks), len(seconds)
    x = value.new_zeros((k, t, *value.shape[1:]))
    source = faces.crops.new_zeros((k, t, *faces.crops.shape[1:]))
    maps = faces.evidence.new_zeros((k, t, *faces.evidence.shape[1:]))
    present = torch.zeros((k, t), dtype=torch.bool, device=value.device)
    for other in (i.run for i in [item, *ahead]):
        if other is None or other.pending is None:
            continue
        for i, track in enumerate(tracks):
            rows = np.flatnonzero((other.faces.tracks == track) & (other.faces.frames < window.start + t))
            at = torch.from_numpy(other.faces.frames[rows] - window.start).to(value.device)
            from_rows = torch.from_numpy(rows).to(value.device)
            x[i, at] = other.pending.value[from_rows]
            source[i, at] = other.faces.crops[from_rows]
            maps[i, at] = other.faces.evidence[from_rows]
            present[i, at] = True
    times = torch.tensor(seconds, dtype=torch.float64, device=value.device)
    return Stretch(name, x, source, times, pooled(maps, value), present, len(window.frames))


def _future_times(ahead: list[Item], stop: int, lookahead: int) -> list[float]:
    """Seconds of the look-ahead frames that exist; windows without faces have none to give."""
    times: dict[int, float] = {}
    for item in ahead:
        for i, frame in enumerate(item.window.frames):
            times[item.window.start + i] = frame.seconds
    found = []
    for position in range(stop, stop + lookahead):
        if position not in times:
            break
        found.append(times[position])
    return found


def _stacked(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([s[key] for s in states]) for key in states[0]}


def pooled(maps: Tensor, value: Tensor) -> Tensor:
    """Evidence [k, t, 32, 32] on the grid of a latent: [k, t, 1, h, w] for maps, [k, t, 1, ...] for vectors."""
    k, t = maps.shape[:2]
    if value.ndim != 4:
        return maps.mean((-2, -1)).reshape(k, t, *(1 for _ in value.shape[1:]))
    h, w = value.shape[-2:]
    if h <= maps.shape[-2] and w <= maps.shape[-1]:
        grid = F.adaptive_avg_pool2d(maps, (h, w))
    else:
        grid = F.interpolate(maps, size=(h, w), mode="bilinear", align_corners=False)
    return grid[:, :, None]
