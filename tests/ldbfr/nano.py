"""LD-BFR's published architecture in a few thousand weights; networks that are not at their first, idle state."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.sizes import SIZES, Size, UNetSize, VQF4Size, VQSize

Net = TypeVar("Net", bound=nn.Module)

UNET = UNetSize(
    model_channels=16, channel_mult=(1, 2), num_res_blocks=1, attention_ds=(1, 2), num_head_channels=8, inject_ds=(2,)
)


def vq_size(kind: str = "vq_dca", **more: object) -> VQSize:
    small = {"input_size": 64, "ch": 8, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1, "embed_dim": 16, "n_embed": 32}
    return VQSize.model_validate({"kind": kind, "attn_heads": 2, "dca_heads": 4} | small | more)


def published(kind: str = "vq_dca") -> Size:
    """As ``full`` but for its widths: 64 px, codes on 8 x 8 positions, latents on 16 x 16."""
    return Size(
        image_size=64,
        stage1=vq_size(kind),
        ae=VQF4Size(ch=8, ch_mult=(1, 2, 2), num_res_blocks=1, n_embed=32),
        unet=UNET,
        diffusion=SIZES["full"].diffusion,
    )


def own(name: str = "nano") -> LDBFR:
    return stirred(LDBFR(SIZES[name]))


def stirred(net: Net) -> Net:
    """Every weight moved, so that no branch is silent."""
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=gen))
    return net.eval()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
