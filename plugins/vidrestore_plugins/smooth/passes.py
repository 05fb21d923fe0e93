"""Recursive filters without lag: forward over all the past, backward from the look-ahead, the mean of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import Stretch

Memory = dict[str, Any]  # tensors [r, ...]; "y" is the smoothed value


class Recursion(Protocol):
    """One step of a filter over r independent rows."""

    def begin(self, x: Tensor) -> Memory:
        """The memory after a first value x [r, ...]."""
        ...

    def step(self, memory: Memory, x: Tensor, dt: Tensor, evidence: Tensor) -> Memory:
        """The memory after the next value; dt: [r, 1, ...] seconds, 0 or more; evidence broadcastable to x."""
        ...


def both_ways(recursion: Recursion, stretch: Stretch, lookahead: int, state: Any) -> tuple[Tensor, Memory]:
    """[k, n_now, ...] f32 and the forward pass' memory. Without look-ahead the forward pass alone."""
    x, evidence, present = stretch.x.float(), stretch.evidence, stretch.present
    memory, forward = state, []
    for i in range(stretch.n_now):
        now = stretch.times[i].expand(len(x))
        memory = _after(recursion, memory, x[:, i], now, evidence[:, i], present[:, i])
        forward.append(memory["y"])
    smoothed = torch.stack(forward, 1)
    if lookahead:
        smoothed = (smoothed + _backward(recursion, stretch, lookahead)) / 2
    return smoothed, memory


def _backward(recursion: Recursion, stretch: Stretch, lookahead: int) -> Tensor:
    """[k, n_now, ...]: each frame as seen from ``lookahead`` frames ahead; one row a track and frame."""
    k, t = stretch.x.shape[:2]
    memory: Any = None
    frames = torch.arange(stretch.n_now, device=stretch.x.device)
    for ahead in range(min(lookahead, t - 1), -1, -1):
        at = (frames + ahead).clamp(max=t - 1)
        there = stretch.present[:, at] & (frames + ahead < t)
        left = (at + 1).clamp(max=t - 1)  # a change is stored with the later of its two frames
        x, evidence = stretch.x[:, at].flatten(0, 1).float(), stretch.evidence[:, left].flatten(0, 1)
        memory = _after(recursion, memory, x, -stretch.times[at].repeat(k), evidence, there.flatten())
    smoothed: Tensor = memory["y"].unflatten(0, (k, stretch.n_now))
    return smoothed


def _after(recursion: Recursion, memory: Any, x: Tensor, now: Tensor, evidence: Tensor, present: Tensor) -> Memory:
    """The memory after a frame: begun where a row's first value comes, kept where there is none."""
    fresh = recursion.begin(x) | {"at": now.clone(), "begun": present.clone()}
    if memory is None:
        return fresh
    dt = _rows(now - memory["at"], x).clamp(min=0).to(x.dtype)
    stepped = recursion.step(memory, x, dt, evidence) | {"at": now, "begun": present}
    first, going = present & ~memory["begun"], present & memory["begun"]
    after = {}
    for key, old in memory.items():
        after[key] = torch.where(_rows(going, old), stepped[key], torch.where(_rows(first, old), fresh[key], old))
    return after


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """[r] -> [r, 1, ...] with as many dimensions as ``like``."""
    return values.reshape(-1, *(1 for _ in like.shape[1:]))
