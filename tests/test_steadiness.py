"""What steadiness is measured with, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from vidrestore.quality.steadiness import identity_motion, jitter


def test_one_identity_does_not_move() -> None:
    one = np.tile(np.array([[0.6, 0.8]], np.float32), (5, 1))
    assert identity_motion(one) == 0.0


def test_identity_moves_by_the_chord() -> None:
    """Unit vectors 60 degrees apart lie 1 apart."""
    angle = np.pi / 3 * np.arange(4)
    turning = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    assert identity_motion(turning) == pytest.approx(1.0, abs=1e-6)


def test_even_motion_is_no_jitter() -> None:
    t = np.arange(9, dtype=np.float32)[:, None, None]
    points = np.concatenate([3 * t, -t], 2).repeat(5, 1)
    assert jitter(points, 50.0) == pytest.approx(0.0, abs=1e-5)


def test_jitter_of_a_swing_is_its_second_difference() -> None:
    """p = +-d from frame to frame bends by 4 d each time."""
    t = np.arange(12)
    points = np.zeros((12, 5, 2), np.float32)
    points[..., 0] = (0.5 * (-1.0) ** t)[:, None]
    assert jitter(points, 40.0) == pytest.approx(100 * 4 * 0.5 / 40)
