"""Footage that restorers learn from: it repeats, stays where it was, and its labels follow the damage."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from vidrestore.media.recoding import Codec, coded
from vidrestore.train.footage import SHARES, Damage, Footage, Level, drawn, filmed

SIDE = 128
NONE = Damage(
    blur=(0.0, 0.0), angle=0.0, size=1.0, area=False, cubic=True, noise=0.0, coloured=False, grain=0.0, jpeg=0,
    enlarged=1.0, codec=None, quality=0,
)  # fmt: skip


def portrait(side: int = SIDE, detail: float = 1.0) -> Tensor:
    """Smooth shapes with edges and some texture: f32 [3, side, side] in 0..1."""
    rng = np.random.default_rng(4)
    picture = np.full((side, side, 3), 150, np.uint8)
    for _ in range(24):
        at, radius = rng.integers(0, side, 2), int(rng.integers(4, side // 4))
        cv2.circle(picture, tuple(at.tolist()), radius, rng.integers(30, 225, 3).tolist(), -1, cv2.LINE_AA)
    field = cv2.GaussianBlur(rng.standard_normal((side, side, 3)), (0, 0), detail)
    mixed = picture / 255 + 0.06 * field / field.std()
    return torch.from_numpy(mixed.clip(0, 1).astype(np.float32)).permute(2, 0, 1)


def shot(damage: Damage, seed: int = 0, truth: Tensor | None = None) -> Footage:
    return filmed(portrait() if truth is None else truth, damage, np.random.default_rng(seed))


def psnr(footage: Footage, truth: Tensor) -> float:
    inner = (..., slice(8, -8), slice(8, -8))
    return float(-10 * (footage.damaged - truth)[inner].square().mean().log10())


@pytest.mark.parametrize("level", list(SHARES))
def test_footage_is_a_function_of_its_generator(level: Level) -> None:
    truth = portrait()
    before = truth.clone()
    made = []
    for _ in range(2):
        rng = np.random.default_rng(11)
        made.append(filmed(truth, drawn(rng, level), rng))
    a, b = made
    assert torch.equal(a.damaged, b.damaged) and a.damage == b.damage
    assert (a.resolution, a.noise, a.coding) == (b.resolution, b.noise, b.coding)
    assert torch.equal(truth, before)
    assert a.damaged.shape == (2, 3, SIDE, SIDE) and a.damaged.dtype == torch.float32
    assert a.damaged.min() >= 0 and a.damaged.max() <= 1
    assert a.resolution >= 1 and 0 <= a.noise <= a.damage.noise and a.coding >= 0
    assert not torch.equal(a.damaged, shot(a.damage, seed=12).damaged)


def test_as_many_crops_are_kept_as_asked_for() -> None:
    rng = np.random.default_rng(0)
    assert filmed(portrait(), NONE, rng, length=5, keep=3).damaged.shape == (3, 3, SIDE, SIDE)


def test_levels_are_drawn_by_their_shares() -> None:
    rng = np.random.default_rng(0)
    draws = [drawn(rng) for _ in range(4000)]
    heavy = np.mean([d.codec == "mpeg2video" for d in draws])  # of heavy alone, a fifth of it
    assert heavy == pytest.approx(0.2 * SHARES["heavy"], abs=0.012)
    assert sum(SHARES.values()) == pytest.approx(1)
    assert {d.codec for d in draws} == {None, "libx264", "mpeg4", "mpeg2video"}


def test_shares_and_enlarged_films_are_drawn_as_wished() -> None:
    rng = np.random.default_rng(0)
    draws = [drawn(rng, shares={"clean": 0.5, "heavy": 0.5}, large=0.25) for _ in range(2000)]
    assert np.mean([d.shown_large for d in draws]) == pytest.approx(0.25, abs=0.03)
    assert np.mean([d.noise > 2 / 255 for d in draws]) == pytest.approx(0.5, abs=0.04)
    assert not any(drawn(rng).shown_large for _ in range(50))


def levels(level: Level, count: int = 10) -> float:
    rng, truth = np.random.default_rng(5), portrait()
    return float(np.mean([psnr(filmed(truth, drawn(rng, level), rng), truth) for _ in range(count)]))


def test_levels_do_what_they_are_called() -> None:
    clean, mild, medium, heavy = (levels(level) for level in ("clean", "mild", "medium", "heavy"))
    assert clean > 30
    assert clean > mild + 1 > medium + 2 > heavy + 3


@pytest.mark.parametrize("seed", range(8))
def test_what_was_moved_is_put_back(seed: int) -> None:
    """Undamaged, each crop lies where the truth lies, whatever the camera did."""
    truth = portrait(detail=2.0)
    for size in (1.0, 2.0, 3.7):
        for crop in shot(replace(NONE, size=size, area=size > 1), seed, truth).damaged:
            assert np.abs(moved(truth.mean(0).numpy(), crop.mean(0).numpy())).max() < 0.15, size


def test_codecs_and_enlargement_move_nothing() -> None:
    truth = portrait(detail=2.0)
    for change in (
        {"jpeg": 80},
        {"codec": "libx264", "quality": 20},
        {"codec": "mpeg4", "quality": 3},
        {"enlarged": 1.7},
        {"shown_large": True},
    ):
        crop = shot(replace(NONE, size=2.0, area=True, **change), 3, truth).damaged[1]
        assert np.abs(moved(truth.mean(0).numpy(), crop.mean(0).numpy())).max() < 0.2, change


def test_a_film_enlarged_by_cubic_interpolation_is_the_sharper() -> None:
    truth = portrait(detail=2.0)
    small, large = (shot(replace(NONE, size=2.0, area=True, shown_large=wide), 3, truth) for wide in (False, True))
    assert psnr(large, truth) > psnr(small, truth) + 0.1
    assert (large.resolution, large.noise, large.coding) == (small.resolution, small.noise, small.coding)


def moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By how many px (x, y) ``b`` [h, w] is ``a`` moved, by least squares on the gradient; for small moves."""
    a, b = (cv2.GaussianBlur(x.astype(np.float64), (0, 0), 3) for x in (a, b))
    down, across = np.gradient(a)
    inner = (slice(16, -16), slice(16, -16))
    columns = np.stack([across[inner].ravel(), down[inner].ravel(), np.ones(a[inner].size)], 1)
    found: np.ndarray = -np.linalg.lstsq(columns, (b - a)[inner].ravel(), rcond=None)[0][:2]
    return found


def test_the_yardstick_of_moves() -> None:
    a = portrait(detail=2.0).mean(0).numpy()
    assert moved(a, np.roll(a, (0, 1), (0, 1))) == pytest.approx([1, 0], abs=0.05)


def test_nothing_done_leaves_nearly_the_truth() -> None:
    truth = portrait(detail=2.0)
    footage = shot(NONE, truth=truth)
    assert psnr(footage, truth) > 35  # two interpolations and eight bits
    assert footage.resolution == 1 and footage.noise == 0 and footage.coding < 0.004


def test_resolution_follows_size_and_blur() -> None:
    by_size = [shot(replace(NONE, size=s)).resolution for s in (1.0, 1.5, 2.0, 4.0)]
    assert by_size == pytest.approx([1, 1.5, 2, 4], rel=0.04)
    by_blur = [shot(replace(NONE, blur=(b, b))).resolution for b in (0.0, 1.0, 2.0, 4.0)]
    assert by_blur == sorted(by_blur) and by_blur[3] == pytest.approx(2.67 * 4, rel=0.01)
    one_axis = shot(replace(NONE, blur=(0.0, 2.0))).resolution
    assert one_axis == by_blur[2], "the worse axis counts"
    both = shot(replace(NONE, size=3.0, blur=(1.2, 1.2))).resolution
    assert max(3.0, 2.67 * 1.2) < both < 3.0 + 2.67 * 1.2


def test_blur_takes_what_its_sigma_says() -> None:
    """A wave of f cycles a px keeps exp(-2 (pi f sigma)^2) of its amplitude."""
    x = torch.arange(SIDE) / SIDE
    wave = (0.5 + 0.4 * torch.sin(2 * torch.pi * 16 * x)).expand(3, SIDE, SIDE)
    inner = (..., slice(24, -24), slice(24, -24))
    amplitude = [float(shot(replace(NONE, blur=(b, b)), truth=wave).damaged[inner].std()) for b in (0.0, 1.5)]
    assert amplitude[1] / amplitude[0] == pytest.approx(float(np.exp(-2 * (np.pi / 8 * 1.5) ** 2)), rel=0.05)


def test_noise_has_its_sigma_and_grain_is_as_strong() -> None:
    flat = torch.full((3, SIDE, SIDE), 0.5)
    for grain, coloured in ((0.0, True), (0.0, False), (0.8, True)):
        footage = shot(replace(NONE, noise=0.05, grain=grain, coloured=coloured), truth=flat)
        assert footage.noise == pytest.approx(0.05, rel=0.02)
        colour = (footage.damaged[:, 0] - footage.damaged[:, 1]).abs().mean()
        assert (colour > 0.02) == coloured
    assert (footage.damaged[0] - footage.damaged[1]).abs().mean() > 0.02, "each frame has its own"


def test_a_codec_eats_noise_and_leaves_an_error_of_its_own() -> None:
    noisy = replace(NONE, size=2.0, noise=0.04)
    raw = shot(noisy)
    found = [shot(replace(noisy, codec="libx264", quality=crf)) for crf in (16, 28, 40)]
    kept = [raw.noise, *(f.noise for f in found)]
    assert kept == sorted(kept, reverse=True) and kept[0] > 0.039 and kept[-1] < 0.015
    added = [raw.coding, *(f.coding for f in found)]
    assert added == sorted(added) and added[0] < 0.005 and added[-1] > 0.015


def test_faces_of_thirty_px_have_a_smallest_native_picture() -> None:
    footage = shot(replace(NONE, size=9.0))
    assert footage.damaged.shape == (2, 3, SIDE, SIDE)
    assert footage.resolution == 9.0


# -- real coding ---------------------------------------------------------------------------------------------


def clip(count: int = 4, height: int = 64, width: int = 96) -> np.ndarray:
    wide = (portrait(SIDE, 1.0).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return np.stack([wide[2 * t : 2 * t + height, t : t + width] for t in range(count)])


CODECS: list[tuple[Codec, list[int]]] = [
    ("libx264", [10, 24, 40]), ("mpeg4", [2, 8, 24]), ("mpeg2video", [2, 8, 24]),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "qualities"), CODECS)
def test_a_coarser_quantiser_is_farther_from_the_truth(codec: Codec, qualities: list[int]) -> None:
    frames = clip()
    out = [coded(frames, codec, quality) for quality in qualities]
    errors = [np.square(o.astype(float) - frames).mean() for o in out]
    assert errors[0] * 1.5 < errors[1] and errors[1] * 1.5 < errors[2]
    assert all(o.shape == frames.shape and o.dtype == np.uint8 for o in out)
    assert np.array_equal(out[1], coded(frames, codec, qualities[1]))


@pytest.mark.parametrize("count", [1, 2, 13])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video"])
def test_every_frame_comes_back_in_its_place(codec: Codec, count: int) -> None:
    frames = np.stack([np.full((32, 48, 3), 20 + 15 * t, np.uint8) for t in range(count)])
    out = coded(frames, codec, 4)
    assert out.shape == frames.shape
    assert np.abs(out.astype(int).mean((1, 2, 3)) - frames.mean((1, 2, 3))).max() < 4


def test_odd_and_empty_sizes_are_refused() -> None:
    for shape, why in (((2, 33, 48, 3), "even sides"), ((2, 32, 47, 3), "even sides"), ((0, 32, 48, 3), "got none")):
        with pytest.raises(ValueError, match=why):
            coded(np.zeros(shape, np.uint8), "libx264", 20)
