"""restore=flipnet: a latent-diffusion prior that reads the damaged face beside every self-attention.

Y. Miao, Z. Qu, M. Gao, C. Chen, J. Song, J. Han, J. Deng: "Unlocking the Potential of Diffusion Priors in Blind Face
Restoration", ICCV 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import Latent, ResourceError, weights_path

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from torch import Tensor

    from vidrestore.api import Context, FaceBatch
    from vidrestore_plugins.restore.flipnet.model import FlipNet

NEEDED = ("unet", "vae", "encoders", "hubs", "projector", "tags")


class FlipNetOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(20, ge=1, le=200, description="passes of the diffusion network a face; 4 is fast, 50 is best")
    phi: float = Field(
        1.0, ge=0, le=2, description="fidelity: weight of the damaged face in every layer; 0 leaves the prior free"
    )
    start: int = Field(999, ge=3, le=999, description="noise level where diffusion begins; lower keeps more")
    spacing: Literal["quadratic", "lambda"] = Field(
        "quadratic", description="of the steps; lambda: equal in log signal to noise, for 8 steps and fewer"
    )
    seed: int = Field(0, ge=0, description="of the noise; the run's seed unless given")
    size: int = Field(0, ge=0, le=1024, multiple_of=64, description="px a side of the crops; 0: what it was trained at")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the networks; auto: bf16 on a GPU that has it, fp32 elsewhere"
    )
    weights: str = Field("flipnet_mini", description="name in `vidrestore weights list`, or a safetensors file")
    prior: str = Field("", description="likewise, of a prior that is not among the weights")


class FlipNetRestorer:
    """The face tokens, the condition's latent (z_y) and the result's (z0) are smoothed over time."""

    Options: ClassVar[type[BaseModel]] = FlipNetOptions

    def __init__(self, options: FlipNetOptions) -> None:
        self.options, self.size = options, options.size
        self.weights = tuple(name for name in (options.weights, options.prior) if name)
        middle = ("z0_mid",) if options.steps > 1 else ()
        self.latents: tuple[str, ...] = ("tokens", "z_y", *middle, "z0")
        self._net: FlipNet | None = None

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had, or lack a part."""
        import torch

        from vidrestore_plugins.restore.flipnet.files import load

        net, parts = load(*(weights_path(name) for name in self.weights))
        if missing := [part for part in NEEDED if part not in parts]:
            prior = missing == ["unet", "vae"]
            remedy = "name a file of the prior: prior=FILE" if prior else "see vidrestore train flipnet"
            raise ResourceError(" + ".join(self.weights), f"no {' and '.join(missing)} in it", remedy)
        net.encoders["hq"].to("meta")  # degrading alone reads undamaged faces
        net.eval().requires_grad_(False)
        for part in NEEDED:
            module = net.encoders["lq"] if part == "encoders" else net.get_submodule(part)
            # past diffusers' own `to`, which warns of parts that it wants in f32 and then names none
            torch.nn.Module.to(module, device, _dtype(self.options.precision, device))
            torch.nn.Module.to(module, memory_format=torch.channels_last)
        self._net, self.size = net, self.options.size or net.size.image_size

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        import torch

        from vidrestore_plugins.restore.flipnet.model import RESTORE
        from vidrestore_plugins.restore.flipnet.schedule import diffused, sample, times
        from vidrestore_plugins.restore.ldbfr.colour import recoloured

        if self._net is None:
            raise ValueError("FlipNetRestorer.restore was called before open")
        net, o = self._net, self.options
        kind = net.tags.mode_emb.dtype
        x = (2 * faces.crops - 1).to(kind, memory_format=torch.channels_last)
        mode = torch.full((len(x),), RESTORE, device=x.device)
        c = (yield Latent("tokens", net.tokens(x, RESTORE).float())).to(kind)
        z_y = yield Latent("z_y", net.encode(x).float())
        cache = net.written(z_y.to(kind), c, mode)
        asked = times(o.steps, o.start, o.spacing)
        eps = ctx.noise("eps", tuple(z_y.shape[1:]))

        def noise_of(z: Tensor, t: int) -> Tensor:
            return net.noise(z.to(kind), t, c, cache, mode, o.phi)

        middle = {asked[(len(asked) - 1) // 2]} if len(asked) > 1 else set[int]()
        z0 = yield from _smoothed(sample(noise_of, diffused(z_y, asked[0], eps.to(z_y)), asked, show=middle))
        z0 = yield Latent("z0", z0)
        y = net.decode(z0.to(kind)).float()
        if o.phi > 0:  # a diffused face drifts in colour; with nothing of the input wanted, so be it
            y = recoloured(y, x.float())
        return (y / 2 + 0.5).clamp(0, 1)


def _smoothed(walk: Generator[Tensor, Tensor, Tensor]) -> Generator[Latent, Tensor, Tensor]:
    """The sampler, whose z0 on the way is yielded by its name."""
    sent: Any = None
    while True:
        try:
            z0 = walk.send(sent)
        except StopIteration as end:
            last: Tensor = end.value
            return last
        sent = yield Latent("z0_mid", z0)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    import torch

    if precision == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
