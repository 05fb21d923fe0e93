"""Planes as numpy views, and small upright pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_tools import FFV1, PATTERN, decoder, ffmpeg, read, transcode

from vidrestore.media.planes import display_size, editable, native_of, picture_of, thumbnail, views
from vidrestore.media.writer import PyAVEncoder
from vidrestore.notes import Notes
from vidrestore.types import Frame


def frames(path: Path) -> list[Frame]:
    with decoder().open(str(path), Notes()) as film:
        return list(film.frames())


def test_planes_are_read_only_views(good: Path) -> None:
    frame = frames(good)[3]
    assert [p.shape for p in frame.planes] == [(64, 96), (32, 48), (32, 48)]
    with pytest.raises(ValueError, match="read-only"):
        frame.planes[0][0, 0] = 0
    assert frame.planes[0].base is not None


def test_planes_outlive_the_film(good: Path) -> None:
    kept = [f.planes[0] for f in frames(good)]
    sums = [int(p.sum()) for p in kept]
    assert sums == [int(p[0].sum()) for p in read(good).planes]


def test_editing_reaches_the_output_and_nothing_else(good: Path, tmp_path: Path) -> None:
    """The decoder reads its own pictures as references: an edit must not come back in later frames."""
    before = read(good)
    notes = Notes()
    with decoder().open(str(good), notes) as film, PyAVEncoder().open(tmp_path / "o.mkv", film, FFV1, notes) as sink:
        for frame in film.frames():
            changed = editable(frame)
            changed.planes[0][10:30, 20:40] = 235
            sink.write(changed)
        sink.finish()
    after = read(tmp_path / "o.mkv")
    outside = np.ones((64, 96), bool)
    outside[10:30, 20:40] = False
    for x, y in zip(before.planes, after.planes, strict=True):
        assert np.array_equal(x[0][outside], y[0][outside])
        assert (y[0][~outside] == 235).all()
        assert np.array_equal(x[1], y[1]) and np.array_equal(x[2], y[2])


def test_editing_leaves_the_frame_given_as_it_was(media_side_data: Path) -> None:
    frame = frames(media_side_data)[0]
    before = [p.copy() for p in frame.planes]
    kinds = [bytes(frame.native.side_data[i]) for i in range(len(frame.native.side_data))]
    changed = editable(frame)
    changed.planes[0][:] = 0
    assert all(np.array_equal(a, b) for a, b in zip(before, frame.planes, strict=True)) and before[0].any()
    assert kinds and kinds == [bytes(changed.native.side_data[i]) for i in range(len(changed.native.side_data))]
    assert (changed.pts, changed.index, changed.layout) == (frame.pts, frame.index, frame.layout)


@pytest.fixture
def media_side_data(tmp_path: Path, good: Path) -> Path:
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "90", "-i", good, "-c", "copy", path)
    return path


def test_frames_without_a_picture_of_the_decoder(good: Path) -> None:
    frame = frames(good)[0]
    bare = Frame(tuple(p.copy() for p in frame.planes), frame.layout, 7, 1, Fraction(1, 25), 0)
    picture = native_of(bare)
    assert (picture.pts, picture.time_base, picture.format.name) == (7, Fraction(1, 25), "yuv420p")
    assert all(np.array_equal(a, b) for a, b in zip(views(picture, frame.layout), frame.planes, strict=True))
    changed = editable(bare)
    changed.planes[0][:] = 0
    assert bare.planes[0].any()


def test_native_frames_reach_the_encoder_uncopied(good: Path) -> None:
    frame = frames(good)[0]
    assert native_of(frame) is frame.native


def corner(path: Path, at: str, *more: str) -> Path:
    """A red square in one corner of a grey picture."""
    x, y = {"tl": (0, 0), "tr": (64, 0), "bl": (0, 32), "br": (64, 32)}[at]
    draw = f"drawbox=x={x}:y={y}:w=32:h=32:color=red:t=fill"
    ffmpeg("-f", "lavfi", "-i", "color=gray:size=96x64:rate=25:duration=0.2", "-vf", draw, *more,
           "-c:v", "libx264", "-qp", "1", "-pix_fmt", "yuv420p", path)  # fmt: skip
    return path


def red_corner(image: np.ndarray) -> str:
    high, wide = image.shape[0] // 3, image.shape[1] // 3
    redness = image[..., 0].astype(int) - image[..., 1]
    rows, columns = {"t": slice(high), "b": slice(-high, None)}, {"l": slice(wide), "r": slice(-wide, None)}
    parts = {r + c: redness[rows[r], columns[c]] for r in rows for c in columns}
    return max(parts, key=lambda k: parts[k].mean())


@pytest.mark.parametrize(
    ("how", "shown"),
    [([], "tl"), (["-display_rotation", "90"], "bl"), (["-display_rotation", "180"], "br"),
     (["-display_rotation", "270"], "tr"), (["-display_hflip"], "tr"), (["-display_vflip"], "bl"),
     (["-display_rotation", "90", "-display_hflip"], "br")],
)  # fmt: skip
def test_a2_14_15_thumbnails_stand_upright(how: list[str], shown: str, tmp_path: Path) -> None:
    plain, source = corner(tmp_path / "plain.mp4", "tl"), tmp_path / "turned.mp4"
    ffmpeg(*how, "-i", plain, "-c", "copy", source)
    ffmpeg("-i", source, "-frames:v", "1", tmp_path / "seen.png")  # ffmpeg turns what it shows
    seen = frames(tmp_path / "seen.png")[0]
    reference = np.stack([seen.planes[2], seen.planes[0], seen.planes[1]], -1)
    thumb = thumbnail(frames(source)[0], 48)
    assert red_corner(reference) == red_corner(thumb.image) == shown
    assert thumb.image.shape[:2] == ((48, 32) if "90" in how or "270" in how else (32, 48))
    assert max(thumb.image.shape) == 48


@pytest.mark.parametrize(("sar", "size"), [("2/1", (192, 64)), ("1/2", (96, 128)), ("4/3", (128, 64))])
def test_a2_16_thumbnails_have_square_pixels(sar: str, size: tuple[int, int], tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    ffmpeg(*PATTERN, "-vf", f"setsar={sar}", "-c:v", "libx264", "-pix_fmt", "yuv420p", source)
    frame = frames(source)[0]
    assert display_size(frame.layout) == size
    thumb = thumbnail(frame, 64)
    assert thumb.image.shape[1] * size[1] == pytest.approx(thumb.image.shape[0] * size[0], rel=0.05)
    assert thumb.image.shape[1] * thumb.scale[0] == pytest.approx(size[0])
    assert thumb.image.shape[0] * thumb.scale[1] == pytest.approx(size[1])


def test_thumbnails_are_never_enlarged_and_points_come_back(good: Path) -> None:
    frame = frames(good)[0]
    thumb = thumbnail(frame, 1000)
    assert thumb.image.shape == (64, 96, 3) and thumb.scale == (1.0, 1.0)
    half = thumbnail(frame, 48)
    assert half.scale == (2.0, 2.0)
    corners = np.array([[-0.5, -0.5], [47.5, 31.5]], np.float32)  # edges of the picture
    assert np.allclose(half.to_display(corners), [[-0.5, -0.5], [95.5, 63.5]])


@pytest.mark.parametrize("name", ["bt709", "smpte170m"])
@pytest.mark.parametrize("span", ["tv", "pc"])
@pytest.mark.parametrize("side", [96, 48])
def test_a2_32_thumbnails_have_the_right_colours(name: str, span: str, side: int, tmp_path: Path) -> None:
    """Against ffmpeg's own conversion of the tagged film, in the middle of flat patches."""
    source = tmp_path / "in.mp4"
    tags = f"setparams=range={span}:color_primaries={name}:color_trc={name}:colorspace={name}"
    ffmpeg("-f", "lavfi", "-i", "smptebars=size=96x64:rate=25:duration=0.2", "-vf", f"format=yuv420p,{tags}",
           "-c:v", "libx264", "-qp", "1", source)  # fmt: skip
    ffmpeg(
        "-i",
        source,
        "-frames:v",
        "1",
        "-vf",
        "scale=flags=accurate_rnd+full_chroma_int,format=rgb24",
        tmp_path / "s.png",
    )
    seen = frames(tmp_path / "s.png")[0]
    reference = np.stack([seen.planes[2], seen.planes[0], seen.planes[1]], -1).astype(int)
    image = thumbnail(frames(source)[0], side).image.astype(int)
    step = 96 // side
    for column in range(7, 96, 14):
        assert np.abs(image[10 // step, column // step] - reference[10, column]).max() <= 3


def test_pictures_made_of_planes_hold_tags(good: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, "-c:v", "ffv1", "-pix_fmt", "yuva444p10le", "-color_range", "tv", source)
    frame = frames(source)[0]
    picture = picture_of(frame.planes, frame.layout)
    assert picture.format.name == "yuva444p10le" and picture.color_range == 1
    assert all(np.array_equal(a, b) for a, b in zip(views(picture, frame.layout), frame.planes, strict=True))
    transcode(source, tmp_path / "out.mkv", touch=True)
