"""VSPBFR in a few thousand weights, all of which have a say; and what it is given."""

from __future__ import annotations

from recipe import filled, normal
from torch import Tensor

from vidrestore_plugins.restore.vspbfr.model import VSPBFR, Given
from vidrestore_plugins.restore.vspbfr.sizes import NANO


def nano() -> VSPBFR:
    net = VSPBFR(NANO)
    filled(net.encoder, "encoder", "encoder")
    filled(net.diffuser, "att_mapper", "att_mapper")
    filled(net.bank, "decoder", "decoder")
    filled(net.restoration, "g_ema", "g_ema")
    net.latent_avg.copy_(normal("mean", *net.latent_avg.shape))
    return net.eval()


def drawn(net: VSPBFR, faces: int) -> tuple[Tensor, Given]:
    def maps(name: str, sides: list[int]) -> list[Tensor]:
        return [normal(f"{name} {i}", faces, 1, s, s) for i, s in enumerate(sides)]

    size = net.size
    start, held = normal("start", faces, size.codes, size.style_dim), net.held(normal("z", faces, 1, size.style_dim))
    given = Given(start, held, maps("bank", net.bank.noise_sides), maps("net", net.restoration.noise_sides))
    return normal("x", faces, 3, size.side, size.side).tanh(), given
