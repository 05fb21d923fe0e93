"""FLIPNET's weights at rest: parts in one file or in several, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from flipnets import NANO, at, born, latents, noise, stirred, tokens
from safetensors.torch import load_file, save_file

from vidrestore.errors import ResourceError, UsageError
from vidrestore_plugins.restore.flipnet import lora
from vidrestore_plugins.restore.flipnet.files import PARTS, PRIOR, TRAINED, convert, load, save
from vidrestore_plugins.restore.flipnet.model import FlipNet
from vidrestore_plugins.restore.flipnet.prior import sites
from vidrestore_plugins.restore.flipnet.sizes import SIZES

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def drawn(net: FlipNet) -> Tensor:
    z, c, mode = latents(2, 1), tokens(2, 2), at(0, 1)
    with torch.inference_mode():
        return net.noise(z, 300, c, net.written(latents(2, 3), c, mode), mode)


def updated(net: FlipNet) -> lora.Lora:
    shapes = {name: net.unet.get_submodule(name).weight.shape for name in lora.matrices(net.unet)}
    a = {f"{name}.A": noise(NANO.rank, shape[1], seed=1) / 8 for name, shape in shapes.items()}
    return a | {f"{name}.B": noise(shape[0], NANO.rank, seed=2) / 8 for name, shape in shapes.items()}


def test_what_was_trained_goes_without_its_prior(tmp_path: Path) -> None:
    net = stirred(born())
    updates = updated(net)
    save(net, tmp_path / "prior.safetensors", PRIOR, dtype=torch.float32)
    save(net, tmp_path / "beside.safetensors", TRAINED, updates, torch.float32)
    beside = load_file(tmp_path / "beside.safetensors")
    assert len(beside) == 20 * len(sites(net.unet)) + 6, "4 of a hub, 16 of low rank a site; projector; tags"
    assert {name.partition(".")[0] for name in beside} == {*TRAINED, "lora"}
    again, parts = load(tmp_path / "beside.safetensors", tmp_path / "prior.safetensors")
    assert parts == {*PRIOR, *TRAINED}
    lora.merge(net.unet, updates)
    torch.testing.assert_close(drawn(again), drawn(net), atol=1e-6, rtol=0)


def test_all_of_it_survives_one_file(tmp_path: Path) -> None:
    net, path = stirred(born()), tmp_path / "nano.safetensors"
    save(net, path)
    again, parts = load(path)
    assert parts == set(PARTS) and again.size == net.size
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name


def test_a_prior_of_another_size_is_refused(tmp_path: Path) -> None:
    wider = NANO.model_copy(update={"unet": NANO.unet.model_copy(update={"widths": (32, 96)})})
    save(born(), tmp_path / "beside.safetensors", TRAINED)
    save(FlipNet(wider), tmp_path / "prior.safetensors", PRIOR)
    with pytest.raises(ResourceError, match="another size"):
        load(tmp_path / "beside.safetensors", tmp_path / "prior.safetensors")


def test_a_part_comes_once(tmp_path: Path) -> None:
    save(born(), tmp_path / "a.safetensors", PRIOR)
    with pytest.raises(ResourceError, match="already"):
        load(tmp_path / "a.safetensors", tmp_path / "a.safetensors")


@pytest.mark.parametrize("how", ["text", "another network's", "incomplete", "of unknown parts", "half an update"])
def test_a_wrong_file_is_refused_in_one_line(how: str, tmp_path: Path) -> None:
    path, net = tmp_path / "nano.safetensors", born()
    save(net, path, updates=updated(net))
    tensors, header = load_file(path), {"flipnet": NANO.model_dump_json()}
    if how == "text":
        path.write_text("no tensors")
    elif how == "another network's":
        save_file(tensors, path)
    elif how == "incomplete":
        save_file({name: t for name, t in tensors.items() if name != "unet.conv_in.weight"}, path, header)
    elif how == "half an update":
        save_file({name: t for name, t in tensors.items() if not name.endswith("attn1.to_q.A")}, path, header)
    else:
        save_file(tensors | {"eyes.weight": torch.zeros(3)}, path, header)
    with pytest.raises(ResourceError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def prior_files() -> dict[str, dict[str, Tensor]]:
    with torch.device("meta"):
        net = FlipNet(SIZES["full"])
    return {part: dict(net.get_submodule(part).state_dict()) for part in PRIOR}


def test_stable_diffusions_files_become_the_prior() -> None:
    given = prior_files()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for name in [name for name in given["vae"] if ".attentions." in name]:
        for new, before in old.items():
            if f".{new}." in name:  # auto-encoders of that time: other names, a 1x1 convolution each
                value = given["vae"].pop(name)
                given["vae"][name.replace(f".{new}.", f".{before}.")] = (
                    value[..., None, None] if value.ndim == 2 else value
                )
    tensors, header = convert(given)
    assert set(tensors) == {f"{part}.{name}" for part, state in prior_files().items() for name in state}
    assert tensors["vae.encoder.mid_block.attentions.0.to_q.weight"].shape == (512, 512)
    assert SIZES["full"].model_validate_json(header["flipnet"]) == SIZES["full"]


def test_another_prior_is_refused() -> None:
    given = prior_files()
    with pytest.raises(UsageError, match="needs unet and vae"):
        convert({"unet": given["unet"]})
    del given["unet"]["conv_in.weight"]
    with pytest.raises(ResourceError, match=r"conv_in.weight is missing"):
        convert(given)
    given = prior_files()
    given["unet"]["conv_in.weight"] = torch.zeros(320, 9, 3, 3)
    with pytest.raises(ResourceError, match=r"conv_in.weight is \(320, 9, 3, 3\)"):
        convert(given)
