"""What is measured of pictures, one by one: cases that can be reckoned by hand, and how many of them add up."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from vidrestore.quality import perceptual
from vidrestore.quality.measures import detail_ratio, seam, ssim
from vidrestore.quality.series import Moments, Series, Spread
from vidrestore.quality.steadiness import landmark_error, landmark_motion_error, motion_difference, steadied

if TYPE_CHECKING:
    from numpy.typing import NDArray


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    field = np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(field, (0, 0), 3), np.float32)
    return np.clip(0.5 + smooth / smooth.std() / 6, 0, 1)


# -- measures ------------------------------------------------------------------------------------------------------


def test_a_picture_is_like_itself() -> None:
    x = torch.from_numpy(texture(128, 128)).permute(2, 0, 1)[None]
    ring = torch.linspace(0, 1, 128).expand(1, 1, 128, 128)
    for value in (ssim(x, x), detail_ratio(x, x), seam(x, x, ring)):
        assert value.tolist() == pytest.approx([1.0], abs=1e-5)


def test_ssim_of_two_even_greys() -> None:
    """Without structure only the luminance term is left: (2 a b + C1) / (a^2 + b^2 + C1)."""
    a, b, c1 = 0.4, 0.6, 0.01**2
    x, y = (torch.full((1, 3, 64, 64), v) for v in (a, b))
    assert float(ssim(x, y)) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=5e-4)


def test_a_border_shows_in_the_seam_score() -> None:
    """On a slope of g a px, a step of h within the ring adds ((g + h)^2 - g^2) on its column."""
    g, h, side = 0.002, 0.05, 64
    x = (0.2 + g * torch.arange(side)).expand(1, 3, side, side)
    step = x + h * (torch.arange(side) >= 32)
    alpha = torch.zeros(1, 1, side, side)
    alpha[..., 30:36] = 0.5
    expected = (5 * g**2 + (g + h) ** 2) / (6 * g**2)
    assert float(seam(step, x, alpha)) == pytest.approx(expected, rel=1e-3)
    alpha[..., 30:36] = 1
    assert float(seam(step, x, alpha)) == 0.0  # inside the mask nothing is a border


def test_detail_ratio_is_that_of_amplitudes() -> None:
    fine = 0.1 * (-1.0) ** torch.arange(96).expand(1, 3, 96, 96)
    assert float(detail_ratio(0.5 + 0.5 * fine, 0.5 + fine)) == pytest.approx(0.5, rel=1e-4)


def test_tof_is_the_difference_of_motions() -> None:
    wide = (texture(96, 140) * 255).astype(np.uint8)
    seen = [np.ascontiguousarray(wide[:, 8 + s : 104 + s]) for s in (0, 1, 3)]
    still, one, three = (seen[0], seen[0]), (seen[0], seen[1]), (seen[0], seen[2])
    assert motion_difference(one, one) == 0.0
    assert motion_difference(one, still) == pytest.approx(1.0, abs=0.15)
    assert motion_difference(three, one) == pytest.approx(2.0, abs=0.3)


def test_landmark_errors() -> None:
    truth = np.zeros((2, 5, 2), np.float32)
    moved = truth + np.array([3.0, 4.0], np.float32)
    assert landmark_error(moved[0], truth[0]) == pytest.approx(5.0)
    assert landmark_motion_error(moved, truth, 50.0) == 0.0  # always the same error of place
    moved[1] += np.array([0.0, 2.0], np.float32)
    assert landmark_motion_error(moved, truth, 50.0) == pytest.approx(100 * 2 / 50)


def test_smoothing_keeps_even_bends_and_takes_away_shaking() -> None:
    even = np.tile(np.array([[0.3, -0.2]], np.float32), (13, 5, 1))
    assert np.allclose(steadied(even), even[0], atol=1e-6)
    shaking = even * ((-1.0) ** np.arange(13))[:, None, None]
    assert np.abs(steadied(shaking)).max() < 0.01 * np.abs(even).max()


# -- adding up -----------------------------------------------------------------------------------------------------


def test_moments_are_those_of_the_numbers() -> None:
    values = np.random.default_rng(0).normal(3, 2, 500)
    moments = Moments()
    for value in [*values, math.nan, math.inf]:
        moments.add(value)
    assert (moments.count, moments.mean, moments.std) == pytest.approx((500, values.mean(), values.std()))


@pytest.mark.parametrize("count", [1, 7, 240, 241, 10_000])
def test_a_curve_stays_short_and_keeps_the_mean(count: int) -> None:
    series = Series()
    values = np.sin(np.arange(count) / 50)
    for i, value in enumerate(values):
        series.add(i, i / 25, float(value))
    curve = series.curve()
    assert min(count, 120) <= len(curve) <= 240
    assert [t for t, _ in curve] == sorted(t for t, _ in curve)
    assert series.moments.mean == pytest.approx(values.mean())
    ramp = np.array(curve)
    assert np.allclose(ramp[:, 1], np.sin(ramp[:, 0] / 2), atol=0.1)


@pytest.mark.parametrize("count", [1, 6, 7, 100, 999])
def test_a_few_of_many_are_evenly_spread(count: int) -> None:
    made: list[int] = []

    def make(i: int) -> int:
        made.append(i)
        return i

    few = Spread[int](6)
    for i in range(count):
        few.offer(partial(make, i))
    assert min(count, 3) <= len(few.items) <= 6
    assert len(made) <= 6 + 4 * math.log2(count + 1)  # what is not kept is seldom made
    assert len(set(np.diff(few.items).tolist())) <= 1


# -- perceptual distances --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", list(perceptual.BACKBONES))
def test_distances_are_there_once_their_networks_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the backbone's file in place, whatever it has learnt: 0 for the same picture, more for another."""
    import torchvision

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    found, missing = perceptual.distances()
    assert not found and len(missing) == 2 and all("torchvision.models" in line for line in missing)
    model = perceptual.BACKBONES[name][0]
    line = next(line for line in missing if model in line)
    file = Path(line.split(": ")[1].split(" is not there")[0])
    torch.manual_seed(0)
    file.parent.mkdir(parents=True)
    torch.save(getattr(torchvision.models, model)().state_dict(), file)
    found, missing = perceptual.distances()
    file.unlink()  # half a gigabyte
    assert list(found) == [name] and len(missing) == 1
    x = torch.from_numpy(texture(128, 128)).permute(2, 0, 1)[None]
    other = torch.from_numpy(texture(128, 128, 1)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        same, far = found[name](torch.cat([x, x]), torch.cat([x, other])).tolist()
    assert same == pytest.approx(0, abs=1e-5) and far > 1e-3
