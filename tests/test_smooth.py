"""Smoothers: what rests is steadied, what changes is followed, without lag; pictures are fused along their motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidrestore import registry
from vidrestore.config import resolve
from vidrestore.engine.record import Record
from vidrestore.engine.staging import stages_of
from vidrestore.errors import UsageError
from vidrestore.types import Stretch
from vidrestore_plugins.smooth.motion import Motion, resized, sharply_warped, small, warped

OF_VECTORS = ("gated", "gaussian", "kalman", "one_euro")
OF_PICTURES = ("auto", "fuse")


def made(name: str, **options: Any) -> Any:
    cls = registry.find("smooth", name)
    return cls(cls.Options(**options))


def smoothed(
    smoother: Any, x: torch.Tensor, latent: str = "w", source: torch.Tensor | None = None,
    evidence: torch.Tensor | None = None, rate: float = 25.0, window: int = 16,
) -> torch.Tensor:  # fmt: skip
    """One track's latent [t, ...], in windows."""
    n, out, state = len(x), [], None
    evidence = torch.zeros(n) if evidence is None else evidence
    evidence = evidence.reshape(1, n, *(1 for _ in x.shape[1:]))
    source = torch.zeros(n, 3, 32, 32) if source is None else source
    for start in range(0, n, window):
        stop, end = min(n, start + window), min(n, start + window + smoother.lookahead)
        seen = slice(start, end)
        stretch = Stretch(
            latent, x[None, seen], source[None, seen], torch.arange(start, end, dtype=torch.float64) / rate,
            evidence[:, seen], torch.ones(1, end - start, dtype=torch.bool), stop - start,
        )  # fmt: skip
        y, state = smoother.smooth(stretch, state)
        out.append(y[0])
    return torch.cat(out)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trembling(x: torch.Tensor) -> float:
    """Root mean square deviation from the mean over time, the ends left out."""
    return float(x[6:-6].std(0).square().mean().sqrt())


# -- any latent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_VECTORS)
@pytest.mark.parametrize("shape", [(64,), (8, 12, 12)])
def test_a_trembling_latent_at_rest_is_steadied_by_half(name: str, shape: tuple[int, ...]) -> None:
    x = noise(*shape, seed=1) + 0.3 * noise(60, *shape)
    assert trembling(smoothed(made(name), x)) <= 0.5 * trembling(x)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_what_the_evidence_says_has_changed_is_followed_at_once(name: str) -> None:
    """A step with evidence: neither the frame before nor the frame after it is smeared."""
    x = torch.zeros(48, 16) + 0.02 * noise(48, 16)
    x[20:] += 4.0
    evidence = torch.zeros(48)
    evidence[20] = 1.0
    y = smoothed(made(name), x, evidence=evidence)
    assert float(y[19].abs().max()) < 0.25 and float((y[20] - 4).abs().max()) < 0.25


@pytest.mark.parametrize("name", OF_VECTORS)
def test_there_is_no_lag(name: str) -> None:
    """A slow sway comes out in step: the correlation is best at a shift of 0 frames."""
    t = torch.arange(120) / 25
    x = torch.sin(2 * np.pi * 0.75 * t)[:, None] + 0.2 * noise(120, 8)
    y = smoothed(made(name), x).mean(1)
    clean = torch.sin(2 * np.pi * 0.75 * t)
    agreement = [float((y[10:-10] * clean[10 + s : 110 + s]).mean()) for s in range(-4, 5)]
    assert int(np.argmax(agreement)) == 4


@pytest.mark.parametrize("name", OF_VECTORS)
def test_widths_are_seconds_not_frames(name: str) -> None:
    """The same second sampled twice as often: about the same values come out."""
    t = torch.arange(200) / 50
    x = torch.sin(2 * np.pi * 0.5 * t)[:, None].repeat(1, 4)
    options = {} if name == "gaussian" else {"lookahead": 0}
    fine = smoothed(made(name, **(options or {"lookahead": 12})), x, rate=50.0)[::2]
    coarse = smoothed(made(name, **options), x[::2], rate=25.0)
    assert float((fine - coarse)[20:-20].abs().max()) < 0.12


def test_a_gate_opens_for_what_moves_more_than_it_trembles() -> None:
    """Places that jump are followed, the trembling rest is not, without any evidence."""
    x = 0.1 * noise(40, 8, 12, 12)
    x[20:, :, :5] += 3.0
    y = smoothed(made("gated", lookahead=0), x)
    jumped, rested = (float((y[20] - x[20])[:, part].abs().mean()) for part in (slice(4), slice(8, None)))
    assert jumped < 0.01 and rested > 0.03


def test_kalman_at_rest_is_the_best_linear_estimate() -> None:
    """A level that never wanders: the filter is the mean of all frames so far."""
    x = noise(30, 5)
    y = smoothed(made("kalman", rest=0.0, lookahead=0), x)
    torch.testing.assert_close(y, x.cumsum(0) / torch.arange(1, 31)[:, None], atol=1e-4, rtol=0)


# -- pictures --------------------------------------------------------------------------------------------------


def texture(side: int = 128, seed: int = 3) -> torch.Tensor:
    """Smooth and rich enough to follow, [3, side, side] in 0..1."""
    field = noise(1, 3, side // 8, side // 8, seed=seed)
    rough = F.interpolate(field, (side, side), mode="bicubic", align_corners=False)[0]
    return (0.5 + 0.15 * rough).clamp(0, 1)


def shifting(n: int, step: float, side: int = 128) -> torch.Tensor:
    """A texture that moves to the left by ``step`` px a frame, [n, 3, side, side]."""
    wide = texture(2 * side)[None, :, :side].repeat(n, 1, 1, 1)[:, None]
    flow = torch.zeros(n, 1, 2, side, 2 * side)
    flow[:, 0, 0] = step * torch.arange(n).reshape(-1, 1, 1)
    return sharply_warped(wide, flow)[:, 0, :, :, :side]


@pytest.mark.parametrize("name", OF_PICTURES)
def test_a_static_noisy_face_is_steadied_by_half(name: str) -> None:
    """What the restorer does to each frame's noise differs from frame to frame; its picture is fused."""
    source = texture()[None].repeat(24, 1, 1, 1) + 0.02 * noise(24, 3, 128, 128)
    restored = texture()[None] + 0.03 * noise(24, 3, 128, 128, seed=1)
    fused = source + smoothed(made(name), restored - source, "output", source)
    assert trembling(fused) <= 0.5 * trembling(restored)


def test_what_moves_is_fused_where_it_went() -> None:
    """Along a motion of 1.5 px a frame noise falls and detail stays; the plain mean over time loses it."""
    clean = shifting(20, 1.5)
    noisy = clean + 0.03 * noise(*clean.shape)
    fused = smoothed(made("fuse", latents="crop"), noisy, "crop", clean)
    inner = (slice(4, -4), slice(None), slice(16, -16), slice(16, -16))

    def error(x: torch.Tensor) -> float:
        return float((x - clean)[inner].square().mean().sqrt())

    mean = F.avg_pool1d(noisy.permute(1, 2, 3, 0).flatten(0, 2)[None], 5, 1, 2)[0].T.reshape(noisy.shape)
    assert error(fused) < 0.6 * error(noisy) < error(mean)


def test_a_blink_is_not_mixed_with_the_frames_around_it() -> None:
    source = texture()[None].repeat(12, 1, 1, 1).clone()
    source[6, :, 40:60, 30:90] = 0.05
    change = 0.02 * noise(12, 3, 128, 128)
    fused = source + smoothed(made("fuse"), change, "output", source)
    assert float((fused - source)[6, :, 44:56, 34:86].abs().max()) < 0.1
    assert float((fused - source)[5, :, 44:56, 34:86].abs().max()) < 0.1


def test_what_was_left_as_it_was_stays_so() -> None:
    source = texture()[None] + 0.05 * noise(10, 3, 128, 128)
    change = torch.zeros_like(source)
    assert torch.equal(smoothed(made("auto"), change, "output", source), change)
    change[4:] = 0.1
    assert not smoothed(made("auto"), change, "output", source)[:4].any()


def test_flow_is_found_and_leads_on() -> None:
    crops = small(shifting(4, 2.0)[None])
    motion = Motion(crops, torch.ones(1, 4, dtype=torch.bool))
    flow = torch.zeros(1, 1, 2, 128, 128)
    for distance in (1, 2, 3):
        flow = motion.further(flow, torch.tensor([distance]), 1)
    inner = flow[0, 0, :, 24:-24, 24:-24]
    assert float(inner[0].mean()) == pytest.approx(-6.0, abs=0.3) and float(inner[1].abs().mean()) < 0.2
    larger = resized(flow, (256, 256), vectors=True)
    assert float(larger[0, 0, 0, 48:-48, 48:-48].mean()) == pytest.approx(-12.0, abs=0.6)


def test_noise_is_no_motion() -> None:
    crops = texture()[None, None].repeat(1, 2, 1, 1, 1) + 0.01 * noise(1, 2, 3, 128, 128)
    flow = Motion(crops, torch.ones(1, 2, dtype=torch.bool)).further(
        torch.zeros(1, 1, 2, 128, 128), torch.tensor([1]), 1
    )
    assert float(flow.abs().median()) == 0.0


def test_reading_between_pixels_keeps_detail() -> None:
    """A wave of a quarter cycle a pixel, read half-way between pixels: 0.71 of it is left, or 0.94."""
    x = torch.arange(64.0)
    wave = torch.sin(np.pi / 2 * x).expand(1, 1, 1, 64, 64)
    flow = torch.zeros(1, 1, 2, 64, 64)
    flow[:, :, 0] = 0.5
    want = torch.sin(np.pi / 2 * (x + 0.5)).expand(64, 64)
    for read, kept in ((warped, 0.7071), (sharply_warped, 0.937)):
        got = read(wave, flow)[0, 0, 0][8:-8, 8:-8]
        assert float((got * want[8:-8, 8:-8]).mean() / want[8:-8, 8:-8].square().mean()) == pytest.approx(
            kept, abs=5e-3
        )


def test_vectors_cannot_be_fused() -> None:
    with pytest.raises(UsageError, match="neither a picture nor a map"):
        smoothed(made("fuse", latents="w"), noise(8, 5))


# -- chains ----------------------------------------------------------------------------------------------------


def opened(chain: str) -> Any:
    config = resolve(chain=chain, environment={}, settings={"device": "cpu", "threads": 1})
    return stages_of(config, Record("a", "b", config)).restore.smoother


def test_latents_are_chosen_by_name(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(
        "from pydantic import BaseModel\nclass O(BaseModel): ...\nclass Two:\n    Options, size = O, 32\n"
        "    latents = ('w0', 'z0')\n    def __init__(self, options): ...\n    def open(self, device): ...\n"
        "    def restore(self, faces, ctx): ...\n"
    )
    chain = f"assess=none,restore={file}:Two,smooth=one_euro"
    inner, named = opened(chain), opened(f"{chain}:latents=w0+output")
    names = ("crop", "w0", "z0", "output")
    assert [inner.wants(n) for n in names] == [False, True, True, False]
    assert [named.wants(n) for n in names] == [False, True, False, True]
    with pytest.raises(UsageError, match=r"no latent 'w1'.*w0.*have: crop w0 z0 output"):
        opened(f"{chain}:w1")
