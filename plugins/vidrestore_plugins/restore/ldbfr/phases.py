"""What each phase of LD-BFR's training minimises. Pictures are in -1..1."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidrestore.train.embedder import on_template
from vidrestore.train.losses import charbonnier, edges, spectrum
from vidrestore_plugins.restore.ldbfr.batches import FACE, Batch
from vidrestore_plugins.restore.ldbfr.quantise import RunningMeans

if TYPE_CHECKING:
    from vidrestore.train.embedder import Embedder
    from vidrestore_plugins.restore.ldbfr.f4 import PlainF4
    from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ
    from vidrestore_plugins.restore.ldbfr.model import LDBFR

    Losses = dict[str, Tensor]

COMMITMENT, CODES, STEADY, IDENTITY, FEATURES = 0.25, 2.0, 0.3, 0.2, 0.05
EDGES, SPECTRUM = 0.25, 0.05
ROUND = 0.01  # errors well below it count squared: what is left of noise should average out, not take sides
RESTORED, JITTER = 0.2, 0.05
GATED = 0.15  # share of the pairs whose skips are partly shut: the codes must do more


def fidelity(y: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """What all phases share: pixels, edges, spectrum."""
    y = y.float()
    return charbonnier(y, truth, weight, ROUND) + EDGES * edges(y, truth, weight) + SPECTRUM * spectrum(y, truth)


class Dictionary(nn.Module):
    """Phase 1a: faces through the codes alone, so that all of them come into use."""

    def __init__(self, net: LiteVQ) -> None:
        super().__init__()
        self.net, self.means = net, RunningMeans(net.book)

    def losses(self, batch: Batch) -> Losses:
        y, h, codes = self.net.dictionary(batch.truth)
        if self.training:
            self.means.update(h.detach(), codes, lambda n, count: torch.randint(n, (count,)))
        near = self.net.book.look_up(codes, *h.shape[-2:])
        commitment = (h - near).square().sum(1).mean()
        rec = fidelity(y, batch.truth, batch.weight)
        used = codes.flatten().bincount().count_nonzero().float()
        return {"loss": rec + COMMITMENT * commitment, "rec": rec, "commitment": commitment.detach(), "used": used}


class Restoration(nn.Module):
    """Phase 1b: damaged faces to their truth, with skips; the dictionary holds still.

    The features of a damaged face are drawn to the codes of its truth. Two frames of one clip should come out
    alike. With an embedder (whole faces only) they should be the same person.
    """

    def __init__(self, net: LiteVQ, embedder: Embedder | None = None) -> None:
        super().__init__()
        self.net = net
        self.teacher = copy.deepcopy(net).requires_grad_(False)  # a part of the state: a resumed run has the same
        self._embedder = [embedder]  # in a list: it comes from its own file

    def losses(self, batch: Batch) -> Losses:
        truth, n = batch.truth, len(batch.truth)
        pairs = torch.rand(n // 2).repeat_interleave(2)
        gate = torch.where(pairs < GATED, pairs / GATED, 1.0).view(n, 1, 1, 1).to(truth)
        y, h, _ = self.net(batch.damaged, gate)
        with torch.no_grad():
            book = self.teacher.book
            wanted = book.look_up(book.nearest(self.teacher.encode(truth[::2])[0]), *h.shape[-2:])
        codes = (h - wanted.repeat_interleave(2, 0)).square().mean()
        rec = fidelity(y, truth, batch.weight)
        steady = (y[::2] - y[1::2]).float().abs().mean()
        total = rec + CODES * codes + STEADY * steady
        terms = {"rec": rec, "codes": codes, "steady": steady}
        embedder = self._embedder[0]
        if embedder is not None:
            identity, features = likeness(embedder, y, truth)
            total = total + IDENTITY * identity + FEATURES * features
            terms |= {"identity": identity, "features": features}
        return {"loss": total} | {name: value.detach() for name, value in terms.items()}


class Latents(nn.Module):
    """Phase 2a: the auto-encoder of the latents, on truths and now and then on what the first stage makes.

    Some noise on the latents keeps near latents near in the picture; it is measured in their own spread, so that
    growing does not escape it.
    """

    def __init__(self, net: PlainF4, stage1: LiteVQ) -> None:
        super().__init__()
        self.net = net
        self._stage1 = [stage1]

    def losses(self, batch: Batch) -> Losses:
        x = batch.truth
        with torch.no_grad():
            restored = self._stage1[0](batch.damaged)[0].float()
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < RESTORED, restored, x)
        z = self.net.encode(x)
        z = z + JITTER * z.detach().std() * torch.randn(z.shape).to(z)
        rec = fidelity(self.net.decode(z), x, batch.weight)
        return {"loss": rec, "rec": rec.detach()}

    @torch.no_grad()
    def standardise(self, truths: Tensor) -> None:
        """Give the latents of these pictures mean 0 and variance 1 per channel."""
        self.net.latent_mean.zero_()
        self.net.latent_std.fill_(1)
        z = self.net.encode(truths)
        self.net.latent_mean.copy_(z.mean((0, 2, 3)))
        self.net.latent_std.copy_(z.std((0, 2, 3)))


class Diffusion(nn.Module):
    """Phase 2b: the U-Net learns v of the truth's latent under noise, given the first stage's feature of the
    damaged face. The first stage and the auto-encoder hold still."""

    def __init__(self, model: LDBFR) -> None:
        super().__init__()
        self.net = model.unet
        self._model = [model]

    def losses(self, batch: Batch) -> Losses:
        model = self._model[0]
        with torch.no_grad():
            h, _ = model.stage1.encode(batch.damaged)
            g = model.stage1.look_up(model.stage1.book.nearest(h), h)
            z0 = model.ae.encode(batch.truth)
        t = torch.randint(model.schedule.size.T, (len(z0),)).to(z0.device)
        eps = torch.randn(z0.shape).to(z0)
        out = self.net(model.schedule.q_sample(z0, t, eps), t, self.net.prepare(g))
        loss = (out.float() - model.schedule.target(z0, t, eps)).square().mean()
        return {"loss": loss, "rec": loss.detach()}


def likeness(embedder: Embedder, y: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """``1 - cos`` between embeddings, and L1 between the embedder's inner maps, relative to their size."""
    faces = [on_template(x.float() / 2 + 0.5, (FACE, FACE)) for x in (y, truth[::2])]
    got, maps = embedder(faces[0])
    with torch.no_grad():
        want, wanted = embedder(faces[1])
    identity = (1 - (got * want.repeat_interleave(2, 0)).sum(1)).mean()
    gaps = [
        (a.float() - b.float().repeat_interleave(2, 0)).abs().mean() / b.float().abs().mean().clamp(min=1e-3)
        for a, b in zip(maps, wanted, strict=True)
    ]
    return identity, torch.stack(gaps).mean()
