"""Faces in HDR: shown to a network as it knows them, and what it changed carried back as a gain of light.

Networks have learnt from SDR pictures. A face in PQ or HLG is therefore brought to light, to BT.709's primaries, to
SDR by one fixed curve, and coded as SDR is; what restoring changed becomes a gain, pixel by pixel, that multiplies
the film's own light. Below the knee of the curve that gives exactly what the network asked for; above it, highlights
keep their ratio to what surrounds them. Where nothing changed the gain is 1, and samples keep their bits.

Sources: PQ is SMPTE ST 2084 (BT.2100-2 table 4), light on the display; HLG is ARIB STD-B67 (BT.2100-2 table 5), light
of the scene. Diffuse white is 203 cd/m2 of PQ and 75 % of HLG's signal (BT.2408-7 §2.2). Light of a display is coded
by the inverse of BT.1886, light of a scene by BT.709's OETF: each as SDR of its kind is. The offset that keeps the
gain of blacks bounded is that of gain maps (ISO 21496-1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from vidrestore.media.colour import read_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from vidrestore.media.colour import Region
    from vidrestore.types import Frame, Layout

PQ, HLG = 16, 18  # H.273 transfer_characteristics
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_PEAK, _WHITE = 10_000.0, 203.0  # cd/m2
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_HLG_WHITE = 0.26496256  # of the scene's light, whose signal is 75 %
KNEE: Final = 0.6  # of diffuse white: light below it is not compressed
OFFSET: Final = 1 / 64  # of diffuse white

# Linear light, BT.2020 primaries -> BT.709 (BT.2087-0 §2), and back.
_TO_709 = torch.tensor([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]).double()
_TO_2020 = torch.linalg.inv(_TO_709)


def sdr_rgb(frame: Frame, region: Region) -> Tensor:
    """R'G'B' of a region as networks and detectors know pictures: f32 [3, h, w] in [0, 1], SDR of an HDR frame."""
    rgb = read_rgb(frame, region)
    return to_sdr(rgb, frame.layout) if frame.layout.hdr else rgb.clamp_(0, 1)


def to_sdr(rgb: Tensor, layout: Layout) -> Tensor:
    """SDR R'G'B' of HDR R'G'B': f32 [3, h, w] -> f32 [3, h, w] in [0, 1)."""
    return _coded(layout)(_compressed(_light(rgb, layout).clamp(min=0)))


def carried(rgb: Tensor, change: Tensor, layout: Layout) -> Tensor:
    """The difference of HDR R'G'B' that a change of its SDR picture stands for.

    rgb: f32 [3, h, w], HDR R'G'B' of the film; change: f32 [3, h, w], of ``to_sdr(rgb)``. Gives f32 [3, h, w], 0 where
    all of the change is 0.
    """
    light = _light(rgb, layout)
    before = _compressed(light.clamp(min=0))
    after = _decoded(layout)((_coded(layout)(before) + change).clamp(0, 1))
    gain = (after + OFFSET) / (before + OFFSET)
    new = light + (light.clamp(min=0) + OFFSET) * (gain - 1)
    return torch.where((change == 0).all(0), 0.0, _signal(new, layout) - rgb)


def _light(rgb: Tensor, layout: Layout) -> Tensor:
    """Linear light of BT.709's primaries, 1 = diffuse white; colours outside them have negative parts."""
    light = _pq_light(rgb) if layout.transfer == PQ else _hlg_light(rgb)
    return _in_primaries(light, _TO_709) if layout.primaries == 9 else light


def _signal(light: Tensor, layout: Layout) -> Tensor:
    """The inverse of ``_light``."""
    light = _in_primaries(light, _TO_2020) if layout.primaries == 9 else light
    return _pq_signal(light) if layout.transfer == PQ else _hlg_signal(light)


def _in_primaries(light: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("ij,jhw->ihw", matrix.to(light), light)


def _pq_light(signal: Tensor) -> Tensor:
    root = signal.clamp(0, 1) ** (1 / _M2)
    return ((root - _C1).clamp(min=0) / (_C2 - _C3 * root)) ** (1 / _M1) * (_PEAK / _WHITE)


def _pq_signal(light: Tensor) -> Tensor:
    power = (light * (_WHITE / _PEAK)).clamp(0, 1) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_light(signal: Tensor) -> Tensor:
    signal = signal.clamp(0, 1)
    scene = torch.where(signal <= 0.5, signal**2 / 3, (((signal - _C) / _A).exp() + _B) / 12)
    return scene / _HLG_WHITE


def _hlg_signal(light: Tensor) -> Tensor:
    scene = (light * _HLG_WHITE).clamp(0, 1)
    return torch.where(scene <= 1 / 12, (3 * scene).sqrt(), _A * (12 * scene - _B).clamp(min=1e-6).log() + _C)


def _compressed(light: Tensor) -> Tensor:
    """Light of any strength below 1: as it is up to the knee, then ever less, without a kink."""
    over = (light - KNEE).clamp(min=0) / (1 - KNEE)
    return torch.minimum(light, torch.tensor(KNEE)) + (1 - KNEE) * over / (1 + over)


def _coded(layout: Layout) -> Callable[[Tensor], Tensor]:
    return _bt1886_signal if layout.transfer == PQ else _bt709_signal


def _decoded(layout: Layout) -> Callable[[Tensor], Tensor]:
    return _bt1886_light if layout.transfer == PQ else _bt709_light


def _bt1886_signal(light: Tensor) -> Tensor:
    return light ** (1 / 2.4)


def _bt1886_light(signal: Tensor) -> Tensor:
    return signal**2.4


def _bt709_signal(light: Tensor) -> Tensor:
    return torch.where(light < 0.018, 4.5 * light, 1.099 * light.clamp(min=1e-9) ** 0.45 - 0.099)


def _bt709_light(signal: Tensor) -> Tensor:
    return torch.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))
