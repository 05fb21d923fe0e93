"""Grain: a restored face has as much of it as its surroundings; without the option nothing changes."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes import Mean, Plain, Scripted, face, faces, grey_layout

from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.clock import Clock
from vidrestore.engine.grain import Grain, answers, described, shaped
from vidrestore.engine.pipeline import Stages, restored
from vidrestore.engine.restore import Plugins
from vidrestore.notes import Notes
from vidrestore.types import Frame
from vidrestore_plugins.blend.feather import Feather, FeatherOptions
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE, N = 360, 12
SIGMA = 6.0  # of 255


class Smooth(Plain):
    """Takes all grain away."""

    size = 256

    def restore(self, faces: Any, ctx: Any) -> Any:
        return F.avg_pool2d(F.pad(faces.crops, (8,) * 4, mode="reflect"), 17, 1)
        yield


def film(blur: float, sigma: float = SIGMA) -> Iterator[Frame]:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    still = 120 + 30 * np.sin(x / 60) * np.cos(y / 70)
    torch.manual_seed(1)
    for i in range(N):
        grain = shaped(torch.randn(SIDE, SIDE), blur).numpy() if blur else torch.randn(SIDE, SIDE).numpy()
        plane = np.rint(still + sigma * grain).clip(0, 255).astype(np.uint8)
        plane[:4, :4] = i
        yield Frame((plane,), grey_layout(SIDE, SIDE), i * 40, 40, Fraction(1, 1000), i)


def run(grain: float, blur: float = 0.0, **changes: Any) -> np.ndarray:
    """Finished planes [t, h, w] of a film with one face in its middle."""
    source = changes.pop("film", None) or film(blur)
    detector = Scripted(lambda i: faces(face(180, 180, 150)))
    blender = Feather(FeatherOptions())
    plugins = Plugins(Smooth(), Mean(0, only=()), blender, changes.pop("strength", 1.0), 7, torch.device("cpu"), grain)
    align = FFHQ(AlignOptions(min_size=8))
    plan = Stages(detector=detector, tracker=ByteTrack(ByteTrackOptions()), align=align, restore=plugins, **changes)
    return np.stack([f.planes[0] for f, _ in restored(source, plan, Notes(), Clock(), cuts=frozenset())])


def grain_of(planes: np.ndarray, rows: slice, columns: slice) -> float:
    """Sigma of what changes from frame to frame, of 255: the film itself stands still."""
    part = planes[:, rows, columns].astype(np.float64)
    return float(np.diff(part, axis=0).std() / 2**0.5)


def near(noise: np.ndarray) -> float:
    """Correlation of noise [t, h, w] with its neighbour."""
    return float((noise[:, :, 1:] * noise[:, :, :-1]).mean() / (noise**2).mean())


INSIDE, OUTSIDE, BORDER = (slice(140, 220),) * 2, (slice(4, 40),) * 2, (slice(140, 220), slice(78, 94))


@pytest.mark.parametrize("blur", [0.0, 0.6, 0.9])
def test_a_face_has_the_grain_of_its_surroundings(blur: float) -> None:
    without, with_grain = run(0.0, blur), run(1.0, blur)
    outside = grain_of(with_grain, *OUTSIDE)
    assert grain_of(without, *INSIDE) < 0.65 * outside, "the restorer took most of it"
    assert grain_of(with_grain, *INSIDE) == pytest.approx(outside, rel=0.15)
    assert grain_of(with_grain, *BORDER) == pytest.approx(outside, rel=0.15), "and so at the soft border"
    noise = (with_grain[:, *INSIDE].astype(np.float64) - without[:, *INSIDE]) / SIGMA
    source = np.diff(with_grain[:, *OUTSIDE].astype(np.float64), axis=0)
    assert near(noise) == pytest.approx(near(source), abs=0.14), "what came back is as fine as it was"
    half = grain_of(run(0.5, blur), *INSIDE)
    assert half == pytest.approx(np.hypot(0.5 * outside, grain_of(without, *INSIDE)), rel=0.2)


def test_without_the_option_no_bit_changes_and_clean_films_get_none() -> None:
    torch.manual_seed(1)
    plain = np.stack([f.planes[0] for f in film(0.0)])
    assert np.array_equal(run(0.0, strength=0.0), plain)
    clean = run(1.0, film=film(0.0, sigma=0.0))
    assert np.array_equal(clean, run(0.0, film=film(0.0, sigma=0.0)))


def test_windows_change_nothing() -> None:
    assert np.array_equal(run(1.0, window=4), run(1.0, window=256))


@pytest.mark.parametrize(("sigma", "blur"), [(2.0, 0.05), (8.0, 0.4), (5.0, 0.7), (12.0, 1.0)])
def test_grain_is_described_by_its_amount_and_its_size(sigma: float, blur: float) -> None:
    torch.manual_seed(3)
    ramp = torch.linspace(0.3, 0.6, 240)[None] + torch.linspace(0, 0.2, 200)[:, None]
    grey = ramp + sigma / 255 * shaped(torch.randn(200, 240), blur)
    found = described(*answers(grey, torch.ones(200, 240, dtype=torch.bool)))
    assert 255 * found[0] == pytest.approx(sigma, rel=0.12)
    assert found[1] == pytest.approx(blur, abs=0.16)


def test_what_is_left_is_not_added_again() -> None:
    assert Grain.of(np.array([0.02, 0.02, 0.02])).lost == 0
    assert Grain.of(np.array([0.02, 0.02, 0.0])).lost == 1
    assert Grain.of(np.array([0.02, 0.02, 0.012])).lost == pytest.approx(1 - 0.36)
    assert Grain.of(np.zeros(3)).sigma == 0
