"""The network of assess=head: how coarse, how noisy, how badly coded a face is, from the spectra of its patches.

The luma of the crop's middle, at a grid of 256 px, is cut into overlapping patches. What a patch holds at each
frequency says where detail ends, which is resolution, and what is left where nothing should be, which is noise
and coding. Quiet patches show noise, patches with edges show resolution: so each frequency is described by
quantiles over all patches. Three small layers read the three measures from that; they see no face, only texture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

SIDE: Final = 256  # px of the grid on which damage is counted
ROWS, COLUMNS = slice(40, 232), slice(40, 216)  # of it: the face in the FFHQ template, forehead to chin
PATCH, STEP = 32, 16  # px
RINGS: Final = 20  # of frequency: 1 to 20 and more cycles a patch
QUANTILES: Final = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)  # over patches; their mean comes last
WIDTH: Final = 96
_LUMA: Final = (0.299, 0.587, 0.114)  # BT.601
_FLOOR: Final = (0.3 / 255) ** 2  # power of rounding to 8 bits: nothing below it is told apart
# What the outputs are the base 2 logarithm of, in steps of 8 bits: an error of a step in 20 matters less than in 2
_NOISE_FLOOR, _CODING_FLOOR = 0.5, 1.0


class Head(nn.Module):
    """luma f32 [n, 1, 256, 256] -> f32 [n, 3]: logarithms, as ``encoded`` makes and ``decoded`` reads them."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        inputs = RINGS * (len(QUANTILES) + 1)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.layers = nn.Sequential(
            nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 3)
        )

    def forward(self, luma: Tensor) -> Tensor:
        return self.read(spectra(luma))

    def read(self, power: Tensor) -> Tensor:
        """What ``spectra`` gives -> f32 [n, 3]."""
        out: Tensor = self.layers((levels(power) - self.mean) / self.deviation)
        return out

    def scale_to(self, power: Tensor) -> None:
        """Take the inputs' mean and deviation from what is learnt from."""
        level = levels(power)
        self.mean.copy_(level.mean(0))
        self.deviation.copy_(level.std(0).clamp(min=1e-3))


def luma_256(crops: Tensor) -> Tensor:
    """f32 [n, 3, S, S] -> f32 [n, 1, 256, 256]; larger crops are reduced without aliasing."""
    red, green, blue = _LUMA
    luma = red * crops[:, 0:1] + green * crops[:, 1:2] + blue * crops[:, 2:3]
    if luma.shape[-1] == SIDE:
        return luma
    return F.interpolate(luma, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


def spectra(luma: Tensor) -> Tensor:
    """f32 [n, 1, 256, 256] -> power f32 [n, 140]: for each quantile over patches, and their mean, every ring of
    frequency. A picture of twice the contrast has four times the power."""
    patches = luma[:, 0, ROWS, COLUMNS].unfold(1, PATCH, STEP).unfold(2, PATCH, STEP).flatten(1, 2)
    patches = (patches - patches.mean((2, 3), keepdim=True)) * _window().to(luma)
    power = torch.fft.rfft2(patches, norm="ortho").abs().square().flatten(2) @ _rings().to(luma)
    at = [round(q * (power.shape[1] - 1)) for q in QUANTILES]
    return torch.cat([power.sort(1).values[:, at].flatten(1), power.mean(1)], 1)


def levels(power: Tensor) -> Tensor:
    """Power on a logarithmic scale, in octaves of amplitude above that of rounding."""
    return (1 + power / _FLOOR).log2() / 2


def _window() -> Tensor:
    """Hann's, of unit power: [32, 32]."""
    one = torch.hann_window(PATCH, periodic=False)
    window = one[:, None] * one[None]
    return window / window.square().mean().sqrt()


def _rings() -> Tensor:
    """Means over rings of a real transform's frequencies: [32 * 17, rings]; the last takes the corners too."""
    v, u = torch.fft.fftfreq(PATCH)[:, None], torch.fft.rfftfreq(PATCH)[None]
    ring = (PATCH * (v**2 + u**2).sqrt()).round().long().clamp(max=RINGS)
    member = F.one_hot(ring.flatten(), RINGS + 1)[:, 1:].float()
    return member / member.sum(0)


def encoded(damage: Tensor) -> Tensor:
    """Resolution, noise and coding f32 [n, 3], as in ``Damage``, on the network's scales."""
    resolution, noise, coding = damage.unbind(1)
    return torch.stack([resolution, 255 * noise + _NOISE_FLOOR, 255 * coding + _CODING_FLOOR], 1).log2()


def decoded(output: Tensor) -> Tensor:
    """The inverse of ``encoded``, within the bounds of ``Damage``: f32 [n, 3]."""
    resolution, noise, coding = output.clamp(-8, 8).exp2().unbind(1)
    noise, coding = (noise - _NOISE_FLOOR) / 255, (coding - _CODING_FLOOR) / 255
    return torch.stack([resolution.clamp(min=1), noise.clamp(min=0), coding.clamp(min=0)], 1)
