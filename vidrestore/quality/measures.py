"""How near a restored face is to the truth. Pictures are f32 [n, 3, s, s] in 0..1; every measure gives f32 [n]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_CENTRE = (0.22, 0.16, 0.78, 0.88)  # x0 y0 x1 y1 of the face's centre in a crop on the FFHQ template


def psnr(out: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, peak 1."""
    return -10 * (out - truth).square().mean((1, 2, 3)).clamp(min=1e-10).log10()


def ssim(out: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, 1 = the same: Gaussian window of 11 px, sigma 1.5, K1 .01, K2 .03, mean over channels.

    Z. Wang et al.: "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 13(4), 2004.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(out, truth, sigma=1.5, reduction="none", data_range=1.0)
    assert isinstance(found, torch.Tensor)
    return found


def agreeing_detail(out: Tensor, truth: Tensor) -> Tensor:
    """``<high(out), high(truth)> / <high(truth), high(truth)>`` of luma in the face's centre: 1 = all of the
    truth's detail above half Nyquist and nothing else that looks like it; invented detail adds nothing."""
    a, b = _high(centre(out)), _high(centre(truth))
    return (a * b).sum((1, 2)) / (b * b).sum((1, 2)).clamp(min=1e-9)


def detail_ratio(out: Tensor, source: Tensor) -> Tensor:
    """``|high(out)| / |high(source)|`` of luma in the face's centre: how much more there is above half Nyquist, noise
    and invention included."""
    a, b = (_high(centre(x)).square().sum((1, 2)) for x in (out, source))
    return (a / b.clamp(min=1e-9)).sqrt()


def seam(out: Tensor, source: Tensor, alpha: Tensor) -> Tensor:
    """Energy of luma's gradient where a mask ``alpha`` [n, 1, s, s] is neither 0 nor 1, against the same place of the
    source: 1 = no border can be seen that was not there before; above, one was added; below, it was blurred."""
    ring = ((alpha > 0) & (alpha < 1))[:, 0, :-1, :-1]
    a, b = ((_gradient(x) * ring).sum((1, 2)) for x in (out, source))
    return a / b.clamp(min=1e-9)


def _gradient(faces: Tensor) -> Tensor:
    """Squared length of luma's forward differences [n, h - 1, w - 1]."""
    y = _luma(faces)
    return (y[:, :-1, 1:] - y[:, :-1, :-1]).square() + (y[:, 1:, :-1] - y[:, :-1, :-1]).square()


def centre(faces: Tensor) -> Tensor:
    """The part of aligned crops that eyes, nose and mouth fill."""
    side = faces.shape[-1]
    x0, y0, x1, y1 = (round(share * side) for share in _CENTRE)
    return faces[..., y0:y1, x0:x1]


def _high(faces: Tensor) -> Tensor:
    """Luma [n, h, w] above half Nyquist (a quarter cycle a pixel, radially), of the mirrored picture."""
    pad = 16
    luma = F.pad(_luma(faces)[:, None], (pad,) * 4, mode="reflect")[:, 0]
    v = torch.fft.fftfreq(luma.shape[-2], device=luma.device)[:, None]
    u = torch.fft.rfftfreq(luma.shape[-1], device=luma.device)[None]
    kept = torch.fft.rfft2(luma) * (u * u + v * v >= 0.25**2)
    back: Tensor = torch.fft.irfft2(kept, s=luma.shape[-2:])
    return back[:, pad:-pad, pad:-pad]


def _luma(faces: Tensor) -> Tensor:
    return (faces * torch.tensor(_LUMA, device=faces.device).view(3, 1, 1)).sum(1)
