"""What each phase of VSPBFR's training minimises, in the paper's order: the generator that becomes the bank, the
encoder into its codes, the diffuser between codes, the restoration network.

Losses of the paper's third stage and, since who is restored should stay who they are, of pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vidrestore.train.embedder import on_template
from vidrestore.train.losses import charbonnier, edges, spectrum
from vidrestore_plugins.restore.vspbfr.augment import augmented
from vidrestore_plugins.restore.vspbfr.bank import Generator
from vidrestore_plugins.restore.vspbfr.discriminator import Discriminator
from vidrestore_plugins.restore.vspbfr.model import VSPBFR, Given
from vidrestore_plugins.restore.vspbfr.style import Modulation, ToRGB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore.train.embedder import Embedder
    from vidrestore_plugins.restore.vspbfr.batches import Batch
    from vidrestore_plugins.restore.vspbfr.restoration import Restoration
    from vidrestore_plugins.restore.vspbfr.sizes import Size

    Losses = dict[str, Tensor]

R1, R1_EVERY = 2.0, 16  # gamma, and steps from one penalty to the next
MIXED = 0.5  # share of made faces that take another style from some layer on
CLEAN = 0.3  # share of what the encoder learns from that is undamaged: the diffuser wants those codes
IDENTITY, NEAR, PICTURE, STEADY, REAL = 0.15, 1e-3, 0.1, 0.6, 0.02
CALM = 0.1  # of the modulations at birth, where a network begins with what came in
MEAN_OF = 4096  # styles whose mean is the mean code


class System(nn.Module):
    """All networks that training makes; `take_bank` and `take_mean` hand on what the generator has learnt."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.net, self.generator = VSPBFR(size), Generator(size)
        if size.residual:
            calm(self.net.restoration)

    @torch.no_grad()
    def take_bank(self) -> None:
        """The bank becomes the generator's first layers."""
        own, whole = self.net.bank.state_dict(), self.generator.state_dict()
        self.net.bank.load_state_dict({key: t for key, t in whole.items() if key in own})

    @torch.no_grad()
    def take_mean(self) -> None:
        """The mean code becomes that of the generator's styles."""
        z = torch.randn(MEAN_OF, self.net.size.style_dim, generator=torch.Generator().manual_seed(0))
        mean = self.generator.style(z.to(self.net.latent_avg)).mean(0)
        self.net.latent_avg.copy_(mean.expand_as(self.net.latent_avg))

    def picture(self, w: Tensor) -> Tensor:
        """What the generator makes of codes [n, codes, dim], without noise: [n, 3, S, S]."""
        return self.generator.picture(w, [w.new_zeros(1, 1, s, s) for s in self.generator.noise_sides])

    def healed(self, condition: Tensor, start: Tensor) -> Tensor:
        """``D``, in f32: it multiplies what rounding changes."""
        with torch.autocast(start.device.type, enabled=False):
            return self.net.diffuser.sample(start, condition.float())


class Judge(nn.Module):
    """A discriminator in training: the non-saturating game of Goodfellow et al. (2014) with the penalty R1 of
    L. Mescheder, A. Geiger, S. Nowozin, "Which Training Methods for GANs do actually Converge?", ICML 2018."""

    steps: Tensor  # i64 []

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.discriminator = Discriminator(size)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def of_maker(self, made: Tensor) -> Tensor:
        """``softplus(-D(T y))``, D held still."""
        still = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        return F.softplus(-functional_call(self.discriminator, still, (augmented(made),)).float()).mean()

    def of_judge(self, made: Tensor, real: Tensor) -> Tensor:
        """``softplus(D(T y)) + softplus(-D(T x))``, y held still; at times ``16 gamma / 2 |grad_x D(x)|^2`` more."""
        d = self.discriminator
        fooled = F.softplus(d(augmented(made.detach())).float()).mean()
        right = F.softplus(-d(augmented(real)).float()).mean()
        total = fooled + right
        if self.steps % R1_EVERY == 0:
            with torch.autocast(real.device.type, enabled=False):
                x = real.detach().float().requires_grad_()
                (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
            total = total + R1 * R1_EVERY / 2 * slope.square().sum((1, 2, 3)).mean()
        if self.training:
            self.steps += 1
        return total


class Task(nn.Module):
    """A part of a system, in training; a copy of it is of a copy of the whole system."""

    def __init__(self, system: System, embedder: Embedder | None = None) -> None:
        super().__init__()
        self._around = (system, embedder)  # in a tuple: they hold still, and are no part of the state

    @property
    def system(self) -> System:
        return self._around[0]

    @property
    def embedder(self) -> Embedder | None:
        return self._around[1]


class Prior(Task):
    """Phase 1: StyleGAN2 on undamaged faces, maker and judge at once."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self.generator, self.judge = system.generator, Judge(system.net.size)

    def losses(self, truth: Tensor) -> Losses:
        generator, n = self.generator, len(truth)
        w = styles(generator, self.system.net.size, n, truth)
        made = generator.picture(w, maps(generator.noise_sides, n, truth)).float()
        maker, judge = self.judge.of_maker(made), self.judge.of_judge(made, truth)
        return {"loss": maker + judge, "maker": maker.detach(), "judge": judge.detach()}


class Codes(Task):
    """Phase 2: faces, damaged or not, to codes of which the generator makes the undamaged face.

    The published generator holds still here. A small one has never seen most faces: it follows.
    """

    def __init__(self, system: System, embedder: Embedder | None = None) -> None:
        super().__init__(system, embedder)
        self.encoder, self.generator = system.net.encoder, system.generator

    def losses(self, batch: Batch) -> Losses:
        system, truth, n = self.system, batch.truth, len(batch.truth)
        clean = (torch.rand(n, 1, 1, 1) < CLEAN).to(truth.device)
        w = system.net.encode(torch.where(clean, truth, batch.damaged))
        near = (w.float() - system.net.latent_avg).square().mean()  # where the generator knows its way
        return summed(system.picture(w).float(), truth, self.embedder, {"near": NEAR * near})


class Healing(Task):
    """Phase 3: from noise, given a damaged face's codes, to its undamaged codes; gradients through all T steps."""

    def __init__(self, system: System, embedder: Embedder | None = None) -> None:
        super().__init__(system, embedder)
        self.diffuser = system.net.diffuser

    def losses(self, batch: Batch) -> Losses:
        system = self.system
        with torch.no_grad():
            condition, wanted = system.net.encode(batch.damaged), system.net.encode(batch.truth).float()
        w = system.healed(condition, torch.randn(wanted.shape).to(wanted))
        seen = summed(system.picture(w).float(), batch.truth, self.embedder, {})
        codes = (w - wanted).abs().mean()
        return {**seen, "loss": codes + PICTURE * seen["loss"], "codes": codes.detach()}


class Restoring(Task):
    """Phase 4: damaged faces to their truth. Two frames of a clip should come out alike.

    ``real``: a judge, too, must find them real.
    """

    def __init__(self, system: System, embedder: Embedder | None = None, *, real: bool = False) -> None:
        super().__init__(system, embedder)
        self.restoration = system.net.restoration
        self.judge = Judge(system.net.size) if real else None

    def losses(self, batch: Batch) -> Losses:
        system, net, truth = self.system, self.system.net, batch.truth
        pairs, dim = len(truth) // 2, net.size.style_dim

        def same(t: Tensor) -> Tensor:
            return t.to(truth.device).repeat_interleave(2, 0)

        with torch.no_grad():
            start = same(torch.randn(pairs, net.size.codes, dim))
            w = system.healed(net.encode(batch.damaged), start)
        bank, noise = ([same(m) for m in maps(part.noise_sides, pairs, truth)] for part in (net.bank, net.restoration))
        held = net.held(same(torch.randn(pairs, 1, dim)))
        y = net.restore(batch.damaged, w, Given(start, held, bank, noise)).float()
        more = {"steady": STEADY * (y[::2] - y[1::2]).abs().mean()}
        if self.judge is None:
            return summed(y, truth, self.embedder, more)
        judge = self.judge.of_judge(y, truth)
        terms = summed(y, truth, self.embedder, more | {"real": REAL * self.judge.of_maker(y)})
        return {**terms, "loss": terms["loss"] + judge, "judge": judge.detach()}


@torch.no_grad()
def calm(net: Restoration) -> None:
    """A warm start: exactly what came in comes out, and styles, random at first, have little say."""
    for layer in net.modules():
        if isinstance(layer, ToRGB):
            layer.conv.weight.zero_()
        if isinstance(layer, Modulation):
            layer.weight.mul_(CALM)


def summed(y: Tensor, truth: Tensor, embedder: Embedder | None, more: Losses) -> Losses:
    """Pixels, edges, spectrum; the person, where an embedder knows; what else there is. "loss" is their sum."""
    terms = {"rec": charbonnier(y, truth) + 0.5 * edges(y, truth) + 0.1 * spectrum(y, truth), **more}
    if embedder is not None:
        terms["identity"] = IDENTITY * unlikeness(embedder, y, truth)
    return {"loss": torch.stack(list(terms.values())).sum()} | {name: t.detach() for name, t in terms.items()}


def unlikeness(embedder: Embedder, y: Tensor, truth: Tensor) -> Tensor:
    """``1 - cos`` between embeddings."""
    with torch.autocast(y.device.type, enabled=False):
        got, wanted = (embedder(on_template(x / 2 + 0.5, side=x.shape[-1]))[0] for x in (y, truth))
    alike: Tensor = (got * wanted).sum(1)
    return (1 - alike).mean()


def styles(generator: Generator, size: Size, n: int, like: Tensor) -> Tensor:
    """Codes [n, codes, dim] of random styles; some take another from a random layer on.

    T. Karras, S. Laine, T. Aila: "A Style-Based Generator Architecture", CVPR 2019, section 3.1.
    """
    z = torch.randn(2 * n, size.style_dim).to(like.device)
    one, other = generator.style(z).float()[:, None].chunk(2)
    change = torch.where(torch.rand(n) < MIXED, torch.randint(1, size.codes, (n,)), size.codes)
    later = (torch.arange(size.codes) >= change[:, None])[..., None].to(like.device)
    return torch.where(later, other, one)


def maps(sides: Sequence[int], n: int, like: Tensor) -> list[Tensor]:
    """Noise maps [n, 1, s, s]."""
    return [torch.randn(n, 1, s, s).to(like.device) for s in sides]
