"""VSPBFR's networks as they are published, counted without memory; what holds of them at any size."""

from __future__ import annotations

from hashlib import sha256

import pytest
import torch
from recipe import filled, normal
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from vspbfr_nano import drawn, nano

from vidrestore_plugins.restore.vspbfr.bank import Bank, Generator
from vidrestore_plugins.restore.vspbfr.diffuser import Diffuser, posterior
from vidrestore_plugins.restore.vspbfr.discriminator import Discriminator
from vidrestore_plugins.restore.vspbfr.encoder import Encoder
from vidrestore_plugins.restore.vspbfr.layers import EqualConv, Fir
from vidrestore_plugins.restore.vspbfr.model import VSPBFR, Given
from vidrestore_plugins.restore.vspbfr.restoration import Restoration
from vidrestore_plugins.restore.vspbfr.sizes import NANO, OWN, PUBLISHED, DiffuserSize, Size
from vidrestore_plugins.restore.vspbfr.style import ModulatedConv, Modulation, Prompt


def published(side: int) -> Size:
    return PUBLISHED.model_copy(update={"side": side})


def listing(net: nn.Module) -> str:
    """The first digits of the hash of all names, shapes and types."""
    lines = [f"{k} {list(t.shape)} {t.dtype}" for k, t in sorted(net.state_dict().items())]
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


NETWORKS = {
    "encoder": (lambda: Encoder(PUBLISHED.encoder, 18, 512), 621, 267_136_704, "4b3e97624cf8f80c"),
    "diffuser": (lambda: Diffuser(PUBLISHED.diffuser, 512), 72, 10_510_336, "1ed6dc49bd91a87b"),
    "generator": (lambda: Generator(PUBLISHED), 171, 30_370_060, "4bc1a88efc79f16b"),
    "restoration 256": (lambda: Restoration(published(256)), 283, 111_612_078, "39f19126e73ec633"),
    "restoration 512": (lambda: Restoration(published(512)), 322, 112_550_773, "9e26f6d3c3af4d16"),
    "discriminator": (lambda: Discriminator(PUBLISHED), 57, 28_982_849, "4ae6553789161f07"),
    "restoration 1024": (lambda: Restoration(published(1024)), 361, 112_949_468, "080799ed87bd7a49"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_names_shapes_and_counts(name: str) -> None:
    make, tensors, parameters, digest = NETWORKS[name]
    with torch.device("meta"):
        net = make()
    assert len(net.state_dict()) == tensors
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert listing(net) == digest


def test_the_small_size_is_small() -> None:
    """Parameters, and what its file holds in half precision: it can be handed out."""
    with torch.device("meta"):
        net = VSPBFR(OWN["xs"])
        generator = Generator(OWN["xs"])
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert parts == {"encoder": 3_575_488, "diffuser": 330_752, "bank": 1_470_820, "restoration": 5_532_390}
    assert sum(p.numel() for p in generator.parameters()) == 1_634_954
    assert sum(2 * t.numel() for t in net.state_dict().values()) < 25e6


def test_cost() -> None:
    """1e9 operations of a face at 512 px; what no feature needs is not computed."""
    with torch.device("meta"):
        net = VSPBFR(PUBLISHED).eval()
        x, w, given = torch.empty(1, 3, 512, 512), torch.empty(1, 18, 512), empty(net)
        with FlopCounterMode(display=False) as codes:
            net.encode(x)
        with FlopCounterMode(display=False) as features:
            net.bank(w, given.bank)
        with FlopCounterMode(display=False) as both:
            net.restore(x, w, given)
    cost = [counter.get_total_flops() / 1e9 for counter in (codes, features, both)]
    assert cost == pytest.approx([145.0, 100.3, 100.3 + 409.1], rel=0.01)


def empty(net: VSPBFR) -> Given:
    def maps(sides: list[int]) -> list[Tensor]:
        return [torch.empty(1, 1, s, s) for s in sides]

    size = net.size
    start, held = torch.empty(1, size.codes, size.style_dim), net.held(torch.empty(1, 1, size.style_dim))
    return Given(start, held, maps(net.bank.noise_sides), maps(net.restoration.noise_sides))


def test_the_posterior_mean_of_each_step() -> None:
    a, b = posterior(DiffuserSize())
    assert a.tolist() == pytest.approx([1.0, 0.7651869, 0.6362697, 0.5059268], abs=1e-7)
    assert b.tolist() == pytest.approx([0.0, 0.2302458, 0.3152556, 0.07421243], abs=1e-7)


def test_every_face_of_a_batch_is_as_if_alone() -> None:
    net = nano()
    x, given = drawn(net, 3)
    with torch.inference_mode():
        together = net(x, given)
        for i in range(3):
            one = slice(i, i + 1)
            maps = [[m[one] for m in given.bank], [m[one] for m in given.restoration]]
            alone = net(x[one], Given(given.start[one], given.held[one], *maps))
            torch.testing.assert_close(together[one], alone, atol=1e-4, rtol=1e-4)


def test_the_same_again_and_all_that_is_given_matters() -> None:
    net = nano()
    x, given = drawn(net, 1)
    with torch.inference_mode():
        y = net(x, given)
        assert y.shape == x.shape and torch.equal(y, net(x, given))
        others = [given._replace(start=-given.start), given._replace(held=net.held(-normal("z", 1, 1, 32)))]
        for name in ("bank", "restoration"):
            maps = list(getattr(given, name))
            others += [given._replace(**{name: [*maps[:i], -maps[i], *maps[i + 1 :]]}) for i in range(len(maps))]
        assert not any(torch.equal(y, net(x, other)) for other in others)
        assert not torch.equal(y, net(-x, given))


def test_each_layer_may_have_a_z_of_its_own() -> None:
    net = nano()
    x, given = drawn(net, 1)
    z = normal("z", 1, 1, NANO.style_dim)
    with torch.inference_mode():
        y = net(x, given)
        repeated = z.expand(-1, NANO.used, -1)
        torch.testing.assert_close(net(x, given._replace(held=net.held(repeated))), y)
        mixed = torch.cat([repeated[:, :3], -repeated[:, 3:]], 1)
        assert not torch.allclose(net(x, given._replace(held=net.held(mixed))), y)


def test_what_z_says_can_be_worked_out_before() -> None:
    """``A [w, zh, c] + b`` in parts."""
    layer = filled(Modulation(2 * 5 + 3, 4), "g_ema", "parts").double()
    w, zh, c = normal("w", 2, 5).double(), normal("zh", 2, 5).double(), normal("c", 2, 3).double()
    parts = layer(Prompt(w, layer.held(zh), c))
    torch.testing.assert_close(parts, layer(torch.cat([w, zh, c], 1)), atol=1e-12, rtol=1e-12)


def test_no_tensor_is_dead() -> None:
    net = nano().requires_grad_(True)
    x, given = drawn(net, 1)
    net(x, given).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


def test_the_bank_is_the_generator_up_to_its_last_feature() -> None:
    generator, bank = filled(Generator(NANO), "decoder", "decoder"), filled(Bank(NANO), "decoder", "decoder")
    w = normal("w", 2, NANO.codes, NANO.style_dim)
    maps = [normal(f"map {i}", 1, 1, s, s) for i, s in enumerate(generator.noise_sides)]
    features = generator(w, maps)
    assert list(features) == [8, 16, 32, 64]
    stopped = bank(w, maps[: len(bank.noise_sides)])
    assert list(stopped) == [8, 16, 32]
    assert all(torch.equal(stopped[s], features[s]) for s in stopped)
    assert generator.picture(w, maps).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("step", ["same", "up", "down"])
def test_a_modulated_convolution_is_that_with_the_weights_of_each_sample(step: str) -> None:
    layer = filled(ModulatedConv(6, 4, 3, 5, step=step), "g_ema", step).double()
    x, style = normal("x", 2, 6, 8, 8).double(), normal("style", 2, 5).double()
    s = layer.modulation(style)
    for i in range(2):
        w = layer.weight[0] / (6 * 9) ** 0.5 * s[i].view(1, -1, 1, 1)
        w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if step == "up":
            y = layer.blur(nn.functional.conv_transpose2d(x[i : i + 1], w.transpose(0, 1), stride=2), 1)
        elif step == "down":
            y = nn.functional.conv2d(layer.blur(x[i : i + 1], 2), w, stride=2)
        else:
            y = nn.functional.conv2d(x[i : i + 1], w, padding=1)
        torch.testing.assert_close(layer(x, style)[i : i + 1], y, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("side, dilation", [(4, 2), (4, 4), (4, 8), (8, 8), (16, 8)])
def test_a_kernel_wider_than_the_picture_is_its_centre(side: int, dilation: int) -> None:
    layer, x = EqualConv(3, 2, 3, dilation).double(), normal("x", 1, 3, side, side).double()
    whole = nn.functional.conv2d(x, layer.weight * layer.scale, padding=dilation, dilation=dilation)
    torch.testing.assert_close(layer(x), whole, atol=1e-12, rtol=1e-12)


def test_filters_keep_a_constant() -> None:
    x = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(Fir()(x, 2)[:, :, 2:-2, 2:-2], torch.ones(1, 2, 5, 5))
    assert Fir()(x, 2).shape[-1] == 9
    doubled = Fir(4.0).doubled(x)
    assert doubled.shape[-1] == 16
    torch.testing.assert_close(doubled[:, :, 1:-1, 1:-1], torch.ones(1, 2, 14, 14))


def test_sides_are_powers_of_two() -> None:
    with pytest.raises(ValueError, match="384 is not a power of two"):
        Restoration(published(384))
