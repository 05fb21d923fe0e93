"""Smaller parts of the engine: noise, memory, evidence, composite, scenes, threads."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from fakes import film, grey_layout
from hypothesis import given
from hypothesis import strategies as st

from vidrestore.engine.composite import changed
from vidrestore.engine.evidence import evidence, small_grey
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.noise import TrackKey, keyed_noise
from vidrestore.engine.scenes import shots, windows
from vidrestore.engine.threads import _Queue, in_thread
from vidrestore.types import Frame, Patch

KEY = TrackKey(0, 3, 0)


def test_noise_golden() -> None:
    """NumPy 2 Philox, standard_normal in float32; one key, 14 x 512 values."""
    x = keyed_noise(7, KEY, "w_T", (14, 512))
    assert x.dtype == torch.float32
    assert float(x.mean()) == pytest.approx(0.0, abs=0.03) and float(x.std()) == pytest.approx(1.0, abs=0.02)
    assert x[0, :3].tolist() == pytest.approx([1.25232, 1.19178, -1.11399], abs=1e-3)


def test_noise_depends_on_every_part_of_its_key() -> None:
    base = keyed_noise(7, KEY, "z", (64,))
    others = [
        keyed_noise(8, KEY, "z", (64,)), keyed_noise(7, TrackKey(1, 3, 0), "z", (64,)),
        keyed_noise(7, TrackKey(0, 4, 0), "z", (64,)), keyed_noise(7, TrackKey(0, 3, 1), "z", (64,)),
        keyed_noise(7, KEY, "y", (64,)), keyed_noise(7, KEY, "z", (64,), frame=3),
    ]  # fmt: skip
    assert torch.equal(base, keyed_noise(7, KEY, "z", (64,)))
    assert all(abs(float(torch.corrcoef(torch.stack([base, o]))[0, 1])) < 0.4 for o in others)
    assert len({tuple(o.tolist()) for o in [base, *others]}) == 7


def test_layers_read_through_and_join_in_order() -> None:
    base = Memory({("a", 1): 1})
    first = Layer(base)
    second = Layer(first)
    first.set(("a", 1), 2)
    second.set(("b", 1), 5)
    assert (second.get(("a", 1)), second.get(("b", 1)), first.get(("b", 1)), base.get(("a", 1))) == (2, 5, None, 1)
    with pytest.raises(RuntimeError, match="in front"):
        second.leave()
    first.leave()
    assert base.get(("a", 1)) == 2 and base.get(("b", 1)) is None
    assert second.get(("a", 1)) == 2
    second.leave()
    assert base.get(("b", 1)) == 5


def picture(seed: int, noise: float) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(256).float(), torch.arange(256).float(), indexing="ij")
    base = 0.5 + 0.2 * torch.sin(x / 13) * torch.cos(y / 17)
    generator = torch.Generator().manual_seed(seed)
    return (base + noise * torch.randn(3, 256, 256, generator=generator))[None]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.06])
def test_evidence_does_not_see_grain(noise: float) -> None:
    maps = evidence(small_grey(picture(1, noise)), small_grey(picture(2, noise)))
    assert maps.shape == (1, 32, 32) and float(maps.mean()) < 0.02


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_evidence_sees_a_blink_where_it_is(noise: float) -> None:
    before, now = picture(1, noise), picture(2, noise)
    now[:, :, 96:112, 64:112] -= 0.3
    maps = evidence(small_grey(now), small_grey(before))[0]
    assert float(maps[12:14, 8:14].min()) > 0.9
    maps[11:15, 7:15] = 0
    assert float(maps.mean()) < 0.02


def patch(x0: int, y0: int, value: float, alpha: float, size: int = 20) -> Patch:
    a = torch.full((size, size), alpha)
    return Patch(0, 0, x0, y0, torch.full((3, size, size), value) * a, a)


def grey(value: int = 100) -> Frame:
    plane = np.full((64, 96), value, np.uint8)
    return Frame((plane,), grey_layout(96, 64), 0, 1, Fraction(1, 25), 0)


def test_patches_add_and_leave_the_rest() -> None:
    source = grey()
    out = changed(source, [patch(10, 8, 20 / 255, 1.0), patch(60, 30, -20 / 255, 0.5)])
    assert int(out.planes[0][15, 15]) == 120 and int(out.planes[0][40, 70]) == 90
    rest = np.array(out.planes[0])
    rest[8:28, 10:30] = rest[30:50, 60:80] = 100
    assert (rest == 100).all()
    assert (source.planes[0] == 100).all(), "the frame that was given stays"


def test_overlapping_patches_do_not_add_up() -> None:
    out = changed(grey(), [patch(10, 8, 20 / 255, 1.0), patch(10, 8, 20 / 255, 1.0)])
    assert int(out.planes[0][15, 15]) == 120


def cut_film(n: int, at: tuple[int, ...]) -> list[Frame]:
    """Frames whose whole look changes at each cut."""
    rng = np.random.default_rng(0)
    looks = [rng.integers(0, 256, (6, 8)) for _ in range(len(at) + 1)]
    found = []
    for i in range(n):
        look = looks[sum(i >= c for c in at)]
        plane = np.kron(look, np.ones((20, 20))) + rng.normal(0, 2, (120, 160)) + 3 * np.sin(i / 3)
        found.append(Frame((plane.clip(0, 255).astype(np.uint8),), grey_layout(160, 120), i, 1, Fraction(1, 25), i))
    return found


def test_cuts_are_found_where_they_are() -> None:
    flagged = list(shots(cut_film(90, (20, 47, 70))))
    assert [f.index for f, cut in flagged if cut] == [0, 20, 47, 70]
    assert [f.index for f, _ in flagged] == list(range(90))


def test_known_cuts_are_used_and_a_new_size_always_cuts() -> None:
    flagged = list(shots(film(40, cuts=(13,)), cuts=frozenset({5, 30})))
    assert [f.index for f, cut in flagged if cut] == [0, 5, 13, 30]


def test_one_frame_and_no_frame() -> None:
    (only,) = shots(cut_film(1, ()))
    assert only[1]
    assert list(shots([])) == [] and list(windows([], 16)) == []


@given(st.integers(1, 40), st.integers(1, 120), st.sets(st.integers(1, 119), max_size=5))
def test_windows_tile_every_shot(size: int, n: int, cuts: set[int]) -> None:
    frames = list(film(n, 16, 16))
    found = list(windows(((f, f.index == 0 or f.index in cuts) for f in frames), size))
    assert [f.index for w in found for f in w.frames] == list(range(n))
    for window in found:
        assert len(window.frames) <= size and window.start % size == 0
        assert window.last or len(window.frames) == size
    begins = {w.frames[0].index for w in found if w.start == 0}
    assert begins == {0, *(c for c in cuts if c < n)}


def test_large_pictures_get_shorter_windows() -> None:
    big = [Frame((np.zeros((6000, 9000), np.uint8),), grey_layout(9000, 6000), i, 1, Fraction(1), i) for i in range(9)]
    assert [len(w.frames) for w in windows(((f, f.index == 0) for f in big), 16)] == [4, 4, 1]


class Item:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_a2_076_the_queue_is_bounded_in_bytes() -> None:
    queue: _Queue[Item] = _Queue(300)
    for _ in range(3):
        assert queue.put(Item(100))
    fourth = threading.Thread(target=queue.put, args=(Item(100),))
    fourth.start()
    fourth.join(timeout=0.05)
    assert fourth.is_alive(), "a full queue waits"
    queue.get()
    fourth.join(timeout=5)
    assert not fourth.is_alive()
    queue.close()
    assert not queue.put(Item(1)), "nobody reads any more"


def test_one_item_larger_than_the_budget_still_passes() -> None:
    assert [i.nbytes for i in in_thread(lambda: iter([Item(500), Item(900)]), "t", 300, 1)] == [500, 900]


def test_an_error_arrives_after_the_items_before_it() -> None:
    def make() -> Any:
        yield Item(1)
        raise KeyError("broken")

    stream = in_thread(make, "t", 300, 1)
    assert next(stream).nbytes == 1
    with pytest.raises(KeyError, match="broken"):
        next(stream)
