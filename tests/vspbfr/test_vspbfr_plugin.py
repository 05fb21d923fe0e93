"""restore=vspbfr as the engine drives it: options, batches, windows, memory, noise, time."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fakes import Mean, Scripted, Whole, assert_refused_in_one_line, face, faces, film
from recipe import normal
from vspbfr_nano import nano

from vidrestore import testing
from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.clock import Clock
from vidrestore.engine.context import RunContext
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.noise import TrackKey
from vidrestore.engine.pipeline import Stages, restored, restored_part
from vidrestore.engine.restore import Plugins
from vidrestore.errors import ResourceError
from vidrestore.notes import Notes
from vidrestore.types import FaceBatch, Scene
from vidrestore_plugins.restore.vspbfr import plugin
from vidrestore_plugins.restore.vspbfr.compiled import Compiled
from vidrestore_plugins.restore.vspbfr.files import load, save
from vidrestore_plugins.restore.vspbfr.model import Given
from vidrestore_plugins.restore.vspbfr.plugin import FORGET, VSPBFROptions, VSPBFRRestorer
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CPU = torch.device("cpu")
SIDE = 32
ROUNDING = 1e-3  # a quarter of a grey level: random weights multiply what another order of sums changes
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "seeded": {"z": "seeded"},
    "stored noise": {"noise": "checkpoint"},
    "no noise": {"noise": "zero", "every": 3},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    net = nano()
    with torch.no_grad():  # a picture that fills its range
        for to_rgb in (net.restoration.to_rgb1, *net.restoration.to_rgbs):
            to_rgb.conv.weight.mul_(4)
            to_rgb.bias.zero_()
    save(net, path, torch.float32)
    return str(path)


def opened(weights: str, **options: Any) -> VSPBFRRestorer:
    restorer = VSPBFRRestorer(VSPBFROptions(weights=weights, **options))
    restorer.open(CPU)
    return restorer


def batch(crops: Tensor, tracks: list[int] | None = None, frames: list[int] | None = None) -> FaceBatch:
    """Of one track each and in frame 0 unless given."""
    n = len(crops)
    at = np.array(frames or [0] * n, np.int64)
    return FaceBatch(crops, np.array(tracks or range(n)), at, at / 25.0, torch.ones(n, 32, 32), np.ones(n, np.float32))


def noise(n: int, seed: int = 0) -> Tensor:
    """Faces made of noise."""
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def driven(
    restorer: VSPBFRRestorer,
    crops: FaceBatch,
    memory: Memory | None = None,
    seed: int = 0,
    smooth: Callable[[str, Tensor], Tensor] = lambda _, x: x,
) -> dict[str, Tensor]:
    """What it yields by name, and its result, with what the tracks remember kept in ``memory``."""
    layer = Layer(memory or Memory())
    context = RunContext(crops, {int(t): TrackKey(0, 0, int(t)) for t in crops.tracks}, layer, seed, CPU)
    steps = restorer.restore(crops, context)
    seen: dict[str, Tensor] = {}
    with torch.inference_mode():
        latent = next(steps)
        while True:
            seen[latent.name] = latent.value
            try:
                latent = steps.send(smooth(latent.name, latent.value))
            except StopIteration as end:
                layer.leave()
                return seen | {"output": end.value}


# -- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("vspbfr:noise=loud", ["noise", "checkpoint"]),
        ("vspbfr:z=0", ["z", "seeded"]),
        ("vspbfr:every=0", ["every", "1"]),
        ("vspbfr:fine=1.5", ["fine", "1"]),
        ("vspbfr:corse=0.5", ["corse", "coarse"]),
        ("vspbfr:precision=int8", ["precision", "bf16"]),
    ],
)
def test_a_wrong_value_is_told_in_one_line(step: str, words: list[str]) -> None:
    assert_refused_in_one_line(f"restore={step}", words)


def test_weights_that_cannot_be_had_are_an_error_with_a_remedy(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path))
    with pytest.raises(ResourceError, match="weights vspbfr: not here; vidrestore weights fetch vspbfr"):
        opened("vspbfr")
    with pytest.raises(ResourceError, match=r"for faces of 32 px; use size=32"):
        opened(weights, size=512)
    assert opened(weights, size=SIDE).size == opened(weights).size == SIDE
    other = tmp_path / "other.safetensors"
    other.write_text("nothing")
    with pytest.raises(ResourceError, match="not weights of VSPBFR"):
        opened(str(other))


def test_it_says_when_it_was_not_opened() -> None:
    with pytest.raises(ValueError, match="before open"):
        driven(VSPBFRRestorer(VSPBFROptions()), batch(noise(1)))


# -- the contract, batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_contract_of_restorers(variant: str, weights: str) -> None:
    testing.check_restorer(VSPBFRRestorer, weights=weights, **VARIANTS[variant])


@pytest.mark.parametrize("variant", VARIANTS)
def test_faces_come_out_as_in_other_batches(variant: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, crops = opened(weights, **VARIANTS[variant]), batch(noise(5))
    whole = testing.restored_faces(restorer, crops)
    assert (whole - crops.crops).abs().mean() > 0.01
    alone = torch.cat([testing.restored_faces(restorer, crops[np.array([i])]) for i in range(5)])
    torch.testing.assert_close(alone, whole, atol=ROUNDING, rtol=0)
    monkeypatch.setitem(plugin.PIXELS, "cpu", 2 * SIDE**2)  # as where faces are too large to go together
    torch.testing.assert_close(testing.restored_faces(restorer, crops), whole, atol=ROUNDING, rtol=0)


def test_compiled_networks_see_batches_of_one_size(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling itself is left out: it takes minutes."""
    monkeypatch.setitem(plugin.PIXELS, "cpu", 3 * SIDE**2)
    crops = batch(noise(5))
    whole = testing.restored_faces(opened(weights), crops)
    restorer = opened(weights, compile=True)
    sizes = []
    restorer._net.restoration.register_forward_hook(lambda _, given, out: sizes.append(len(out)))  # type: ignore[union-attr]
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(testing.restored_faces(restorer, crops), whole, atol=ROUNDING, rtol=0)
    assert sizes == [3, 3]


@pytest.mark.filterwarnings("ignore:dynamo_pgo")
def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once() -> None:
    from torch._inductor import config

    run, x = Compiled(lambda x: (x.sin() + 1).relu()), torch.zeros(2, 3)
    with config.patch({"cpp.cxx": ("/no/such/compiler",), "force_disable_caches": True}), torch.inference_mode():
        with pytest.warns(RuntimeWarning, match="uncompiled, more slowly"):
            assert torch.equal(run(x), torch.ones(2, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(run(x), torch.ones(2, 3))


@pytest.mark.slow
def test_a_compiled_function_gives_the_same() -> None:
    run = Compiled(lambda x, more: (x.sin() + more[0]).relu())
    x = normal("x", 3, 4)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        torch.testing.assert_close(run(x, [x]), (x.sin() + x).relu())


def test_it_is_the_networks_in_a_row(weights: str) -> None:
    """``w = D(E x, w_T)``, ``R(x, w, F(w), mean M(z))``: nothing is added on the way."""
    crops, net = batch(noise(2)), load(Path(weights))
    seen = driven(opened(weights, noise="zero"), crops)
    context = RunContext(crops, {t: TrackKey(0, 0, t) for t in (0, 1)}, Layer(Memory()), 0, CPU)
    x, size = 2 * crops.crops - 1, net.size
    zh = net.restoration.style(torch.randn(4096, 32, generator=torch.Generator().manual_seed(0))).mean(0)
    still = [[torch.zeros(1, 1, s, s) for s in part.noise_sides] for part in (net.bank, net.restoration)]
    given = Given(
        context.noise("w_T", (size.codes, size.style_dim)), net.restoration.held(zh[None, None]).expand(2, -1), *still
    )
    torch.testing.assert_close(seen["w"], net.encode(x))
    w0 = net.diffuser.sample(given.start, net.encode(x))
    torch.testing.assert_close(seen["w0"], w0, atol=5e-3, rtol=5e-3)
    y = (net.restore(x, w0, given) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(seen["output"], y, atol=ROUNDING, rtol=0)


def test_half_precision_differs_by_little_and_codes_stay_in_full(weights: str) -> None:
    crops = batch(noise(2))
    full, half = (opened(weights, precision=p) for p in ("fp32", "bf16"))
    a, b = driven(full, crops), driven(half, crops)
    assert {x.dtype for x in b.values()} == {torch.float32}
    assert (a["w"] - b["w"]).std() < 0.02 * a["w"].std()
    steady = driven(half, crops, smooth=lambda name, x: a[name])["output"]
    assert (steady - a["output"]).std() < 0.15 * a["output"].std()


# -- codes over time -----------------------------------------------------------------------------------------


def test_smoothing_takes_its_share_of_each_group_of_codes(weights: str) -> None:
    crops, net = batch(noise(1)), load(Path(weights))
    shares = {"coarse": 0.0, "middle": 0.5, "fine": 1.0}
    seen = driven(opened(weights, **shares), crops, smooth=lambda name, x: x + 1 if name == "w" else x)
    moved = seen["w"].clone()
    moved[:, 4:8] += 0.5
    moved[:, 8:] += 1
    start = RunContext(crops, {0: TrackKey(0, 0, 0)}, Layer(Memory()), 0, CPU).noise("w_T", moved.shape[1:])
    torch.testing.assert_close(seen["w0"], net.diffuser.sample(start, moved), atol=1e-3, rtol=1e-3)


def test_without_shares_smoothing_has_no_say(weights: str) -> None:
    restorer = opened(weights, coarse=0, middle=0, fine=0)
    crops = batch(noise(1))
    assert torch.equal(driven(restorer, crops)["output"], driven(restorer, crops, smooth=lambda _, x: 0 * x)["output"])


def test_between_two_readings_codes_are_on_their_way(weights: str) -> None:
    crops = batch(noise(7), [3] * 7, list(range(10, 17)))
    read = driven(opened(weights), crops)["w"]
    w = driven(opened(weights, every=3), crops)["w"]
    way = [(0, 0, 1.0)] * 3 + [(0, 3, 1 / 3), (0, 3, 2 / 3), (0, 3, 1.0), (3, 6, 1 / 3)]
    expected = torch.stack([read[a].lerp(read[b], share) for a, b, share in way])
    torch.testing.assert_close(w, expected, atol=1e-4, rtol=1e-4)


def test_codes_begin_anew_after_a_gap(weights: str) -> None:
    restorer, memory = opened(weights, every=2), Memory()
    driven(restorer, batch(noise(1), [4], [10]), memory)
    late = batch(noise(1, 1), [4], [12 + FORGET])
    fresh = driven(restorer, late)["w"]
    torch.testing.assert_close(driven(restorer, late, memory)["w"], fresh)
    soon = dataclasses.replace(late, frames=late.frames + FORGET)
    assert (driven(restorer, soon, memory)["w"] - fresh).abs().max() < 1e-6, "it has been reading the same face"
    other = batch(noise(1, 2), [4], [14 + 2 * FORGET])
    assert (driven(restorer, other, memory)["w"] - driven(restorer, other)["w"]).abs().max() > 0.01


def test_a_still_face_comes_out_still(weights: str) -> None:
    one = noise(1).expand(5, -1, -1, -1).contiguous()
    for variant in VARIANTS.values():
        seen = driven(opened(weights, **variant), batch(one, [3] * 5, list(range(5))))["output"]
        torch.testing.assert_close(seen, seen[:1].expand_as(seen), atol=ROUNDING, rtol=0)


def test_a_still_clip_moves_by_its_own_noise_alone(weights: str) -> None:
    """Twice the noise, twice the movement; that of noise drawn anew is larger by far, and none of it is here."""
    still, grain = noise(1), normal("grain", 6, 3, SIDE, SIDE)
    frames = list(range(6))

    def movement(sigma: float, tracks: list[int]) -> float:
        clip = (0.25 + 0.5 * still + sigma * grain).contiguous()
        out = driven(opened(weights), batch(clip, tracks, frames))["output"]
        return float(out.std(0).mean())

    little, twice = movement(1e-4, [3] * 6), movement(2e-4, [3] * 6)
    assert 0 < little < 5e-3
    assert twice / little == pytest.approx(2, rel=0.1)
    assert movement(0.0, frames) > 10 * twice, "six faces of their own, each with other noise"


def test_a_track_has_one_noise_and_a_seed_another(weights: str) -> None:
    restorer = opened(weights, z="seeded")
    crops = batch(noise(1).expand(3, -1, -1, -1).contiguous(), [3, 3, 8], [0, 1, 0])
    out = driven(restorer, crops)["output"]
    torch.testing.assert_close(out[0], out[1], atol=ROUNDING, rtol=0)
    assert (out[0] - out[2]).abs().mean() > 5 * ROUNDING
    assert (driven(restorer, crops, seed=1)["output"][0] - out[0]).abs().mean() > 5 * ROUNDING
    assert torch.equal(driven(restorer, crops)["output"], out)


def test_the_two_networks_noise_is_each_its_own(weights: str) -> None:
    """No map of one is one of the other's, and the way down has maps of its own."""
    asked: list[tuple[str, tuple[int, ...]]] = []

    class Listening(RunContext):
        def noise(self, name: str, shape: tuple[int, ...], *, fixed: bool = True) -> Tensor:
            asked.append((name, shape))
            return super().noise(name, shape, fixed=fixed)

    crops = batch(noise(1))
    for variant, maps in (("fixed", 6 + 6 + 7), ("checkpoint", 6), ("zero", 0)):
        asked.clear()
        restorer = opened(weights, noise=variant)
        context = Listening(crops, {0: TrackKey(0, 0, 0)}, Layer(Memory()), 0, CPU)
        steps = restorer.restore(crops, context)
        with torch.inference_mode():
            first = next(steps)
            steps.send(first.value)
        names = [name for name, shape in asked if shape[0] == 1]
        assert len(set(names)) == len(names) == maps


# -- through the engine --------------------------------------------------------------------------------------


def passing(i: int) -> Any:
    """A face throughout, and one that is not seen for some frames."""
    one, two = face(50 + 6 * np.sin(i / 5), 60, 44), face(118, 58, 40)
    return faces(one, two) if not 12 <= i <= 15 else faces(one)


def stages(weights: str, every: int, **changes: Any) -> Stages:
    values: dict[str, Any] = {
        "detector": Scripted(passing), "tracker": ByteTrack(ByteTrackOptions()),
        "align": FFHQ(AlignOptions(min_size=8)),
        "restore": Plugins(opened(weights, every=every, z="seeded"), Mean(3), Whole(), 1.0, 7, CPU),
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


@pytest.mark.parametrize("every", [1, 3])
def test_windows_and_batches_change_nothing(every: int, weights: str) -> None:
    _, whole = run(stages(weights, every, window=64))
    assert len(whole) > 40 and max(float(np.abs(p).max()) for p in whole.values()) > 0.1
    for window, faces_at_once in ((4, 16), (16, 16), (16, 1)):
        _, parts = run(stages(weights, every, window=window, batch=faces_at_once))
        assert parts.keys() == whole.keys()
        assert max(float(np.abs(parts[k] - whole[k]).max()) for k in whole) <= ROUNDING, (window, faces_at_once)


def test_a_resumed_run_gives_the_same_film(weights: str) -> None:
    """The codes that were read last are part of what a run remembers."""
    frames = list(film(28))
    whole, _ = run(stages(weights, 3))
    scene = Scene(0, frames[0].pts, 0)
    first, state = restored_part(iter(frames), stages(weights, 3), Notes(), scene, 16, None)
    assert state is not None and any("readings" in key for key in state.memory)
    rest, _ = restored_part(iter(frames[16:]), stages(weights, 3), Notes(), scene, None, state)
    planes = [np.array(f.planes[0]) for f in [*first, *rest]]
    assert all(np.array_equal(a, b) for a, b in zip(planes, whole, strict=True))
