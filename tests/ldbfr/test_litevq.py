"""The first stage of the own sizes: idle at birth, its gate, what learns, and its file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from nano import drawn, own, stirred
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vidrestore.errors import ResourceError
from vidrestore_plugins.restore.ldbfr.batches import Batch, importance
from vidrestore_plugins.restore.ldbfr.files import PARTS, load, save
from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.phases import Restoration
from vidrestore_plugins.restore.ldbfr.sizes import SIZES

if TYPE_CHECKING:
    from pathlib import Path

    from vidrestore_plugins.restore.ldbfr.sizes import LiteVQSize


def size() -> LiteVQSize:
    nano = SIZES["nano"].stage1
    assert nano.kind == "litevq"
    return nano


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [64, 128, 256])
def test_at_birth_the_output_is_the_input_to_the_bit(side: int, dtype: torch.dtype) -> None:
    net = LiteVQ(size()).to(dtype)
    x = drawn(2, 3, side, side).to(dtype)
    with torch.inference_mode():
        y, h, codes = net(x)
    assert torch.equal(y, x) and y.dtype == dtype
    assert h.shape == (2, 16, side // 8, side // 8) and codes.shape == (2, (side // 8) ** 2)
    torch.testing.assert_close(h.norm(dim=1), torch.ones(2, side // 8, side // 8))


def test_joining_makes_any_network_idle_and_leaves_its_codes() -> None:
    net = stirred(LiteVQ(size()))
    x = drawn(1, 3, 64, 64)
    with torch.inference_mode():
        before = net(x)
        assert (before[0] - x).abs().max() > 0.1
        net.join()
        y, h, codes = net(x)
    assert torch.equal(y, x) and torch.equal(h, before[1]) and torch.equal(codes, before[2])


def test_a_shut_gate_keeps_the_input_from_the_decoder() -> None:
    net = stirred(LiteVQ(size()))
    x = drawn(2, 3, 64, 64)
    with torch.inference_mode():
        h, features = net.encode(x)
        g = net.look_up(net.book.nearest(h), h)
        others = [f + drawn(*f.shape, seed=9) for f in features]
        assert torch.equal(net.decode(g, x, features, 0.0), net.decode(g, x, others, 0.0))
        half = net.decode(g, x, features, 0.5) - net.decode(g, x, others, 0.5)
        full = net.decode(g, x, features) - net.decode(g, x, others)
        assert full.abs().mean() > half.abs().mean() > 1e-3
        each = net.decode(g, x, features, torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
        torch.testing.assert_close(each[0], net.decode(g, x, features, 0.0)[0])
        torch.testing.assert_close(each[1], net.decode(g, x, features)[1])


def test_the_dictionary_phase_sees_codes_alone() -> None:
    net = stirred(LiteVQ(size()))
    x = drawn(2, 3, 64, 64)
    with torch.inference_mode():
        y, h, codes = net.dictionary(x)
        expected = net.decoder(net.book.look_up(codes, 8, 8), None, 0.0)
        torch.testing.assert_close(y, expected)
        assert torch.equal(codes, net.book.nearest(h))


def test_all_but_the_dictionary_learns_to_restore() -> None:
    torch.manual_seed(0)
    net = stirred(LiteVQ(size()))
    truth = drawn(2, 3, 64, 64).repeat_interleave(2, 0) / 4
    batch = Batch(truth + drawn(4, 3, 64, 64, seed=1) / 4, truth, importance(64))
    Restoration(net).losses(batch)["loss"].backward()
    for name, p in net.named_parameters():
        frozen = name == "book.embedding.weight"
        assert p.requires_grad != frozen, name
        assert (p.grad is not None and bool(p.grad.abs().sum() > 0)) != frozen, name


def test_three_faces_come_out_as_each_alone() -> None:
    net = stirred(LiteVQ(size()))
    x = drawn(3, 3, 128, 128) / 3
    with torch.inference_mode():
        whole = net(x)
        for i in range(3):
            for together, alone in zip(whole, net(x[i : i + 1]), strict=True):
                torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-5)


class Fast(nn.Module):
    """The fast mode as one function of a picture."""

    def __init__(self, net: LiteVQ) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)[0]
        return y


def test_the_fast_mode_can_be_exported() -> None:
    net = Fast(stirred(LiteVQ(size())))
    x = drawn(2, 3, 64, 64) / 3
    program = torch.export.export(net, (drawn(2, 3, 64, 64, seed=4),))
    with torch.inference_mode():
        assert (program.module()(x) - net(x)).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_survive_their_file(dtype: torch.dtype, tmp_path: Path) -> None:
    net, path = own(), tmp_path / "nano.safetensors"
    save(net, path, dtype=dtype)
    again, parts = load(path)
    assert parts == set(PARTS) and again.size == net.size
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.to(dtype).float()), name
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_of_the_first_stage_leaves_the_rest_without_memory(tmp_path: Path) -> None:
    net, path = own(), tmp_path / "nano.safetensors"
    save(net, path, ["stage1"], torch.float32)
    again, parts = load(path)
    assert parts == {"stage1"}
    assert {p.device.type for p in again.stage1.parameters()} == {"cpu"}
    assert {p.device.type for part in (again.ae, again.unet) for p in part.parameters()} == {"meta"}
    x = drawn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again.stage1(x)[0], net.stage1(x)[0])


def tampered(path: Path, how: str) -> None:
    header = {"ldbfr": SIZES["nano"].model_dump_json()}
    tensors = load_file(path)
    name = "stage1.quant_conv.weight"
    if how == "text":
        path.write_text("no tensors")
    elif how == "gone":
        path.unlink()
    elif how == "another network's":
        save_file(tensors, path)
    elif how == "of an unknown size":
        save_file(tensors, path, {"ldbfr": json.dumps({"widths": [8]})})
    elif how == "incomplete":
        save_file({key: t for key, t in tensors.items() if key != name}, path, header)
    elif how == "misshapen":
        save_file(tensors | {name: torch.zeros(3)}, path, header)
    else:
        save_file(tensors | {"stage9.weight": torch.zeros(3)}, path, header)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("text", "not weights of LD-BFR"),
        ("gone", "not weights of LD-BFR"),
        ("another network's", "not weights of LD-BFR"),
        ("of an unknown size", "not weights of LD-BFR"),
        ("incomplete", "quant_conv.weight"),
        ("misshapen", "quant_conv.weight"),
        ("of unknown parts", "stage9"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(how: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "nano.safetensors"
    save(LDBFR(SIZES["nano"]), path, ["stage1"])
    tampered(path, how)
    with pytest.raises(ResourceError, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
