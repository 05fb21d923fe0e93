"""The dictionary of codes: nearest neighbours, its training by running means, codes that hold over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Codebook(nn.Module):
    """K codes of d channels.

    ``unit``: codes and features are compared on the unit sphere, as the own sizes do.
    """

    def __init__(self, n_embed: int, embed_dim: int, *, unit: bool) -> None:
        super().__init__()
        self.unit = unit
        start = torch.randn(n_embed, embed_dim, generator=torch.Generator().manual_seed(0))
        if unit:  # unit codes learn by running means, not by gradients
            start = F.normalize(start, dim=1)
        self.embedding = nn.Embedding(n_embed, embed_dim, _weight=start, _freeze=unit)

    def compared(self, h: Tensor) -> Tensor:
        """The feature as it is compared with the codes: f32 [n, d, h, w], of unit length where ``unit``."""
        return F.normalize(h.float(), dim=1) if self.unit else h.float()

    def distances(self, h: Tensor) -> Tensor:
        """Squared distance of each position of ``h`` [n, d, h, w] to each code: f32 [n, h*w, K], whatever autocast."""
        with torch.autocast(h.device.type, enabled=False):
            x = h.float().flatten(2).transpose(1, 2)
            e = self.embedding.weight.float()
            gap: Tensor = (x**2).sum(2, keepdim=True) + (e**2).sum(1) - 2 * x @ e.T
            return gap.clamp(min=0)

    def nearest(self, h: Tensor) -> Tensor:
        """Index of the nearest code: i64 [n, h*w]; of equal ones the lowest."""
        return self.distances(h).argmin(2)

    def look_up(self, codes: Tensor, height: int, width: int) -> Tensor:
        """Codes i64 [n, h*w] -> [n, d, h, w]."""
        found: Tensor = self.embedding(codes)
        return found.transpose(1, 2).reshape(len(codes), -1, height, width)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """``h`` [n, d, h, w] -> the codes' vectors with h's gradient (straight through), and their indices."""
        codes = self.nearest(h)
        q = self.look_up(codes, *h.shape[-2:]).to(h.dtype)
        return h + (q - h).detach(), codes


class RunningMeans(nn.Module):
    """Moves the codes to the mean of the features that chose them, and revives those that nobody chooses.

    A. van den Oord, O. Vinyals, K. Kavukcuoglu: "Neural Discrete Representation Learning", 2017, appendix A.1.
    """

    def __init__(self, book: Codebook, decay: float = 0.98, unused: float = 0.05) -> None:
        super().__init__()
        self.book, self.decay, self.unused = book, decay, unused
        weight = book.embedding.weight.detach()
        # small first counts: a code that is not chosen at once is revived after some tens of steps
        self.register_buffer("counts", torch.full((len(weight),), 0.1, device=weight.device))
        self.register_buffer("sums", 0.1 * weight.clone())
        self.counts: Tensor
        self.sums: Tensor

    @torch.no_grad()
    def update(self, h: Tensor, codes: Tensor, choose: Callable[[int, int], Tensor]) -> int:
        """Learn from one batch: ``h`` [n, d, h, w] as compared, the codes i64 [n, h*w] it chose.

        ``choose(n, count)`` draws ``count`` of ``n`` rows (i64). Gives how many codes were revived.
        """
        x = h.float().flatten(2).transpose(1, 2).flatten(0, 1)
        flat = codes.flatten()
        self.counts.lerp_(torch.bincount(flat, minlength=len(self.counts)).float(), 1 - self.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, flat, x), 1 - self.decay)
        mean = self.sums / self.counts.clamp(min=1e-6)[:, None]
        dead = (self.counts < self.unused).nonzero()[:, 0]
        if len(dead):
            mean[dead] = x[choose(len(x), len(dead))]
            self.counts[dead], self.sums[dead] = 1.0, mean[dead].clone()
        self.book.embedding.weight.copy_(F.normalize(mean, dim=1) if self.book.unit else mean)
        return len(dead)


class Held(NamedTuple):
    """What one track remembers of a frame: i64 [P] each."""

    codes: Tensor  # in use
    winners: Tensor  # nearest
    streak: Tensor  # frames in a row that the nearest one has been nearest


def held(distances: Tensor, before: Held | None, eta: float, kappa: float, dwell: int) -> Held:
    """Codes of the next frame that do not flip without cause; of a track's first frame the nearest ones.

    A code is kept while its distance is within ``(1 + eta)`` of the nearest one's plus ``kappa`` of their median.
    Beyond ``(1 + 2 eta)`` a clear change switches at once. In between, a new code must win ``dwell`` frames in
    a row.

    Args:
        distances: f32 [P, K] of this frame.
    """
    best, nearest = distances.min(1)
    if before is None:
        return Held(nearest, nearest, torch.ones_like(nearest))
    streak = torch.where(nearest == before.winners, before.streak + 1, 1)
    kept = distances.gather(1, before.codes[:, None])[:, 0]
    slack = kappa * best.median()
    stays = kept <= (1 + eta) * best + slack
    clear = kept > (1 + 2 * eta) * best + slack
    switch = ~stays & (clear | (streak >= dwell))
    return Held(torch.where(switch, nearest, before.codes), nearest, streak)
