"""Smoothers in the engine: the result follows from the film alone, and nothing crosses a cut."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fakes import OneLatent, Scripted, Whole, face, faces, film

from vidrestore import registry
from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.analyse import Analysis
from vidrestore.engine.clock import Clock
from vidrestore.engine.pipeline import Stages, State, restored, restored_part
from vidrestore.engine.restore import Plugins
from vidrestore.notes import Notes
from vidrestore.types import Scene
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.types import Frame

# each on a latent of OneLatent ("mean") or around it
CHAINS: list[tuple[str, str]] = [
    ("fuse", "crop+output"), ("gated", "mean"), ("gaussian", "mean+output"), ("kalman", "mean"),
    ("one_euro", "mean+crop"),
]  # fmt: skip


def stages(chain: tuple[str, str], restorer: Any = OneLatent, detector: Any = None, **changes: Any) -> Stages:
    name, latents = chain
    cls = registry.find("smooth", name)
    smoother = cls(cls.Options(**({"latents": latents} if latents else {})))
    plugins = Plugins(restorer(), smoother, Whole(), 1.0, 7, torch.device("cpu"))
    values: dict[str, Any] = {
        "detector": detector or Scripted(), "tracker": ByteTrack(ByteTrackOptions()),
        "align": FFHQ(AlignOptions(min_size=8)), "restore": plugins,
    }  # fmt: skip
    return Stages(**values | changes)


def run(frames: Any, plan: Stages) -> list[np.ndarray]:
    found = restored(frames, plan, Notes(), Clock(), cuts=frozenset())
    return [np.array(frame.planes[0]) for frame, _ in found]


def far(a: list[np.ndarray], b: list[np.ndarray]) -> int:
    """The largest difference of any sample, in steps of 8 bits."""
    return max(int(np.abs(x.astype(int) - y).max()) for x, y in zip(a, b, strict=True))


def test_smoothing_changes_something() -> None:
    plain = run(film(16), stages(("none", "")))
    assert all(far(run(film(16), stages(chain)), plain) > 1 for chain in CHAINS)


@pytest.mark.parametrize("chain", CHAINS)
def test_prefetch_changes_no_bit_and_windows_no_more_than_rounding(chain: tuple[str, str]) -> None:
    whole = run(film(36), stages(chain))
    assert far(run(film(36), stages(chain, prefetch=1)), whole) == 0
    assert far(run(film(36), stages(chain, window=5)), whole) <= 1


@pytest.mark.parametrize("chain", CHAINS)
def test_stop_and_go_equals_one_go(chain: tuple[str, str]) -> None:
    whole, frames = run(film(32), stages(chain)), list(film(32))
    scene = Scene(0, frames[0].pts, 0)
    first, state = restored_part(iter(frames), stages(chain), Notes(), scene, 16, None)
    assert state is not None
    kept = io.BytesIO()
    analysis = {"tracks": state.analysis.tracks, "tracker": state.analysis.tracker, "poses": state.analysis.poses}
    torch.save({"analysis": analysis, "memory": state.memory}, kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)  # plain data: nothing that could run code
    again = State(scene, state.position, Analysis(**loaded["analysis"]), loaded["memory"])
    rest, _ = restored_part(iter(frames[16:]), stages(chain), Notes(), scene, None, again)
    assert far([np.array(f.planes[0]) for f in [*first, *rest]], whole) == 0


@pytest.mark.parametrize("chain", CHAINS)
def test_nothing_crosses_a_cut(chain: tuple[str, str]) -> None:
    """The frames around a cut come out as if the other shot were not there."""
    both = run(film(24, cuts=(12,)), stages(chain))
    for part in (slice(0, 12), slice(12, None)):
        assert far(run(iter(list(film(24, cuts=(12,)))[part]), stages(chain)), both[part]) == 0


@pytest.mark.parametrize("chain", CHAINS)
def test_another_face_changes_nothing(chain: tuple[str, str]) -> None:
    """A neighbour that comes and goes, far enough not to overlap."""

    def alone(i: int) -> Any:
        return faces(face(40, 60, 30))

    def beside(i: int) -> Any:
        return faces(face(40, 60, 30), face(126, 60, 30)) if 6 <= i <= 20 else alone(i)

    one, two = (run(film(28), stages(chain, detector=Scripted(script))) for script in (alone, beside))
    left = [[x[:, :70] for x in frames] for frames in (one, two)]
    assert far(*left) <= 1


def still(n: int) -> Iterator[Frame]:
    """A film in which nothing moves but grain."""
    (first,), grain = film(1), np.random.default_rng(0)
    for i in range(n):
        plane = (first.planes[0] + grain.normal(0, 5, first.planes[0].shape)).clip(0, 255).astype(np.uint8)
        plane[:4, :4] = i
        yield replace(first, planes=(plane,), pts=40 * i, index=i)


class Sharpening(OneLatent):
    """Makes grain worse, as networks do, in crops no coarser than the film."""

    latents, size = (), 192

    def restore(self, faces: Any, ctx: Any) -> Any:
        return (faces.crops + 0.5 * (faces.crops - faces.crops.mean((2, 3), keepdim=True))).clamp(0, 1)
        yield


def test_a_still_film_trembles_half_as_much() -> None:
    def steady(i: int) -> Any:
        return faces(face(80, 60, 60))

    def trembling(chain: tuple[str, str]) -> float:
        planes = run(still(24), stages(chain, Sharpening, Scripted(steady)))
        inner = np.stack(planes)[4:-4, 45:75, 65:95].astype(float)
        return float(np.sqrt(inner.var(0).mean()))

    assert trembling(("auto", "")) <= 0.5 * trembling(("none", ""))
