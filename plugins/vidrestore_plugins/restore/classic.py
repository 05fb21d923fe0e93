"""restore=classic: an honest enhancer without learning: deblock, denoise, detail. It invents nothing.

All three use the guided filter (K. He, J. Sun and X. Tang, IEEE PAMI 35(6), 2013), which smooths where the
picture is flat and keeps its edges; radii are counted in *source* pixels, so that an enlarged face is treated
like a small one. How much counts as noise is estimated from each crop (J. Immerkaer, CVIU 64(2), 1996).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from torch import Tensor

    from vidrestore.api import Context, FaceBatch, Latent

_FLOOR: Final = 0.006  # grey levels (0..1) under which nothing is noise: 8-bit rounding, light coding


class ClassicOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    denoise: float = Field(1.0, ge=0, le=4, description="how much of the estimated noise is smoothed; 0 = none")
    detail: float = Field(0.5, ge=0, le=4, description="gain on fine detail above the noise; 0 = none")
    deblock: float = Field(
        1.0, ge=0, le=4, description="how strongly weak steps of colour are smoothed; 0 = not at all"
    )
    size: int = Field(512, ge=64, le=1024, description="px a side of the crops")


class Classic:
    Options: ClassVar[type[BaseModel]] = ClassicOptions
    latents: tuple[str, ...] = ()

    def __init__(self, options: ClassicOptions) -> None:
        self.options, self.size = options, options.size

    def open(self, device: torch.device) -> None: ...

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        import torch

        out = [self._enhanced(crop[None], float(s)) for crop, s in zip(faces.crops, faces.scale, strict=True)]
        return torch.cat(out)
        yield  # a generator that yields nothing

    def _enhanced(self, crop: Tensor, scale: float) -> Tensor:
        """One crop [1, 3, S, S] at ``scale`` crop px a source px."""
        from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb
        from kornia.filters import guided_blur

        o = self.options
        y, chroma = rgb_to_ycbcr(crop).split((1, 2), 1)
        noise = noise_level(y, scale)
        if o.denoise:
            y = guided_blur(y, y, _kernel(2, scale), eps=(1.5 * o.denoise * noise) ** 2, subsample=_step(scale))
        if o.deblock:
            # each plane guides itself: where skin and ground are equally bright, luma would let colours run
            planes = chroma.transpose(0, 1)  # [2, 1, S, S]
            eps = o.deblock * (0.01 + 1.5 * noise) ** 2
            chroma = guided_blur(planes, planes, _kernel(4, scale), eps=eps, subsample=_step(scale)).transpose(0, 1)
        if o.detail:
            base = guided_blur(y, y, _kernel(3, scale), eps=0.05**2, subsample=_step(scale))
            fine = y - base
            y = y + o.detail * fine * _cored(fine, noise)
        out: Tensor = ycbcr_to_rgb(_joined(y, chroma)).clamp(0, 1)
        return out


def noise_level(y: Tensor, scale: float) -> float:
    """Standard deviation of noise in luma [1, 1, S, S] (0..1), measured at the source's own resolution."""
    import torch
    import torch.nn.functional as F

    side = max(16, round(y.shape[-1] / max(scale, 1.0)))
    small = F.interpolate(y, size=(side, side), mode="area") if side < y.shape[-1] else y
    kernel = y.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])[None, None]
    local = F.avg_pool2d(F.conv2d(small, kernel).abs(), 5)
    quiet = local.flatten().quantile(0.35)  # texture is not noise: the quieter third counts
    return max(_FLOOR, float(quiet * (torch.pi / 2) ** 0.5 / 6))


def _kernel(radius: float, scale: float) -> int:
    """Window of a filter whose radius is given in source px."""
    return 2 * max(1, round(radius * max(scale, 0.5))) + 1


def _step(scale: float) -> int:
    """Means of a wide window may be taken on a coarser grid (He and Sun, "Fast Guided Filter", 2015)."""
    return max(1, round(1.5 * scale))


def _cored(fine: Tensor, noise: float) -> Tensor:
    """0 where detail is as weak as noise, 1 where it is well above, less again for strong edges (no halos)."""
    strength = fine.abs() / noise
    rise = (strength / (strength + 1.5)) ** 2
    return rise / (1 + (fine.abs() / 0.12) ** 2)


def _joined(y: Tensor, chroma: Tensor) -> Tensor:
    import torch

    return torch.cat([y, chroma], 1)
