"""Faces as old and cheap video shows them: a truth and the aligned crops that a restorer would be given for it.

A still face is moved a little from frame to frame, blurred, sampled at its native size, made noisy, coded (JPEG,
then a real video codec) and aligned back. What is cut out again holds still, as the pipeline's crops do, and
carries the codec's and the resampling's traces. Blur, sampling, noise and JPEG run on the truth's device in one
batch of frames; the codec runs on the CPU.

Ranges: those of the basic levels mild, medium and heavy, at faces of 256 px (half the blur and half the loss of
size of 512 px), and beyond them down to faces of 30 px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from kornia.enhance import jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d

from vidrestore.media.recoding import Codec, coded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator
    from torch import Tensor

_MARGIN = 32  # px of mirrored border around the truth, so that blur and motion find something there
_SMALLEST = 32  # px a side of the smallest native picture
_BLUR_TO_SIZE = 2.67  # a Gaussian of sigma px halves the amplitude at 0.187 / sigma cycles a px = Nyquist / 2.67 sigma


@dataclass(frozen=True)
class Damage:
    """One clip's damage, drawn once; lengths in px of the truth."""

    blur: tuple[float, float]  # sigma along two axes
    angle: float  # of the first axis, radians
    size: float  # truth px a native px
    area: bool  # native pixels are means over their area, not samples
    cubic: bool  # native pixels are sampled by cubic interpolation, else by linear
    noise: float  # sigma, 0..1
    coloured: bool  # noise differs between the channels
    grain: float  # sigma of the noise's own blur in native px, 0: white
    jpeg: int  # quality, 0: none
    enlarged: float  # the native picture is enlarged this much before the video codec
    codec: Codec | None
    quality: int  # CRF or quantiser
    shown_large: bool = False  # once decoded the film is enlarged to the truth's size, by cubic interpolation


@dataclass(frozen=True)
class Footage:
    """One face, filmed badly."""

    damaged: Tensor  # f32 [t, 3, s, s], 0..1
    damage: Damage
    resolution: float  # how many times coarser than the truth's grid the finest detail is, >= 1
    noise: float  # sigma of what is left of the noise, 0..1
    coding: float  # rms error of the coding, 0..1


Level = Literal["clean", "mild", "medium", "heavy", "small"]
SHARES: dict[Level, float] = {"clean": 0.1, "mild": 0.2, "medium": 0.4, "heavy": 0.17, "small": 0.13}
# a small restorer cannot learn all damage equally well: most of what it sees is what most old clips have
RESTORED: dict[Level, float] = {"clean": 0.07, "mild": 0.2, "medium": 0.5, "heavy": 0.15, "small": 0.08}
RESTORED_LARGE = 0.6

#          blur          size         noise/255  JPEG share, quality
_RANGES: dict[Level, tuple[tuple[float, float], tuple[float, float], tuple[float, float], float, tuple[int, int]]] = {
    "clean": ((0.0, 0.3), (0.75, 1.05), (0.0, 1.0), 0.1, (85, 95)),
    "mild": ((0.1, 1.0), (0.75, 1.25), (0.0, 3.0), 0.1, (75, 95)),
    "medium": ((0.4, 2.0), (1.25, 2.5), (1.0, 10.0), 0.3, (60, 90)),
    "heavy": ((1.0, 4.0), (2.0, 4.0), (4.0, 20.0), 0.5, (40, 75)),
    "small": ((0.2, 2.0), (3.0, 6.0), (0.0, 8.0), 0.3, (50, 90)),
}
_CODECS: dict[Level, tuple[tuple[Codec | None, float, tuple[int, int]], ...]] = {
    "clean": ((None, 0.3, (0, 0)), ("libx264", 0.7, (10, 20))),
    "mild": ((None, 0.1, (0, 0)), ("libx264", 0.8, (18, 26)), ("mpeg4", 0.1, (2, 4))),
    "medium": ((None, 0.1, (0, 0)), ("libx264", 0.7, (22, 34)), ("mpeg4", 0.2, (4, 10))),
    "heavy": ((None, 0.1, (0, 0)), ("libx264", 0.45, (30, 42)), ("mpeg4", 0.25, (8, 20)), ("mpeg2video", 0.2, (8, 24))),
    "small": ((None, 0.15, (0, 0)), ("libx264", 0.65, (18, 34)), ("mpeg4", 0.2, (3, 10))),
}


def drawn(
    rng: Generator, level: Level | None = None, shares: Mapping[Level, float] = SHARES, large: float = 0.0
) -> Damage:
    """Damage of a level; of a random one by ``shares`` where none is given.

    ``large``: share of the films that were enlarged once decoded, as many an upload of an old clip is.
    """
    kind: Level = level or list(shares)[rng.choice(len(shares), p=list(shares.values()))]
    blurs, sizes, noises, jpeg_share, jpegs = _RANGES[kind]
    choices = _CODECS[kind]
    codec, _, qualities = choices[rng.choice(len(choices), p=[share for _, share, _ in choices])]
    blur, size = rng.uniform(*blurs), rng.uniform(*sizes)
    return Damage(
        blur=(blur, rng.uniform(*blurs) if rng.random() < 0.25 else blur),
        angle=rng.uniform(0, math.pi),
        size=size,
        area=rng.random() < 0.35,
        cubic=size < 1.3 or rng.random() < 0.5,
        noise=rng.uniform(*noises) / 255,
        coloured=rng.random() < 0.5,
        grain=rng.uniform(0.4, 1.1) if rng.random() < 0.35 else 0.0,
        jpeg=int(rng.integers(*jpegs)) if rng.random() < jpeg_share else 0,
        enlarged=rng.uniform(1.3, 2.5) if rng.random() < 0.25 else 1.0,
        codec=codec,
        quality=int(rng.integers(qualities[0], qualities[1] + 1)),
        shown_large=bool(large) and rng.random() < large,
    )


def drawn_to_restore(rng: Generator) -> Damage:
    """Damage that a restorer learns from."""
    return drawn(rng, shares=RESTORED, large=RESTORED_LARGE)


def filmed(truth: Tensor, damage: Damage, rng: Generator, length: int = 4, keep: int = 2) -> Footage:
    """``truth`` f32 [3, s, s] in 0..1 as ``keep`` consecutive crops from the end of a clip of ``length`` frames."""
    side = truth.shape[-1]
    native = max(_SMALLEST, 2 * round(side / damage.size / 2))
    poses = _motion(rng, length)
    blurred = _blurred(truth, damage)
    clean = torch.stack([_sampled(blurred, pose, native, side, damage.cubic) for pose in poses])
    noisy = _noisy(clean, damage, rng)
    wide = noisy
    if damage.jpeg:
        quality = torch.full((length,), float(damage.jpeg), device=truth.device)
        wide = jpeg_codec_differentiable(_blocks(wide), quality)[..., :native, :native]
    if damage.enlarged > 1:
        larger = min(side, 2 * round(native * damage.enlarged / 2))
        if larger > native:
            wide = F.interpolate(wide, (larger, larger), mode="bicubic", align_corners=False)
    wide = wide.clamp(0, 1)
    frames = (wide * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    if damage.codec:
        frames = coded(frames, damage.codec, damage.quality)
    seen = torch.from_numpy(frames).to(truth.device).permute(0, 3, 1, 2).float() / 255
    left, coding = _left(clean, noisy, seen)
    if damage.shown_large and seen.shape[-1] < side:
        seen = F.interpolate(seen, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    crops = torch.stack([_aligned(frame, pose, side) for frame, pose in zip(seen[-keep:], poses[-keep:], strict=True)])
    coarse = max(damage.size, side / native, 1.0)
    resolution = max(1.0, (coarse**4 + (_BLUR_TO_SIZE * max(damage.blur)) ** 4) ** 0.25)
    return Footage(crops.clamp(0, 1), damage, resolution, left * damage.noise, coding)


def _motion(rng: Generator, length: int) -> list[np.ndarray]:
    """[2, 3] for each frame: display px about the picture's centre -> truth px about its centre. A slow drift with
    a tremor, at a random phase of the pixel grid."""
    still = rng.random() < 0.2
    speed = np.zeros(2) if still else rng.normal(0, 1.2, 2)
    turn, zoom = (0.0, 0.0) if still else (rng.normal(0, 0.004), rng.normal(0, 0.003))
    start, tremor = rng.uniform(-2, 2, 2), 0.0 if still else 0.3
    poses = []
    for t in range(length):
        c, s = math.cos(turn * t) * (1 + zoom * t), math.sin(turn * t) * (1 + zoom * t)
        shift = start + speed * t + rng.normal(0, tremor, 2)
        poses.append(np.array([[c, -s, shift[0]], [s, c, shift[1]]]))
    return poses


def _blurred(truth: Tensor, damage: Damage) -> Tensor:
    """The truth with its mirrored margin, blurred by the Gaussian and (``area``) by the native pixel's square: one
    product in the frequency domain."""
    padded = F.pad(truth[None], (_MARGIN,) * 4, mode="reflect")[0]
    height, width = padded.shape[-2:]
    v = torch.fft.fftfreq(height, device=truth.device)[:, None]
    u = torch.fft.rfftfreq(width, device=truth.device)[None]
    c, s = math.cos(damage.angle), math.sin(damage.angle)
    along, across = damage.blur[0] * (c * u + s * v), damage.blur[1] * (c * v - s * u)
    transfer = torch.exp(-2 * math.pi**2 * (along**2 + across**2))
    if damage.area:
        transfer = transfer * torch.sinc(damage.size * u) * torch.sinc(damage.size * v)
    out: Tensor = torch.fft.irfft2(torch.fft.rfft2(padded) * transfer, s=(height, width))
    return out


def _sampled(blurred: Tensor, pose: np.ndarray, native: int, side: int, cubic: bool) -> Tensor:
    """The moved picture at its native size [3, native, native]."""
    step = side / native
    matrix = pose.copy()
    matrix[:, :2] *= step
    return _grid(blurred, matrix, native, blurred.shape[-1], cubic=cubic)


def _aligned(frame: Tensor, pose: np.ndarray, side: int) -> Tensor:
    """A frame of any native size cut out as it was before it moved, bilinear as the pipeline does: [3, side, side]."""
    native = frame.shape[-1]
    linear = np.linalg.inv(pose[:, :2])
    matrix = np.column_stack([linear, -linear @ pose[:, 2]]) * (native / side)
    return _grid(frame, matrix, side, native, cubic=False)


def _grid(image: Tensor, matrix: np.ndarray, size: int, width: int, *, cubic: bool) -> Tensor:
    """Sample ``image`` [3, width, width]: output px about the centre -> image px about the centre."""
    theta = torch.tensor(matrix, dtype=torch.float32, device=image.device)
    theta = torch.cat([theta[:, :2] * (size / width), theta[:, 2:] * (2 / width)], 1)
    grid = F.affine_grid(theta[None], [1, 3, size, size], align_corners=False)
    mode = "bicubic" if cubic else "bilinear"
    return F.grid_sample(image[None], grid, mode, padding_mode="reflection", align_corners=False)[0]


def _noisy(clean: Tensor, damage: Damage, rng: Generator) -> Tensor:
    """With noise of its own for each frame [t, 3, n, n]."""
    source = torch.Generator().manual_seed(int(rng.integers(2**62)))
    count, _, height, width = clean.shape
    field = torch.randn((count, 3 if damage.coloured else 1, height, width), generator=source).to(clean.device)
    if damage.grain:
        field = gaussian_blur2d(field, 5, (damage.grain, damage.grain))
        field = field / field.std().clamp(min=1e-6)
    return (clean + damage.noise * field).clamp(0, 1)


def _blocks(frames: Tensor) -> Tensor:
    """Grown by mirroring to multiples of 16, which JPEG 4:2:0 needs."""
    right, below = -frames.shape[-1] % 16, -frames.shape[-2] % 16
    return F.pad(frames, (0, right, 0, below), mode="reflect") if right or below else frames


def _left(clean: Tensor, noisy: Tensor, seen: Tensor) -> tuple[float, float]:
    """Which share of the noise came through coding, and the rms of what coding added."""
    if seen.shape[-1] != clean.shape[-1]:
        size = clean.shape[-1]
        seen = F.interpolate(seen, (size, size), mode="bicubic", antialias=True, align_corners=False)
    noise, change = noisy - clean, seen - clean
    share = float((noise * change).sum() / (noise**2).sum().clamp(min=1e-9))
    share = min(1.0, max(0.0, share))
    return share, float((change - share * noise).square().mean().sqrt())
