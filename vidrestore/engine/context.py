"""What a restorer may ask the engine for: noise, constants of a track, memory from window to window."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidrestore.engine.noise import TrackKey, keyed_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from vidrestore.engine.memory import Layer
    from vidrestore.types import FaceBatch


class RunContext:
    """The context of one batch (``hooks.Context``). Everything is kept by track, in the window's layer."""

    def __init__(
        self, faces: FaceBatch, keys: Mapping[int, TrackKey], layer: Layer, seed: int, device: torch.device
    ) -> None:
        self.device = device
        self._faces, self._keys, self._layer, self._seed = faces, keys, layer, seed
        self._written: list[tuple[tuple[Any, ...], Any]] = []

    def noise(self, name: str, shape: tuple[int, ...], *, fixed: bool = True) -> Tensor:
        """Unit Gaussian f32 [n, *shape]: one draw a track, or a frame where not ``fixed``."""
        faces = self._faces
        if fixed:
            draws = {int(t): keyed_noise(self._seed, self._keys[int(t)], name, shape) for t in np.unique(faces.tracks)}
            rows = [draws[int(t)] for t in faces.tracks]
        else:
            pairs = zip(faces.tracks.tolist(), faces.frames.tolist(), strict=True)
            rows = [keyed_noise(self._seed, self._keys[t], name, shape, frame) for t, frame in pairs]
        return torch.stack(rows).to(self.device)

    def once(self, name: str, fn: Callable[[Tensor], Tensor]) -> Tensor:
        """Per-track constants [n, ...]; ``fn`` computes them for tracks that have none, from their first row."""
        tracks = self._faces.tracks.tolist()
        first = {track: row for row, track in reversed(list(enumerate(tracks)))}
        new = [t for t in dict.fromkeys(tracks) if self._layer.get(("once", name, t)) is None]
        if new:
            values = fn(torch.tensor([first[t] for t in new], device=self.device))
            for track, value in zip(new, values, strict=True):
                self.set(("once", name, track), value.clone())
        return torch.stack([self._layer.get(("once", name, t)) for t in tracks])

    def carry(self, name: str) -> Carry:
        """Track id -> what the window before stored under this name."""
        return Carry(self, name, sorted(set(self._faces.tracks.tolist())))

    def get(self, key: tuple[Any, ...]) -> Any:
        return self._layer.get(key)

    def set(self, key: tuple[Any, ...], value: Any) -> None:
        self._written.append((key, self._layer.get(key)))
        self._layer.set(key, value)

    def undo(self) -> None:
        """Take back all writes: the batch is begun anew in halves."""
        for key, value in reversed(self._written):
            self._layer.set(key, value)
        self._written.clear()


class Carry(MutableMapping[int, "Tensor"]):
    """A restorer's own memory under one name, by track id of the batch."""

    def __init__(self, context: RunContext, name: str, tracks: list[int]) -> None:
        self._context, self._name, self._tracks = context, name, tracks

    def __getitem__(self, track: int) -> Tensor:
        value: Tensor | None = self._context.get(("carry", self._name, track))
        if value is None:
            raise KeyError(track)
        return value

    def __setitem__(self, track: int, value: Tensor) -> None:
        if track not in self._tracks:
            raise KeyError(f"track {track} is not in this batch")
        self._context.set(("carry", self._name, track), value.clone())  # a view would pin the whole batch

    def __delitem__(self, track: int) -> None:
        self[track]
        self._context.set(("carry", self._name, track), None)

    def __iter__(self) -> Iterator[int]:
        return (t for t in self._tracks if self._context.get(("carry", self._name, t)) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
