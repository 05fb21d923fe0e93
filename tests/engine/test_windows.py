"""The result depends on the film alone: not on windows, prefetch, batches, parts, or what else is in the film."""

from __future__ import annotations

import dataclasses
import gc
import io
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fakes import Dim, Mean, OneLatent, Plain, Scripted, ThreeLatents, Whole, face, faces, film, two_faces

from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.analyse import Analysis, detect, place
from vidrestore.engine.clock import Clock
from vidrestore.engine.pipeline import Stages, State, restored, restored_part
from vidrestore.engine.restore import Plugins, Restoration
from vidrestore.engine.scenes import windows
from vidrestore.notes import Notes
from vidrestore.types import Scene, Window
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from vidrestore.types import Frame

RESTORERS = {0: Plain, 1: OneLatent, 3: ThreeLatents}
CPU = torch.device("cpu")


def stages(
    latents: int = 3, lookahead: int = 5, detector: Any = None, seed: int = 7, strength: Any = 1.0, **changes: Any
) -> Stages:
    plugins = Plugins(RESTORERS[latents](), Mean(lookahead), Whole(), strength, seed, CPU)
    values: dict[str, Any] = {
        "detector": detector or Scripted(), "tracker": ByteTrack(ByteTrackOptions()),
        "align": FFHQ(AlignOptions(min_size=8)), "restore": plugins,
    }  # fmt: skip
    return Stages(**values | changes)


def run(frames: Any, with_stages: Stages) -> tuple[list[np.ndarray], dict[tuple[int, int], np.ndarray]]:
    """Finished planes, and every patch by (frame, left edge order of the track)."""
    planes, patches = [], {}
    for frame, window in restored(frames, with_stages, Notes(), Clock(), cuts=frozenset()):
        planes.append(np.array(frame.planes[0]))
        row = frame.index - window.frames[0].index
        for i, patch in enumerate(p for p in window.patches if p.row == row):
            patches[frame.index, i] = patch.difference.numpy()
    return planes, patches


@pytest.mark.parametrize("latents", [0, 1, 3])
@pytest.mark.parametrize("lookahead", [0, 5, 40])
def test_windows_equal_the_whole_shot(latents: int, lookahead: int) -> None:
    _, whole = run(film(70), stages(latents, lookahead, window=256))
    assert len(whole) > 90, "both faces are restored"
    for window in (4, 8, 16):
        _, parts = run(film(70), stages(latents, lookahead, window=window))
        assert parts.keys() == whole.keys()
        worst = max(float(np.abs(parts[k] - whole[k]).max()) for k in whole)
        assert worst <= 1e-6


@pytest.mark.parametrize("lookahead", [0, 5])
def test_windows_do_not_change_a_strength_that_follows_the_damage(lookahead: int) -> None:
    _, full = run(film(70), stages(1, lookahead, window=256))
    _, whole = run(film(70), stages(1, lookahead, window=256, strength=Dim()))
    shares = [float(np.abs(whole[k]).sum() / np.abs(full[k]).sum()) for k in whole]
    assert min(shares) < 0.2 and max(shares) > 0.6, "the strength moves, so that a difference would show"
    for window in (4, 8, 16):
        _, parts = run(film(70), stages(1, lookahead, window=window, strength=Dim()))
        assert parts.keys() == whole.keys()
        assert max(float(np.abs(parts[k] - whole[k]).max()) for k in whole) <= 1e-6


def test_a_face_without_damage_keeps_every_bit_and_costs_no_patch() -> None:
    plan = stages(3, 5, strength=Dim(gain=0.01))
    frames, patches = run(film(40), plan)
    assert patches == {}
    assert all(np.array_equal(a, b.planes[0]) for a, b in zip(frames, film(40), strict=True))


@pytest.mark.parametrize("strength", [1.0, Dim()])
@pytest.mark.parametrize("prefetch", [1, 1 << 16, 1 << 30])
def test_prefetch_changes_no_bit(prefetch: int, strength: Any) -> None:
    planes, _ = run(film(50), stages(3, 5, strength=strength))
    other, _ = run(film(50), stages(3, 5, strength=strength, prefetch=prefetch))
    assert all(np.array_equal(a, b) for a, b in zip(planes, other, strict=True))


@pytest.mark.parametrize("strength", [1.0, Dim()])
def test_batches_change_nothing_but_float_noise(strength: Any) -> None:
    _, one = run(film(40), stages(3, 5, batch=1, strength=strength))
    _, many = run(film(40), stages(3, 5, batch=64, strength=strength))
    assert max(float(np.abs(one[k] - many[k]).max()) for k in one) <= 1e-6


def test_a_shot_alone_gives_the_same_bits() -> None:
    planes, _ = run(film(60, cuts=(24,)), stages(3, 5))
    second = [f for f in film(60, cuts=(24,)) if f.index >= 24]
    alone, _ = run(iter(second), stages(3, 5))
    assert all(np.array_equal(a, b) for a, b in zip(planes[24:], alone, strict=True))
    assert not np.array_equal(np.stack(planes[30:34]), np.stack([f.planes[0] for f in second[6:10]]))


@pytest.mark.parametrize("stop", [16, 32])
@pytest.mark.parametrize(("lookahead", "strength"), [(0, 1.0), (5, 1.0), (20, 1.0), (5, Dim())])
def test_a_shot_in_parts_gives_the_same_bits(stop: int, lookahead: int, strength: Any) -> None:
    frames = list(film(60))
    whole, _ = run(iter(film(60)), stages(3, lookahead, strength=strength))
    scene = Scene(0, frames[0].pts, 0)
    first, state = restored_part(iter(frames), stages(3, lookahead, strength=strength), Notes(), scene, stop, None)
    assert state is not None and state.position == stop == len(first)
    kept = io.BytesIO()
    torch.save({"analysis": vars_of(state.analysis), "memory": state.memory}, kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)  # plain data: nothing that could run code
    again = State(scene, state.position, Analysis(**loaded["analysis"]), loaded["memory"])
    detector = Scripted()
    plan = stages(3, lookahead, detector, strength=strength)
    rest, end = restored_part(film_from(stop, 60), plan, Notes(), scene, None, again)
    assert end is None
    planes = [np.array(f.planes[0]) for f in [*first, *rest]]
    assert all(np.array_equal(a, b) for a, b in zip(planes, whole, strict=True))
    assert min(detector.seen) >= stop, "no frame is searched twice"


def vars_of(analysis: Any) -> dict[str, Any]:
    return {"tracks": analysis.tracks, "tracker": analysis.tracker, "poses": analysis.poses}


def film_from(start: int, n: int) -> list[Frame]:
    return [f for f in film(n) if f.index >= start]


@pytest.mark.parametrize(("latents", "lookahead", "window"), [(0, 0, 16), (3, 5, 16), (3, 40, 16), (1, 5, 4)])
def test_live_windows_stay_within_the_bound(latents: int, lookahead: int, window: int) -> None:
    """1 + K ceil(lookahead / window), where K counts the crop, the latents and the output."""
    plan = stages(latents, lookahead, window=window)
    stage = Restoration(plan.restore, plan.batch, Notes(), Clock())
    cut = windows(((f, f.index == 0) for f in film(160)), window)
    found = detect(cut, plan.detector, CPU, Clock())
    placed = place(found, plan.tracker, plan.align, plan.detector.every, Notes(), Clock())
    for _ in stage.run(placed):
        pass
    assert stage.most_live <= 1 + (latents + 2) * -(-lookahead // window)
    assert stage.live == 0


def test_memory_of_ended_tracks_is_dropped() -> None:
    def passing(i: int) -> Any:
        return faces(face(60 + i % 20, 60, 40)) if i % 30 < 16 else faces()

    plan = stages(3, 0, Scripted(passing))
    stage = Restoration(plan.restore, plan.batch, Notes(), Clock())
    cut = windows(((f, f.index == 0) for f in film(250)), 16)
    found = detect(cut, plan.detector, CPU, Clock())
    sizes = [len(stage.memory.data) for _ in stage.run(place(found, plan.tracker, plan.align, 2, Notes(), Clock()))]
    assert max(sizes[8:]) <= max(sizes[:8])


def test_other_faces_do_not_change_a_track() -> None:
    def alone(i: int) -> Any:
        return two_faces(i)[:1]

    _, both = run(film(40), stages(3, 5))
    _, one = run(film(40), stages(3, 5, Scripted(alone)))
    for index in range(9):
        assert np.abs(both[index, 0] - one[index, 0]).max() <= 1e-6


def test_noise_is_constant_over_a_track_and_follows_the_seed() -> None:
    _, a = run(film(20), stages(1, 0, seed=1))
    _, b = run(film(20), stages(1, 0, seed=2))
    assert any(np.abs(a[k] - b[k]).max() > 1e-3 for k in a)


def test_nothing_draws_from_the_global_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = list(film(20))

    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a global random number was drawn")

    for name in ("randn", "rand", "randint", "randperm", "normal", "bernoulli", "randn_like", "rand_like"):
        monkeypatch.setattr(torch, name, forbidden)
    monkeypatch.setattr(np.random, "default_rng", forbidden)
    monkeypatch.setattr(np.random, "normal", forbidden)
    run(iter(frames), stages(3, 5))


class Hungry(ThreeLatents):
    """Runs out of memory with more than five faces, at the latent ``g``."""

    def restore(self, faces: Any, ctx: Any) -> Any:
        inner = super().restore(faces, ctx)
        latent = next(inner)
        while True:
            value = yield latent
            if latent.name == "h" and len(faces) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory (made up)")
            try:
                latent = inner.send(value)
            except StopIteration as end:
                return end.value


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    _, plain = run(film(40), stages(3, 5))
    notes = Notes()
    plan = stages(3, 5)
    hungry = Plugins(Hungry(), plan.restore.smoother, Whole(), 1.0, 7, CPU)
    patches = {}
    plan = dataclasses.replace(plan, restore=hungry, window=4, batch=8)
    for frame, window in restored(film(40), plan, notes, Clock(), cuts=frozenset()):
        row = frame.index - window.frames[0].index
        for i, patch in enumerate(p for p in window.patches if p.row == row):
            patches[frame.index, i] = patch.difference.numpy()
    assert max(float(np.abs(plain[k] - patches[k]).max()) for k in plain) <= 1e-6
    assert [n.kind for n in notes.all()] == ["batch_halved"]


def test_an_error_in_a_stage_reaches_the_caller_and_threads_end() -> None:
    class Broken(Plain):
        def restore(self, faces: Any, ctx: Any) -> Any:
            raise ZeroDivisionError("inside the network")
            yield

    before = threading.active_count()
    plan = stages(0, 0)
    plugins = Plugins(Broken(), plan.restore.smoother, Whole(), 1.0, 7, CPU)
    with pytest.raises(ZeroDivisionError, match="inside the network"):
        for _ in restored(film(40), dataclasses.replace(plan, restore=plugins), Notes(), Clock(), cuts=frozenset()):
            pass
    gc.collect()
    assert threading.active_count() == before


def test_closing_the_consumer_ends_the_threads() -> None:
    before = threading.active_count()
    stream = restored(film(200), stages(0, 0, prefetch=1), Notes(), Clock(), cuts=frozenset())
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_window_checks_itself() -> None:
    window = Window((), Scene(0, 0, 0), 32, last=False)
    assert window.stop == 32
