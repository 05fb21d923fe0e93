"""Native planes <-> RGB, for a region only. The one place that knows matrices, ranges and chroma siting.

A film's picture is never converted as a whole: faces are read from a region as RGB and what was restored is
added to the native planes as a *difference*, at their own bit depth. Where the difference is zero, samples keep
their bits.

Equations: ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant luminance) for K_r and K_b; ITU-T H.273 §8.3
(eqs. 20 to 32) for the quantisation of limited and full range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F

from vidrestore.media.planes import upright_view

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.types import Frame, Layout, Plane, Siting

KR_KB: Final = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}

# Where a chroma sample lies, in luma samples from the first luma sample it covers: (horizontal, vertical).
_OFFSET: Final[dict[Siting, tuple[float, float]]] = {
    "left": (0.0, 0.5),
    "center": (0.5, 0.5),
    "topleft": (0.0, 0.0),
    "top": (0.5, 0.0),
    "bottomleft": (0.0, 1.0),
    "bottom": (0.5, 1.0),
}


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of stored luma samples: x0 <= x < x1, y0 <= y < y1, aligned to the chroma grid."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def empty(self) -> bool:
        return self.x1 <= self.x0 or self.y1 <= self.y0


def region_around(layout: Layout, x0: float, y0: float, x1: float, y1: float) -> Region:
    """The smallest region of the picture that holds the rectangle and begins and ends on the chroma grid."""
    step_x, step_y = 1 << layout.chroma[0], 1 << layout.chroma[1]
    left = max(0, int(np.floor(x0))) // step_x * step_x
    top = max(0, int(np.floor(y0))) // step_y * step_y
    right = min(layout.width, -(-(int(np.ceil(x1)) + 1) // step_x) * step_x)
    bottom = min(layout.height, -(-(int(np.ceil(y1)) + 1) // step_y) * step_y)
    return Region(left, top, max(right, left), max(bottom, top))


def read_rgb(frame: Frame, region: Region) -> Tensor:
    """R'G'B' of a region: f32 [3, h, w], 0..1 for colours inside the nominal range, not clamped."""
    layout = frame.layout
    code = _code(layout)
    if layout.family == "rgb":
        g, b, r = (_luma(plane, region) for plane in frame.planes[:3])
        return torch.stack([(p - code.y0) / code.y_span for p in (r, g, b)])
    y = (_luma(frame.planes[0], region) - code.y0) / code.y_span
    if layout.family == "gray":
        return y.expand(3, -1, -1).contiguous()
    cb, cr = (_upsampled(plane, layout, region) for plane in frame.planes[1:3])
    return _to_rgb(y, (cb - code.c0) / code.c_span, (cr - code.c0) / code.c_span, layout)


def upright_rgb(frame: Frame) -> NDArray[np.uint8]:
    """The whole picture as it is shown: u8 [h, w, 3], gamma-encoded."""
    layout = frame.layout
    stored = read_rgb(frame, Region(0, 0, layout.width, layout.height)).clamp(0, 1).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(upright_view(np.rint(stored * 255).astype(np.uint8), layout.turn))


def add_difference(frame: Frame, region: Region, difference: Tensor, alpha: Tensor) -> None:
    """Add an R'G'B' difference to the native planes of an editable frame, in place.

    difference: f32 [3, h, w], already multiplied by alpha; alpha: f32 [h, w]. Luma is left alone where alpha
    is 0, chroma where alpha is 0 anywhere under the chroma sample (alpha is min-pooled to the chroma grid).
    Samples that change stay inside the nominal range, or inside the source's own where that is wider.
    """
    layout = frame.layout
    code = _code(layout)
    difference = difference * (alpha > 0)
    if layout.family == "rgb":
        r, g, b = difference * code.y_span
        for plane, change in zip(frame.planes[:3], (g, b, r), strict=True):
            _add(_view(plane, region), change, code.y_low, code.y_high)
        return
    y, cb, cr = _to_ycbcr(difference, layout)
    _add(_view(frame.planes[0], region), y * code.y_span, code.y_low, code.y_high)
    if layout.family == "gray":
        return
    inside = _min_pooled(alpha, layout.chroma) > 0
    for plane, change in zip(frame.planes[1:3], (cb, cr), strict=True):
        small = _downsampled(change, layout) * inside
        _add(_view(plane, region, layout.chroma), small * code.c_span, code.c_low, code.c_high)


@dataclass(frozen=True, slots=True)
class _Code:
    """Quantisation of one layout, in code values (H.273 eqs. 20 to 32)."""

    y0: float  # black
    y_span: float  # white - black
    c0: float  # no colour
    c_span: float
    y_low: float  # bounds for samples that we change
    y_high: float
    c_low: float
    c_high: float


@lru_cache(maxsize=64)
def _code(layout: Layout) -> _Code:
    bits, top = layout.bits, float((1 << layout.bits) - 1)
    unit = float(1 << (bits - 8))
    if layout.full_range:
        return _Code(0.0, top, float(1 << (bits - 1)), top, 0.0, top, 0.0, top)
    return _Code(16 * unit, 219 * unit, 128 * unit, 224 * unit, 16 * unit, 235 * unit, 16 * unit, 240 * unit)


def _to_rgb(y: Tensor, cb: Tensor, cr: Tensor, layout: Layout) -> Tensor:
    kr, kb = KR_KB[layout.matrix]
    r = y + 2 * (1 - kr) * cr
    b = y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return torch.stack([r, g, b])


def _to_ycbcr(rgb: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    kr, kb = KR_KB[layout.matrix]
    r, g, b = rgb
    y = kr * r + (1 - kr - kb) * g + kb * b
    return y, (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))


def _view(plane: Plane, region: Region, chroma: tuple[int, int] = (0, 0)) -> Plane:
    sx, sy = chroma
    view: Plane = plane[region.y0 >> sy : -(-region.y1 >> sy), region.x0 >> sx : -(-region.x1 >> sx)]
    return view


def _luma(plane: Plane, region: Region) -> Tensor:
    return torch.from_numpy(_view(plane, region).astype(np.float32))


def _add(view: Plane, change: Tensor, low: float, high: float) -> None:
    old = torch.from_numpy(view.astype(np.float32))
    bounds = old.clamp(max=low), old.clamp(min=high)  # a source beyond the nominal range keeps its own bounds
    new = (old + change.cpu()).round().clamp(*bounds)
    view[...] = new.numpy().astype(view.dtype)


def _upsampled(plane: Plane, layout: Layout, region: Region) -> Tensor:
    """A chroma plane on the luma grid of the region, linear between its own sample positions."""
    sx, sy = layout.chroma
    if (sx, sy) == (0, 0):
        return _luma(plane, region)
    dx, dy = _OFFSET[layout.siting]
    h, w = plane.shape
    xs = _Taps.of(region.x0, region.x1, sx, dx, w)
    ys = _Taps.of(region.y0, region.y1, sy, dy, h)
    part = torch.from_numpy(plane[ys.first : ys.last, xs.first : xs.last].astype(np.float32))
    rows = torch.lerp(part[ys.low], part[ys.high], ys.share[:, None])
    return torch.lerp(rows[:, xs.low], rows[:, xs.high], xs.share)


@dataclass(frozen=True, slots=True)
class _Taps:
    """Linear interpolation along one axis: samples ``low`` and ``high`` of a slice, and the share of high."""

    first: int
    last: int
    low: Tensor
    high: Tensor
    share: Tensor

    @staticmethod
    def of(start: int, stop: int, shift: int, offset: float, n: int) -> _Taps:
        if shift == 0:
            offset = 0.0
        # H.273: with subsampling by 2^s the offset is given for s = 1; for 4:1:1 "left" is 0 and "center" the mean
        position = (np.arange(start, stop) - offset * ((1 << shift) - 1)) / (1 << shift)
        position = np.clip(position, 0, n - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, n - 1)
        first, last = int(low[0]), int(high[-1]) + 1
        share = torch.from_numpy((position - low).astype(np.float32))
        return _Taps(first, last, torch.from_numpy(low - first), torch.from_numpy(high - first), share)


def _downsampled(x: Tensor, layout: Layout) -> Tensor:
    """A difference [h, w] on the chroma grid: the mean around each chroma sample's position."""
    for axis, (shift, offset) in enumerate(zip(layout.chroma, _OFFSET[layout.siting], strict=True)):
        if shift:
            x = _decimated(x if axis else x.T, shift, offset)
            x = x if axis else x.T
    return x


def _decimated(rows: Tensor, shift: int, offset: float) -> Tensor:
    """Every 2^shift-th sample along axis 0, low-passed around the sited position."""
    step = 1 << shift
    n = rows.shape[0]
    padded = F.pad(rows.T[None], (step, step + (-n) % step), mode="replicate")[0]  # [w, step + n + ...]
    if offset == 0.5:
        taps = torch.full((step,), 1 / step)
        start = step
    else:
        half = torch.arange(1, step + 1, dtype=torch.float32)
        taps = torch.cat([half, half[:-1].flip(0)]) / step**2  # a triangle around the sample
        start = step - (step - 1) + int(offset) * (step - 1)
    out = F.conv1d(padded[:, None, start:], taps[None, None], stride=step)[:, 0]
    return out[:, : -(-n // step)].T


def _min_pooled(alpha: Tensor, chroma: tuple[int, int]) -> Tensor:
    """The least alpha under each chroma sample."""
    sx, sy = 1 << chroma[0], 1 << chroma[1]
    h, w = alpha.shape
    padded = F.pad(alpha[None], (0, -w % sx, 0, -h % sy), value=float("inf"))
    return -F.max_pool2d(-padded, (sy, sx))[0]
