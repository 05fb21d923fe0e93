"""degrade=flipnet: the faces of a film through the flipped network, then all of it through a codec."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch
from flipnets import NANO, born, stirred

from vidrestore import cli, testing
from vidrestore.demo import clip
from vidrestore.engine.context import RunContext
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.noise import TrackKey
from vidrestore.media.making import write_film
from vidrestore.types import FaceBatch
from vidrestore_plugins.degrade.flipnet import FlipNetDegrader
from vidrestore_plugins.restore.flipnet.files import save
from vidrestore_plugins.restore.flipnet.plugin import FlipNetOptions, FlipNetRestorer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("it's a: folder") / "nano.safetensors"
    save(stirred(born()), path, dtype=torch.float32)
    return str(path)


def test_the_contract_of_degraders() -> None:
    testing.check_degrader(FlipNetDegrader)


def frames_of(weights: str, **options: Any) -> Tensor:
    """One face, the same in three frames, flipped: [3, 3, 64, 64]."""
    side = NANO.image_size
    one = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    at = np.arange(3)
    faces = FaceBatch(one, np.zeros(3, np.int64), at, at / 25.0, torch.ones(3, 32, 32), np.ones(3, np.float32))
    restorer = FlipNetRestorer(FlipNetOptions.model_validate({"weights": weights, "steps": 3, **options}))
    restorer.open(torch.device("cpu"))
    walk = restorer.restore(faces, RunContext(faces, {0: TrackKey(0, 0, 0)}, Layer(Memory()), 0, torch.device("cpu")))
    with torch.inference_mode():
        latent = next(walk)
        while True:
            try:
                latent = walk.send(latent.value)
            except StopIteration as end:
                out: Tensor = end.value
                return out


def test_flipped_it_makes_something_else(weights: str) -> None:
    assert (frames_of(weights) - frames_of(weights, mode="degrade")).abs().mean() > 0.01


def test_rho_says_how_much_of_the_damage_stays(weights: str) -> None:
    moved = []
    for rho in (1.0, 0.8, 0.2):
        out = frames_of(weights, mode="degrade", rho=rho)
        moved.append(float((out[1] - out[0]).abs().mean()))
    assert moved[0] < 1e-5 < moved[1] < moved[2]


@pytest.mark.slow
def test_faces_are_damaged_and_the_rest_is_coded(weights: str, tmp_path: Path) -> None:
    film, target = tmp_path / "film.mp4", tmp_path / "lq.mkv"
    write_film(film, clip.moving()[:6], clip.RATE, clip.tone(), clip.SOUND_RATE)
    wishes = [
        "--model",
        "flipnet",
        "--preset",
        "mild",
        "--set",
        "steps=2",
        "--set",
        f"weights={weights}",
        "-c:v",
        "ffv1",
    ]
    assert cli.run(["degrade", str(film), "-o", str(target), "--progress", "none", *wishes]) == 0
    record = json.loads(target.with_name(target.name + ".json").read_text())
    assert record["degrade"]["model"] == "flipnet" and record["frames_out"] == 6
    before, after = (
        np.stack([f.to_ndarray(format="rgb24") for f in av.open(str(p)).decode(video=0)]) for p in (film, target)
    )
    gap = np.abs(before.astype(int) - after).mean((0, 3))
    inside, outside = gap[90:190, 180:290].mean(), gap[:, 400:].mean()
    assert inside > 3 * outside and outside < 6
