"""A film that nobody changed comes out as it went in: samples, times, shape."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_tools import FAST, FFV1, MS, PATTERN, assert_same_pictures, assert_same_times, ffmpeg, read, transcode

from vidrestore.media.encoding import EncodeSettings

NOISE = "testsrc2=size={size}:rate=25:duration=0.4,noise=alls=40:allf=t"

LOSSLESS = {  # output of ffmpeg's encoder -> the pixel format that is asked of it
    "yuv420p": ["-c:v", "libx264", "-preset", "ultrafast"],
    "yuv422p": ["-c:v", "libx264", "-preset", "ultrafast"],
    "yuv444p": ["-c:v", "libx264", "-preset", "ultrafast"],
    "yuvj420p": ["-c:v", "libx264", "-preset", "ultrafast", "-color_range", "pc"],
    "yuvj422p": ["-c:v", "mjpeg", "-q:v", "3"],
    "gray": ["-c:v", "ffv1"],
    "gray10le": ["-c:v", "ffv1"],
    "yuv410p": ["-c:v", "ffv1"],
    "yuv411p": ["-c:v", "ffv1"],
    "yuv440p": ["-c:v", "ffv1"],
    "yuv420p10le": ["-c:v", "libx264", "-preset", "ultrafast"],
    "yuv422p10le": ["-c:v", "prores_ks"],
    "yuv420p12le": ["-c:v", "ffv1"],
    "yuv444p16le": ["-c:v", "ffv1"],
    "yuva420p": ["-c:v", "ffv1"],
    "yuva444p10le": ["-c:v", "ffv1"],
    "gbrp": ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"],
    "gbrp10le": ["-c:v", "ffv1"],
    "gbrap12le": ["-c:v", "ffv1"],
}


@pytest.mark.parametrize("pix_fmt", LOSSLESS)
def test_lossless_identity(pix_fmt: str, tmp_path: Path) -> None:
    """A2 rows 25-28, 34, 35, 39, 40, 42: every planar format passes bit for bit, its tags beside it."""
    source = tmp_path / "in.mkv"
    ffmpeg("-f", "lavfi", "-i", NOISE.format(size="96x64"), *LOSSLESS[pix_fmt], "-pix_fmt", pix_fmt, source)
    before = read(source)
    assert before.info.layout.pix_fmt == pix_fmt
    transcode(source, tmp_path / "out.mkv", touch=True)
    after = read(tmp_path / "out.mkv")
    assert_same_pictures(before, after)
    assert after.info.layout.full_range == before.info.layout.full_range
    assert after.info.layout.bits == before.info.layout.bits


@pytest.mark.parametrize("size", ["2x2", "3x5", "17x9", "65x47", "66x64", "33x48"])
def test_a2_24_line_sizes_and_odd_sizes(size: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    wide, high = map(int, size.split("x"))
    squeeze = ["-vf", f"scale={wide}:{high}", "-c:v", "ffv1", "-level", "1", "-pix_fmt", "yuv420p"]
    ffmpeg("-f", "lavfi", "-i", NOISE.format(size="96x64"), *squeeze, source)
    before = read(source)
    assert [p.shape for p in before.planes[0]] == [(high, wide), *[(-(-high // 2), -(-wide // 2))] * 2]
    transcode(source, tmp_path / "out.mkv")
    assert_same_pictures(before, read(tmp_path / "out.mkv"))


@pytest.mark.parametrize(
    "packed", ["rgb24", "bgr0", "bgra", "argb", "yuyv422", "uyvy422", "nv12", "rgb48le", "pal8", "monob"]
)
def test_packed_formats_are_unpacked_without_loss(packed: str, tmp_path: Path) -> None:
    """A2 rows 41, 42: each sample of the unpacked planes is the packed one."""
    source = tmp_path / "in.nut"
    ffmpeg("-f", "lavfi", "-i", NOISE.format(size="32x16"), "-c:v", "rawvideo", "-pix_fmt", packed, source)
    film = read(source)
    assert film.info.pix_fmt == packed
    import av

    with av.open(str(source)) as container:
        raw = bytes(next(container.decode(video=0)).planes[0])
    row = {"yuyv422": film.planes[0][0], "uyvy422": film.planes[0][0], "nv12": film.planes[0][0]}.get(packed)
    if packed == "rgb24":
        g, b, r = (p[0] for p in film.planes[0])
        assert raw[:96] == np.stack([r, g, b], -1).tobytes()
    if packed == "bgra":
        g, b, r, a = (p[0] for p in film.planes[0])
        assert raw[:128] == np.stack([b, g, r, a], -1).tobytes()
    if packed == "yuyv422" and row is not None:
        assert raw[:64:2] == row[0].tobytes()
    if packed == "uyvy422" and row is not None:
        assert raw[1:64:2] == row[0].tobytes()
    transcode(source, tmp_path / "out.mkv")
    assert_same_pictures(film, read(tmp_path / "out.mkv"))


def test_a2_14_rotation_is_carried_not_applied(good: Path, tmp_path: Path) -> None:
    for degrees in (90, 180, 270):
        source = tmp_path / f"r{degrees}.mp4"
        ffmpeg("-display_rotation", str(degrees), "-i", good, "-c", "copy", source)
        before = read(source)
        for name in ("out.mp4", "out.mkv"):
            transcode(source, tmp_path / f"{degrees}{name}", FFV1 if name == "out.mkv" else FAST)
            after = read(tmp_path / f"{degrees}{name}")
            assert after.info.layout.turn == before.info.layout.turn != (1, 0, 0, 1)
            assert (after.info.layout.width, after.info.layout.height) == (96, 64)
        assert_same_pictures(before, read(tmp_path / f"{degrees}out.mkv"))


def test_a2_15_mirrored_matrix_survives(good: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.mp4"
    ffmpeg("-display_hflip", "-i", good, "-c", "copy", source)
    before = read(source).info
    assert before.layout.turn == (-1, 0, 0, 1)
    transcode(source, tmp_path / "out.mp4", FAST)
    assert read(tmp_path / "out.mp4").info.matrix == before.matrix


@pytest.mark.parametrize("sar", ["16/15", "64/45", "4/3", "8/9"])
@pytest.mark.parametrize("target", ["x264.mp4", "x264.mkv", "ffv1.mkv", "vp9.webm"])
def test_a2_16_shape_of_samples(sar: str, target: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    ffmpeg(*PATTERN, "-vf", f"scale=90:72,setsar={sar}", "-c:v", "libx264", "-preset", "ultrafast", source)
    encoder = {"x264": "libx264", "ffv1": "ffv1", "vp9": "libvpx-vp9"}[target.split(".")[0]]
    speed = {"cpu-used": "8", "deadline": "realtime"} if encoder == "libvpx-vp9" else {}
    transcode(source, tmp_path / target, EncodeSettings(codec=encoder, options=speed))
    after = read(tmp_path / target)
    assert after.info.sar == Fraction(sar)
    assert "title" not in {k.lower() for k in after.info.stream.metadata}
    assert after.n == 25
    if encoder == "ffv1":
        assert_same_pictures(read(source), after)


def test_a2_18_fields_stay_flagged(tmp_path: Path) -> None:
    for order, number in (("tff", 2), ("bff", 3)):
        source = tmp_path / f"{order}.mp4"
        params = ["-flags", "+ildct+ilme", "-x264-params", f"{order}=1"]
        ffmpeg(*PATTERN, "-vf", f"setfield={order}", *X264_FIELDS, *params, source)
        before = read(source).info
        assert before.layout.interlaced and before.interlaced_as == (order == "tff")
        for name in (f"{order}_out.mp4", f"{order}_out.mkv"):
            transcode(source, tmp_path / name, FAST)
            after = read(tmp_path / name).info
            assert after.layout.interlaced
            assert after.interlaced_as == before.interlaced_as, (name, number)


X264_FIELDS = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]


def test_identity_of_an_encode_keeps_times_and_count(good: Path, tmp_path: Path) -> None:
    before = read(good)
    transcode(good, tmp_path / "out.mp4", FAST)
    assert assert_same_times(before, read(tmp_path / "out.mp4")) == 0
    transcode(good, tmp_path / "out.mkv", FAST)
    assert_same_times(before, read(tmp_path / "out.mkv"), MS)


def test_ffmpeg_sees_the_same_pictures(good: Path, tmp_path: Path) -> None:
    """An oracle that is not our own reader."""
    transcode(good, tmp_path / "out.mkv", touch=True)
    sums = []
    for path in (good, tmp_path / "out.mkv"):
        listing = tmp_path / f"{path.stem}.framemd5"
        ffmpeg("-i", path, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", listing)
        lines = [line for line in listing.read_text().splitlines() if not line.startswith("#")]
        sums.append([line.split(",")[-1].strip() for line in lines])
    assert sums[0] == sums[1] and len(sums[0]) == 25


def test_source_key_frames_are_not_forced_on_the_encoder(tmp_path: Path) -> None:
    import av

    source = tmp_path / "in.mp4"
    ffmpeg(*PATTERN, "-c:v", "libx264", "-g", "5", "-pix_fmt", "yuv420p", source)
    transcode(source, tmp_path / "out.mp4", FAST)
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = sum(p.is_keyframe for p in container.demux(video=0) if p.size)
    assert keys == 1
