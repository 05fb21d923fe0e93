"""Faces are found and restored where they are, however the picture is stored; and nothing else changes.

One photograph, stored turned, mirrored, squeezed, in many formats: the same face must change, and only it.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Mean, Plain
from skimage.data import astronaut
from skimage.transform import resize

from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.clock import Clock
from vidrestore.engine.pipeline import Stages, restored
from vidrestore.engine.restore import Plugins
from vidrestore.geometry.display import display_matrix
from vidrestore.geometry.template import apply
from vidrestore.media.colour import Region
from vidrestore.media.hdr import HLG, PQ, sdr_rgb
from vidrestore.media.planes import thumbnail
from vidrestore.notes import Notes
from vidrestore.registry import find
from vidrestore.types import Frame, Layout
from vidrestore_plugins.blend.feather import Feather, FeatherOptions
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

FACE = (225.0, 115.0)  # display px of its middle in the photograph
CHROMA = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0)}


class Darker(Plain):
    """Darkens fine detail's carrier: a change that the eye and the test can see."""

    size = 128

    def restore(self, faces: Any, ctx: Any) -> Any:
        return (faces.crops * 0.6).clamp(0, 1)
        yield


@pytest.fixture(scope="module")
def stages() -> Stages:
    detector = find("detect", "retinaface")
    detector = detector(detector.Options(every=1))
    detector.open(torch.device("cpu"))
    blend = Feather(FeatherOptions(color=0))
    plugins = Plugins(Darker(), Mean(0, only=()), blend, 1.0, 0, torch.device("cpu"))
    return Stages(detector, ByteTrack(ByteTrackOptions()), FFHQ(AlignOptions()), plugins)


def yuv(rgb: np.ndarray, kind: str, bits: int, full: bool = False) -> tuple[np.ndarray, ...]:
    """BT.709 planes of an RGB picture (u8 [h, w, 3]), chroma by plain means."""
    x = rgb.astype(np.float64) / 255
    y = x @ [0.2126, 0.7152, 0.0722]
    cb, cr = (x[..., 2] - y) / 1.8556, (x[..., 0] - y) / 1.5748
    unit = 1 << (bits - 8)
    sx, sy = CHROMA[kind]
    h, w = y.shape

    def small(c: np.ndarray) -> np.ndarray:
        padded = np.pad(c, ((0, -h % (1 << sy)), (0, -w % (1 << sx))), mode="edge")
        return padded.reshape(padded.shape[0] >> sy, 1 << sy, padded.shape[1] >> sx, 1 << sx).mean((1, 3))

    top = (1 << bits) - 1
    spans = (0, top, (top + 1) / 2, top) if full else (16 * unit, 219 * unit, 128 * unit, 224 * unit)
    planes = [spans[0] + spans[1] * y, spans[2] + spans[3] * small(cb), spans[2] + spans[3] * small(cr)]
    kind_of = np.uint8 if bits == 8 else np.uint16
    return tuple(np.ascontiguousarray(p.round().clip(0, top).astype(kind_of)) for p in planes)


def stored(rgb: np.ndarray, kind: str = "420", bits: int = 8, n: int = 2, **changes: Any) -> list[Frame]:
    full = changes.get("full_range", False)
    h, w = rgb.shape[:2]
    values: dict[str, Any] = {
        "pix_fmt": f"yuv{kind}p" + ("" if bits == 8 else f"{bits}le"), "width": w, "height": h, "bits": bits,
        "family": "yuv", "chroma": CHROMA[kind], "alpha": False, "full_range": full, "matrix": "bt709",
        "siting": "left", "primaries": 1, "transfer": 1, "matrix_tag": 1, "range_tag": 2 if full else 1,
    }  # fmt: skip
    layout = Layout(**values | changes)
    planes = yuv(rgb, kind, bits, full)
    return [Frame(planes, layout, i, 1, Fraction(1, 25), i) for i in range(n)]


def run(frames: list[Frame], stages: Stages, notes: Notes | None = None) -> list[Frame]:
    return [f for f, _ in restored(iter(frames), stages, notes or Notes(), Clock(), cuts=frozenset())]


def middle_of_change(before: Frame, after: Frame) -> np.ndarray:
    """Where luma changed, on average, in display px."""
    changed = np.argwhere(before.planes[0] != after.planes[0])
    assert len(changed) > 500, "the face was not found"
    return np.asarray(apply(display_matrix(before.layout), changed.mean(0)[::-1]))


TURNS = {
    "upright": (1, 0, 0, 1), "quarter": (0, -1, 1, 0), "three quarters": (0, 1, -1, 0), "half": (-1, 0, 0, -1),
    "mirrored": (-1, 0, 0, 1), "turned and mirrored": (0, 1, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNS)
def test_a2_14_turned_and_mirrored_films(name: str, stages: Stages) -> None:
    turn = TURNS[name]
    upright = astronaut()[:300, 60:400]
    layout = stored(upright[:2, :2], turn=turn)[0].layout
    # what is stored is the picture that the matrix will turn upright
    linear = np.array(layout.turn).reshape(2, 2)
    picture = upright
    if linear[0, 0] == 0:
        picture = picture.swapaxes(0, 1)
        flip_x, flip_y = linear[1, 0] < 0, linear[0, 1] < 0
    else:
        flip_x, flip_y = linear[0, 0] < 0, linear[1, 1] < 0
    picture = np.ascontiguousarray(picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1])
    frames = stored(picture, turn=turn)
    small = thumbnail(frames[0], 999).image
    assert np.abs(small.astype(int) - upright).mean() < 6, "the viewer sees the upright picture"
    out = run(frames, stages)
    np.testing.assert_allclose(middle_of_change(frames[0], out[0]), np.array(FACE) - (60, 0), atol=12)


@pytest.mark.parametrize("sar", [Fraction(16, 11), Fraction(1, 2)])
def test_a2_16_anamorphic_films(sar: Fraction, stages: Stages) -> None:
    upright = astronaut()[:300, 60:400]
    h, w = upright.shape[:2]
    size = (h, round(w / sar)) if sar > 1 else (round(h * sar), w)
    picture = (resize(upright, size, anti_aliasing=True) * 255).astype(np.uint8)
    frames = stored(picture, sar=sar)
    out = run(frames, stages)
    np.testing.assert_allclose(middle_of_change(frames[0], out[0]), np.array(FACE) - (60, 0), atol=14)


@pytest.mark.parametrize(("kind", "bits"), [(k, b) for k in CHROMA for b in (8, 10, 12) if k != "411" or b == 8])
def test_a2_025_every_format_changes_the_face_only(kind: str, bits: int, stages: Stages) -> None:
    picture = astronaut()[:301, 60:401]  # odd sizes too
    frames = stored(picture, kind, bits, full_range=bits == 10)
    out = run(frames, stages)
    for before, after in zip(frames, out, strict=True):
        for plane, old, (sx, sy) in zip(after.planes, before.planes, [(0, 0), CHROMA[kind], CHROMA[kind]], strict=True):
            changed = np.argwhere(plane != old)
            (top, left), (bottom, right) = changed.min(0), changed.max(0)
            assert top << sy > 20 and bottom << sy < 250 and left << sx > 70 and right << sx < 280
            assert plane.dtype == old.dtype and int(plane.max()) < 1 << bits


def test_grey_films(stages: Stages) -> None:
    grey = stored(astronaut()[:300, 60:400], "444")
    layout = dataclasses.replace(grey[0].layout, pix_fmt="gray", family="gray", chroma=(0, 0))
    frames = [Frame(f.planes[:1], layout, f.pts, 1, f.time_base, f.index) for f in grey]
    out = run(frames, stages)
    np.testing.assert_allclose(middle_of_change(frames[0], out[0]), np.array(FACE) - (60, 0), atol=12)


def hdr(rgb: np.ndarray, transfer: int) -> np.ndarray:
    """The SDR picture's light, its white at diffuse white, coded as PQ (SMPTE ST 2084) or HLG (ARIB STD-B67): u8."""
    if transfer == PQ:
        x = ((rgb / 255) ** 2.4 * 203 / 10000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * x) / (1 + 2392 / 128 * x)) ** (2523 / 32)
    else:
        v = rgb / 255
        light = 0.265 * np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))
        signal = np.where(
            light <= 1 / 12, np.sqrt(3 * light), 0.17883277 * np.log(12 * light.clip(1 / 12) - 0.28466892) + 0.55991073
        )
    return (signal * 255).round()


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a2_36_37_hdr_faces_change_as_those_of_sdr(transfer: int, stages: Stages) -> None:
    """The same film in SDR and in HDR: the face is found where it is, and its light changes by the same share."""
    picture = astronaut()[:300, 60:400]
    plain = stored(picture, bits=10)
    bright = stored(hdr(picture, transfer), bits=10, transfer=transfer)
    notes = Notes()
    before, after = run(plain, stages)[0], run(bright, stages, notes)[0]
    np.testing.assert_allclose(middle_of_change(bright[0], after), np.array(FACE) - (60, 0), atol=12)
    assert [(n.kind, n.quiet) for n in notes.all()] == [("hdr_faces", True)]
    whole = Region(0, 0, 340, 300)
    sdr = [sdr_rgb(f, whole).numpy() for f in (plain[0], before)]
    seen = [sdr_rgb(f, whole).numpy() for f in (bright[0], after)]
    face = np.s_[:, 85:145, 140:190]
    share = [np.median(b[face] / a[face].clip(0.05)) for a, b in (sdr, seen)]
    assert share[1] == pytest.approx(share[0], abs=0.03) and share[0] < 0.75
    assert np.array_equal(after.planes[0][:20], bright[0].planes[0][:20])


def test_a2_077_a_face_beyond_the_border(stages: Stages) -> None:
    """Half of the face is outside: what is inside is restored, and nothing breaks."""
    frames = stored(astronaut()[:300, 195:400])
    out = run(frames, stages)
    assert (out[0].planes[0] != frames[0].planes[0]).sum() > 500


@pytest.mark.parametrize("size", [(2, 2), (1, 1), (15, 200), (16, 16)])
def test_a2_75_tiny_pictures(size: tuple[int, int], stages: Stages) -> None:
    frames = stored(np.full((*size, 3), 90, np.uint8), n=1)
    (out,) = run(frames, stages)
    assert all(np.array_equal(p, q) for p, q in zip(out.planes, frames[0].planes, strict=True))


def test_a2_73_one_frame(stages: Stages) -> None:
    frames = stored(astronaut()[:300, 60:400], n=1)
    (out,) = run(frames, stages)
    assert (out.planes[0] != frames[0].planes[0]).sum() > 500


def test_a2_29_illegal_values_outside_the_face_stay(stages: Stages) -> None:
    frames = stored(astronaut()[:300, 60:400])
    planes = [p.copy() for p in frames[0].planes]
    planes[0][:10] = 3
    planes[0][-10:] = 252
    frames = [dataclasses.replace(f, planes=tuple(planes)) for f in frames]
    out = run(frames, stages)
    assert (out[0].planes[0][:10] == 3).all() and (out[0].planes[0][-10:] == 252).all()
