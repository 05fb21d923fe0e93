"""FLIPNET as one module: a prior run on two streams, and what tells it faces, roles and modes.

Y. Miao, Z. Qu, M. Gao, C. Chen, J. Song, J. Han, J. Deng: "Unlocking the Potential of Diffusion Priors in Blind Face
Restoration", ICCV 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidrestore_plugins.restore.flipnet.hub import BoostHub, HubProcessor, Pair, Pass
from vidrestore_plugins.restore.flipnet.prior import SELF, sites, unet_of, vae_of
from vidrestore_plugins.restore.flipnet.schedule import diffused, times
from vidrestore_plugins.restore.flipnet.tokens import FaceEncoder, Projector

if TYPE_CHECKING:
    from vidrestore_plugins.restore.flipnet.schedule import Spacing
    from vidrestore_plugins.restore.flipnet.sizes import Size

RESTORE, DEGRADE = 0, 1  # modes
STEPS = 20  # passes, unless told
IMAGE, CONDITION = 0, 1  # roles of the streams x and y

Cache = dict[str, Pair]


class Tags(nn.Module):
    """What is added to the time embedding: which mode, which role. Zero at birth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mode_emb, self.role_emb = nn.Parameter(torch.zeros(2, width)), nn.Parameter(torch.zeros(2, width))

    def forward(self, mode: Tensor, role: int) -> Tensor:
        """i64 [n] -> [n, width]."""
        return self.mode_emb[mode] + self.role_emb[role]


class FlipNet(nn.Module):
    """Latents are z [n, c, s, s]; times i64 [n]; face tokens [n, t, w]; modes i64 [n] of RESTORE and DEGRADE.

    The image's stream x is noisy and predicted, the condition's stream y is read. Restoring, x is the undamaged
    face and y the damaged one; degrading, they are flipped.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.unet, self.vae = unet_of(size), vae_of(size.vae)
        self.encoders = nn.ModuleDict({"lq": FaceEncoder(size), "hq": FaceEncoder(size)})
        self.projector = Projector(size)
        self.tags = Tags(4 * size.unet.widths[0])
        self.hubs = nn.ModuleDict()
        self._now = Pass()
        self.grow_hubs()

    def grow_hubs(self) -> None:
        """New hubs from the prior as it is; the network then is the prior alone."""
        for site in sites(self.unet):
            beside = self.unet.get_submodule(f"{site}.{SELF}")
            hub = self.hubs[site.replace(".", "_")] = BoostHub(beside)
            beside.set_processor(HubProcessor(site, hub, self._now))

    def resize(self, size: Size) -> None:
        """Take up a size that differs in the scale of the latents alone."""
        if size.model_copy(update={"vae": self.size.vae}) != self.size:
            raise ValueError("only the scale of the latents can change in a network that is there")
        self.size = size

    def encode(self, faces: Tensor) -> Tensor:
        """Faces [n, 3, s, s] in -1..1 -> the mean of their latents, scaled."""
        return self.size.vae.scale * self.vae.encode(faces).latent_dist.mean  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z / self.size.vae.scale).sample  # type: ignore[no-any-return]

    def beginning(
        self, z_y: Tensor, eps: Tensor, mode: int, steps: int = 0, start: int = 0, spacing: Spacing = "quadratic"
    ) -> tuple[Tensor, list[int]]:
        """The latent that diffusion begins with, and the times at which the network is asked. With 0 both are the
        size's: one pass over the damaged latent where that was learnt, else 20 from its latent under noise."""
        if self.restores_at_once(mode, steps, start):
            return z_y, [self.size.at_once]
        asked = times(steps or STEPS, start or self.size.start, spacing)
        return diffused(z_y, asked[0], eps), asked

    def restores_at_once(self, mode: int, steps: int, start: int) -> bool:
        """Whether one pass over the damaged latent does it: where that was learnt and nothing else is asked for."""
        return self.size.at_once > 0 and mode == RESTORE and steps < 2 and start == 0

    def restored(self, z0: Tensor, z_y: Tensor, damaged: Tensor) -> Tensor:
        """The picture of a restored latent z0; z_y is the damaged face's.

        D(z0), or where the size says so ``damaged + D(z0) - D(z_y)``: a small auto-encoder loses more of a picture than
        mild damage does, and so it loses nothing but what the network changed.
        """
        after = self.decode(z0)
        return damaged + after - self.decode(z_y) if self.size.by_difference else after

    def tokens(self, faces: Tensor, mode: int) -> Tensor:
        """Face tokens of the condition: a damaged face is read by E_LQ, an undamaged one by E_HQ."""
        return self.projector(self.encoders["lq" if mode == RESTORE else "hq"](faces))  # type: ignore[no-any-return]

    def forward(
        self,
        z_hq: Tensor,
        z_lq: Tensor,
        t_hq: Tensor,
        t_lq: Tensor,
        c_hq: Tensor,
        c_lq: Tensor,
        mode: Tensor,
        phi: float | Tensor = 1.0,
        *,
        both: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The noise in x and in y, from one call on the stacked streams. Rows may differ in mode.

        Args:
            phi: weight of the hubs, 0..2, or one a row [n, 1, 1].
            both: y reads x too, as in UniCon; what a cache of y's keys and values holds is then not enough.
        """
        flipped = mode == DEGRADE

        def chosen(hq: Tensor, lq: Tensor) -> tuple[Tensor, Tensor]:
            where = flipped.view(-1, *[1] * (hq.ndim - 1))
            return torch.where(where, lq, hq), torch.where(where, hq, lq)

        (z_x, z_y), (t_x, t_y) = chosen(z_hq, z_lq), chosen(t_hq, t_lq)
        c = chosen(c_hq, c_lq)[1]
        tags = torch.cat([self.tags(mode, IMAGE), self.tags(mode, CONDITION)])
        now = Pass("stacked", phi, both)
        eps = self._run(torch.cat([z_x, z_y]), torch.cat([t_x, t_y]), torch.cat([c, c]), tags, now)
        return tuple(eps.chunk(2))  # type: ignore[return-value]

    def written(self, z_y: Tensor, c: Tensor, mode: Tensor, t_y: int = 0) -> Cache:
        """What the condition has to say to every step: keys and values of all hubs, from one call."""
        now = Pass("write")
        self._run(z_y, torch.full_like(mode, t_y), c, self.tags(mode, CONDITION), now)
        return now.cache

    def noise(
        self, z_x: Tensor, t: int | Tensor, c: Tensor, cache: Cache, mode: Tensor, phi: float | Tensor = 1.0
    ) -> Tensor:
        """The noise in x, given what the condition wrote: equal to the stacked call's."""
        now = Pass("read", phi, cache=cache)
        return self._run(z_x, torch.as_tensor(t, device=z_x.device).expand(len(z_x)), c, self.tags(mode, IMAGE), now)

    def prior(self, z: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """The noise in z by the bare prior, without hubs or tags."""
        tags = z.new_zeros(len(z), self.tags.mode_emb.shape[1])
        return self._run(z, t, c, tags, Pass("alone"))

    def _run(self, z: Tensor, t: Tensor, c: Tensor, tags: Tensor, now: Pass) -> Tensor:
        vars(self._now).update(vars(now))
        try:
            return self.unet(z, t, c, class_labels=tags, return_dict=False)[0]  # type: ignore[no-any-return]
        finally:
            vars(self._now).update(vars(Pass()))
