"""A picture is a film of one frame, and comes out as a picture."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from media_tools import FFV1, PATTERN, assert_same_pictures, ffmpeg, read, transcode

from vidrestore.errors import OutputError
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.tracks import default_suffix

HOW = {"png": [], "jpg": ["-q:v", "2", "-pix_fmt", "yuvj420p"], "webp": ["-lossless", "1"], "tiff": []}


def still(folder: Path, kind: str) -> Path:
    path = folder / f"in.{kind}"
    ffmpeg(*PATTERN, "-frames:v", "1", "-update", "1", *HOW[kind], path)
    return path


@pytest.mark.parametrize("kind", HOW)
def test_a2_56_same_kind_out(kind: str, tmp_path: Path) -> None:
    source = still(tmp_path, kind)
    film = read(source)
    assert film.n == 1 and film.info.still and film.info.duration is None
    target = tmp_path / f"out.{kind}"
    transcode(source, target, EncodeSettings())
    after = read(target)
    assert after.info.codec == film.info.codec
    if kind == "jpg":
        assert np.abs(after.planes[0][0].astype(int) - film.planes[0][0]).mean() < 1.5
    else:
        assert_same_pictures(film, after)
    assert default_suffix(film.info, []) == f".{kind}"


def test_a2_56_names_with_percent_are_literal(tmp_path: Path) -> None:
    source = still(tmp_path, "png").rename(tmp_path / "%05d.png")
    assert read(source).n == 1
    transcode(source, tmp_path / "%03d.png.png", EncodeSettings())
    assert (tmp_path / "%03d.png.png").exists()


def test_other_kinds_of_picture(tmp_path: Path) -> None:
    png, jpg = still(tmp_path, "png"), still(tmp_path, "jpg")
    transcode(png, tmp_path / "a.jpg", EncodeSettings())
    assert read(tmp_path / "a.jpg").info.layout.full_range
    transcode(jpg, tmp_path / "b.png", EncodeSettings())
    exact = "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp+bicubic,format=gbrp"
    ffmpeg("-i", jpg, "-vf", exact, "-c:v", "ffv1", tmp_path / "seen.mkv")
    seen, ours = read(tmp_path / "seen.mkv").planes[0], read(tmp_path / "b.png").planes[0]
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(seen, ours, strict=True)) < 2


def test_a_film_is_not_written_as_a_picture(good: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.png holds one picture, the input is a film"):
        transcode(good, tmp_path / "out.png", EncodeSettings())
    transcode(still(tmp_path, "png"), tmp_path / "one.mkv", FFV1)
    assert read(tmp_path / "one.mkv").n == 1


def test_exif_and_profiles_travel(tmp_path: Path) -> None:
    jpg, png = still(tmp_path, "jpg"), still(tmp_path, "png")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0"
    data = jpg.read_bytes()
    jpg.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    transcode(jpg, tmp_path / "out.jpg", EncodeSettings())
    assert exif in (tmp_path / "out.jpg").read_bytes()
    words = b"tEXt" + b"Title\0a picture"
    data = png.read_bytes()
    chunk = struct.pack(">I", len(words) - 4) + words + struct.pack(">I", zlib.crc32(words))
    png.write_bytes(data[:33] + chunk + data[33:])
    transcode(png, tmp_path / "out.png", EncodeSettings())
    assert chunk in (tmp_path / "out.png").read_bytes()
    assert read(tmp_path / "out.png").n == 1
