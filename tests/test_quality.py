"""What quality is measured with, against closed forms and published check values; losses of training."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidrestore.quality.levels import EYES, LEVELS, Draw, Level, applied, damaged, drawn, generator
from vidrestore.quality.measures import agreeing_detail, centre, psnr
from vidrestore.quality.steadiness import flows, warped, warping_error
from vidrestore.train.losses import charbonnier, edges, spectrum
from vidrestore_plugins.restore.ldbfr.batches import importance


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (2,) * 4, mode="reflect"), 5, 1)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth and rich enough to follow: f32 [h, w, 3] in 0..1."""
    field = np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(field, (0, 0), 3)
    return np.clip(0.5 + smooth / smooth.std() / 6, 0, 1)


# -- damage levels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "first"),
    [("mild", (0.348194, 0.029152)), ("medium", (0.309089, 0.735378)), ("heavy", (0.268154, 0.079706))],
)
def test_generators_give_the_published_numbers(level: Level, first: tuple[float, float]) -> None:
    rng = generator(level, "c0", 0)
    assert (rng.random(), rng.random()) == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize("level", list(LEVELS))
def test_draws_lie_in_their_ranges_and_scale_with_the_face(level: Level) -> None:
    ranges, whole = LEVELS[level], [drawn(level, f"clip{i}") for i in range(60)]
    for draw in whole:
        assert all(ranges.blur[0] <= b <= ranges.blur[1] for b in draw.blur)
        assert ranges.reduction[0] <= draw.reduction <= ranges.reduction[1]
        assert ranges.noise[0] <= draw.noise <= ranges.noise[1]
        low, high = {codec: span for _, codec, span in ranges.codecs}[draw.codec]
        assert low <= draw.quality <= high
    assert {draw.codec for draw in whole} == {codec for _, codec, _ in ranges.codecs}
    for i, draw in enumerate(whole[:9]):
        half = drawn(level, f"clip{i}", EYES / 2)
        assert half.blur == pytest.approx([b / 2 for b in draw.blur])
        assert half.reduction == pytest.approx(max(1.0, draw.reduction / 2))
        assert (half.noise, half.jpeg, half.codec, half.quality) == (draw.noise, draw.jpeg, draw.codec, draw.quality)


@pytest.mark.parametrize("level", list(LEVELS))
def test_damage_keeps_frames_and_size_and_repeats(level: Level) -> None:
    truth = np.stack([texture(96, 128)] * 5)
    frames = (truth * 255).astype(np.uint8)
    before = frames.copy()
    out = damaged(frames, level, "a", 60.0)
    assert out.shape == frames.shape and out.dtype == np.uint8
    assert np.array_equal(frames, before)
    assert np.array_equal(out, damaged(frames, level, "a", 60.0))
    assert not np.array_equal(out, damaged(frames, level, "b", 60.0))


def test_each_frame_has_noise_of_its_own() -> None:
    frames = np.full((3, 64, 64, 3), 120, np.uint8)
    draw = Draw((0.0, 0.0), 0.0, 1.0, cv2.INTER_AREA, 12.0, 0, "mpeg4", 1)
    out = applied(frames, draw, lambda t: generator("heavy", "x", 1000 + t)).astype(float)
    assert np.abs(out[1] - out[0]).mean() > 4
    luma = out @ [0.299, 0.587, 0.114]
    expected = 12 * math.sqrt(0.299**2 + 0.587**2 + 0.114**2)  # the codec keeps luma, and little of the colour
    assert luma.std() == pytest.approx(expected, rel=0.15)
    assert out.mean() == pytest.approx(120, abs=1)


def moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By how many px (x, y) ``b`` [h, w] is ``a`` moved, by least squares on the gradient; for small moves."""
    a, b = (cv2.GaussianBlur(x.astype(np.float64), (0, 0), 2) for x in (a, b))
    down, across = np.gradient(a)
    inner = (slice(10, -10), slice(10, -10))
    columns = np.stack([across[inner].ravel(), down[inner].ravel(), np.ones(a[inner].size)], 1)
    found: np.ndarray = -np.linalg.lstsq(columns, (b - a)[inner].ravel(), rcond=None)[0][:2]
    return found


@pytest.mark.parametrize("interpolation", [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC])
def test_reduction_and_enlargement_put_a_picture_back_where_it_was(interpolation: int) -> None:
    frame = (texture(96, 96, seed=3) * 255).astype(np.uint8)
    assert moved(frame.mean(2), np.roll(frame, 1, 1).mean(2)) == pytest.approx([1, 0], abs=0.02)
    for reduction in (1.0, 2.0, 3.3):
        draw = Draw((1.0, 1.0), 0.0, reduction, interpolation, 0.0, 0, "libx264", 10)
        out = applied(np.stack([frame] * 2), draw, lambda t: generator("mild", "x", t))[1]
        assert np.abs(moved(frame.mean(2), out.mean(2))).max() < 0.1


# -- measures --------------------------------------------------------------------------------------------------


def test_psnr_golden() -> None:
    truth = noise(2, 3, 8, 8)
    out = truth + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    torch.testing.assert_close(psnr(out, truth), torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)
    assert psnr(truth, truth).tolist() == [100.0, 100.0]


def test_agreeing_detail_counts_what_is_the_truths_and_nothing_else() -> None:
    truth = noise(2, 3, 128, 128)
    torch.testing.assert_close(agreeing_detail(truth, truth), torch.ones(2))
    torch.testing.assert_close(agreeing_detail(0.3 + 0.5 * truth, truth), torch.full((2,), 0.5), atol=1e-4, rtol=0)
    assert (agreeing_detail(blurred(truth), truth).abs() < 0.3).all()
    assert agreeing_detail(noise(2, 3, 128, 128, seed=1), truth).abs().max() < 0.05
    invented = truth + noise(2, 3, 128, 128, seed=1)
    torch.testing.assert_close(agreeing_detail(invented, truth), torch.ones(2), atol=0.05, rtol=0)


def test_only_the_faces_centre_counts() -> None:
    truth = noise(1, 3, 128, 128)
    edge = truth.clone()
    edge[..., :18, :] = edge[..., -14:, :] = 0.5
    edge[..., :26] = edge[..., -26:] = 0.5
    assert torch.equal(centre(edge), centre(truth)) and centre(truth).shape[2:] == (93, 72)
    assert torch.equal(agreeing_detail(edge, truth), torch.ones(1))


# -- steadiness ------------------------------------------------------------------------------------------------


def still(count: int, height: int = 64, width: int = 80) -> list[tuple[np.ndarray, np.ndarray]]:
    flow = np.zeros((height, width, 2), np.float32)
    return [(flow, np.ones((height, width), bool)) for _ in range(count - 1)]


def test_a_still_film_is_steady_and_flicker_has_its_power() -> None:
    picture = texture(64, 80)
    assert warping_error(np.stack([picture] * 4), still(4)) == 0
    d = 0.05
    flickering = np.stack([0.5 + (d if t % 2 else -d) + np.zeros_like(picture) for t in range(5)])
    assert warping_error(flickering, still(5)) == pytest.approx(4 * d * d, rel=1e-5)


def test_what_moves_along_is_steady() -> None:
    wide = texture(64, 120)
    frames = np.stack([wide[:, 3 * t : 3 * t + 80] for t in range(4)])  # the picture runs 3 px left a frame
    flow = np.zeros((64, 80, 2), np.float32)
    flow[..., 0] = -3
    seen = np.zeros((64, 80), bool)
    seen[:, 3:] = True
    assert warping_error(frames, [(flow, seen)] * 3) < 1e-10
    assert warping_error(frames, still(4)) > 1e-3
    assert np.array_equal(warped(frames[1], flow)[:, 3:], frames[0][:, 3:])


def test_only_what_is_trusted_counts() -> None:
    frames = np.zeros((2, 64, 80, 3), np.float32)
    frames[1, :, 40:] = 1
    flow, left = np.zeros((64, 80, 2), np.float32), np.zeros((64, 80), bool)
    left[:, :40] = True
    assert warping_error(frames, [(flow, left)]) == 0
    assert warping_error(frames, [(flow, ~left)]) == 1
    assert warping_error(frames, [(flow, left & ~left)]) == 0
    assert warping_error(frames[:1], []) == 0


def test_flow_finds_a_shift_and_mistrusts_what_leaves() -> None:
    wide = (texture(96, 160, seed=5) * 255).astype(np.uint8)
    frames = np.stack([wide[:, 4 * t : 4 * t + 128] for t in range(3)])
    found = flows(frames)
    assert len(found) == 2
    for flow, trusted in found:
        inner = trusted[16:-16, 16:-16]
        assert inner.mean() > 0.7
        assert np.abs(flow[16:-16, 16:-16][inner].mean(0) - (-4, 0)).max() < 0.3
        assert not trusted[:, :3].any()
    assert warping_error(frames.astype(np.float32) / 255, found) < 2e-4


# -- losses ----------------------------------------------------------------------------------------------------


def test_charbonnier_is_the_difference_where_it_is_large() -> None:
    a, zero = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8)
    assert float(charbonnier(zero, zero)) == pytest.approx(1e-3)
    assert float(charbonnier(a, zero)) == pytest.approx(0.5, abs=1e-5)
    weight = torch.tensor([[[[2.0] * 4 + [0.0] * 4]]]).expand(1, 1, 8, 8)
    a[..., 4:] = 99
    assert float(charbonnier(a, zero, weight)) == pytest.approx(0.5, abs=1e-4)


def test_edges_see_neither_light_nor_what_is_equal() -> None:
    a = noise(2, 3, 32, 32)
    assert float(edges(a, a)) == 0
    assert float(edges(a + 0.3, a)) == pytest.approx(0, abs=1e-6)
    ramp = torch.arange(32.0).expand(1, 3, 32, 32) / 32
    assert float(edges(ramp, torch.zeros_like(ramp))) == pytest.approx((1 + 2 + 4) / 32, rel=1e-4)
    weight = torch.zeros(1, 1, 32, 32)
    assert float(edges(a, blurred(a), weight)) == 0 < float(edges(a, blurred(a)))


def test_spectrum_leaves_the_mean_out_and_weighs_the_fine_more() -> None:
    a = noise(2, 3, 32, 32)
    assert float(spectrum(a, a)) == 0
    assert float(spectrum(a + 0.3, a)) == pytest.approx(0, abs=1e-6)
    x = torch.arange(32.0)

    def wave(u: int) -> Tensor:
        """One coefficient of each block."""
        return torch.cos(math.pi * (x % 8 + 0.5) * u / 8).expand(1, 3, 32, 32)

    # the coefficient of cos is 8 / sqrt 2; one of 64 has it, weighted by (1 + u) / 8
    for u in (1, 7):
        expected = 8 / math.sqrt(2) * (1 + u) / 8 / 64
        assert float(spectrum(wave(u), torch.zeros(1))) == pytest.approx(expected, rel=1e-4)
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = wave(3)[:, 0]
    assert float(spectrum(red, torch.zeros(1))) == pytest.approx(0.299 * float(spectrum(wave(3), torch.zeros(1))))


@pytest.mark.parametrize("side", [64, 256])
def test_importance_is_most_at_eyes_and_mouth(side: int) -> None:
    weight = importance(side)
    assert weight.shape == (1, 1, side, side)
    assert float(weight.mean()) == pytest.approx(1, abs=1e-5)

    def at(x: float, y: float) -> float:
        return float(weight[0, 0, int(y * side), int(x * side)])

    assert min(at(0.378, 0.47), at(0.624, 0.47), at(0.502, 0.727)) > 1.5 > at(0.5, 0.2) > at(0.02, 0.02) > 0.3
