"""Template, similarity, display map, warps, smoothing of poses: conventions and closed forms."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from fakes import grey_layout
from hypothesis import given
from hypothesis import strategies as st

from vidrestore.geometry.display import display_matrix
from vidrestore.geometry.steady import FixedLag
from vidrestore.geometry.template import (
    FFHQ_512,
    apply,
    compose,
    fit_similarity,
    inverse,
    matrix_of,
    pose_of,
    template,
    yaw_of,
)
from vidrestore.geometry.warp import covered, warp

FINITE = st.floats(-200, 200)


@given(st.floats(-85, 85), st.floats(0.05, 8), st.floats(-3.1, 3.1))
def test_yaw_is_found_whatever_the_size_and_the_roll(yaw: float, scale: float, roll: float) -> None:
    eyes, turn = 2.0, np.radians(yaw)
    head = np.array([[-1, 0, 0], [1, 0, 0], [0, 1.1, 0.6 * eyes], [-0.8, 2.1, 0], [0.8, 2.1, 0]])  # x, y, towards us
    seen = np.stack([head[:, 0] * np.cos(turn) + head[:, 2] * np.sin(turn), head[:, 1]], 1)
    rolled = scale * seen @ np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]]) + 40
    assert yaw_of(rolled[None].astype(np.float32))[0] == pytest.approx(abs(yaw), abs=0.05)


def test_the_template_looks_straight_ahead() -> None:
    assert yaw_of(FFHQ_512[None].astype(np.float32))[0] < 1


@given(FINITE, FINITE, st.floats(0.05, 8), st.floats(-3.1, 3.1))
def test_a_similarity_is_found_exactly(x: float, y: float, scale: float, turn: float) -> None:
    truth = np.array(
        [[scale * np.cos(turn), -scale * np.sin(turn), x], [scale * np.sin(turn), scale * np.cos(turn), y]]
    )
    landmarks = apply(inverse(truth), FFHQ_512)
    found = fit_similarity(landmarks[None], FFHQ_512)[0]
    np.testing.assert_allclose(apply(found, landmarks), FFHQ_512, atol=1e-6)


def test_fit_is_the_least_squares_one_without_reflection() -> None:
    rng = np.random.default_rng(1)
    points = (FFHQ_512 + rng.normal(0, 12, (5, 2))).astype(np.float32)
    best = fit_similarity(points[None], FFHQ_512)[0]
    error = np.square(apply(best, points) - FFHQ_512).sum()
    for _ in range(200):
        pose = pose_of(best[None], 512) + rng.normal(0, [0.5, 0.5, 0.005, 0.005])
        other = matrix_of(pose, 512)[0]
        assert np.square(apply(other, points) - FFHQ_512).sum() >= error
    mirrored = points * [-1, 1]
    assert np.linalg.det(fit_similarity(mirrored[None], FFHQ_512)[0][:, :2]) > 0


def test_fit_against_an_independent_implementation() -> None:
    from skimage.transform import SimilarityTransform

    rng = np.random.default_rng(3)
    points = (template(256) * 0.4 + [200, 90] + rng.normal(0, 1.5, (5, 2))).astype(np.float32)
    theirs = SimilarityTransform.from_estimate(points, template(256)).params[:2]
    np.testing.assert_allclose(fit_similarity(points[None], template(256))[0], theirs, atol=1e-4)


@given(FINITE, FINITE, st.floats(-2, 2), st.floats(-3, 3))
def test_poses_and_matrices_are_two_forms_of_one_thing(x: float, y: float, size: float, turn: float) -> None:
    pose = np.array([[x, y, size, turn]])
    np.testing.assert_allclose(pose_of(matrix_of(pose, 512), 512), pose, atol=1e-9)


def test_convention_turns_and_mirrors() -> None:
    """The corner pixels of a 6 x 4 picture land where a viewer sees them."""
    cases: dict[tuple[int, ...], tuple[list[int], list[int]]] = {
        (1, 0, 0, 1): ([0, 0], [5, 3]),
        (0, -1, 1, 0): ([3, 0], [0, 5]),  # a quarter turn clockwise: the first sample goes to the top right
        (0, 1, -1, 0): ([0, 5], [3, 0]),
        (-1, 0, 0, -1): ([5, 3], [0, 0]),
        (-1, 0, 0, 1): ([5, 0], [0, 3]),  # mirrored
        (0, 1, 1, 0): ([0, 0], [3, 5]),  # turned and mirrored
    }
    for turn, (first, last) in cases.items():
        matrix = display_matrix(grey_layout(6, 4, turn=turn))
        np.testing.assert_allclose(apply(matrix, np.array([0.0, 0.0])), first)
        np.testing.assert_allclose(apply(matrix, np.array([5.0, 3.0])), last)


def test_convention_display_agrees_with_the_thumbnail() -> None:
    from vidrestore.media.planes import thumbnail
    from vidrestore.types import Frame

    for turn in [
        (1, 0, 0, 1),
        (0, -1, 1, 0),
        (0, 1, -1, 0),
        (-1, 0, 0, -1),
        (-1, 0, 0, 1),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ]:
        for sar in (Fraction(1), Fraction(16, 11), Fraction(1, 2)):
            layout = grey_layout(96, 64, turn=turn, sar=sar)
            plane = np.zeros((64, 96), np.uint8)
            plane[20:24, 60:64] = 255  # a dot around (61.5, 21.5)
            small = thumbnail(Frame((plane,), layout, 0, 1, Fraction(1, 25), 0), 400)
            y, x = np.mgrid[: small.image.shape[0], : small.image.shape[1]]
            weight = small.image[:, :, 0].astype(float)
            centre = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
            seen = small.to_display(centre.astype(np.float32))
            np.testing.assert_allclose(seen, apply(display_matrix(layout), np.array([61.5, 21.5])), atol=0.3)


def test_sar_stretches_the_short_axis() -> None:
    matrix = display_matrix(grey_layout(100, 50, sar=Fraction(2)))
    np.testing.assert_allclose(apply(matrix, np.array([-0.5, -0.5])), [-0.5, -0.5])
    np.testing.assert_allclose(apply(matrix, np.array([99.5, 49.5])), [199.5, 49.5])


def smooth_picture(h: int, w: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing="ij")
    return torch.stack([0.5 + 0.3 * torch.sin(x / 9), 0.5 + 0.3 * torch.cos(y / 7), (x + y) / (h + w)])


def test_warp_reads_the_pixel_that_the_matrix_names() -> None:
    picture = smooth_picture(60, 80)
    shift = np.array([[1.0, 0, -10], [0, 1.0, -20]])
    torch.testing.assert_close(warp(picture, shift, (30, 40), "zeros"), picture[:, 20:50, 10:50], atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.35, 0.5, 0.9, 1.6, 4.0])
def test_there_and_back_again(scale: float) -> None:
    """A crop of a smooth picture, pasted back, is the picture, whatever the scale and turn."""
    picture = smooth_picture(200, 240)
    a, b = scale * np.cos(0.3), scale * np.sin(0.3)
    size = int(120 * scale)
    matrix = np.array([[a, -b, 0], [b, a, 0]])
    matrix[:, 2] = size / 2 - matrix[:, :2] @ [120, 100]
    back = warp(warp(picture, matrix, (size, size), "reflection"), inverse(matrix), (200, 240), "zeros")
    assert float((back - picture)[:, 80:120, 100:140].abs().max()) < 0.02


def test_shrinking_does_not_alias() -> None:
    stripes = torch.zeros(1, 128, 128)
    stripes[:, :, ::2] = 1.0
    small = warp(stripes, np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]]), (32, 32), "reflection")
    assert float((small - 0.5).abs().max()) < 1e-4


def test_a_crop_beyond_the_border_mirrors_for_the_model() -> None:
    picture = smooth_picture(50, 50)
    crop = warp(picture, np.array([[1.0, 0, 10], [0, 1.0, 10]]), (70, 70), "reflection")
    torch.testing.assert_close(crop[:, 10, :10], picture[:, 0, 1:11].flip(-1), atol=1e-4, rtol=0)


@given(st.floats(-50, 250), st.floats(-50, 250), st.floats(0.2, 3))
def test_covered_stays_inside_the_picture(x: float, y: float, scale: float) -> None:
    matrix = np.array([[scale, 0, -scale * x], [0, scale, -scale * y]])
    x0, y0, x1, y1 = covered(matrix, (0, 0, 63, 63), 120, 200)
    assert x0 >= 0 and y0 >= 0 and x1 <= 199 and y1 <= 119


STEADY = FixedLag(0.05, 0.005, 6)


def run(
    filter_: FixedLag, x: np.ndarray, rate: float = 25.0, chunks: tuple[int, ...] = (), seen: Any = None
) -> np.ndarray:
    t = np.arange(len(x)) / rate
    seen = np.ones(len(x), bool) if seen is None else seen
    out, state, at = [], None, 0
    for n in [*chunks, len(x) - sum(chunks)]:
        end = min(len(x), at + n + filter_.lookahead)
        y, state = filter_.smooth(x[at:end, None], t[at:end], seen[at:end], n, state)
        out.append(y[:, 0])
        at += n
    return np.concatenate(out)


def test_the_smoother_is_the_least_squares_path() -> None:
    """With all of the future in sight it is the path that minimises the sum of its squared pushes and misses."""
    x = np.random.default_rng(1).normal(0, 0.01, 12)
    T, push, noise = 0.04, 0.05, 0.005
    Q = push * np.array([[T**3 / 3, T**2 / 2], [T**2 / 2, T]])
    rows, values = [], []
    for i in range(12):  # unknowns: position and velocity of every frame
        row = np.zeros(24)
        row[2 * i] = 1 / noise
        rows.append(row)
        values.append(x[i] / noise)
    whiten = np.linalg.inv(np.linalg.cholesky(Q))
    for i in range(11):
        block = np.zeros((2, 24))
        block[:, 2 * i : 2 * i + 2] = -whiten @ np.array([[1, T], [0, 1]])
        block[:, 2 * i + 2 : 2 * i + 4] = whiten
        rows += list(block)
        values += [0.0, 0.0]
    first = np.zeros((2, 24))  # what is believed before the first sighting: there, with any velocity about 0
    first[0, 0], first[1, 1] = 1 / noise, 1.0
    rows += list(first)
    values += [x[0] / noise, 0.0]
    best = np.linalg.lstsq(np.stack(rows), np.array(values), rcond=None)[0][::2]
    np.testing.assert_allclose(run(FixedLag(push, noise, 20), x), best, atol=1e-8)


def test_a_constant_is_reproduced_and_a_ramp_has_no_lag() -> None:
    np.testing.assert_allclose(run(STEADY, np.full(50, 3.0)), 3.0)
    ramp = np.arange(120) * 0.01
    assert np.abs(run(STEADY, ramp) - ramp)[10:].max() < 1e-4


def test_noise_is_smoothed_and_sway_is_followed() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.005, 400)
    shake = np.abs(np.diff(run(STEADY, noise), 2)).mean() / np.abs(np.diff(noise, 2)).mean()
    assert shake < 0.06
    t = np.arange(400) / 25
    sway = 0.15 * np.sin(2 * np.pi * 0.7 * t)
    error = np.sqrt(np.mean((run(STEADY, sway + noise) - sway)[20:-20] ** 2))
    assert error < 0.003


def test_what_was_filled_in_counts_less_than_what_was_seen() -> None:
    """Every second frame is a guess that is off by two hundredths."""
    sway = 0.15 * np.sin(2 * np.pi * 0.5 * np.arange(200) / 25)
    seen = np.arange(200) % 2 == 0
    given = np.where(seen, sway, sway + 0.02)

    def error(believed: np.ndarray) -> float:
        return float(np.abs(run(STEADY, given, seen=believed) - sway)[20:-20].mean())

    assert error(seen) < 0.3 * error(np.ones(200, bool))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_chunks_change_nothing(chunks: Any) -> None:
    x = np.cumsum(np.random.default_rng(2).normal(0, 0.01, 100))
    np.testing.assert_array_equal(run(STEADY, x, chunks=tuple(chunks)), run(STEADY, x))


def test_composition_applies_the_inner_map_first() -> None:
    outer, inner = np.array([[2.0, 0, 1], [0, 2, 0]]), np.array([[0.0, -1, 0], [1, 0, 5]])
    point = np.array([3.0, 4.0])
    np.testing.assert_allclose(apply(compose(outer, inner), point), apply(outer, apply(inner, point)))
