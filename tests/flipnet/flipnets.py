"""FLIPNET at nano size, with every weight moved so that no branch is silent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidrestore_plugins.restore.flipnet.model import FlipNet
from vidrestore_plugins.restore.flipnet.sizes import SIZES

NANO = SIZES["nano"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def born(seed: int = 0) -> FlipNet:
    """As it begins: hubs and tags silent."""
    torch.manual_seed(seed)
    return FlipNet(NANO).eval()


def stirred(net: FlipNet) -> FlipNet:
    gen = torch.Generator().manual_seed(1)
    parts: list[nn.Module] = [net.hubs, net.tags, net.projector]
    with torch.no_grad():
        for part in parts:
            for p in part.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=gen))
    return net


def latents(n: int, seed: int) -> Tensor:
    return noise(n, NANO.vae.channels, NANO.latent_side, NANO.latent_side, seed=seed)


def tokens(n: int, seed: int) -> Tensor:
    return noise(n, NANO.tokens, NANO.token_width, seed=seed)


def at(*times: int) -> Tensor:
    return torch.tensor(times)
