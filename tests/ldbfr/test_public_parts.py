"""A file of LD-BFR's weights, put together from public checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nano import published
from test_loaders import checkpoint

from vidrestore.cli import run
from vidrestore.errors import ResourceError, UsageError
from vidrestore.weights import store
from vidrestore.weights.store import Weights
from vidrestore_plugins.restore.ldbfr.files import PUBLIC, convert, load, put_together


def small(contents: dict[str, Any]) -> Any:
    """The importer, for checkpoints of few channels."""
    return put_together(contents, published())


WEIGHTS = Weights("small", "", "", Path(), importer="test_public_parts:small")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


def saved(folder: Path, name: str) -> str:
    torch.save({"state_dict": checkpoint(PUBLIC[name][0]), "epoch": 3}, folder / f"{name}.ckpt")
    return f"{name}={folder / name}.ckpt"


def test_parts_of_two_checkpoints_in_one_file(tmp_path: Path) -> None:
    given = [saved(tmp_path, "ldm"), saved(tmp_path, "hq-dictionary")]
    path = store.take(WEIGHTS, given)
    net, parts = load(path)
    assert parts == {"stage1", "ae", "unet"} and net.size.stage1.attn_heads == 8
    ldm, dictionary = (torch.load(tmp_path / f"{name}.ckpt")["state_dict"] for name in ("ldm", "hq-dictionary"))
    assert torch.equal(net.unet.state_dict()["out.2.bias"], ldm["model.diffusion_model.out.2.bias"])
    assert torch.equal(net.ae.encoder.conv_in.weight, ldm["first_stage_model.encoder.conv_in.weight"])
    assert torch.equal(net.stage1.encoder.conv_in.weight, dictionary["vqvae.encoder.conv_in.weight"])
    once = path.read_bytes()
    assert store.take(WEIGHTS, given).read_bytes() == once


@pytest.mark.parametrize("name", ["vq-f4", "restoreformer", "ld-bfr"])
def test_the_file_holds_the_parts_that_came(name: str, tmp_path: Path) -> None:
    _, parts = load(store.take(WEIGHTS, [saved(tmp_path, name)]))
    assert parts == set(PUBLIC[name][1])


def test_what_does_not_go_together() -> None:
    with pytest.raises(UsageError, match="'ae' comes from ldm already"):
        small({"ldm": {}, "vq-f4": {}})
    with pytest.raises(UsageError, match="name files LAYOUT=FILE, of: ldm vq-f4"):
        convert({"model": {}})
    with pytest.raises(ResourceError, match=r"checkpoint restoreformer: no tensor for 'stage1\..*'"):
        small({"restoreformer++": {"state_dict": checkpoint("restoreformer")}})
    with pytest.raises(ResourceError, match="checkpoint vq-f4: no tensor for"):
        small({"vq-f4": torch.zeros(1)})


def test_the_manifest_offers_the_published_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weights", "import", "ldbfr_full", f"model={saved(tmp_path, 'vq-f4').partition('=')[2]}"]) == 2
    assert "no such layout" in capsys.readouterr().err
    with pytest.raises(ResourceError, match=r"ldbfr_full: not here; vidrestore weights import ldbfr_full PATH"):
        store.weights_path("ldbfr_full")
