"""strength=auto: the map from damage, its average over time, and what a run says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrestore.config import resolve
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.record import Record, Strengths
from vidrestore.engine.staging import stages_of
from vidrestore.engine.strength import followed, strength
from vidrestore.types import Damage

if TYPE_CHECKING:
    from pathlib import Path

    from vidrestore.types import FloatArray

MEASURES = st.tuples(st.floats(0, 4), st.floats(0, 0.1), st.floats(0, 0.1))


def one(resolution: float, noise: float, coding: float) -> float:
    return float(strength(np.array([[np.log2(resolution), noise / 255, coding / 255]]))[0])


def test_sound_faces_are_left_exactly_and_damaged_ones_get_all() -> None:
    assert one(1.0, 0.0, 0.0) == one(1.19, 1.4, 2.9) == 0.0
    assert one(1.61, 0.0, 0.0) == one(1.0, 3.51, 0.0) == one(1.0, 0.0, 5.01) == 1.0
    assert 0.3 < one(1.39, 0.0, 0.0) < 0.7


@given(MEASURES, MEASURES)
def test_more_damage_never_means_less(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    less, more = np.minimum(a, b), np.maximum(a, b)
    assert 0 <= strength(less[None])[0] <= strength(more[None])[0] <= 1


def noisy(sigmas: FloatArray) -> Damage:
    return Damage(np.ones_like(sigmas), sigmas, np.zeros_like(sigmas))


def through(sigmas: FloatArray, times: np.ndarray, cuts: tuple[int, ...] = ()) -> FloatArray:
    """Strengths of one track whose frames come in pieces."""
    layer = Layer(Memory())
    pieces = np.split(np.arange(len(times)), cuts)
    return np.concatenate([followed(noisy(sigmas[p]), np.zeros(len(p), np.int64), times[p], layer) for p in pieces])


@pytest.mark.parametrize("rate", [12.5, 25.0, 60.0])
def test_it_follows_seconds_not_frames(rate: float) -> None:
    """Noise begins after four seconds; half a second later 1 - 1/e of it is believed."""
    times = np.arange(round(6 * rate)) / rate
    found = through(np.where(times < 4, 0, 3.4 / 255).astype(np.float32), times)
    reached = float(np.interp(4.5, times + 1 / rate, found))
    x = (3.4 * (1 - np.exp(-1)) - 1.5) / 2
    assert reached == pytest.approx(x * x * (3 - 2 * x), abs=0.03)
    assert found[times < 4].max() == 0.0 and (np.diff(found) >= 0).all()


def test_one_bad_frame_in_a_sound_shot_changes_nothing() -> None:
    sigmas = np.full(50, 0.5 / 255, np.float32)
    sigmas[25] = 8 / 255
    assert not through(sigmas, np.arange(50) / 25).any()


@given(st.sets(st.integers(1, 39), max_size=6))
def test_pieces_give_the_bits_of_the_whole(cuts: set[int]) -> None:
    sigmas = (3 + 2 * np.sin(np.arange(40) / 3)).astype(np.float32) / 255
    times = np.cumsum(np.tile([0.033, 0.05], 20))
    assert np.array_equal(through(sigmas, times), through(sigmas, times, tuple(sorted(cuts))))


def test_tracks_do_not_see_one_another() -> None:
    tracks, times = np.array([3, 3, 8, 8]), np.array([0.0, 0.04, 0.0, 0.04])
    found = followed(noisy(np.array([0, 0, 9, 9], np.float32) / 255), tracks, times, Layer(Memory()))
    assert found.tolist() == [0, 0, 1, 1]


def test_damage_checks_itself() -> None:
    ones = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"Damage\.resolution must be >= 1"):
        Damage(ones / 2, ones, ones)
    with pytest.raises(ValueError, match=r"Damage\.noise must be >= 0"):
        Damage(ones, np.array([0, np.nan], np.float32), ones)
    with pytest.raises(ValueError, match=r"Damage\.coding must be float32 \[2\]"):
        Damage(ones, ones, ones[:1])


def test_the_record_says_how_many_faces_were_left_alone() -> None:
    seen = Strengths()
    assert seen.as_dict() is None
    seen.see(np.array([0, 0, 0.5], np.float32))
    seen.see(np.array([1], np.float32))
    assert seen.as_dict() == {"untouched": 0.5, "mean": 0.375}


def test_a_fixed_strength_asks_nobody(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        "from pydantic import BaseModel\nclass O(BaseModel): ...\nclass Broken:\n    Options = O\n"
        "    def __init__(self, options): ...\n    def open(self, device): raise OSError('opened')\n"
        "    def assess(self, crops): ...\n"
    )

    def opened(strength: str) -> None:
        chain = f"assess={file}:Broken,restore=none,blend=none:strength={strength}"
        config = resolve(chain=chain, environment={}, settings={"device": "cpu", "threads": 1})
        stages_of(config, Record("a", "b", config))

    opened("0.5")
    with pytest.raises(OSError, match="opened"):
        opened("auto")
