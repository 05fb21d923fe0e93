"""grain=0..1 of the blend step: a restored face gets back the grain that its source has there and that it lost.

The grain is taken for white noise blurred by a Gaussian of ``blur`` px, as film and small coded pictures have it, of
the source's own grid and of the same amount in R, G and B. Immerkaer's filter (CVIU 64(2), 1996) with its taps ``m`` px
apart answers to it by

    g(m) = (6 - 8 r(m) + 2 r(2 m)) / 6,    r(d) = exp(-d^2 / (4 blur^2))

times sigma, for r is the noise's correlation at a distance d, and the filter the product of two second differences.
Two distances give both unknowns. What is measured is averaged over the track's past half second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.types import Patch

    F64 = NDArray[np.float64]

ROUNDING: Final = 0.5 / 255  # sigma: a film of 8 bits has so much without any grain
MOST: Final = 1.0  # px: what is coarser is taken for texture
_CELL: Final = 12  # px a side of the cells over which the filter's answers are averaged
_QUIET: Final = 0.25  # the quantile of cells that is believed: in the others there is texture
_FEW: Final = 4  # cells: fewer say nothing
_BIAS: Final = 1.09  # of that quantile, for noise alone
_LUMA: Final = (0.299, 0.587, 0.114)
_SECOND: Final = (1.0, -2.0, 1.0)


def luma(rgb: Tensor) -> Tensor:
    """[3, h, w] -> [h, w]"""
    red, green, blue = _LUMA
    return red * rgb[0] + green * rgb[1] + blue * rgb[2]


def answers(grey: Tensor, inside: Tensor) -> tuple[float, float]:
    """What the filter says of noise where ``inside`` [h, w] (bool) holds: its answers at 1 and at 2 px, each sigma for
    white noise. 0 where there is too little to see."""
    second = torch.tensor(_SECOND, dtype=grey.dtype, device=grey.device)
    kernel = torch.outer(second, second)[None, None]
    found = []
    for apart in (1, 2):
        if min(grey.shape) < 4 * apart + _CELL:
            return 0.0, 0.0
        seen = F.conv2d(grey[None, None], kernel, dilation=apart).abs()
        kept = inside[None, None, apart:-apart, apart:-apart].to(grey.dtype)
        share, cells = F.avg_pool2d(kept, _CELL, _CELL // 2), F.avg_pool2d(seen, _CELL, _CELL // 2)
        cells = cells[share > 0.99]
        if len(cells) < _FEW:
            return 0.0, 0.0
        found.append(float(cells.quantile(_QUIET)) * _BIAS * (np.pi / 2) ** 0.5 / 6)
    return found[0], found[1]


def described(fine: float, coarse: float) -> tuple[float, float]:
    """The filter's answers at 1 and 2 px -> sigma, blur in px."""
    if coarse <= 0:
        return 0.0, 0.0
    blurs = np.linspace(0.05, MOST, 96)
    ratios = _answer(1, blurs) / _answer(2, blurs)  # falls from 1
    blur = float(np.interp(-min(fine / coarse, 1.0), -ratios, blurs))
    return coarse / float(_answer(2, np.array(blur))), blur


def shaped(white: Tensor, blur: float) -> Tensor:
    """White noise [h, w] blurred, of unit variance again."""
    reach = int(np.ceil(3 * blur))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=white.dtype) / max(blur, 1e-3)) ** 2)
    taps = (taps / taps.square().sum().sqrt()).to(white.device)
    padded = F.pad(white[None, None], (reach,) * 4, mode="reflect")
    out: Tensor = F.conv2d(F.conv2d(padded, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))[0, 0]
    return out


@dataclass(frozen=True, slots=True)
class Grain:
    """Of one face over time."""

    sigma: float  # of its source, 0..1
    blur: float  # px
    lost: float  # share of its variance that the finished face lacks

    @staticmethod
    def of(answers: F64) -> Grain:
        """From the means of what the filter says at 1 and 2 px of the source, and at 2 px of the finished face: what
        is left there may be finer than it was, for a crop leaves the source what is above its own grid."""
        fine, coarse, left = answers.tolist()
        sigma, blur = described(fine, coarse)
        if sigma < ROUNDING:
            return Grain(0.0, blur, 0.0)
        return Grain(sigma, blur, max(0.0, 1 - (left / coarse) ** 2))

    def added(self, patch: Patch, white: Tensor) -> Patch:
        """The patch with what is lost. white: noise of unit variance, [h, w].

        A face without grain that covers a grainy source by alpha leaves (1 - alpha)^2 of the source's variance, so
        alpha (2 - alpha) of it is lost: most where the face is opaque, which is where it was measured.
        """
        lost = patch.alpha * (2 - patch.alpha)
        amplitude = self.sigma * (self.lost * lost / lost.max().clamp(min=1e-9)).sqrt()
        return replace(patch, difference=patch.difference + amplitude * shaped(white, self.blur))


def seen(rgb: Tensor, patch: Patch) -> F64:
    """What ``Grain.of`` wants, of one frame, where the face is most opaque. rgb: the source under the patch."""
    inside = patch.alpha > 0.9 * patch.alpha.max()
    fine, coarse = answers(luma(rgb), inside)
    return np.array([fine, coarse, answers(luma(rgb + patch.difference), inside)[1]])


def _answer(apart: int, blur: F64) -> F64:
    near, far = (np.exp(-((d * apart) ** 2) / (4 * blur**2)) for d in (1, 2))
    g: F64 = (6 - 8 * near + 2 * far) / 6
    return g
