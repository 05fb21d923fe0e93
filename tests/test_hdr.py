"""HDR light seen as SDR, and changes carried back: what the standards say, and what must hold everywhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_pictures import stored

from vidrestore.media.hdr import HLG, PQ, carried, to_sdr
from vidrestore.types import Layout

WHITE = {PQ: 0.5807, HLG: 0.75}  # signals of 203 cd/m2 (BT.2408-7, table 1)
SIGNALS = st.integers(0, 2**32 - 1)


def layout(transfer: int, primaries: int = 9) -> Layout:
    import numpy as np

    return stored(np.zeros((2, 2, 3)), bits=10, transfer=transfer, primaries=primaries, matrix="bt2020")[0].layout


def grey(values: torch.Tensor) -> torch.Tensor:
    return values.expand(3, 1, -1)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a2_36_37_diffuse_white_is_nearly_white(transfer: int) -> None:
    """White stands at 0.8 of the curve's light: 0.91 coded for a display, 0.89 for a scene; grey stays grey."""
    shown = to_sdr(grey(torch.tensor([WHITE[transfer]])), layout(transfer))[:, 0, 0]
    expected = {PQ: 0.8 ** (1 / 2.4), HLG: 1.099 * 0.8**0.45 - 0.099}[transfer]
    assert shown.tolist() == pytest.approx([expected] * 3, abs=2e-3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_curve_rises_and_stays_below_one(transfer: int) -> None:
    shown = to_sdr(grey(torch.linspace(0, 1, 1024)), layout(transfer))[1, 0]
    assert bool((shown.diff() >= 0).all()) and bool((shown[64:].diff() > 0).all())
    assert float(shown.min()) >= 0 and float(shown.max()) < 1


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("primaries", [9, 1])
@given(seed=SIGNALS)
def test_below_the_knee_the_network_gets_what_it_asks_for(transfer: int, primaries: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    film = layout(transfer, primaries)
    rgb = 0.35 + 0.04 * torch.rand(3, 8, 8, generator=random)  # greyish: inside both gamuts
    change = 0.1 * torch.rand(3, 8, 8, generator=random) - 0.02
    new = rgb + carried(rgb, change, film)
    torch.testing.assert_close(to_sdr(new, film), (to_sdr(rgb, film) + change).clamp(0, 1), rtol=0, atol=2e-3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
@given(seed=SIGNALS)
def test_no_change_is_no_difference_and_results_are_signals(transfer: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    film = layout(transfer)
    rgb = 1.3 * torch.rand(3, 8, 8, generator=random) - 0.15  # beyond the range, too
    change = torch.randn(3, 8, 8, generator=random)
    change[:, :, 4:] = 0
    difference = carried(rgb, change, film)
    assert not difference[:, :, 4:].any()
    new = rgb + difference
    assert bool(difference.isfinite().all())
    assert float(new[:, :, :4].min()) >= -1e-6 and float(new[:, :, :4].max()) <= 1 + 1e-6


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_keep_their_ratio(transfer: int) -> None:
    """A highlight that the network darkens by a tenth of SDR's light loses a tenth of its own, not all that the curve
    has compressed."""
    film = layout(transfer)
    rgb = grey(torch.tensor([WHITE[transfer] + 0.15]))
    code, back = {
        PQ: (lambda x: x ** (1 / 2.4), lambda v: v**2.4),
        HLG: (lambda x: 1.099 * x**0.45 - 0.099, lambda v: ((v + 0.099) / 1.099) ** (1 / 0.45)),
    }[transfer]
    before = to_sdr(rgb, film)
    change = code(0.9 * back(before)) - before
    after = rgb + carried(rgb, change, film)

    def light(signal: torch.Tensor) -> float:
        x = float(signal[0, 0, 0])
        if transfer == PQ:
            root = x ** (32 / 2523)
            return float(((root - 3424 / 4096) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610))
        return float((torch.tensor((x - 0.55991073) / 0.17883277).exp() + 0.28466892) / 12)

    assert light(after) / light(rgb) == pytest.approx(0.9, abs=0.005)
