"""The times at which the prior is asked, and what few of them cost."""

from __future__ import annotations

import itertools

import pytest
import torch
from flipnets import noise

from vidrestore_plugins.restore.flipnet.schedule import Spacing, abar, denoised, diffused, sample, times


def test_levels_are_stable_diffusions() -> None:
    known = {0: 0.99915, 99: 0.89546, 249: 0.67543, 499: 0.27767, 749: 0.05662, 999: 0.00466}
    assert {t: round(float(abar()[t]), 5) for t in known} == known


def test_quadratic_times_fall_ever_slower() -> None:
    found = times(20)
    assert found[0] == 999 and len(found) == 20 and found == sorted(set(found), reverse=True)
    steps = [a - b for a, b in itertools.pairwise(found)]
    assert steps == sorted(steps, reverse=True)
    assert times(4) == [999, 562, 250, 62]
    assert times(4, 499) == [499, 281, 125, 31]


def test_times_that_fall_together_are_asked_once() -> None:
    found = times(50, 30)
    assert found == sorted(set(found), reverse=True) and len(found) < 50


def test_lambda_times_are_even_in_signal_to_noise() -> None:
    found = times(4, spacing="lambda")
    assert (found[0], found[-1]) == (999, 0)
    level = (abar() / (1 - abar())).log() / 2
    gaps = level[found].diff()
    assert float(gaps.std() / gaps.mean()) < 0.02


def test_noise_is_added_and_taken_away() -> None:
    z0, eps, t = noise(3, 4, 8, 8), noise(3, 4, 8, 8, seed=1), torch.tensor([0, 400, 999])
    torch.testing.assert_close(denoised(diffused(z0, t, eps), t, eps), z0, atol=1e-4, rtol=0)
    assert torch.equal(diffused(z0, 400, eps)[1], diffused(z0, t, eps)[1])


@pytest.mark.parametrize(
    ("steps", "spacing", "detail", "whole"),
    [
        (4, "quadratic", 0.70, 0.86),
        (8, "quadratic", 0.92, 0.98),
        (20, "quadratic", 1.00, 1.00),
        (4, "lambda", 0.84, 0.88),
        (8, "lambda", 1.01, 1.03),
    ],
)
def test_spread_of_what_comes_out(steps: int, spacing: Spacing, detail: float, whole: float) -> None:
    """A Gaussian of known spread, whose noise is known exactly: how much of the spread is left after so few steps."""
    for sd, expected in ((0.3, detail), (1.0, whole)):

        def noise_of(z: torch.Tensor, t: int, sd: float = sd) -> torch.Tensor:
            a = abar()[t]
            return z * (1 - a).sqrt() / (a * sd**2 + 1 - a)

        asked = times(steps, spacing=spacing)
        a = abar()[999]
        z = torch.full((1, 1, 1, 1), float((a * sd**2 + 1 - a).sqrt()), dtype=torch.float64)
        with pytest.raises(StopIteration) as end:
            next(sample(noise_of, z, asked))
        assert float(end.value.value) / sd == pytest.approx(expected, abs=0.02)


def test_whoever_drives_it_may_change_what_it_goes_to() -> None:
    asked = times(4)
    walk = sample(lambda z, _t: z / 2, noise(1, 4, 2, 2), asked, show=asked[1:2])
    shown = next(walk)
    with pytest.raises(StopIteration) as left:
        walk.send(shown)
    walk = sample(lambda z, _t: z / 2, noise(1, 4, 2, 2), asked, show=asked[1:2])
    next(walk)
    with pytest.raises(StopIteration) as changed:
        walk.send(shown + 1)
    assert (left.value.value - changed.value.value).abs().min() > 0.1
