"""restore=flipnet: a latent-diffusion prior that reads the damaged face beside every self-attention.

Y. Miao, Z. Qu, M. Gao, C. Chen, J. Song, J. Han, J. Deng: "Unlocking the Potential of Diffusion Priors in Blind Face
Restoration", ICCV 2025.
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
    from vidrestore_plugins.restore.flipnet.model import FlipNet

NEEDED = ("unet", "vae", "encoders", "hubs", "projector", "tags")


class FlipNetOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["restore", "degrade"] = Field(
        "restore", description="the flip: make damaged faces good, or good ones as real footage shows them"
    )
    rho: float = Field(
        0.8, ge=0, le=1, description="degrading: share of the damage's texture that stays from frame to frame"
    )
    steps: int = Field(
        0, ge=0, le=200, description="passes of the diffusion network a face; 0: 1 where the weights can, else 20"
    )
    phi: float = Field(
        1.0, ge=0, le=2, description="fidelity: weight of the damaged face in every layer; 0 leaves the prior free"
    )
    start: int = Field(
        0, ge=0, le=999, description="noise level where diffusion begins, lower keeps more; 0: what the weights are for"
    )
    spacing: Literal["quadratic", "lambda"] = Field(
        "quadratic", description="of the steps; lambda: equal in log signal to noise, for 8 steps and fewer"
    )
    seed: int = Field(0, ge=0, description="of the noise; the run's seed unless given")
    size: int = Field(0, ge=0, le=1024, multiple_of=64, description="px a side of the crops; 0: what it was trained at")
    precision: Precision = Field("auto", description=PRECISION_HELP)
    weights: str = Field(
        "flipnet_mini", description="name in `vidrestore weights list`, or a file that `vidrestore train flipnet` made"
    )
    prior: str = Field("", description="likewise, of a prior that is not among the weights")


class FlipNetRestorer:
    """The face tokens, the condition's latent (z_y) and the result's (z0) are smoothed over time."""

    Options: ClassVar[type[BaseModel]] = FlipNetOptions

    def __init__(self, options: FlipNetOptions) -> None:
        self.options, self.size = options, options.size
        self.weights = tuple(name for name in (options.weights, options.prior) if name)
        middle = () if options.steps == 1 else ("z0_mid",)  # of two passes and more
        self.latents: tuple[str, ...] = ("tokens", "z_y", *middle, "z0")
        self._net: FlipNet | None = None
        self._mode = 0  # of the network

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had, or lack a part."""
        import torch

        from vidrestore_plugins.restore.flipnet.files import load
        from vidrestore_plugins.restore.flipnet.model import DEGRADE, RESTORE

        net, parts = load(*(weights_path(name) for name in self.weights))
        if missing := [part for part in NEEDED if part not in parts]:
            prior = missing == ["unet", "vae"]
            remedy = "name a file of the prior: prior=FILE" if prior else "see vidrestore train flipnet"
            raise ResourceError(" + ".join(self.weights), f"no {' and '.join(missing)} in it", remedy)
        self._mode = RESTORE if self.options.mode == "restore" else DEGRADE
        read, unread = ("lq", "hq") if self._mode == RESTORE else ("hq", "lq")
        net.encoders[unread].to("meta")
        net.eval().requires_grad_(False)
        for part in NEEDED:
            module = net.encoders[read] if part == "encoders" else net.get_submodule(part)
            # past diffusers' own `to`, which warns of parts that it wants in f32 and then names none
            torch.nn.Module.to(module, device, dtype_of(self.options.precision, device))
            torch.nn.Module.to(module, memory_format=torch.channels_last)
        if net.restores_at_once(self._mode, self.options.steps, self.options.start):
            self.latents = tuple(name for name in self.latents if name != "z0_mid")
        self._net, self.size = net, self.options.size or net.size.image_size

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        import torch

        from vidrestore_plugins.restore.flipnet.model import DEGRADE, RESTORE
        from vidrestore_plugins.restore.flipnet.schedule import sample
        from vidrestore_plugins.restore.ldbfr.colour import recoloured
        from vidrestore_plugins.restore.ldbfr.sampler import named

        if self._net is None:
            raise ValueError("FlipNetRestorer.restore was called before open")
        net, o = self._net, self.options
        kind = net.tags.mode_emb.dtype
        x = (2 * faces.crops - 1).to(kind, memory_format=torch.channels_last)
        mode = torch.full((len(x),), self._mode, device=x.device)
        c = (yield Latent("tokens", net.tokens(x, self._mode).float())).to(kind)
        z_y = yield Latent("z_y", net.encode(x).float())
        cache = net.written(z_y.to(kind), c, mode)
        eps = ctx.noise("eps", tuple(z_y.shape[1:]))
        if self._mode == DEGRADE:  # some of what damages a film is on the lens, some is new in each frame
            new = ctx.noise("new", tuple(z_y.shape[1:]), fixed=False)
            eps = o.rho**0.5 * eps + (1 - o.rho) ** 0.5 * new

        def noise_of(z: Tensor, t: int) -> Tensor:
            return net.noise(z.to(kind), t, c, cache, mode, o.phi)

        z, asked = net.beginning(z_y, eps.to(z_y), self._mode, o.steps, o.start, o.spacing)
        middle = {asked[(len(asked) - 1) // 2]} if len(asked) > 1 else set[int]()
        z0 = yield from named(sample(noise_of, z, asked, show=middle), "z0_mid")
        z0 = yield Latent("z0", z0)
        if self._mode == RESTORE:
            y = net.restored(z0.to(kind), z_y.to(kind), x).float()
        else:
            y = net.decode(z0.to(kind)).float()
        # a diffused face drifts in colour; where nothing of the input is wanted, so be it
        if o.phi > 0 and self._mode == RESTORE:
            y = recoloured(y, x.float())
        return (y / 2 + 0.5).clamp(0, 1)
