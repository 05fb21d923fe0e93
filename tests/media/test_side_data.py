"""What travels beside the samples of a picture: captions, HDR by the picture, 3D, spheres, grain, crops, shapes."""

from __future__ import annotations

import gc
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import pytest
from media_tools import FAST, PATTERN, X264, EncodeSettings, ffmpeg, read, transcode, with_messages

from vidrestore.errors import InputMediaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RAW = [*PATTERN, *X264, "-bf", "0", "-x264-params", "slices=1"]
HEVC = [*PATTERN, "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"]


def captions(path: Path) -> list[bytes | None]:
    """A/53 captions of every frame."""
    with av.open(str(path)) as film:
        found = [frame.side_data.get("A53_CC") for frame in film.decode(video=0)]  # type: ignore[call-overload]
        return [None if data is None else bytes(data) for data in found]


def spoken() -> Iterator[bytes]:
    """A message with two letters of captions for every picture (ATSC A/53 part 4, CEA-608)."""
    for number in range(1000):
        letters = bytes([0xFC, 0x41 + number % 26, 0xC2])
        yield b"\xb5\0\x31GA94\x03" + bytes([0xC1, 0xFF]) + letters + b"\xff"


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    ffmpeg(*RAW, folder / "raw.h264")
    (folder / "said.h264").write_bytes(with_messages((folder / "raw.h264").read_bytes(), spoken()))
    ffmpeg("-r", "25", "-i", folder / "said.h264", "-c", "copy", folder / "said.mp4")
    return folder / "said.mp4"


def test_pictures_are_freed_when_they_are_done_with(captioned: Path, tmp_path: Path) -> None:
    """And not when Python next looks for cycles, which it does ever more rarely."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.disable()
    try:
        transcode(captioned, tmp_path / "out.mkv", EncodeSettings(codec="libx264"))
        gc.collect()
        assert sum(isinstance(found, av.VideoFrame) for found in gc.garbage) <= 1, "the first, which is looked at"
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "mpeg2video"])
@pytest.mark.parametrize("touch", [False, True])
def test_a2_061_captions_are_carried(encoder: str, touch: bool, captioned: Path, tmp_path: Path) -> None:
    """By encoders that write them, on pictures that were changed, too."""
    before = captions(captioned)
    assert len(before) == 25 and None not in before
    copy = transcode(captioned, tmp_path / "out.mkv", EncodeSettings(codec=encoder), touch=touch)
    assert captions(tmp_path / "out.mkv") == before
    assert copy.notes.count("captions_dropped") == 0


@pytest.mark.parametrize("settings", [EncodeSettings(codec="ffv1"), EncodeSettings(codec="libvpx-vp9")])
def test_a2_061_or_dropped_with_one_warning(settings: EncodeSettings, captioned: Path, tmp_path: Path) -> None:
    copy = transcode(captioned, tmp_path / "out.mkv", settings)
    told = [line for line in copy.said if "captions" in line]
    assert told == [
        f"{captioned}: closed captions dropped: {settings.codec} does not write them; use -c:v libx264 or libx265"
    ]


def bits(*fields: tuple[int, int]) -> bytes:
    """Values of so many bits each, padded to bytes."""
    text = "".join(f"{value:0{size}b}" for value, size in fields)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def test_a2_038_dynamic_hdr_is_dropped_with_a_warning(tmp_path: Path) -> None:
    """HDR10+ (SMPTE ST 2094-40) describes pictures that are no longer what they were."""
    window = [(0, 17)] * 4 + [(0, 4), (0, 10)]
    plus = b"\xb5\0\x3c\0\x01\x04\x01" + bits((1, 2), (0, 27), (0, 1), *window, (0, 1), (0, 1), (0, 1))
    tags = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    ffmpeg(*HEVC, "-x265-params", tags, tmp_path / "raw.hevc")
    data = with_messages((tmp_path / "raw.hevc").read_bytes(), iter([plus] * 99), hevc=True)
    (tmp_path / "plus.hevc").write_bytes(data)
    ffmpeg("-r", "25", "-i", tmp_path / "plus.hevc", "-c", "copy", tmp_path / "plus.mp4")
    copy = transcode(tmp_path / "plus.mp4", tmp_path / "out.mp4", EncodeSettings(codec="libx265"))
    assert [line for line in copy.said if "HDR10+" in line] == [f"{tmp_path}/plus.mp4: HDR10+ metadata dropped"]
    assert read(tmp_path / "out.mp4").info.layout.transfer == 16


def test_a2_038_dolby_vision_without_a_base_layer_is_refused(tmp_path: Path) -> None:
    """Profile 5: marked as Dolby Vision alone, and its colours are none that the tags name."""
    ffmpeg(*HEVC, "-x265-params", "log-level=none", "-tag:v", "dvh1", "-strict", "unofficial", tmp_path / "five.mp4")
    with pytest.raises(InputMediaError, match="Dolby Vision profile 5 has no usable base layer"):
        read(tmp_path / "five.mp4")


def test_a2_108_the_two_eyes_of_3d(tmp_path: Path) -> None:
    """Kept in Matroska, for encoders that say nothing of it, too; elsewhere told of."""
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, *X264, "-metadata:s:v", "stereo_mode=bottom_top", source)
    assert read(source).info.stereo == "bottom_top"
    assert transcode(source, tmp_path / "out.mkv").notes.count("stereo3d_lost") == 0
    assert read(tmp_path / "out.mkv").info.stereo == "bottom_top"
    assert transcode(source, tmp_path / "out.mp4", FAST).notes.count("stereo3d_lost") == 1


def test_a2_108_spheres_are_told_of(tmp_path: Path) -> None:
    """The first version of the tag for spherical film, an XML text in the track's box of an mp4."""
    source = tmp_path / "in.mp4"
    ffmpeg(*PATTERN, *X264, source)
    name = "http://ns.google.com/videos/1.0/spherical/"
    said = "".join(
        f"<GSpherical:{k}>{v}</GSpherical:{k}>"
        for k, v in (
            ("Spherical", "true"),
            ("Stitched", "true"),
            ("StitchingSoftware", "x"),
            ("ProjectionType", "equirectangular"),
        )
    )
    text = f'<?xml version="1.0"?><rdf:SphericalVideo xmlns:GSpherical="{name}">{said}</rdf:SphericalVideo>'.encode()
    box = b"uuid" + bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + text
    box = (len(box) + 4).to_bytes(4, "big") + box
    data = source.read_bytes()
    for kind in (b"trak", b"moov"):  # the index is the last box: nothing behind it moves
        at = data.index(kind) - 4
        size = int.from_bytes(data[at : at + 4], "big")
        data = data[:at] + (size + len(box)).to_bytes(4, "big") + data[at + 4 :]
        if kind == b"trak":
            data = data[: at + size] + box + data[at + size :]
    source.write_bytes(data)
    assert read(source).info.spherical
    assert transcode(source, tmp_path / "out.mp4", FAST).notes.count("spherical_lost") == 1


def test_a2_109_grain_of_the_decoder_is_told_of(tmp_path: Path) -> None:
    for grain, told in ((10, 1), (0, 0)):
        coded = ["-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", f"film-grain={grain}"]
        for suffix in ("mkv", "mp4", "ivf"):
            ffmpeg(*PATTERN, *coded, tmp_path / f"{grain}.{suffix}")
            film = read(tmp_path / f"{grain}.{suffix}")
            assert film.notes.count("film_grain_applied") == told, suffix


def test_a2_110_a_crop_of_the_film_is_applied(tmp_path: Path) -> None:
    """180 lines are coded as 192: 180 come out."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=0.2", *X264, tmp_path / "in.mp4")
    transcode(tmp_path / "in.mp4", tmp_path / "out.mp4", FAST)
    assert read(tmp_path / "out.mp4").planes[0][0].shape == (180, 320)


def test_a2_110_a_crop_of_the_container_is_told_of(tmp_path: Path) -> None:
    """Its elements in the place of two that are there already."""
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, *X264, "-vf", "setsar=4/3", source)
    data = source.read_bytes()
    wide = data.index(b"\x54\xb0\x81")
    high = data.index(b"\x54\xba\x81")
    data = data[:wide] + b"\x54\xcc\x81\x08" + data[wide + 4 :]
    data = data[:high] + b"\x54\xaa\x81\x10" + data[high + 4 :]
    tracks = data.rindex(b"\x16\x54\xae\x6b", 0, wide)  # the sum over the tracks, which is no longer true, comes first
    at = data.index(b"\xbf\x84", tracks)
    assert at - tracks < 16
    source.write_bytes(data[:at] + b"\xec\x84" + data[at + 2 :])
    film = read(source)
    assert film.planes[0][0].shape == (64, 96)
    assert [n.text for n in film.notes.all() if n.kind == "container_crop"] == [
        "the container asks to show 88x48 of the picture; all of it is kept, av.crop=88:48:8:0 cuts it"
    ]


def test_a2_017_another_shape_of_samples_on_the_way(tmp_path: Path) -> None:
    """The first is kept, as are the samples; one warning."""
    data = b""
    for i, sar in enumerate(("4/3", "16/11")):
        part = tmp_path / f"{i}.ts"
        ffmpeg(*PATTERN, *X264, "-bf", "0", "-vf", f"setsar={sar}", "-output_ts_offset", str(i), part)
        data += part.read_bytes()
    (tmp_path / "two.ts").write_bytes(data)
    film = read(tmp_path / "two.ts")
    assert film.n == 50 and film.info.sar == Fraction(4, 3)
    assert [n.text for n in film.notes.all() if n.kind == "sar_changed"] == [
        "the shape of samples changes to 16/11; 4/3 is kept"
    ]
    transcode(tmp_path / "two.ts", tmp_path / "out.mp4", FAST)
    assert read(tmp_path / "out.mp4").info.sar == Fraction(4, 3)
