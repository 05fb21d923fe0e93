"""embed=arcface: its contract with weights of no use, one line without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from facexlib.recognition.arcface_arch import Backbone
from safetensors.torch import save_file

from vidrestore import testing
from vidrestore.errors import ResourceError
from vidrestore_plugins.embed.arcface import ArcFace, ArcFaceOptions


@pytest.fixture
def arcface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published network, freshly drawn."""
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path))
    torch.manual_seed(0)
    path = tmp_path / "arcface.safetensors"
    save_file(Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se").state_dict(), path)
    return path


@pytest.mark.slow
def test_it_keeps_the_contract(arcface: Path) -> None:
    testing.check_embedder(ArcFace)


def test_it_says_what_is_wrong_with_its_weights(arcface: Path) -> None:
    cpu = torch.device("cpu")
    arcface.write_bytes(b"no weights")
    with pytest.raises(ResourceError, match=r"embed=arcface: arcface\.safetensors does not hold its weights"):
        ArcFace(ArcFaceOptions()).open(cpu)
    arcface.unlink()
    with pytest.raises(ResourceError, match="vidrestore weights fetch arcface"):
        ArcFace(ArcFaceOptions()).open(cpu)
