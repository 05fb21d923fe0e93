"""What a FLIPNET in training makes: faces it restores, faces it damages, a copy of itself to keep."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vidrestore_plugins.restore.flipnet import lora
from vidrestore_plugins.restore.flipnet.batches import usable
from vidrestore_plugins.restore.flipnet.model import DEGRADE, RESTORE, FlipNet
from vidrestore_plugins.restore.flipnet.schedule import sample
from vidrestore_plugins.restore.ldbfr.sampler import run_down

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.train.portraits import Portraits

    Pictures = NDArray[np.uint8]  # [n, S, S, 3]


@torch.inference_mode()
def flipped(net: FlipNet, faces: Tensor, mode: int, eps: Tensor, steps: int = 0, phi: float = 1.0) -> Tensor:
    """Faces [n, 3, S, S] in -1..1, restored or damaged from noise ``eps`` [n, c, s, s]; ``steps``: see `beginning`."""
    modes = torch.full((len(faces),), mode, device=faces.device)
    c, z_y = net.tokens(faces, mode), net.encode(faces)
    cache = net.written(z_y, c, modes)
    z, asked = net.beginning(z_y, eps.to(z_y), mode, steps)
    z0 = run_down(sample(lambda z, t: net.noise(z, t, c, cache, modes, phi), z, asked))
    return (net.restored(z0, z_y, faces) if mode == RESTORE else net.decode(z0)).float()


@torch.inference_mode()
def seen(net: FlipNet, phase: str, x: Tensor) -> Tensor:
    """What a phase makes of damaged pictures [1, 3, s, s] in -1..1, at their own side."""
    side = net.size.image_size
    at = F.interpolate(x, (side, side), mode="area") if x.shape[-1] != side else x
    if phase == "latents":
        y = net.decode(net.encode(at))
    else:
        shape = (len(at), net.size.vae.channels, net.size.latent_side, net.size.latent_side)
        eps = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        restoring = phase == "restore"
        steps = 0 if restoring and net.size.at_once else 8
        y = flipped(net, at, RESTORE if restoring else DEGRADE, eps, steps)
    return F.interpolate(y.float(), x.shape[-2:], mode="bicubic") if x.shape[-1] != side else y.float()


def damaged_pairs(
    net: FlipNet, faces: Portraits, number: int, count: int, steps: int, device: torch.device
) -> tuple[Pictures, Pictures]:
    """The batch of this number: truths, and what degrading makes of them where that is usable."""
    rng = np.random.default_rng([31, number])
    side = net.size.image_size
    truth = torch.stack([faces.truth(rng) for _ in range(count)])
    truth = F.interpolate(truth, (side, side), mode="area") if truth.shape[-1] != side else truth
    z = (count, net.size.vae.channels, net.size.latent_side, net.size.latent_side)
    eps = torch.from_numpy(rng.standard_normal(z).astype(np.float32))
    out = flipped(net, 2 * truth.to(device) - 1, DEGRADE, eps, steps).cpu().clamp(-1, 1) / 2 + 0.5
    kept = usable(out, truth)
    truths, damaged = ((x[kept] * 255).round().byte().permute(0, 2, 3, 1).numpy() for x in (truth, out))
    return truths, damaged


def merged(net: FlipNet) -> FlipNet:
    """A copy with its low-rank updates merged into its prior."""
    whole = FlipNet(net.size)
    for part in ("vae", "encoders", "projector", "tags", "hubs"):
        whole.get_submodule(part).load_state_dict(copy.deepcopy(net.get_submodule(part).state_dict()))
    whole.unet.load_state_dict(lora.bare(net.unet))
    if updates := lora.taken(net.unet):
        lora.merge(whole.unet, updates)
    return whole.eval()
