"""restore=ldbfr as the engine drives it: options, batches, windows, memory, noise, colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Mean, Scripted, Whole, assert_refused_in_one_line, face, faces, film
from nano import own
from torch import Tensor

from vidrestore import testing
from vidrestore.config import resolve
from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.clock import Clock
from vidrestore.engine.context import RunContext
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.noise import TrackKey
from vidrestore.engine.pipeline import Stages, restored, restored_part
from vidrestore.engine.restore import Plugins
from vidrestore.errors import ResourceError, VidrestoreError
from vidrestore.notes import Notes
from vidrestore.types import FaceBatch, Scene
from vidrestore_plugins.restore.ldbfr.files import save
from vidrestore_plugins.restore.ldbfr.plugin import FORGET, LDBFROptions, LDBFRRestorer
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

CPU = torch.device("cpu")
MODES: dict[str, dict[str, Any]] = {
    "fast": {},
    "diffusion": {"mode": "diffusion", "steps": 3},
    "one step": {"mode": "diffusion", "steps": 1},
    "from noise": {"mode": "diffusion", "steps": 2, "t0": 999, "eta": 1.0},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A nano network in which every weight is moved: what it draws means nothing, but everything has a say."""
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    save(own(), path)
    return str(path)


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "fast.safetensors"
    save(own(), path, ["stage1"])
    return str(path)


def opened(weights: str, **options: Any) -> LDBFRRestorer:
    restorer = LDBFRRestorer(LDBFROptions(weights=weights, **{"size": 64, **options}))
    restorer.open(CPU)
    return restorer


def batch(n: int, tracks: list[int] | None = None, frames: list[int] | None = None, seed: int = 0) -> FaceBatch:
    """Faces made of noise, of one track each and in frame 0 unless given."""
    crops = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    at = np.array(frames or [0] * n, np.int64)
    return FaceBatch(crops, np.array(tracks or range(n)), at, at / 25.0, torch.ones(n, 32, 32), np.ones(n, np.float32))


def driven(restorer: LDBFRRestorer, crops: FaceBatch, memory: Memory, seed: int = 0) -> dict[str, Tensor]:
    """What it yields by name, and its result, with what the tracks remember kept in ``memory``."""
    layer = Layer(memory)
    context = RunContext(crops, {int(t): TrackKey(0, 0, int(t)) for t in crops.tracks}, layer, seed, CPU)
    steps = restorer.restore(crops, context)
    seen: dict[str, Tensor] = {}
    with torch.inference_mode():
        latent = next(steps)
        while True:
            seen[latent.name] = latent.value
            try:
                latent = steps.send(latent.value)
            except StopIteration as end:
                layer.leave()
                return seen | {"output": end.value}


# -- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("ldbfr:mode=best", ["mode", "fast", "diffusion"]),
        ("ldbfr:steps=0", ["steps", "1"]),
        ("ldbfr:t0=1000", ["t0", "999"]),
        ("ldbfr:t0=2", ["t0", "3"]),
        ("ldbfr:skips=1.5", ["skips", "1"]),
        ("ldbfr:size=100", ["size", "32"]),
        ("ldbfr:dwel=3", ["dwel", "dwell"]),
        ("ldbfr:precision=int8", ["precision", "bf16"]),
    ],
)
def test_a_wrong_value_is_told_in_one_line(step: str, words: list[str]) -> None:
    assert_refused_in_one_line(f"restore={step}", words)


def test_options_reach_the_plugin_through_the_chain() -> None:
    step = resolve(chain="restore=ldbfr:diffusion:4:skips=0.5", environment={}).step("restore")
    assert isinstance(step.options, LDBFROptions)
    assert (step.options.mode, step.options.steps, step.options.skips) == ("diffusion", 4, 0.5)
    assert step.make().latents == ("h", "g", "x0_mid", "x0")


def test_weights_that_cannot_be_had_are_an_error_with_a_remedy(first_stage: str, tmp_path: Path) -> None:
    opened(first_stage)
    with pytest.raises(ResourceError, match=r"no ae and unet in it for mode=diffusion; use mode=fast, or train it"):
        opened(first_stage, mode="diffusion")
    other = tmp_path / "other.safetensors"
    other.write_text("nothing")
    with pytest.raises(ResourceError, match="not weights of LD-BFR"):
        opened(str(other))
    with pytest.raises(VidrestoreError, match="no_such"):
        opened("no_such")


def test_it_says_when_it_was_not_opened() -> None:
    with pytest.raises(ValueError, match="before open"):
        driven(LDBFRRestorer(LDBFROptions(size=64)), batch(1), Memory())


# -- the contract, batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_contract_of_restorers(mode: str, weights: str) -> None:
    testing.check_restorer(LDBFRRestorer, weights=weights, size=64, **MODES[mode])


@pytest.mark.parametrize("t0", [3, 4, 50, 999])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_declared_latents_come_at_any_depth(steps: int, t0: int, weights: str) -> None:
    restorer = opened(weights, mode="diffusion", steps=steps, t0=t0)
    assert tuple(driven(restorer, batch(1), Memory())) == (*restorer.latents, "output")


@pytest.mark.parametrize("mode", ["fast", "diffusion"])
def test_eight_faces_come_out_as_in_batches_of_three_or_alone(mode: str, weights: str) -> None:
    restorer = opened(weights, **MODES[mode])
    crops = batch(8)
    whole = testing.restored_faces(restorer, crops)
    assert (whole - crops.crops).abs().mean() > 0.01
    for size in (1, 3):
        rows = [np.arange(i, min(i + size, 8)) for i in range(0, 8, size)]
        parts = torch.cat([testing.restored_faces(restorer, crops[r]) for r in rows])
        torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_bfloat16_differs_by_little_and_latents_stay_in_full(weights: str) -> None:
    crops = batch(2)
    full, half = (opened(weights, precision=p, mode="diffusion", steps=2) for p in ("fp32", "bf16"))
    a, b = driven(full, crops, Memory()), driven(half, crops, Memory())
    assert {x.dtype for x in b.values()} == {torch.float32}
    assert (a["h"] - b["h"]).abs().mean() < 0.01
    assert b["output"].isfinite().all()


def test_skips_are_the_share_of_the_input_that_reaches_the_decoder(weights: str) -> None:
    crops = batch(2)
    outs = [driven(opened(weights, skips=s), crops, Memory())["output"] for s in (0.0, 0.5, 1.0)]
    assert (outs[0] - outs[2]).abs().mean() > (outs[1] - outs[2]).abs().mean() > 1e-3


def test_a_red_patch_stays_red(tmp_path: Path) -> None:
    net, path = own(), tmp_path / "idle.safetensors"
    net.stage1.join()
    net.stage1.decoder.out.bias.data.normal_(0, 0.01, generator=torch.Generator().manual_seed(0))
    save(net, path)
    crops = batch(1)
    patch = torch.tensor([200, 30, 60], dtype=torch.uint8).view(3, 1, 1)
    crops.crops[0, :, 16:48, 16:48] = patch / 255
    out = (driven(opened(str(path)), crops, Memory())["output"][0] * 255).round().byte()
    gap = out[:, 16:48, 16:48].int() - patch.int()
    assert 0 < gap.abs().max() < 8


# -- memory of codes, noise ----------------------------------------------------------------------------------


def test_codes_hold_while_a_face_is_seen_and_are_chosen_anew_after_a_gap(weights: str) -> None:
    restorer = opened(weights, eta_code=2.0, kappa=1.0)  # whatever comes, the first codes are kept
    first, then = batch(1, [4], [10], seed=1), batch(1, [4], [10 + FORGET], seed=2)
    memory = Memory()
    g = driven(restorer, first, memory)["g"]
    held = driven(restorer, then, memory)["g"]
    alone = driven(restorer, then, Memory())["g"]
    assert (held - alone).abs().max() > 0.1 and (held - g).abs().max() > 1e-3
    late = dataclasses.replace(then, frames=np.array([11 + 2 * FORGET]))
    torch.testing.assert_close(driven(restorer, late, memory)["g"], alone)
    other = driven(restorer, dataclasses.replace(then, tracks=np.array([5])), memory)["g"]
    torch.testing.assert_close(other, alone)


def test_frames_of_one_batch_follow_one_another(weights: str) -> None:
    restorer = opened(weights)
    crops = batch(6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
    whole = driven(restorer, crops, Memory())["g"]
    memory = Memory()
    for t in range(3):
        rows = np.flatnonzero(crops.frames == t)
        torch.testing.assert_close(driven(restorer, crops[rows], memory)["g"], whole[rows], atol=1e-5, rtol=1e-5)


def test_a_track_has_one_noise_and_a_seed_another(weights: str) -> None:
    restorer = opened(weights, mode="diffusion", steps=1, t0=999)  # from noise alone, one pass
    same = batch(1).crops.expand(4, -1, -1, -1).contiguous()
    crops = dataclasses.replace(batch(4, [3, 3, 3, 8], [0, 1, 2, 0]), crops=same)
    x0 = driven(restorer, crops, Memory())["x0"]
    torch.testing.assert_close(x0[0], x0[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x0[0], x0[2], atol=1e-5, rtol=1e-5)
    assert (x0[0] - x0[3]).abs().mean() > 0.01
    assert (driven(restorer, crops, Memory(), seed=1)["x0"][0] - x0[0]).abs().mean() > 0.01


# -- through the engine --------------------------------------------------------------------------------------


def passing(i: int) -> Any:
    """A face throughout, and one that is not seen for some frames."""
    one, two = face(50 + 6 * np.sin(i / 5), 60, 44), face(118, 58, 40)
    return faces(one, two) if not 12 <= i <= 15 else faces(one)


def stages(weights: str, **changes: Any) -> Stages:
    mode = changes.pop("mode", "fast")
    restorer = opened(weights, **MODES[mode])
    values: dict[str, Any] = {
        "detector": Scripted(passing), "tracker": ByteTrack(ByteTrackOptions()),
        "align": FFHQ(AlignOptions(min_size=8)),
        "restore": Plugins(restorer, Mean(3), Whole(), 1.0, 7, CPU),
    }  # fmt: skip
    return Stages(**values | changes)


def run(plan: Stages, length: int = 28) -> tuple[list[np.ndarray], dict[tuple[int, int], np.ndarray]]:
    planes, patches = [], {}
    for frame, window in restored(film(length), plan, Notes(), Clock(), cuts=frozenset()):
        planes.append(np.array(frame.planes[0]))
        row = frame.index - window.frames[0].index
        for i, patch in enumerate(p for p in window.patches if p.row == row):
            patches[frame.index, i] = patch.difference.numpy()
    return planes, patches


@pytest.mark.parametrize("mode", ["fast", "diffusion"])
def test_windows_and_batches_change_nothing(mode: str, weights: str) -> None:
    _, whole = run(stages(weights, mode=mode, window=64))
    assert len(whole) > 40 and max(float(np.abs(p).max()) for p in whole.values()) > 0.3
    for window, batch in ((4, 16), (16, 16), (16, 1)):
        _, parts = run(stages(weights, mode=mode, window=window, batch=batch))
        assert parts.keys() == whole.keys()
        assert max(float(np.abs(parts[k] - whole[k]).max()) for k in whole) <= 1e-5, (window, batch)


def test_a_resumed_run_gives_the_same_film(weights: str) -> None:
    """The codes in use are part of what a run remembers."""
    frames = list(film(28))
    whole, _ = run(stages(weights))
    scene = Scene(0, frames[0].pts, 0)
    first, state = restored_part(iter(frames), stages(weights), Notes(), scene, 16, None)
    assert state is not None and any("codes" in key for key in state.memory)
    rest, _ = restored_part(iter(frames[16:]), stages(weights), Notes(), scene, None, state)
    planes = [np.array(f.planes[0]) for f in [*first, *rest]]
    assert all(np.array_equal(a, b) for a, b in zip(planes, whole, strict=True))
