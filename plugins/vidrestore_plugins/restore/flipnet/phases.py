"""What each phase of FLIPNET's training minimises. Pictures are in -1..1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidrestore.train.losses import charbonnier, edges
from vidrestore_plugins.restore.flipnet import lora
from vidrestore_plugins.restore.flipnet.model import DEGRADE, RESTORE, FlipNet
from vidrestore_plugins.restore.flipnet.schedule import T, abar, denoised, diffused, noise_between
from vidrestore_plugins.restore.flipnet.tokens import Association, FaceDecoder

if TYPE_CHECKING:
    from vidrestore_plugins.restore.flipnet.sizes import Size

    Losses = dict[str, Tensor]

KL, SMOOTH = 1e-6, 0.1
MIN_SNR = 5.0
NO_TOKENS, NO_HUBS, OTHER_PHI = 0.1, 0.05, 0.2  # shares of rows
CLEAN_CONDITION, CONDITION = 0.7, 0.5  # share of rows whose condition is clean; weight of the condition's own noise
KEEP_DEGRADING = 0.2  # share of the rows that go on degrading while the rest learns to restore
PRIOR_PACE = 0.1
AT_ONCE = 0.75  # share of the restoring rows that learn to do it in one pass, where the size has that
PIXELS, UP_TO, PIXELS_EVERY = 1.0, 599, 4  # weight; last time; batches from one to the next
PIXELS_AT_ONCE = 20.0  # weight where restoring at once is learnt: in every batch


@dataclass(frozen=True, eq=False)
class Batch:
    """Faces and the same as bad footage, or degrading, shows them."""

    damaged: Tensor  # f32 [n, 3, S, S] in -1..1
    truth: Tensor  # f32 [n, 3, S, S] in -1..1


class Task(nn.Module):
    """Its parts are what is trained; ``net`` is the whole of which they are parts, also in a copy."""

    def __init__(self, net: FlipNet) -> None:
        super().__init__()
        self._whole = [net]  # in a list: what is no part of the task is no part of its state

    @property
    def net(self) -> FlipNet:
        return self._whole[0]

    def pace(self, _name: str) -> float:
        """How fast this parameter learns, 1 being the phase's rate."""
        return 1.0


class Latents(Task):
    """Phase 0a: the auto-encoder."""

    def __init__(self, net: FlipNet) -> None:
        super().__init__(net)
        self.vae = net.vae

    def losses(self, batch: Batch) -> Losses:
        x = batch.truth
        seen = self.vae.encode(x).latent_dist
        z = seen.mean + seen.std * torch.randn(seen.mean.shape).to(seen.mean)
        y = self.vae.decode(z).sample.float()
        rec = charbonnier(y, x) + SMOOTH * edges(y, x)
        kl = seen.kl().mean()
        return {"loss": rec + KL * kl, "rec": rec.detach(), "kl": kl.detach()}


class Reading(Task):
    """Phase I: each encoder learns its own domain by giving it back; the decoders are thrown away."""

    def __init__(self, net: FlipNet) -> None:
        super().__init__(net)
        self.encoders = net.encoders
        self.decoders = nn.ModuleDict({"hq": FaceDecoder(net.size), "lq": FaceDecoder(net.size)})

    def losses(self, batch: Batch) -> Losses:
        terms = {
            kind: given_back(self.encoders[kind], self.decoders[kind], x)[0]
            for kind, x in (("hq", batch.truth), ("lq", batch.damaged))
        }
        return {"loss": terms["hq"] + terms["lq"]} | {kind: value.detach() for kind, value in terms.items()}


class Associating(Task):
    """Phase II: tokens of damaged faces are drawn to those of the undamaged ones, which hold still."""

    def __init__(self, net: FlipNet) -> None:
        super().__init__(net)
        self.lq, self.decoder = net.encoders["lq"], FaceDecoder(net.size)
        self.association = Association()

    def losses(self, batch: Batch) -> Losses:
        with torch.no_grad():
            healthy = self.net.encoders["hq"](batch.truth)
        rec, damaged = given_back(self.lq, self.decoder, batch.damaged)
        association = self.association(healthy, damaged)
        return {"loss": association + 0.1 * rec, "association": association.detach(), "rec": rec.detach()}


class Imagining(Task):
    """Phase 0b: the prior alone learns faces from their tokens, and some without."""

    def __init__(self, net: FlipNet) -> None:
        super().__init__(net)
        self.unet, self.projector = net.unet, net.projector

    def losses(self, batch: Batch) -> Losses:
        net, n = self.net, len(batch.truth)
        with torch.no_grad():
            z0, grid = net.encode(batch.truth), net.encoders["hq"](batch.truth)
        c = self.projector(grid) * (uniform(n, z0) >= NO_TOKENS).view(n, 1, 1)
        t, eps = random_times(n, z0), like(z0)
        loss = (weight(t, z0) * error(net.prior(diffused(z0, t, eps), t, c), eps)).mean()
        return {"loss": loss, "noise": loss.detach()}


class Flipping(Task):
    """Phases III (D mode) and V (R mode): hubs, low-rank updates, tokens' projector and tags.

    ``restoring``: most rows restore, the rest go on degrading; now and then the picture itself is compared too. Where
    the size has a time for restoring at once, most of these get the damaged latent in the noisy one's place: what it
    lacks is taken for noise of that time.
    Where the prior is our own it is trained on with them, a tenth as fast.
    """

    def __init__(self, net: FlipNet, *, restoring: bool) -> None:
        super().__init__(net)
        self.hubs, self.projector, self.tags, self.unet = net.hubs, net.projector, net.tags, net.unet
        self._restoring = restoring
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.calls: Tensor

    def pace(self, name: str) -> float:
        return PRIOR_PACE if name.startswith("unet.") and ".lora_" not in name else 1.0

    def losses(self, batch: Batch) -> Losses:
        net, n = self.net, len(batch.truth)
        with torch.no_grad():
            z_hq, z_lq = net.encode(batch.truth), net.encode(batch.damaged)
            grids = net.encoders["hq"](batch.truth), net.encoders["lq"](batch.damaged)
        mode = torch.full((n,), DEGRADE, device=z_hq.device)
        if self._restoring:
            mode = torch.where(uniform(n, z_hq) < KEEP_DEGRADING, DEGRADE, RESTORE)
        kept = (uniform(n, z_hq) >= NO_TOKENS).view(n, 1, 1)
        c_hq, c_lq = (self.projector(grid) * kept for grid in grids)
        t_x, t_y = random_times(n, z_hq), random_times(n, z_hq)
        t_y = torch.where(uniform(n, z_hq) < CLEAN_CONDITION, 0, t_y)
        flipped = mode == DEGRADE
        t_hq, t_lq = torch.where(flipped, t_y, t_x), torch.where(flipped, t_x, t_y)
        eps_hq, eps_lq = like(z_hq), like(z_hq)
        noisy_hq, noisy_lq = (
            torch.where((t_y > 0).view(-1, 1, 1, 1) | is_x.view(-1, 1, 1, 1), diffused(z, t, eps), z)
            for z, t, eps, is_x in ((z_hq, t_hq, eps_hq, ~flipped), (z_lq, t_lq, eps_lq, flipped))
        )
        if self._restoring and net.size.at_once:
            once = ~flipped & (uniform(n, z_hq) < AT_ONCE)
            t_x, t_hq = (torch.where(once, net.size.at_once, t) for t in (t_x, t_hq))
            t_y, t_lq = (torch.where(once, 0, t) for t in (t_y, t_lq))
            where = once.view(-1, 1, 1, 1)
            noisy_hq, noisy_lq = torch.where(where, z_lq, noisy_hq), torch.where(where, z_lq, noisy_lq)
            eps_hq = torch.where(where, noise_between(z_hq, t_hq, z_lq), eps_hq)
        out_x, out_y = net(noisy_hq, noisy_lq, t_hq, t_lq, c_hq, c_lq, mode, self._phi(n, z_hq))
        where = flipped.view(-1, 1, 1, 1)
        eps_x, eps_y = torch.where(where, eps_lq, eps_hq), torch.where(where, eps_hq, eps_lq)
        noise = (weight(t_x, z_hq) * error(out_x, eps_x)).mean()
        condition = (weight(t_y, z_hq) * error(out_y, eps_y) * (t_y > 0)).mean()
        total = noise + CONDITION * condition
        terms = {"noise": noise.detach(), "condition": condition.detach()}
        if self._restoring:
            self.calls += 1
            rows = (~flipped & (t_x <= UP_TO)).nonzero()[:, 0]
            every, share = (1, PIXELS_AT_ONCE) if net.size.at_once else (PIXELS_EVERY, PIXELS)
            if int(self.calls) % every == 0 and len(rows):
                z_0 = denoised(noisy_hq[rows], t_x[rows], out_x[rows].float())
                y = net.restored(z_0, z_lq[rows], batch.damaged[rows]).float()
                pixels = pictures_error(y, batch.truth[rows], t_x[rows])
                total = total + share * pixels
                terms["pixels"] = pixels.detach()
            terms.setdefault("pixels", torch.zeros(()))
        return {"loss": total} | terms

    def _phi(self, n: int, z: Tensor) -> Tensor:
        """Mostly 1; sometimes any from 0 to 2, so that the whole range means something; now and then no hubs."""
        phi = torch.where(uniform(n, z) < OTHER_PHI, 2 * uniform(n, z), 1.0)
        return torch.where(uniform(n, z) < NO_HUBS, 0.0, phi).view(n, 1, 1)


def prepared(net: FlipNet, *, restoring: bool) -> Flipping:
    """The task of phases III and V, with fresh low-rank updates where none are attached; the rest is frozen unless the
    prior is our own."""
    net.requires_grad_(False)
    if not lora.taken(net.unet):
        lora.attach(net.unet, net.size.rank)
    for part in (net.hubs, net.projector, net.tags):
        part.requires_grad_(True)
    if net.size.own_prior:
        net.unet.requires_grad_(True)
    return Flipping(net, restoring=restoring)


def given_back(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """How well a face comes out of its tokens, and these."""
    grid = encoder(x)
    y = decoder(grid).float()
    return charbonnier(y, x) + SMOOTH * edges(y, x), grid


def weight(t: Tensor, like: Tensor) -> Tensor:
    """``min(SNR, 5) / SNR`` of each time, [n]."""
    a = abar().to(like)[t]
    snr = a / (1 - a)
    return snr.clamp(max=MIN_SNR) / snr


def error(out: Tensor, eps: Tensor) -> Tensor:
    """Mean square a row, [n]."""
    return (out.float() - eps).square().flatten(1).mean(1)


def pictures_error(y: Tensor, truth: Tensor, t: Tensor) -> Tensor:
    """Of pictures against the truth; the noisier the latents they come from were, the less it counts."""
    signal = abar().to(y)[t].view(-1, 1, 1, 1)
    return (signal * ((y - truth).square() + SMOOTH * (y - truth).abs())).mean()


def random_times(n: int, z: Tensor) -> Tensor:
    return torch.randint(T, (n,)).to(z.device)


def like(z: Tensor) -> Tensor:
    """Noise drawn on the CPU, whatever the device: one seed, one training."""
    return torch.randn(z.shape).to(z)


def uniform(n: int, z: Tensor) -> Tensor:
    return torch.rand(n).to(z.device)


def measured(net: FlipNet, truths: Tensor) -> Size:
    """The size with the scale that gives these faces' latents unit variance."""
    with torch.no_grad():
        sd = float(net.vae.encode(truths).latent_dist.mean.std())
    return net.size.model_copy(update={"vae": net.size.vae.model_copy(update={"scale": 1 / sd})})
