"""blend=parsing: its contract with weights of no use, a mask that follows the network, one line without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from facexlib.parsing.parsenet import ParseNet
from safetensors.torch import save_file

from vidrestore import testing
from vidrestore.errors import ResourceError
from vidrestore_plugins.blend.parsing import Parsing, ParsingOptions


@pytest.fixture
def parsenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published network, freshly drawn, biased to call everything skin."""
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path))
    torch.manual_seed(0)
    state = ParseNet(in_size=512, out_size=512, parsing_ch=19).state_dict()
    key = next(k for k in state if k.startswith("out_mask_conv") and k.endswith("bias"))
    state[key][1] += 1000
    path = tmp_path / "parsenet.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


@pytest.mark.slow
def test_it_keeps_the_contract(parsenet: Path) -> None:
    testing.check_blender(Parsing)


@pytest.mark.slow
def test_the_mask_is_where_the_network_sees_a_face(parsenet: Path) -> None:
    batch = testing._batch(64, 1)
    _, alpha = Parsing(ParsingOptions()).blend(batch, batch.crops)
    assert float(alpha[..., 16:48, 16:48].min()) > 0.99, "all is skin to this one"
    assert float(alpha[..., 0, :].max()) == 0 and float(alpha[..., :, -1].max()) == 0, "but not at the crop's border"


def test_it_says_what_is_wrong_with_its_weights(parsenet: Path) -> None:
    batch = testing._batch(64, 1)
    parsenet.write_bytes(b"no weights")
    with pytest.raises(ResourceError, match=r"blend=parsing: parsenet\.safetensors does not hold its weights"):
        Parsing(ParsingOptions()).blend(batch, batch.crops)
    parsenet.unlink()
    with pytest.raises(ResourceError, match="vidrestore weights fetch parsenet"):
        Parsing(ParsingOptions()).blend(batch, batch.crops)
