"""restore=ldbfr: codes of a learnt dictionary guide the restoration, latent diffusion adds detail on request.

Du, Hu, Yi, Ma: "LD-BFR: Vector-Quantization-Based Face Restoration Model with Latent Diffusion Enhancement",
ACM MM 2024.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import PRECISION_HELP, Latent, Precision, ResourceError, dtype_of, weights_path

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from torch import Tensor

    from vidrestore.api import Context, FaceBatch
    from vidrestore_plugins.restore.ldbfr.model import LDBFR

FORGET = 5  # frames without a face after which its codes are chosen anew


class LDBFROptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["fast", "diffusion"] = Field(
        "fast", description="one pass of the first stage, or latent diffusion on top: more detail, many passes"
    )
    steps: int = Field(8, ge=1, le=200, description="passes of the diffusion network a face")
    t0: int = Field(
        400, ge=3, le=999, description="noise level where diffusion begins: 999 from noise alone, lower keeps more"
    )
    eta: float = Field(0.0, ge=0, le=1, description="new noise in each diffusion step; 0 = none")
    seed: int = Field(0, ge=0, description="of the noise; the run's seed unless given")
    skips: float = Field(
        1.0, ge=0, le=1, description="fidelity: share of the input that reaches the decoder past the codes"
    )
    eta_code: float = Field(0.15, ge=0, le=2, description="how much nearer a new code must be than the old one")
    kappa: float = Field(0.02, ge=0, le=1, description="and this share of the usual distance to a code")
    dwell: int = Field(2, ge=1, le=25, description="frames that a doubtful new code must win in a row")
    size: int = Field(256, ge=64, le=512, multiple_of=32, description="px a side of the crops; trained at 256")
    precision: Precision = Field("auto", description=PRECISION_HELP)
    weights: str = Field("ldbfr_tiny", description="name in `vidrestore weights list`, or a safetensors file")


class LDBFRRestorer:
    """h (degraded feature), g (restored feature) and, when it diffuses, x0 are smoothed over time."""

    Options: ClassVar[type[BaseModel]] = LDBFROptions

    def __init__(self, options: LDBFROptions) -> None:
        self.options, self.size = options, options.size
        self.weights = (options.weights,)
        self.latents: tuple[str, ...] = ("h", "g")
        if options.mode == "diffusion":
            self.latents += ("x0_mid", "x0") if options.steps > 1 else ("x0",)
        self._net: LDBFR | None = None
        self._steps: list[int] = []  # times at which the diffusion network is called

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had or lack what the mode needs."""
        import torch

        from vidrestore_plugins.restore.ldbfr.files import PARTS, load
        from vidrestore_plugins.restore.ldbfr.schedule import passes

        o = self.options
        net, parts = load(weights_path(o.weights))
        need = PARTS if o.mode == "diffusion" else PARTS[:1]
        if missing := [part for part in need if part not in parts]:
            remedy = "use mode=fast, or train it: vidrestore train ldbfr --help"
            raise ResourceError(f"weights {o.weights}", f"no {' and '.join(missing)} in it for mode={o.mode}", remedy)
        for part in need:
            module = getattr(net, part).eval().requires_grad_(False)
            module.to(device, dtype_of(o.precision, device)).to(memory_format=torch.channels_last)
        self._net, self._steps = net, passes(net.schedule, o.steps, o.t0)

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        import torch

        from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ

        if self._net is None:
            raise ValueError("LDBFRRestorer.restore was called before open")
        stage1 = self._net.stage1
        whole = 2 * faces.crops - 1
        x = whole.to(stage1.quant_conv.weight.dtype, memory_format=torch.channels_last)
        h, features = stage1.encode(x)
        h = stage1.book.compared((yield Latent("h", h)))
        g = yield Latent("g", stage1.look_up(self._codes(h, faces, ctx), h).float())
        g = g.to(x.dtype)
        gate = {"gate": self.options.skips} if isinstance(stage1, LiteVQ) else {}
        y = stage1.decode(g, whole, features, **gate)  # half precision would round the picture itself
        if self.options.mode == "diffusion":
            y = yield from self._diffused(y, g, ctx)
        return (y.float() / 2 + 0.5).clamp(0, 1)

    def _codes(self, h: Tensor, faces: FaceBatch, ctx: Context) -> Tensor:
        """i64 [n, P]: each track's codes follow from those of its frame before."""
        import torch

        from vidrestore_plugins.restore.ldbfr.quantise import Held, held

        assert self._net is not None
        o = self.options
        distances = self._net.stage1.book.distances(h)
        memory = ctx.carry("codes")  # i64 [4, P]: Held, and the frame's position
        codes = []
        for row, (track, frame) in enumerate(zip(faces.tracks.tolist(), faces.frames.tolist(), strict=True)):
            kept = memory.get(track)
            recent = kept is not None and frame - int(kept[3, 0]) <= FORGET
            before = Held(*kept[:3]) if kept is not None and recent else None
            now = held(distances[row], before, o.eta_code, o.kappa, o.dwell)
            memory[track] = torch.stack([*now, torch.full_like(now.codes, frame)])
            codes.append(now.codes)
        return torch.stack(codes)

    def _diffused(self, y1: Tensor, g: Tensor, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        """Stage 2: from the first stage's picture under noise, the same for all frames of a track."""
        import torch

        from vidrestore_plugins.restore.ldbfr.colour import recoloured
        from vidrestore_plugins.restore.ldbfr.sampler import named, sample, start

        assert self._net is not None
        net, o, steps = self._net, self.options, self._steps
        z0 = net.ae.encode(y1.to(g.dtype))
        shape = tuple(z0.shape[1:])
        z = start(net.schedule, steps, ctx.noise("eps", shape), None if o.t0 == 999 else z0)
        noises = [ctx.noise(f"step{i}", shape) for i in range(len(steps) - 1)] if o.eta else []
        middle = {steps[(len(steps) - 1) // 2]} if len(steps) > 1 else set[int]()
        prepared = net.unet.prepare(g)
        x0 = yield from named(
            sample(net.unet, prepared, z, net.schedule, steps, show=middle, eta=o.eta, noises=noises), "x0_mid"
        )
        x0 = yield Latent("x0", x0)
        return recoloured(net.ae.decode(x0).float(), y1.float()).to(torch.float32)
