"""blend=parsing: its contract, a mask that follows the network, one line without weights; a parser of our own."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facexlib.parsing.parsenet import ParseNet
from safetensors.torch import save_file
from trainings import settings_kept

from vidrestore import testing
from vidrestore.errors import ResourceError
from vidrestore_plugins.blend.parser.recipe import main
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


def portrait(seed: int) -> np.ndarray:
    """A face on something bluer than any: RGB u8 [256, 256, 3]."""
    rng = np.random.default_rng(seed)
    out = np.full((256, 256, 3), rng.integers(0, 120, 3) + np.array([0, 0, 130]), np.uint8)
    cv2.ellipse(out, (128, 140), (80, 100), 0, 0, 360, (rng.integers(0, 120, 3) + np.array([130, 60, 0])).tolist(), -1)
    return out


def annotated(folder: Path) -> Path:
    """Such faces with the mask of their outline, one in three of them held out, as an archive of faces has them."""
    folder.mkdir()
    rows = []
    with (
        tarfile.open(folder / "faces256-research-00.tar", "w") as shard,
        tarfile.open(folder / "masks.tar", "w") as masks,
    ):
        for i in range(12):
            mask = np.zeros((256, 256), np.uint8)
            cv2.ellipse(mask, (128, 140), (80, 100), 0, 0, 360, 1, -1)
            mask[:, :9] = 255
            for tar, name, image in ((shard, f"{i:012x}.jpg", portrait(i)[:, :, ::-1]), (masks, f"{i:012x}.png", mask)):
                content = cv2.imencode(name[-4:], image)[1].tobytes()
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            rows.append(f"{i:012x},research,{'train' if i % 3 else 'val'}")
    (folder / "faces.csv").write_text("\n".join(["stem,terms,split", *rows]) + "\n")
    return folder


@pytest.mark.slow
def test_a_parser_of_our_own_learns_where_faces_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = annotated(tmp_path / "data"), tmp_path / "parser.safetensors"
    asked = ["--data", data, "--size", "nano", "--out", out, "--work", tmp_path / "work", "--batch", "0.25"]
    with settings_kept():
        main([str(word) for word in (*asked, "--steps", "40", "--rate", "20")])
    said = capsys.readouterr().out
    assert "8 faces with masks, 4 held out" in said
    assert float(said.split("intersection over union ")[-1]) > 0.85

    batch = testing._batch(128, 1)
    face = torch.from_numpy(portrait(0)).permute(2, 0, 1)[None].float() / 255
    _, alpha = Parsing(ParsingOptions(weights=str(out))).blend(batch, F.interpolate(face, (128, 128), mode="area"))
    assert float(alpha[..., 60:80, 54:74].mean()) > 0.8, "the middle of the face"
    assert float(alpha[..., 2:12, 2:12].mean()) < 0.2, "its corner"
    testing.check_blender(Parsing, weights=str(out))


def test_a_file_that_holds_no_parser_is_told(tmp_path: Path) -> None:
    batch = testing._batch(64, 1)
    wrong = tmp_path / "wrong.safetensors"
    save_file({"a": torch.zeros(1)}, wrong)
    with pytest.raises(ResourceError, match="not the weights of a parser; train them: vidrestore train parser"):
        Parsing(ParsingOptions(weights=str(wrong))).blend(batch, batch.crops)
