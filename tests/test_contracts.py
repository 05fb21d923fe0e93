"""Every first-party plugin keeps the contract that others are held to; and the contract catches breaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from fakes import Cells, Dim, NoOptions, OneLatent, Plain, ThreeLatents
from pydantic import BaseModel, ConfigDict, Field

from vidrestore import registry, testing
from vidrestore.errors import ResourceError
from vidrestore.media.reader import PyAVDecoder
from vidrestore.media.writer import PyAVEncoder
from vidrestore.weights.store import find

CHECKS = {
    "detect": testing.check_detector,
    "track": testing.check_tracker,
    "assess": testing.check_assessor,
    "embed": testing.check_embedder,
    "restore": testing.check_restorer,
    "smooth": testing.check_smoother,
    "blend": testing.check_blender,
    "degrade": testing.check_degrader,
}
INSTALLED = [(kind, name) for kind in CHECKS for name in registry.entries(kind)]


@pytest.mark.parametrize(("kind", "name"), INSTALLED)
def test_first_party_plugins_keep_the_contract(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose weights are not bundled says how they are got; its own tests check it with others."""
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path))
    plugin = registry.find(kind, name)
    if kind == "restore" and getattr(plugin.Options(), "weights", "named") == "":
        with pytest.raises(ResourceError, match=f"{kind}={name}: no weights"):
            plugin(plugin.Options()).open(torch.device("cpu"))
        return
    missing = [w for w in getattr(plugin(plugin.Options()), "weights", ()) if not find(w).here]
    if missing:
        with pytest.raises(ResourceError, match=f"vidrestore weights fetch {missing[0]}"):
            CHECKS[kind](plugin)
    else:
        CHECKS[kind](plugin)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "small.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(12):
            picture = np.full((64, 96, 3), 10 * i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_decoder_and_encoder_keep_the_contract(film: Path, tmp_path: Path) -> None:
    testing.check_decoder(PyAVDecoder, film)
    testing.check_encoder(PyAVEncoder, film, tmp_path / "out.mkv")


@pytest.mark.parametrize("fake", [Plain, OneLatent, ThreeLatents])
def test_the_fakes_of_our_own_tests_keep_it_too(fake: Any) -> None:
    testing.check_restorer(fake)


def test_the_fake_assessor_keeps_it_too() -> None:
    testing.check_assessor(Dim)


class Sloppy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    gain: float = 1.0


class Careful(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    gain: float = Field(1.0, description="of everything")


class Drifting(Plain):
    """Uses a random number that is not the engine's."""

    def restore(self, faces: Any, ctx: Any) -> Any:
        import torch

        return (faces.crops + 0.1 * torch.rand(())).clamp(0, 1)
        yield


class Undeclared(OneLatent):
    latents = ()


class Mixing(Plain):
    """Lets faces of a batch see one another."""

    def restore(self, faces: Any, ctx: Any) -> Any:
        return (0.5 * faces.crops + 0.5 * faces.crops.mean(0, keepdim=True)).clamp(0, 1)
        yield


class Writing(Plain):
    def restore(self, faces: Any, ctx: Any) -> Any:
        return faces.crops.mul_(0.5)
        yield


@pytest.mark.parametrize(
    ("fake", "message"),
    [(Drifting, "must repeat"), (Undeclared, "declared"), (Mixing, "other faces"), (Writing, "must not change")],
)
def test_breaches_of_a_restorer_are_caught(fake: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        testing.check_restorer(fake)


class Comparing(Dim):
    """Says how bright a face is among the others."""

    def assess(self, crops: Any) -> Any:
        return super().assess(crops / crops.amax() if len(crops) else crops)


class Mixed(Dim):
    """Gives its columns as they are, unchecked."""

    def assess(self, crops: Any) -> Any:
        return crops.mean((2, 3))


@pytest.mark.parametrize(("fake", "message"), [(Comparing, "other crops"), (Mixed, "gives a Damage")])
def test_breaches_of_an_assessor_are_caught(fake: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        testing.check_assessor(fake)


class Peeking(Cells):
    """Measures a face against the mean of the batch."""

    def embed(self, crops: Any) -> Any:
        return super().embed(crops - crops.mean(0) if len(crops) > 1 else crops)


class Unscaled(Cells):
    def embed(self, crops: Any) -> Any:
        return 2 * super().embed(crops)


class Sized(Cells):
    """Sees pixels where it should see a face."""

    def embed(self, crops: Any) -> Any:
        return super().embed(crops[..., :64, :64])


@pytest.mark.parametrize(
    ("fake", "message"), [(Peeking, "other crops"), (Unscaled, "length 1"), (Sized, "another side")]
)
def test_breaches_of_an_embedder_are_caught(fake: Any, message: str) -> None:
    testing.check_embedder(Cells)
    with pytest.raises(AssertionError, match=message):
        testing.check_embedder(fake)


def test_options_need_words() -> None:
    with pytest.raises(AssertionError, match="'gain' needs a description"):
        testing.check_options(type("P", (), {"Options": Sloppy}))
    testing.check_options(type("P", (), {"Options": Careful}))
    testing.check_options(type("P", (), {"Options": NoOptions}))


class Late:
    """A smoother that forgets its state at every window."""

    Options = NoOptions
    lookahead = 0

    def __init__(self, options: Any) -> None: ...

    def wants(self, latent: str) -> bool:
        return True

    def smooth(self, stretch: Any, state: Any) -> Any:
        return stretch.x[:, : stretch.n_now] * 0.5 + stretch.x[:, :1] * 0.5, {}


def test_breaches_of_a_smoother_are_caught() -> None:
    with pytest.raises(AssertionError, match="windows of 4"):
        testing.check_smoother(Late)
