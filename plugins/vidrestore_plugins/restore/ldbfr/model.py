"""LD-BFR as one module: stage 1, the auto-encoder of latents, the U-Net between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from vidrestore_plugins.restore.ldbfr.f4 import VQF4, PlainF4
from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ
from vidrestore_plugins.restore.ldbfr.schedule import Schedule
from vidrestore_plugins.restore.ldbfr.unet import UNet
from vidrestore_plugins.restore.ldbfr.vq import VQStage1

if TYPE_CHECKING:
    from vidrestore_plugins.restore.ldbfr.sizes import Size


class LDBFR(nn.Module):
    """The parts are called by whoever restores or trains::

    h, features = stage1.encode(x)                      x [n, 3, S, S] in [-1, 1]
    g = stage1.look_up(stage1.book.nearest(h), h)
    y1 = stage1.decode(g, x, features)                  the fast mode ends here
    z = start(schedule, steps, eps, ae.encode(y1))
    x0 = sample(unet, unet.prepare(g), z, schedule, steps)
    y = recoloured(ae.decode(x0), y1)

    Weights may be of any floating type; codes are compared, and latents diffused, in f32.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.stage1 = LiteVQ(size.stage1) if size.stage1.kind == "litevq" else VQStage1(size.stage1)
        self.ae = PlainF4(size.ae) if size.ae.kind == "plain_f4" else VQF4(size.ae)
        self.unet = UNet(size.unet, size.stage1.embed_dim, size.ratio)
        self.schedule = Schedule(size.diffusion)
