"""Ours against the plain transcription of the published graph: every shortcut leaves the picture as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from vspbfr_nano import drawn, nano

from vidrestore_plugins.restore.vspbfr.sizes import NANO, Size

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from vspbfr_speed import pair

# one stage at which the widest kernels fit the picture, and one at which they do not
WIDER = NANO.model_copy(update={"side": 64, "bank_side": 128, "widths": (16, 16, 16, 8, 8, 8)})


@pytest.mark.parametrize(("size", "faces"), [(NANO, 1), (NANO, 3), (WIDER, 2)])
def test_the_whole_chain_gives_what_the_published_graph_gives(size: Size, faces: int) -> None:
    """f64: one convolution for all samples, no weights of their own, the bank's early end, one modulation of four
    branches, centres of wide kernels, filters of all channels at once, what z says apart, channels last."""
    torch.manual_seed(3)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        published, ours = pair(size, faces, torch.float64)
        with torch.inference_mode():
            wanted, got = published(), ours()
    finally:
        torch.set_default_dtype(before)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(got, wanted, atol=1e-9 * float(wanted.abs().max()), rtol=0)


def test_channels_last_and_f32_change_rounding_alone() -> None:
    net = nano()
    x, given = drawn(net, 2)
    with torch.inference_mode():
        plain = net(x, given)
        placed = net.placed(torch.device("cpu"), torch.float32)
        y = placed(x, given)
    torch.testing.assert_close(y, plain, atol=1e-4 * float(plain.abs().max()), rtol=0)
