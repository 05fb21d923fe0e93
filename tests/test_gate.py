"""The gate: a restored face that is not good enough is held back, smoothly; a good one is left alone."""

from __future__ import annotations

import dataclasses
import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes import Cells, Dim, Mean, Plain, Scripted, Whole, face, faces, grey_layout

from vidrestore.config import resolve
from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.analyse import Analysis, detect, place
from vidrestore.engine.clock import Clock
from vidrestore.engine.gate import EVERY, Gate, GateOptions
from vidrestore.engine.pipeline import Stages, restored, restored_part
from vidrestore.engine.pipeline import State as PipelineState
from vidrestore.engine.record import Record
from vidrestore.engine.restore import Plugins, Restoration
from vidrestore.engine.scenes import windows
from vidrestore.notes import Notes
from vidrestore.types import Frame, Scene
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CPU = torch.device("cpu")
N, FADE = 60, 6
BAD = range(24, 34)  # positions in which the bad restorers are bad


def film(n: int = N, cut: int | None = None) -> Iterator[Frame]:
    """Grey frames of one texture that stays, with noise; at the cut the picture grows wider."""
    y, x = np.mgrid[:120, :160].astype(np.float32)
    still = 120 + 60 * np.sin(x / 9) * np.cos(y / 11) + 20 * np.sin(x / 2.5 + y / 3)
    rng = np.random.default_rng(5)
    for i in range(n):
        wide = 16 if cut is not None and i >= cut else 0
        plane = np.pad((still + rng.normal(0, 3, x.shape)).clip(0, 255), ((0, 0), (0, wide)), mode="edge")
        plane = plane.astype(np.uint8)
        plane[:4, :4] = i
        yield Frame((plane,), grey_layout(160 + wide, 120), i * 40, 40, Fraction(1, 1000), i, cut=i == cut)


class Good(Plain):
    """A little more contrast."""

    def restore(self, faces: Any, ctx: Any) -> Any:
        bad = torch.from_numpy(np.isin(faces.frames, BAD))
        good = (0.5 + 1.1 * (faces.crops - 0.5)).clamp(0, 1)
        return torch.where(bad[:, None, None, None], self.spoilt(good, faces), good)
        yield

    def spoilt(self, good: torch.Tensor, faces: Any) -> torch.Tensor:
        return good


class Stranger(Good):
    """Upside down, it is nobody that was there."""

    def spoilt(self, good: torch.Tensor, faces: Any) -> torch.Tensor:
        return 1 - good


class Flickering(Good):
    def spoilt(self, good: torch.Tensor, faces: Any) -> torch.Tensor:
        sign = torch.from_numpy(faces.frames % 2 * 2.0 - 1).float()
        return (good + 0.15 * sign[:, None, None, None]).clamp(0, 1)


class Blurring(Good):
    def spoilt(self, good: torch.Tensor, faces: Any) -> torch.Tensor:
        return F.avg_pool2d(good, 15, 1, 7, count_include_pad=False)


BADLY = {"identity": Stranger, "flicker": Flickering, "detail": Blurring}


def one_face(i: int) -> Any:
    return faces(face(70, 60, 60))


def stages(restorer: Any, mode: str = "on", **changes: Any) -> Stages:
    options = GateOptions(mode=mode, fade=FADE, flicker=3.0, identity=0.3)
    gate = Gate(options, Cells()) if mode != "off" else None
    plugins = Plugins(restorer(), Mean(0, only=()), Whole(), changes.pop("strength", 1.0), 7, CPU, gate=gate)
    values: dict[str, Any] = {
        "detector": Scripted(one_face), "tracker": ByteTrack(ByteTrackOptions()),
        "align": FFHQ(AlignOptions(min_size=8)), "restore": plugins,
    }  # fmt: skip
    return Stages(**values | changes)


def run(frames: Iterable[Frame], plan: Stages, notes: Notes | None = None) -> tuple[np.ndarray, np.ndarray, Record]:
    """Finished planes, the share of each frame's face, and the record."""
    planes, shares = [], []
    record = Record("film", "", resolve(environment={}))
    for frame, window in restored(frames, plan, notes or Notes(), Clock(), cuts=frozenset()):
        record.see(frame, window)
        row = frame.index - window.frames[0].index
        shares += [s for j in window.judged for s in j.shares[j.rows == row].tolist()]
        planes.append(np.array(frame.planes[0])[:, :160])
    return np.stack(planes), np.array(shares), record


def test_a_good_face_is_left_alone() -> None:
    plain, _, _ = run(film(), stages(Good, "off"))
    gated, shares, record = run(film(), stages(Good))
    assert np.array_equal(gated, plain)
    assert len(shares) == N and (shares == 1).all()
    (track,) = record.tracks.values()
    assert track.held_back == [] and track.identity is not None and track.identity > 0.9


@pytest.mark.parametrize("cause", BADLY)
def test_a_bad_face_is_held_back_smoothly(cause: str) -> None:
    notes = Notes()
    gated, shares, record = run(film(), stages(BADLY[cause]), notes)
    source = np.stack([f.planes[0] for f in film()])
    assert (shares[BAD.start + 1 : BAD.stop - 1] < 0.02).all(), "nothing of it is shown"
    middle = slice(BAD.start + EVERY, BAD.stop - EVERY)
    assert np.abs(gated[middle].astype(int) - source[middle]).max() <= 1
    assert np.abs(np.diff(shares)).max() <= 1 / FADE + 1e-6, "it goes and comes back step by step"
    assert (shares[: BAD.start - FADE - 2] == 1).all() and (shares[BAD.stop + FADE + 2 :] == 1).all()
    (track,) = record.tracks.values()
    (held,) = track.held_back
    assert cause in held.causes and held.least_share == 0
    assert BAD.start - FADE - 2 <= held.first_frame < BAD.start and BAD.stop <= held.last_frame <= BAD.stop + FADE + 2
    assert f"gate_{cause}" in [n.kind for n in notes.all()]
    assert all(n.text.endswith("they are held back") for n in notes.all())


def test_warning_changes_no_bit() -> None:
    notes = Notes()
    plain, _, _ = run(film(), stages(Stranger, "off"))
    warned, shares, record = run(film(), stages(Stranger, "warn"), notes)
    assert np.array_equal(plain, warned)
    assert shares.min() == 0
    (track,) = record.tracks.values()
    assert "identity" in track.held_back[0].causes
    assert "restored faces look like somebody else; they are shown all the same" in [n.text for n in notes.all()]


@pytest.mark.parametrize(("cause", "strength"), [("identity", 1.0), ("flicker", Dim()), ("detail", 1.0)])
def test_windows_and_prefetch_change_nothing(cause: str, strength: Any) -> None:
    whole, shares, _ = run(film(), stages(BADLY[cause], window=256, strength=strength))
    assert shares.min() < 0.05
    for window in (3, 16):
        parts, others, _ = run(film(), stages(BADLY[cause], window=window, strength=strength))
        assert np.abs(others - shares).max() <= 1e-6
        assert np.array_equal(parts, whole)
    again, _, _ = run(film(), stages(BADLY[cause], prefetch=1, strength=strength))
    assert np.array_equal(again, whole)


def test_nothing_is_carried_over_a_cut() -> None:
    """A film that is cut in the middle of a bad stretch: the next shot begins with its whole face."""
    _, shares, _ = run(film(cut=29), stages(Stranger))
    assert shares[28] < 0.02 and (shares[29 : 29 + BAD.start - FADE - 2] == 1).all(), (
        "positions are counted from the cut"
    )


def test_a_shot_in_parts_gives_the_same_bits() -> None:
    whole, _, _ = run(film(), stages(Stranger))
    frames = list(film())
    scene = Scene(0, frames[0].pts, 0)
    first, state = restored_part(iter(frames), stages(Stranger), Notes(), scene, 32, None)
    assert state is not None
    kept = io.BytesIO()
    analysis = {f.name: getattr(state.analysis, f.name) for f in dataclasses.fields(state.analysis)}
    torch.save({"analysis": analysis, "memory": state.memory}, kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)  # plain data
    again = PipelineState(scene, 32, Analysis(**loaded["analysis"]), loaded["memory"])
    rest, _ = restored_part(iter(frames[32:]), stages(Stranger), Notes(), scene, None, again)
    assert all(np.array_equal(f.planes[0], w) for f, w in zip([*first, *rest], whole, strict=True))


@pytest.mark.parametrize("window", [4, 16])
def test_live_windows_stay_within_the_bound(window: int) -> None:
    plan = stages(Stranger, window=window)
    stage = Restoration(plan.restore, plan.batch, Notes(), Clock())
    found = detect(windows(((f, f.index == 0) for f in film()), window), plan.detector, CPU, Clock())
    for _ in stage.run(place(found, plan.tracker, plan.align, plan.detector.every, Notes(), Clock())):
        pass
    assert plan.restore.gate is not None
    assert 1 < stage.most_live <= 1 + -(-plan.restore.gate.lookahead // window)
    assert stage.live == 0


def test_the_flag_sets_the_mode_and_keeps_the_rest() -> None:
    found = resolve(environment={}, chain="gate=quality:on:identity=0.4", flags_of={"gate": {"mode": "warn"}}).step(
        "gate"
    )
    assert found.options.mode == "warn" and found.options.identity == 0.4  # type: ignore[attr-defined]
    assert found.origins["mode"] == "flag"
