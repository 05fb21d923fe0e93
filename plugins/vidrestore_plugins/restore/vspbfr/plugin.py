"""restore=vspbfr: a face's style code, made healthy by diffusion, prompts the network that restores it.

W. Lu, J. Wang, T. Wang, K. Zhang, X. Jiang, H. Zhao: "Visual Style Prompt Learning Using Diffusion Models for Blind
Face Restoration", Pattern Recognition 161, 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import PRECISION_HELP, Latent, Precision, ResourceError, dtype_of, weights_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import torch
    from torch import Tensor

    from vidrestore.api import Context, FaceBatch
    from vidrestore_plugins.restore.vspbfr.bank import Bank
    from vidrestore_plugins.restore.vspbfr.model import VSPBFR, Given
    from vidrestore_plugins.restore.vspbfr.restoration import Restoration

FORGET = 5  # frames without a face after which its codes begin anew
COARSE, MIDDLE = 4, 8  # codes below these say pose and shape; features; the rest texture and colour
# of the faces that go through the networks at once: features of many faces leave a CPU's caches, few keep a GPU idle
PIXELS = {"cpu": 1 << 18, "cuda": 1 << 21}
MEAN_OF = 4096  # styles whose mean is z=mean


class VSPBFROptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    noise: Literal["fixed", "checkpoint", "zero"] = Field(
        "fixed", description="fine texture: drawn once a track, as stored with the weights, or none"
    )
    z: Literal["mean", "seeded"] = Field("mean", description="style of texture: the mean one, or one drawn a track")
    seed: int = Field(0, ge=0, description="of the noise; the run's seed unless given")
    every: int = Field(
        1, ge=1, le=16, description="frames from one reading of the style code to the next; faster, follows later"
    )
    coarse: float = Field(0.3, ge=0, le=1, description="share of the smoothing for codes of pose and shape")
    middle: float = Field(0.7, ge=0, le=1, description="for codes of features")
    fine: float = Field(1.0, ge=0, le=1, description="for codes of texture and colour")
    size: int = Field(0, ge=0, le=1024, description="px a side of the crops; 0: what the weights are for")
    precision: Precision = Field("auto", description=PRECISION_HELP)
    compile: bool = Field(False, description="compile for the device: minutes at the first faces, then faster")
    weights: str = Field(
        "vspbfr_xs", description="name in `vidrestore weights list` (vspbfr: as published), or a safetensors file"
    )


class VSPBFRRestorer:
    """Codes of the damaged face (w) and of the healthy one (w0) are smoothed over time."""

    Options: ClassVar[type[BaseModel]] = VSPBFROptions
    latents = ("w", "w0")

    def __init__(self, options: VSPBFROptions) -> None:
        self.options, self.size = options, options.size
        self.weights = (options.weights,)
        self._net: VSPBFR | None = None
        self._mean: Tensor  # [1, all channels]: what the mean style has to say
        self._shares: Tensor  # [codes, 1]: of the smoothing, by code
        self._restore: Callable[..., Tensor]

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had or are for another size."""
        import torch

        from vidrestore_plugins.restore.vspbfr.compiled import Compiled
        from vidrestore_plugins.restore.vspbfr.files import load

        o = self.options
        net = load(weights_path(o.weights))
        side, codes = net.size.side, net.size.codes
        if o.size not in (0, side):
            raise ResourceError(f"weights {o.weights}", f"for faces of {side} px", f"use size={side}, or leave it out")
        shares = [o.coarse] * COARSE + [o.middle] * (MIDDLE - COARSE) + [o.fine] * (codes - MIDDLE)
        self._shares = torch.tensor(shares[:codes], device=device)[:, None]
        self._mean = net.restoration.held(_mean_style(net)).to(device)
        self._net, self.size = net.placed(device, dtype_of(o.precision, device)), side
        self._restore = Compiled(net.restore) if o.compile else net.restore

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        import torch

        if self._net is None:
            raise ValueError("VSPBFRRestorer.restore was called before open")
        net, x = self._net, 2 * faces.crops - 1
        read = self._codes(x, faces, ctx)
        w_hat = self._steadied(read, (yield Latent("w", read)))
        given = self._given(len(faces), ctx)
        w = net.diffuser.sample(given.start, w_hat)
        w0 = self._steadied(w, (yield Latent("w0", w)))
        pieces = _pieces(x, equal=self.options.compile)
        y = torch.cat([self._restore(x[rows], w0[rows], given.of(rows)) for rows in pieces])[: len(faces)]
        return (y / 2 + 0.5).clamp(0, 1)

    def _codes(self, x: Tensor, faces: FaceBatch, ctx: Context) -> Tensor:
        """wh [n, codes, dim]; where not every frame is read, on the way from the last reading but one to the last.

        A frame thus follows from those before it, whatever the window; codes are at most ``every - 1`` frames late.
        """
        import torch

        every = self.options.every
        readings, read_at = ctx.carry("readings"), ctx.carry("read_at")  # [2, codes, dim], i64 [1]
        seen = list(zip(faces.tracks.tolist(), faces.frames.tolist(), strict=True))
        at = {track: int(read_at[track]) for track in read_at}
        rows = []
        for row, (track, frame) in enumerate(seen):
            if track not in at or frame - at[track] >= every:
                rows.append(row)
                at[track] = frame
        new = dict(zip(rows, self._read(x[rows]), strict=True))
        codes = []
        for row, (track, frame) in enumerate(seen):
            if row in new:
                known = track in read_at and frame - int(read_at[track]) < every + FORGET
                readings[track] = torch.stack([readings[track][1] if known else new[row], new[row]])
                read_at[track] = torch.tensor([frame])
            before, last = readings[track]
            codes.append(before.lerp(last, (frame - int(read_at[track]) + 1) / every))
        return torch.stack(codes)

    def _read(self, x: Tensor) -> Sequence[Tensor]:
        """E: a code [codes, dim] for each face."""
        assert self._net is not None
        return [code for rows in _pieces(x) for code in self._net.encode(x[rows])]

    def _steadied(self, code: Tensor, smoothed: Tensor) -> Tensor:
        """[n, codes, dim]: pose follows faster than texture."""
        return code.lerp(smoothed, self._shares)

    def _given(self, n: int, ctx: Context) -> Given:
        """What is random, held still over a track."""
        from vidrestore_plugins.restore.vspbfr.model import Given

        assert self._net is not None
        net, dim = self._net, self._net.size.style_dim
        held = self._mean.expand(n, -1)
        if self.options.z == "seeded":
            z = ctx.noise("z", (1, dim))
            held = ctx.once("z", lambda rows: net.held(z[rows]))
        bank = self._maps("bank", net.bank, ctx)
        restoration = self._maps("restoration", net.restoration, ctx)
        return Given(ctx.noise("w_T", (net.size.codes, dim)), held, bank, restoration)

    def _maps(self, name: str, part: Bank | Restoration, ctx: Context) -> list[Tensor]:
        """Noise maps [n or 1, 1, s, s] of one of the two networks that want some.

        Stored ones are those of its last layers: a checkpoint has none for the way down, which draws its own.
        """
        import torch

        assert self._net is not None
        stored = list(part.noises.buffers()) if self.options.noise == "checkpoint" else []
        sides = list(enumerate(part.noise_sides))[: len(part.noise_sides) - len(stored)]
        if self.options.noise == "zero":
            maps = [torch.zeros(1, 1, side, side, device=ctx.device) for _, side in sides]
        else:
            maps = [ctx.noise(f"{name} {i}", (1, side, side)) for i, side in sides]
        return [m.to(self._net.dtype) for m in (*maps, *stored)]


def _pieces(x: Tensor, *, equal: bool = False) -> list[Any]:
    """Rows of x [n, 3, S, S] that go through the networks together. ``equal``: the last face fills the last piece."""
    pixels = PIXELS.get(x.device.type, PIXELS["cuda"])
    step = max(1, pixels // (x.shape[2] * x.shape[3]))
    firsts = range(0, len(x), step)
    if equal:
        return [[min(row, len(x) - 1) for row in range(first, first + step)] for first in firsts]
    return [slice(first, first + step) for first in firsts]


def _mean_style(net: VSPBFR) -> Tensor:
    """The mean of zh = M(z), [1, 1, dim]; the same whenever it is asked for."""
    import torch

    z = torch.randn(MEAN_OF, net.size.style_dim, generator=torch.Generator().manual_seed(0))
    return net.restoration.style(z).mean(0)[None, None]  # type: ignore[no-any-return]
