"""Colour maths against libswscale and against itself."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from hypothesis import given
from hypothesis import strategies as st

from vidrestore.media.colour import Region, add_difference, read_rgb, region_around
from vidrestore.types import Frame, Layout

SWS = {"bt601": 5, "bt709": 1, "bt2020": 9}
CHROMA = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0)}


def layout(kind: str = "420", bits: int = 8, width: int = 64, height: int = 48, **changes: Any) -> Layout:
    name = f"yuv{kind}p" + ("" if bits == 8 else f"{bits}le")
    values: dict[str, Any] = {
        "pix_fmt": name, "width": width, "height": height, "bits": bits, "family": "yuv", "chroma": CHROMA[kind],
        "alpha": False, "full_range": False, "matrix": "bt709", "siting": "left", "primaries": 1, "transfer": 1,
        "matrix_tag": 1, "range_tag": 1,
    }  # fmt: skip
    return Layout(**values | changes)


def frame(of: Layout, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Frame:
    """Random samples over the whole code range, illegal ones included."""
    rng = np.random.default_rng(seed)
    top = (1 << of.bits) - 1
    small = (
        (of.height + (1 << of.chroma[1]) - 1) >> of.chroma[1],
        (of.width + (1 << of.chroma[0]) - 1) >> of.chroma[0],
    )
    sizes = [(of.height, of.width)] + ([] if of.family == "gray" else [small, small])
    kind = np.uint8 if of.bits == 8 else np.uint16
    planes = tuple(rng.integers(int(low * top), int(high * top) + 1, s).astype(kind) for s in sizes)
    return Frame(planes, of, 0, 1, Fraction(1, 25), 0)


def whole(of: Layout) -> Region:
    return Region(0, 0, of.width, of.height)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_rgb_equals_libswscale_within_one_code(matrix: str, full: bool, bits: int) -> None:
    of = layout("444", bits, matrix=matrix, full_range=full)
    source = frame(of, low=0.25, high=0.7)
    picture = av.VideoFrame(of.width, of.height, of.pix_fmt)
    for to, plane in zip(picture.planes, source.planes, strict=True):
        rows = np.frombuffer(to, plane.dtype).reshape(of.height, -1)
        rows[:, : of.width] = plane
    theirs = VideoReformatter().reformat(
        picture, format="gbrp16le", src_colorspace=SWS[matrix], dst_colorspace=SWS[matrix],
        src_color_range=2 if full else 1, dst_color_range=2, interpolation=Interpolation.LANCZOS,
    )  # fmt: skip
    g, b, r = (np.frombuffer(p, np.uint16).reshape(of.height, -1)[:, : of.width] for p in theirs.planes)
    ours = read_rgb(source, whole(of)).clamp(0, 1).numpy()
    # libswscale's own arithmetic carries some 14 bits: one code of 8 bits is a generous bound at any depth
    assert np.abs(ours - np.stack([r, g, b]) / 65535).max() <= 1 / 255


def test_known_colours() -> None:
    of = layout("444", matrix="bt709")
    red = Frame(tuple(np.full((48, 64), v, np.uint8) for v in (63, 102, 240)), of, 0, 1, Fraction(1, 25), 0)
    assert read_rgb(red, whole(of))[:, 5, 5].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=0.006)
    white = Frame(tuple(np.full((48, 64), v, np.uint8) for v in (235, 128, 128)), of, 0, 1, Fraction(1, 25), 0)
    assert read_rgb(white, whole(of))[:, 0, 0].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("siting", ["left", "center", "topleft", "top", "bottomleft", "bottom"])
def test_chroma_siting_places_a_ramp_where_it_belongs(siting: Any) -> None:
    """A chroma plane that is linear in the luma position of its samples reads back as that line."""
    of = layout("420", siting=siting)
    dx = 0.5 if siting in ("center", "top", "bottom") else 0.0
    dy = {"left": 0.5, "center": 0.5, "topleft": 0.0, "top": 0.0, "bottomleft": 1.0, "bottom": 1.0}[siting]
    y, x = np.mgrid[:24, :32]
    ramp = (60 + (2 * x + dx) + (2 * y + dy)).astype(np.float32)
    flat = np.full((48, 64), 128, np.uint8)
    # half codes do not fit 8 bits: 12-bit samples hold 16ths
    fine = layout("420", 12, siting=siting)
    planes = (flat.astype(np.uint16) * 16, (ramp * 16).astype(np.uint16), np.full((24, 32), 2048, np.uint16))
    rgb = read_rgb(Frame(planes, fine, 0, 1, Fraction(1, 25), 0), whole(of))
    cb = (rgb[2] - rgb[1]) * 1.0  # blue minus green is linear in cb
    inner = cb[4:-4, 4:-4]
    steps_x, steps_y = inner[:, 1:] - inner[:, :-1], inner[1:] - inner[:-1]
    assert float(steps_x.std()) < 1e-4 and float(steps_y.std()) < 1e-4
    per_code = (2 - 2 * 0.0722) * (1 + 0.0722 / (1 - 0.2126 - 0.0722)) / 224
    at = 60 + 20 + 10
    assert float(cb[10, 20]) == pytest.approx((at - 128) * per_code, abs=0.3 * per_code)


CASES = [(k, b) for k in CHROMA for b in (8, 10, 12)]


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_no_difference_changes_no_bit(kind: str, bits: int) -> None:
    of = layout(kind, bits)
    source = frame(of)
    before = [p.copy() for p in source.planes]
    add_difference(source, whole(of), torch.zeros(3, 48, 64), torch.ones(48, 64))
    assert all(np.array_equal(a, b) for a, b in zip(before, source.planes, strict=True))


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_where_alpha_is_zero_no_bit_changes(kind: str, bits: int) -> None:
    of = layout(kind, bits)
    source = frame(of)
    before = [p.copy() for p in source.planes]
    alpha = torch.zeros(48, 64)
    alpha[11:31, 13:41] = 1.0
    add_difference(source, whole(of), torch.full((3, 48, 64), 0.3) * torch.rand(3, 48, 64), alpha)
    luma = source.planes[0] != before[0]
    assert luma[11:31, 13:41].any() and not luma[alpha.numpy() == 0].any()
    sx, sy = of.chroma
    for plane, old in zip(source.planes[1:], before[1:], strict=True):
        changed = np.repeat(np.repeat(plane != old, 1 << sy, 0), 1 << sx, 1)[:48, :64]
        assert changed.any() and not changed[alpha.numpy() == 0].any()


@given(st.sampled_from(CASES), st.booleans(), st.sampled_from(["bt601", "bt709", "bt2020"]), st.integers(0, 99))
def test_what_is_added_is_what_is_read_back(case: tuple[str, int], full: bool, matrix: Any, seed: int) -> None:
    """A smooth change of colour, read again, is the change within rounding."""
    kind, bits = case
    of = layout(kind, bits, full_range=full, matrix=matrix)
    source = frame(of, seed, 0.4, 0.6)
    before = read_rgb(source, whole(of))
    change = torch.tensor([0.03, -0.02, 0.04])[:, None, None].expand(3, 48, 64)
    add_difference(source, whole(of), change, torch.ones(48, 64))
    rounding = 4.0 / ((1 << bits) - 1)
    assert float((read_rgb(source, whole(of)) - before - change).abs().max()) <= rounding


@given(st.integers(2, 66), st.integers(2, 50), st.sampled_from(CASES), st.integers(0, 9))
def test_odd_sizes_and_regions(width: int, height: int, case: tuple[str, int], seed: int) -> None:
    """A region reads the same as its part of the whole picture, at any size, at every border."""
    of = layout(*case, width=width, height=height)
    source = frame(of, seed)
    rng = np.random.default_rng(seed)
    x0, x1 = sorted(rng.uniform(-5, width + 5, 2))
    y0, y1 = sorted(rng.uniform(-5, height + 5, 2))
    region = region_around(of, max(0, x0), max(0, y0), min(width - 1, x1), min(height - 1, y1))
    if region.empty:
        return
    part = read_rgb(source, region)
    full = read_rgb(source, whole(of))[:, region.y0 : region.y1, region.x0 : region.x1]
    assert part.shape == full.shape
    torch.testing.assert_close(part, full, rtol=0, atol=1e-5)


def test_illegal_values_are_kept_and_not_made_worse() -> None:
    """Samples beyond the nominal range keep their own bounds: 4 stays 4 when it should become darker."""
    of = layout("444")
    planes = tuple(np.full((48, 64), v, np.uint8) for v in (4, 250, 2))
    source = Frame(planes, of, 0, 1, Fraction(1, 25), 0)
    add_difference(source, whole(of), torch.full((3, 48, 64), -0.2), torch.ones(48, 64))
    assert int(source.planes[0][0, 0]) == 4
    add_difference(source, whole(of), torch.full((3, 48, 64), 2.0), torch.ones(48, 64))
    assert int(source.planes[0][0, 0]) == 235


def test_grey_and_rgb_families() -> None:
    grey = Layout(**{**_fields(layout("444")), "pix_fmt": "gray", "family": "gray", "chroma": (0, 0)})
    source = frame(grey, low=0.3, high=0.6)
    rgb = read_rgb(source, whole(grey))
    assert torch.equal(rgb[0], rgb[1]) and torch.equal(rgb[1], rgb[2])
    add_difference(source, whole(grey), torch.full((3, 48, 64), 10 / 219), torch.ones(48, 64))
    torch.testing.assert_close(read_rgb(source, whole(grey))[0], rgb[0] + 10 / 219, rtol=0, atol=1e-5)

    gbr = Layout(**{**_fields(layout("444")), "pix_fmt": "gbrp", "family": "rgb", "full_range": True})
    source = frame(gbr, low=0.2, high=0.7)
    rgb = read_rgb(source, whole(gbr))
    torch.testing.assert_close(rgb[1] * 255, torch.from_numpy(source.planes[0].astype(np.float32)))
    change = torch.tensor([0.1, 0.2, 0.0])[:, None, None].expand(3, 48, 64)
    add_difference(source, whole(gbr), change, torch.ones(48, 64))
    torch.testing.assert_close(read_rgb(source, whole(gbr)), rgb + change, rtol=0, atol=0.003)


def _fields(of: Layout) -> dict[str, Any]:
    return {name: getattr(of, name) for name in Layout.__dataclass_fields__}
