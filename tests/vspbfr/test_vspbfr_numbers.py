"""The networks against numbers that the published code gave: layer by layer in small, whole in full size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recipe import (
    GOLDEN,
    deviation,
    filled,
    generator_paths,
    maps,
    normal,
    picture,
    record,
    restoration_paths,
    watch,
)
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.bank import Generator
from vidrestore_plugins.restore.vspbfr.diffuser import Block, Diffuser
from vidrestore_plugins.restore.vspbfr.discriminator import Block as DiscriminatorBlock
from vidrestore_plugins.restore.vspbfr.discriminator import Discriminator
from vidrestore_plugins.restore.vspbfr.encoder import Head, Unit
from vidrestore_plugins.restore.vspbfr.layers import mapping
from vidrestore_plugins.restore.vspbfr.model import VSPBFR, Given
from vidrestore_plugins.restore.vspbfr.sizes import PUBLISHED, DiffuserSize
from vidrestore_plugins.restore.vspbfr.smart import SMART, DilatedGroup
from vidrestore_plugins.restore.vspbfr.style import StyledConv, ToRGB

INPUTS = {
    "x16": (2, 16, 12, 12),
    "x16s": (2, 16, 4, 4),
    "x16b": (2, 16, 16, 16),
    "x3": (2, 3, 12, 12),
    "s24": (2, 24),
    "z32": (2, 32),
    "skip": (2, 3, 6, 6),
    "x18": (2, 18, 32),
    "c18": (2, 18, 32),
}
# layer, whose rules its weights follow, what it is given
LAYERS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "smart": (lambda: SMART(16, 32, 24), "g_ema", "x16 s24 noise"),
    "smart4": (lambda: SMART(16, 16, 24), "g_ema", "x16s s24 noise"),
    "styled_up": (lambda: StyledConv(16, 12, 24, "up"), "g_ema", "x16 s24 noise"),
    "styled_same": (lambda: StyledConv(16, 12, 24), "g_ema", "x16 s24 noise"),
    "styled_down": (lambda: StyledConv(16, 12, 24, "down"), "g_ema", "x16 s24 noise"),
    "to_rgb": (lambda: ToRGB(16, 24), "decoder", "x16 s24 skip"),
    "large1": (lambda: DilatedGroup(3, 16, 1), "g_ema", "x3"),
    "large3": (lambda: DilatedGroup(16, 16, 3), "g_ema", "x16s"),
    "mapping": (lambda: mapping(32, 8), "decoder", "z32"),
    "tacc": (lambda: Block(32), "att_mapper", "x18 e"),
    "diffuser32": (lambda: Diffuser(DiffuserSize(), 32), "att_mapper", "x18 c18 t"),
    "irse_down": (lambda: Unit(16, 32, 2, 16), "encoder", "x16"),
    "irse_same": (lambda: Unit(16, 16, 2, 16), "encoder", "x16"),
    "resblock": (lambda: DiscriminatorBlock(16, 24), "d", "x16"),
    "gsb": (lambda: Head(16, 16, 16), "encoder", "x16b"),
}


def given(name: str, words: str, dtype: torch.dtype) -> list[Tensor]:
    side = GOLDEN["units"][name]["shape"][-1]
    c18 = normal("input/c18", *INPUTS["c18"])
    special = {
        "noise": normal(f"noise/unit/{name}/noise", 1, 1, side, side),
        "e": torch.cat([c18, torch.full((2, 18, 1), 0.75)], 2),
        "t": torch.tensor([3, 1]),
    }
    found = [special[w] if w in special else normal(f"input/{w}", *INPUTS[w]) for w in words.split()]
    return [t.to(dtype) if t.is_floating_point() else t for t in found]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["f64", "f32"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name: str, dtype: torch.dtype, tolerance: float) -> None:
    make, rules, words = LAYERS[name]
    golden: dict[str, Any] = GOLDEN["units"][name]
    layer = filled(make(), rules, f"unit/{name}").to(dtype)
    out = layer(*given(name, words, dtype))
    assert list(out.shape) == golden["shape"]
    assert out.flatten()[:8].tolist() == pytest.approx(golden["first"], abs=tolerance * golden["record"][2])
    assert deviation(record(out), golden["record"]) < tolerance


def test_the_recipe_of_the_numbers_holds() -> None:
    for name, first in GOLDEN["numbers"].items():
        assert normal(name, 4).tolist() == pytest.approx(first, rel=1e-11)


@pytest.fixture(scope="module")
def net() -> VSPBFR:
    """The networks in full size, for faces of 256 px; f32."""
    net = VSPBFR(PUBLISHED.model_copy(update={"side": 256}))
    filled(net.encoder, "encoder", "encoder")
    filled(net.diffuser, "att_mapper", "att_mapper")
    filled(net.bank, "decoder", "decoder")
    filled(net.restoration, "g_ema", "g_ema")
    net.latent_avg.copy_(0.3 * normal("root/latent_avg", *net.latent_avg.shape))
    return net.eval()


def random(net: VSPBFR) -> Given:
    bank = maps("decoder", generator_paths(len(net.bank.noise_sides)), net.bank.noise_sides)
    paths = restoration_paths(len(net.restoration.sides))
    restoration = maps("g_ema", paths, net.restoration.noise_sides)
    return Given(normal("noise/x_T", 1, 18, 512), net.held(normal("noise/z", 1, 1, 512)), bank, restoration)


def watched(net: VSPBFR) -> dict[str, list[float]]:
    """Records of what the networks' parts give from now on, under the golden names."""
    seen: dict[str, list[float]] = {}
    for part, prefix in ((net.encoder, "encoder"), (net.bank, "decoder"), (net.restoration, "g_ema")):
        watch(part, prefix, seen)
    net.diffuser.register_forward_pre_hook(lambda _, given: put_step(seen, "xt", given[2], given[0]))
    net.diffuser.register_forward_hook(lambda _, given, out: put_step(seen, "x0", given[2], out))
    return seen


def put_step(seen: dict[str, list[float]], what: str, t: Tensor, value: Tensor) -> None:
    seen[f"att_mapper.{what}_step{int(t)}"] = record(value)


def compared(seen: dict[str, list[float]], chain: str, tolerance: float) -> None:
    for name, golden in GOLDEN[chain].items():
        limit = 1e-4 if name.startswith("encoder.") or name == "w_hat" else tolerance
        assert deviation(seen[name], golden) < limit, name


@pytest.mark.slow
def test_the_networks_in_full_size_each_for_itself(net: VSPBFR) -> None:
    seen = watched(net)
    given = random(net)
    with torch.inference_mode():
        seen["diffuser.out"] = record(net.diffuser.sample(given.start, normal("input/cond", 1, 18, 512)))
        seen["restored"] = record(net.restore(picture(256), normal("input/w", 1, 18, 512), given))
    compared(seen, "isolated_256", 1e-4)


@pytest.mark.slow
def test_the_networks_in_full_size_one_after_the_other(net: VSPBFR) -> None:
    """The diffuser multiplies what rounding changed by a hundred: f32 agrees to a few thousandths."""
    seen = watched(net)
    given = random(net)
    with torch.inference_mode():
        w_hat = net.encode(picture(256))
        w0 = net.diffuser.sample(given.start, w_hat)
        y = net.restore(picture(256), w0, given)
    compared(seen | {"w_hat": record(w_hat), "w0": record(w0), "restored": record(y)}, "chain_256", 5e-3)


@pytest.mark.slow
def test_half_precision_in_full_size(net: VSPBFR) -> None:
    """Convolutions in bf16, what amplifies rounding in f32; activations of random weights reach hundreds."""
    given, w = random(net), normal("input/w", 1, 18, 512)
    with torch.inference_mode():
        y = net.restore(picture(256), w, given)
        half = copy.deepcopy(net).placed(torch.device("cpu"), torch.bfloat16)
        maps = [[m.bfloat16() for m in part] for part in (given.bank, given.restoration)]
        error = half.restore(picture(256), w, Given(given.start, given.held, *maps)) - y
    assert error.isfinite().all() and error.square().mean().sqrt() < 6e-2 * y.std()


@pytest.mark.slow
def test_the_generators_picture() -> None:
    generator = filled(Generator(PUBLISHED), "decoder", "decoder")
    noise = maps("decoder", generator_paths(17), generator.noise_sides)
    with torch.inference_mode():
        y = generator.picture(normal("input/w", 1, 18, 512), noise)
    assert y.shape == (1, 3, 1024, 1024)
    assert deviation(record(y), GOLDEN["generator"]["picture"]) < 1e-4


@pytest.mark.slow
def test_the_discriminator() -> None:
    net = filled(Discriminator(PUBLISHED), "d", "d")
    with torch.inference_mode():
        logits = net(torch.cat([picture(512), picture(512, 1)]))
    assert logits.flatten().tolist() == pytest.approx(GOLDEN["discriminator"]["logits"], rel=1e-4)
