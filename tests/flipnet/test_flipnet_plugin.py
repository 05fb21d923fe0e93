"""restore=flipnet as the engine drives it: contract, noise of a track, fidelity, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flipnets import NANO, born, stirred

from vidrestore import testing
from vidrestore.engine.context import RunContext
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.noise import TrackKey
from vidrestore.errors import ResourceError
from vidrestore.types import FaceBatch
from vidrestore_plugins.restore.flipnet.files import PRIOR, TRAINED, save
from vidrestore_plugins.restore.flipnet.plugin import FlipNetOptions, FlipNetRestorer
from vidrestore_plugins.restore.flipnet.sizes import SIZES
from vidrestore_plugins.restore.ldbfr.colour import low_band

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    save(stirred(born()), path, dtype=torch.float32)
    return str(path)


def batch(tracks: list[int], frames: list[int] | None = None, same: bool = False) -> FaceBatch:
    n, side = len(tracks), NANO.image_size
    one = torch.rand(1 if same else n, 3, side, side, generator=torch.Generator().manual_seed(0))
    crops = one.expand(n, -1, -1, -1)
    at = np.array(frames or [0] * n, np.int64)
    return FaceBatch(crops, np.array(tracks), at, at / 25.0, torch.ones(n, 32, 32), np.ones(n, np.float32))


def driven(weights: str, faces: FaceBatch, seed: int = 0, **options: Any) -> dict[str, Tensor]:
    restorer = FlipNetRestorer(FlipNetOptions(weights=weights, **{"steps": 3, **options}))
    restorer.open(CPU)
    keys = {int(t): TrackKey(0, 0, int(t)) for t in faces.tracks}
    steps = restorer.restore(faces, RunContext(faces, keys, Layer(Memory()), seed, CPU))
    seen: dict[str, Tensor] = {}
    with torch.inference_mode():
        latent = next(steps)
        while True:
            seen[latent.name] = latent.value
            try:
                latent = steps.send(latent.value)
            except StopIteration as end:
                assert tuple(seen) == restorer.latents
                return seen | {"output": end.value}


@pytest.mark.parametrize("options", [{}, {"steps": 1}, {"phi": 0.0}, {"steps": 2, "spacing": "lambda", "start": 400}])
def test_the_contract_of_restorers(weights: str, options: dict[str, Any]) -> None:
    testing.check_restorer(FlipNetRestorer, weights=weights, **{"steps": 3, **options})


def test_a_track_keeps_its_noise(weights: str) -> None:
    """The same face in two frames of one track comes out alike; another track draws its own."""
    faces = batch([4, 4, 9], [0, 7, 0], same=True)
    out = driven(weights, faces)["output"]
    assert torch.equal(driven(weights, faces)["output"], out), "the same seed, the same bits"
    torch.testing.assert_close(out[0], out[1], atol=1e-5, rtol=0)
    assert (out[0] - out[2]).abs().max() > 1e-3
    alone = driven(weights, batch([9], same=True))["output"][0]
    torch.testing.assert_close(alone, out[2], atol=1e-4, rtol=0)
    assert (driven(weights, batch([9], same=True), seed=1)["output"][0] - alone).abs().max() > 1e-3


def test_what_a_smoother_sends_back_is_what_goes_on(weights: str) -> None:
    faces = batch([0])
    restorer = FlipNetRestorer(FlipNetOptions(weights=weights, steps=3))
    restorer.open(CPU)
    for stop in restorer.latents:
        ends = []
        for change in (0.0, 0.5):
            context = RunContext(faces, {0: TrackKey(0, 0, 0)}, Layer(Memory()), 0, CPU)
            walk = restorer.restore(faces, context)
            with torch.inference_mode():
                latent = next(walk)
                while True:
                    try:
                        latent = walk.send(latent.value + change * (latent.name == stop))
                    except StopIteration as end:
                        ends.append(end.value)
                        break
        assert (ends[0] - ends[1]).abs().max() > 1e-4, stop


def test_colour_stays_the_films(weights: str) -> None:
    """Latents that mean nothing give a picture that means nothing, in the colours of the input; freed, it drifts."""
    faces = batch([0])
    bands = {phi: low_band(driven(weights, faces, phi=phi)["output"]) for phi in (0.0, 1.0)}
    want = low_band(faces.crops)
    assert (bands[1.0] - want).abs().mean() < 0.2 * (bands[0.0] - want).abs().mean()


def test_weights_that_lack_a_part_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    net = born()
    save(net, tmp_path / "beside.safetensors", ["encoders", *TRAINED])
    save(net, tmp_path / "prior.safetensors", PRIOR)
    beside, prior = str(tmp_path / "beside.safetensors"), str(tmp_path / "prior.safetensors")
    with pytest.raises(ResourceError, match="no unet and vae in it; name a file of the prior: prior=FILE"):
        driven(beside, batch([0]))
    with pytest.raises(ResourceError, match="no encoders and hubs and projector and tags"):
        driven(prior, batch([0]))
    assert driven(beside, batch([0]), prior=prior)["output"].shape == (1, 3, 64, 64)


def test_it_says_when_it_was_not_opened() -> None:
    faces = batch([0])
    context = RunContext(faces, {0: TrackKey(0, 0, 0)}, Layer(Memory()), 0, CPU)
    with pytest.raises(ValueError, match="before open"):
        next(FlipNetRestorer(FlipNetOptions()).restore(faces, context))


def test_the_bundled_weights_restore_at_once_and_degrade() -> None:
    side = SIZES["mini"].image_size
    crops = F.interpolate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), (side, side))
    zero = np.zeros(1, np.int64)
    faces = FaceBatch(crops, zero, zero, np.zeros(1), torch.ones(1, 32, 32), np.ones(1, np.float32))

    def made(run: int = 0, **options: Any) -> Tensor:
        restorer = FlipNetRestorer(FlipNetOptions.model_validate(options))
        restorer.open(CPU)
        assert restorer.size == side
        return testing.restored_faces(restorer, faces, run)

    restored = made()
    assert torch.equal(made(steps=1), restored), "one pass, unless told"
    assert torch.equal(made(7), restored), "which draws no noise"
    assert 0 < (restored - crops).abs().mean() < 0.1
    one, other = (made(seed, mode="degrade", steps=2) for seed in (0, 1))
    assert (one - other).abs().mean() > 0.005, "damage is drawn"
    assert (one - crops).abs().mean() < 0.2
