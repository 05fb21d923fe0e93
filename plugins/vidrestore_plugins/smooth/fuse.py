"""smooth=fuse: each picture with its neighbours brought to it along the motion and averaged where they agree.

x_t + sum_s w_s (W_s x_s - x_t) / (1 + sum_s w_s),   w_s = exp(-|W_s c_s - c_t|^2 / 2 h^2 - (t_s - t)^2 / 2 sigma^2)

W_s follows the flow from t to s, found on the source's crops c: a flow found on restored faces would follow their
flicker. After A. Buades, J.-L. Lisani, M. Miladinovic: "Patch-based video denoising with optical flow estimation",
IEEE TIP 25(6), 2016, with a pixel's surroundings in place of patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, Field

from vidrestore_plugins.smooth.options import SmoothOptions

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import Stretch
    from vidrestore_plugins.smooth.motion import Motion


_AT_ONCE: Final = 2  # frames: more together fall out of a CPU's cache


class FuseOptions(SmoothOptions):
    latents: str | None = Field(
        "output", pattern=r"^\w+(\+\w+)*$", description="names of pictures or maps joined by +; crop is the input"
    )
    reach: int = Field(3, ge=1, le=8, description="frames on either side that are fused")
    sigma: float = Field(0.07, gt=0, description="seconds at which a neighbour has lost weight")
    agree: float = Field(0.05, gt=0, description="difference of the sources (0..1) at which a neighbour loses weight")


class Fuse:
    """As many frames of the future as of the past, so there is no lag."""

    Options: ClassVar[type[BaseModel]] = FuseOptions

    def __init__(self, options: FuseOptions) -> None:
        self.options, self.lookahead = options, options.reach

    def wants(self, latent: str) -> bool:
        return self.options.want(latent)

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        """Of the output, the picture is fused, not the change: what the restorer took away of each frame's own
        noise is no mistake. What was left as it was stays so."""
        import torch

        from vidrestore_plugins.smooth.motion import small
        from vidrestore_plugins.smooth.past import joined, remembered

        x, source, n = stretch.x.float(), stretch.source.float(), stretch.n_now
        if x.ndim != 5:
            from vidrestore.api import UsageError

            what = f"'{stretch.latent}' is neither a picture nor a map"
            raise UsageError("smooth=fuse", what, "smooth it with kalman, one_euro, gated or gaussian")
        base = source if stretch.latent == "output" else torch.zeros_like(x)
        now = {"x": x + base, "small": small(source), "t": stretch.times.expand(len(x), -1), "there": stretch.present}
        table = joined({key: value[:, : n + self.lookahead] for key, value in now.items()}, state, self.lookahead)
        left_alone = (x[:, :n] == 0).flatten(2).all(2).reshape(len(x), n, 1, 1, 1)
        fused = x[:, :n] if left_alone.all() else (self._fused(table, n) - base[:, :n]) * ~left_alone
        return fused, remembered(table, self.lookahead, n)

    def _fused(self, table: dict[str, Tensor], n: int) -> Tensor:
        """The ``n`` frames of the table that follow its past, [k, n, C, h, w]."""
        import torch

        from vidrestore_plugins.smooth.motion import Motion

        motion = Motion(table["small"], table["there"])
        here = torch.arange(self.lookahead, self.lookahead + n, device=table["x"].device)
        return torch.cat([self._with_neighbours(table, motion, frames) for frames in torch.split(here, _AT_ONCE)], 1)

    def _with_neighbours(self, table: dict[str, Tensor], motion: Motion, here: Tensor) -> Tensor:
        """The frames ``here`` (i64 [m], positions in the table), [k, m, C, h, w]."""
        import torch

        from vidrestore_plugins.smooth.motion import resized, sharply_warped, warped

        xs, crops, times, there = table["x"], table["small"], table["t"], table["there"]
        x, c = xs[:, here], crops[:, here]
        total, weights = torch.zeros_like(x), x.new_ones(*x.shape[:2], 1, *x.shape[-2:])
        for direction in (-1, 1):
            flow = x.new_zeros(*x.shape[:2], 2, *c.shape[-2:])
            for distance in range(1, self.lookahead + 1):
                at = here + direction * distance
                inside = (at >= 0) & (at < xs.shape[1])
                at = at.clamp(0, xs.shape[1] - 1)
                flow = motion.further(flow, at, direction)
                apart = (warped(crops[:, at], flow) - c).square().mean(2, keepdim=True) / self.options.agree**2
                age = ((times[:, at] - times[:, here]) / self.options.sigma).float().square()[..., None, None, None]
                w = torch.exp(-(apart + age) / 2) * (there[:, at] & inside)[..., None, None, None]
                w = resized(w, x.shape[-2:])
                total += w * (sharply_warped(xs[:, at], resized(flow, x.shape[-2:], vectors=True)) - x)
                weights += w
        return x + total / weights
