"""restore -> smooth -> blend: crops of every window in, patches for its frames out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidrestore.engine.align import SIZE
from vidrestore.engine.context import RunContext
from vidrestore.engine.evidence import evidence, small_grey
from vidrestore.engine.gate import Gate, gated
from vidrestore.engine.grain import Grain, seen
from vidrestore.engine.latents import CROP, OUTPUT, Item, Run, smoothed, steps
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.noise import TrackKey, keyed_noise
from vidrestore.engine.strength import averaged, followed
from vidrestore.engine.trimming import give_back
from vidrestore.geometry.display import display_matrix
from vidrestore.geometry.template import compose, inverse
from vidrestore.geometry.warp import Box, covered, warp
from vidrestore.media.colour import Region, read_rgb, region_around
from vidrestore.media.hdr import carried, sdr_rgb
from vidrestore.types import FaceBatch, Patch, Scene

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.engine.clock import Clock
    from vidrestore.hooks import Assessor, Blender, Restorer, Smoother
    from vidrestore.notes import Notes
    from vidrestore.types import Affine, FloatArray, Frame, Judged, Latent, Placed, Window


@dataclass(frozen=True, slots=True)
class Plugins:
    """What restores: opened and ready."""

    restorer: Restorer
    smoother: Smoother
    blender: Blender
    strength: float | Assessor  # of every face; or who says how damaged each one is
    seed: int
    device: torch.device
    grain: float = 0.0  # share of the source's grain that a face which lost it gets back
    gate: Gate | None = None  # who holds back what is not good enough


class Restoration:
    """The stage that owns the device. ``memory`` is what the windows that left have left behind."""

    def __init__(self, plugins: Plugins, batch: int, notes: Notes, clock: Clock, memory: Memory | None = None) -> None:
        self.plugins, self.batch, self.notes, self.clock = plugins, batch, notes, clock
        self.memory = memory or Memory()
        self._top: Layer | None = None
        self._scene: Scene | None = None
        self.live = 0  # windows in flight
        self.most_live = 0

    def run(self, windows: Iterable[Window]) -> Iterator[Window]:
        """The same windows with their patches."""
        stream: Iterator[Item] = self._items(windows)
        for name in (CROP, *self.plugins.restorer.latents, OUTPUT):
            stream = smoothed(stream, name, self.plugins.smoother, self.clock)
        if self.plugins.gate is not None:
            stream = gated(stream, self.plugins.gate, self.notes, self.clock)
        patches: list[Patch] = []
        strengths: list[FloatArray] = []
        judged: list[Judged] = []
        while True:
            with self.clock("restore"):
                item = next(stream, None)
            if item is None:
                return
            if item.run is not None:
                with self.clock("blend"), torch.inference_mode():
                    patches += self._patches(item.window, item.run, self._shares(item), item.layer)
            strengths.append(item.strengths)
            judged += [item.judged] if item.judged is not None else []
            if item.final:
                item.layer.leave()
                self._forget(item.window)
                self.live -= 1
                in_order = tuple(sorted(patches, key=lambda p: p.row))
                yield replace(item.window, patches=in_order, strengths=np.concatenate(strengths), judged=tuple(judged))
                patches, strengths, judged = [], [], []
                give_back()

    def _items(self, windows: Iterable[Window]) -> Iterator[Item]:
        for window in windows:
            self.live += 1
            self.most_live = max(self.live, self.most_live)
            layer = self._layer(window.scene)
            assert window.placed is not None, "windows are placed before they are restored"
            if len(window.placed) and window.frames[0].layout.hdr:
                what = "faces of HDR pictures are seen as SDR; what changed is carried back as a gain of light"
                self.notes.warn("hdr_faces", "restore", what, times=len(window.placed), quiet=True)
            groups = self._groups(window.placed)
            if not groups:
                yield Item(window, None, layer, final=True, strengths=np.zeros(0, np.float32))
            for i, rows in enumerate(groups):
                faces = self._faces(window, rows, layer)
                strengths = self._strengths(faces, layer)
                run = self._begin(window, rows, faces, layer)
                yield Item(window, run, layer, i == len(groups) - 1, strengths)

    def _shares(self, item: Item) -> FloatArray:
        """f32 [n]: the strengths, less what the gate holds back."""
        gate = self.plugins.gate
        if gate is None or item.judged is None or gate.options.mode == "warn":
            return item.strengths
        return item.strengths * item.judged.shares

    def _layer(self, scene: Scene) -> Layer:
        """A layer over the window before's; over nothing where a shot begins."""
        resumed = self._scene is None
        if self._top is None or (scene != self._scene and not resumed):
            if not resumed:
                self.memory = Memory()
            self._top = Layer(self.memory)
        else:
            self._top = Layer(self._top)
        self._scene = scene
        return self._top

    def _forget(self, window: Window) -> None:
        """Drop what belongs to tracks that have ended: the last part of every key is the track."""
        if window.after is not None:
            alive = window.after.alive
            self.memory.data = {k: v for k, v in self.memory.data.items() if k[-1] in alive}

    def _groups(self, placed: Placed) -> list[NDArray[np.int64]]:
        """Rows of the table in batches of whole tracks, a track longer than a batch alone."""
        groups: list[NDArray[np.int64]] = []
        for track in dict.fromkeys(placed.tracks.tolist()):
            rows = np.flatnonzero(placed.tracks == track)
            if groups and len(groups[-1]) + len(rows) <= self.batch:
                groups[-1] = np.concatenate([groups[-1], rows])
            else:
                groups.append(rows)
        return groups

    def _strengths(self, faces: FaceBatch, layer: Layer) -> FloatArray:
        """f32 [n]: how much of each face's change will go in, from its crop as the source has it."""
        strength = self.plugins.strength
        if isinstance(strength, int | float):
            return np.full(len(faces), strength, np.float32)
        with self.clock("assess"), torch.inference_mode():
            damage = strength.assess(faces.crops)
        return followed(damage, faces.tracks, faces.times, layer)

    def _begin(self, window: Window, rows: NDArray[np.int64], faces: FaceBatch, layer: Layer) -> Run:
        assert window.placed is not None
        placed = window.placed
        keys = {
            int(placed.tracks[r]): TrackKey(window.scene.pts, int(placed.births[r]), int(placed.ranks[r])) for r in rows
        }

        def begin(part: FaceBatch) -> tuple[RunContext, Generator[Latent, Tensor, Tensor]]:
            ctx = RunContext(part, keys, layer, self.plugins.seed, self.plugins.device)
            return ctx, steps(self.plugins.restorer, part, ctx)

        return Run(faces, begin, self._halve)

    def _halve(self) -> None:
        self.batch = max(1, self.batch // 2)
        self.notes.warn("batch_halved", str(self.plugins.device), f"out of memory; going on with {self.batch} a batch")

    def _faces(self, window: Window, rows: NDArray[np.int64], layer: Layer) -> FaceBatch:
        """Aligned crops of some rows of the table, with evidence."""
        placed, size = window.placed, self.plugins.restorer.size
        assert placed is not None
        with self.clock("crop"):
            crops = torch.stack([crop_of(window.frames[placed.rows[r]], placed.matrices[r], size) for r in rows])
            crops = crops.to(self.plugins.device)
            tracks = placed.tracks[rows]
            scale = np.sqrt(np.abs(np.linalg.det(placed.matrices[rows][:, :, :2]))) * size / SIZE
            times = np.array([window.frames[i].seconds for i in placed.rows[rows]])
            change = self._evidence(crops, tracks, layer)
        return FaceBatch(crops, tracks, window.start + placed.rows[rows], times, change, scale.astype(np.float32))

    def _evidence(self, crops: Tensor, tracks: NDArray[np.int64], layer: Layer) -> Tensor:
        """How each crop differs from its track's crop before; a track's first counts as changed."""
        grey = small_grey(crops)
        before = torch.roll(grey, 1, dims=0)
        first = np.flatnonzero(np.diff(tracks, prepend=-1))
        new = []
        for row in first:
            known = layer.get(("grey", int(tracks[row])))
            before[row] = grey[row] if known is None else known
            if known is None:
                new.append(int(row))
        for row in np.flatnonzero(np.diff(tracks, append=-1)):
            layer.set(("grey", int(tracks[row])), grey[row].clone())
        maps = evidence(grey, before)
        maps[new] = 1.0
        return maps

    def _patches(self, window: Window, run: Run, strengths: FloatArray, layer: Layer) -> list[Patch]:
        """The change of each face at the source's own size."""
        assert run.result is not None and window.placed is not None
        faces, placed = run.faces, window.placed
        if not strengths.any() or torch.equal(run.result, faces.crops):
            return []  # there is nothing to blend
        restored, alpha = self.plugins.blender.blend(faces, run.result)
        change = restored - faces.crops
        table = {(int(t), int(r)): i for i, (t, r) in enumerate(zip(placed.tracks, placed.rows, strict=True))}
        found = []
        for i, (track, frame) in enumerate(zip(faces.tracks.tolist(), faces.frames.tolist(), strict=True)):
            row = frame - window.start
            at = table[track, row]
            share = float(placed.weights[at]) * float(strengths[i])
            if share > 0 and bool(change[i].any()) and bool(alpha[i].any()):
                patch = _patch(window.frames[row], row, track, placed.matrices[at], change[i], alpha[i] * share)
                if patch is not None:
                    found.append(self._grained(patch, window, at, layer) if self.plugins.grain else patch)
        return found

    def _grained(self, patch: Patch, window: Window, at: int, layer: Layer) -> Patch:
        """The patch with the grain that the face lost; ``at`` is its row in the table of placed faces."""
        assert window.placed is not None
        frame, placed, (height, width) = window.frames[patch.row], window.placed, patch.alpha.shape
        region = Region(patch.x0, patch.y0, patch.x0 + width, patch.y0 + height)
        answers = seen(read_rgb(frame, region), patch)[None]
        grain = Grain.of(averaged(answers, np.array([frame.seconds]), ("grain", patch.track), layer)[0])
        track = TrackKey(window.scene.pts, int(placed.births[at]), int(placed.ranks[at]))
        position = window.start + patch.row
        white = keyed_noise(self.plugins.seed, track, "grain", (height, width), position)
        return grain.added(patch, self.plugins.grain * white)


def stored_to_crop(frame: Frame, matrix: NDArray[np.float64], size: int) -> Affine:
    """Stored luma px -> crop px of ``size``, from the placement (display px -> crop of 512)."""
    return compose(matrix * (size / SIZE), display_matrix(frame.layout))


def crop_of(frame: Frame, matrix: NDArray[np.float64], size: int) -> Tensor:
    """f32 [3, S, S], SDR of an HDR film; what lies outside the picture is mirrored."""
    to_crop = stored_to_crop(frame, matrix, size)
    layout = frame.layout
    region = region_around(layout, *covered(to_crop, (0, 0, size - 1, size - 1), layout.height, layout.width))
    if region.empty:
        return torch.zeros(3, size, size)
    return warp(sdr_rgb(frame, region), _from_region(to_crop, region), (size, size), "reflection")


def _patch(
    frame: Frame, row: int, track: int, matrix: NDArray[np.float64], change: Tensor, alpha: Tensor
) -> Patch | None:
    """A crop's change [3, S, S] at the source's size, where its alpha [1, S, S] lets it show."""
    size = alpha.shape[-1]
    to_crop = stored_to_crop(frame, matrix, size)
    layout = frame.layout
    region = region_around(layout, *covered(to_crop, _shown(alpha[0]), layout.height, layout.width))
    if region.empty:
        return None
    back = inverse(_from_region(to_crop, region))
    shown = warp(alpha, back, region.size, "zeros")  # linear: stays within 0..1, and 0 where it was 0
    larger = warp(change, back, region.size, "zeros", "bicubic")  # linear would soften what the network sharpened
    out = torch.cat([larger * shown, shown]).float().cpu()
    difference = carried(read_rgb(frame, region), out[:3], layout) if layout.hdr else out[:3]
    return Patch(row, track, region.x0, region.y0, difference, out[3])


def _shown(alpha: Tensor) -> Box:
    """The rectangle of a crop in which anything shows, with a pixel around it for the interpolation."""
    rows, columns = alpha.any(1).nonzero()[:, 0], alpha.any(0).nonzero()[:, 0]
    return float(columns[0]) - 1, float(rows[0]) - 1, float(columns[-1]) + 1, float(rows[-1]) + 1


def _from_region(to_crop: Affine, region: Region) -> Affine:
    """The same map for coordinates counted from the region's corner."""
    return np.column_stack([to_crop[:, :2], to_crop[:, :2] @ [region.x0, region.y0] + to_crop[:, 2]])


def dump(memory: Memory) -> dict[Any, Any]:
    """A shot's memory as plain data, on the CPU: what a later part loads."""
    return {key: _moved(value, torch.device("cpu")) for key, value in memory.data.items() if value is not None}


def load(data: dict[Any, Any], device: torch.device) -> Memory:
    """The memory that ``dump`` gave, on the device that goes on with it."""
    return Memory({key: _moved(value, device) for key, value in data.items()})


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(part, device) for key, part in value.items()}
    return value
