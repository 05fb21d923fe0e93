"""The dictionary: how its codes are learnt, and how they hold over time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from nano import drawn
from torch import Tensor

from vidrestore_plugins.restore.ldbfr.quantise import Codebook, Held, RunningMeans, held


def book_of(codes: list[list[float]], *, unit: bool) -> Codebook:
    book = Codebook(len(codes), len(codes[0]), unit=unit)
    book.embedding.weight.data.copy_(torch.tensor(codes))
    return book


def grid(*features: list[float]) -> Tensor:
    """Features as a map [1, d, 1, n]."""
    return torch.tensor(features).T[None, :, None]


def firsts(n: int, count: int) -> Tensor:
    return torch.arange(count) % n


def test_features_of_any_length_are_compared_on_the_sphere() -> None:
    book = book_of([[1.0, 0], [0, 1], [-1, 0]], unit=True)
    h = book.compared(grid([0.02, 0.01], [3, 9], [-50, 49]))
    torch.testing.assert_close(h.norm(dim=1), torch.ones(1, 1, 3))
    assert book.nearest(h).tolist() == [[0, 1, 2]]
    torch.testing.assert_close(book.distances(h), 2 - 2 * h[0, :, 0].T[None] @ book.embedding.weight.T)


def test_the_gradient_goes_straight_through() -> None:
    book = Codebook(20, 4, unit=True)
    h = book.compared(drawn(2, 4, 3, 3)).requires_grad_()
    q, codes = book(h)
    assert torch.allclose(q, book.look_up(codes, 3, 3), atol=1e-6)
    weight = drawn(2, 4, 3, 3, seed=2)
    (q * weight).sum().backward()
    assert h.grad is not None and torch.equal(h.grad, weight)
    assert book.embedding.weight.grad is None


def test_own_codes_are_frozen_and_published_ones_learn_by_gradient() -> None:
    assert not Codebook(8, 4, unit=True).embedding.weight.requires_grad
    assert Codebook(8, 4, unit=False).embedding.weight.requires_grad


def test_a_code_moves_to_the_mean_of_what_chose_it() -> None:
    book = book_of([[1.0, 0], [0, 1]], unit=False)
    means = RunningMeans(book, decay=0.5, unused=0.0)
    h = grid([2.0, 0.2], [2, -0.1], [1, 0.2], [0.1, 3])
    for _ in range(60):
        means.update(h, book.nearest(h), firsts)
    torch.testing.assert_close(book.embedding.weight, torch.tensor([[5 / 3, 0.1], [0.1, 3]]))
    torch.testing.assert_close(means.counts, torch.tensor([3.0, 1]))


def test_one_update_weighs_old_and_new_by_the_decay() -> None:
    book = book_of([[1.0, 0], [0, 1]], unit=False)
    means = RunningMeans(book, decay=0.9, unused=0.0)
    means.update(grid([3.0, 1.0]), torch.tensor([[0]]), firsts)
    # counts 0.1 before: 0.09 of the old code, 0.1 of the new feature
    torch.testing.assert_close(book.embedding.weight[0], torch.tensor([0.09 + 0.3, 0.1]) / 0.19)
    torch.testing.assert_close(book.embedding.weight[1], torch.tensor([0.0, 1.0]))


def test_unit_codes_stay_on_the_sphere() -> None:
    book = Codebook(32, 8, unit=True)
    means = RunningMeans(book)
    for step in range(5):
        h = book.compared(drawn(2, 8, 6, 6, seed=step))
        means.update(h, book.nearest(h), firsts)
    torch.testing.assert_close(book.embedding.weight.norm(dim=1), torch.ones(32))


def test_codes_that_nobody_chooses_come_alive() -> None:
    """Features lie in one corner; of 64 codes all over the sphere few are nearest there."""
    book = Codebook(64, 8, unit=True)
    means = RunningMeans(book)
    gen = torch.Generator().manual_seed(0)
    used, revived = [], []
    for step in range(80):
        h = book.compared(drawn(2, 8, 16, 16, seed=step) + 6 * F.one_hot(torch.tensor(0), 8)[None, :, None, None])
        codes = book.nearest(h)
        used.append(len(codes.unique()))
        revived.append(means.update(h, codes, lambda n, count: torch.randint(n, (count,), generator=gen)))
    assert used[0] < 16 and not any(revived[:20])  # nobody is replaced at once
    assert sum(revived) > 30
    assert used[-1] > 56


def test_a_revived_code_is_a_feature_of_the_batch() -> None:
    book = book_of([[1.0, 0], [0, 1], [0, -1]], unit=False)
    means = RunningMeans(book, decay=0.98, unused=0.05)
    means.counts[2] = 0.01
    count = means.update(grid([1.0, 0.5], [0.5, 2]), torch.tensor([[0, 1]]), lambda n, count: torch.tensor([1]))
    assert count == 1
    assert book.embedding.weight[2].tolist() == [0.5, 2.0]
    assert means.counts[2] == 1


def script(*frames: list[float], eta: float = 0.15, kappa: float = 0.0, dwell: int = 2) -> list[int]:
    """The codes of one position through frames of distances to all codes."""
    before: Held | None = None
    found = []
    for distances in frames:
        before = held(torch.tensor([distances]), before, eta, kappa, dwell)
        found.append(int(before.codes))
    return found


def test_a_code_is_kept_within_its_slack() -> None:
    assert script([1.0, 1.2], [1.14, 1.0], [1.1, 1.0], [1.14, 1.0]) == [0, 0, 0, 0]
    assert script([1.0, 1.2], [1.14, 1.0], eta=0.0, dwell=1) == [0, 1]
    assert script([1.0, 1.2], [1.2, 1.0], [1.2, 1.0], kappa=0.06) == [0, 0, 0]  # 1.15 + 0.06 of the median


def test_a_clear_change_switches_at_once() -> None:
    assert script([1.0, 1.5], [1.31, 1.0], [1.31, 1.0]) == [0, 1, 1]
    assert script([1.0, 1.5], [1.31, 1.0], dwell=9) == [0, 1]


def test_a_doubtful_change_must_win_some_frames_in_a_row() -> None:
    doubtful = [1.2, 1.0]
    assert script([1.0, 1.2], doubtful, doubtful) == [0, 0, 1]
    assert script([1.0, 1.2], doubtful, [1.0, 1.2], doubtful, doubtful) == [0, 0, 0, 0, 1]
    assert script([1.0, 1.2], doubtful, doubtful, doubtful, dwell=3) == [0, 0, 0, 1]
    assert script([1.0, 2, 2], [1.2, 1.0, 2], [1.2, 2, 1.0], [1.2, 2, 1.0]) == [0, 0, 0, 2]  # a third one begins anew


def test_positions_are_decided_apart() -> None:
    first = held(torch.tensor([[1.0, 2], [2, 1]]), None, 0.15, 0.02, 2)
    assert first.codes.tolist() == [0, 1]
    then = held(torch.tensor([[2.0, 1], [2, 1]]), first, 0.15, 0.02, 2)
    assert then.codes.tolist() == [1, 1] and then.streak.tolist() == [1, 2]


@pytest.mark.parametrize("noise", [0.2, 0.4])
def test_codes_of_a_still_face_stop_flickering(noise: float) -> None:
    """1,024 positions whose feature lies between two codes, with fresh noise in every frame."""
    gen = torch.Generator().manual_seed(2)
    book = Codebook(512, 64, unit=True)
    pairs = torch.randint(512, (2, 1024), generator=gen)
    shares = 0.5 + 0.1 * torch.rand(1024, 1, generator=gen)
    clean = F.normalize(
        shares * book.embedding.weight[pairs[0]] + (1 - shares) * book.embedding.weight[pairs[1]], dim=1
    )
    before: Held | None = None
    plain: list[Tensor] = []
    steady: list[Tensor] = []
    gaps = []
    for _ in range(20):
        seen = F.normalize(clean + noise / 8 * torch.randn(clean.shape, generator=gen), dim=1)
        distances = book.distances(seen.T[None, :, None])[0]
        before = held(distances, before, 0.15, 0.02, 2)
        plain.append(distances.argmin(1))
        steady.append(before.codes)
        gaps.append([(clean - book.embedding.weight[c]).norm(dim=1).mean() for c in (plain[-1], steady[-1])])
    flips = [torch.stack([a != b for a, b in pairwise(codes)]).float().mean() for codes in (plain, steady)]
    assert flips[0] > 0.02
    assert 5 * flips[1] <= flips[0]
    nearest, kept = torch.tensor(gaps).mean(0).tolist()
    assert kept < 1.05 * nearest, "what is kept is as near to the face as what is nearest"
