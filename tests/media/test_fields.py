"""Fields and telecine: flags kept, said where they are wrong, combs found where there are none, film brought back."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from media_tools import FAST, FFV1, assert_same_pictures, assert_same_times, ffmpeg, packets, read, transcode

from vidrestore import cli
from vidrestore.media.reader import ReadSettings

if TYPE_CHECKING:
    from pathlib import Path

WOVEN = ["-f", "lavfi", "-i", "testsrc2=size=192x128:rate=50:duration=2,tinterlace=mode=interleave_top,setfield=prog"]
FILM = ["-f", "lavfi", "-i", "testsrc2=size=192x128:rate=24000/1001:duration=2"]
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-pix_fmt", "yuv420p"]
COMBED = "moving edges are combed though it is flagged progressive"


@pytest.fixture(scope="module")
def unflagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Woven fields that are flagged progressive."""
    path = tmp_path_factory.mktemp("fields") / "woven.mp4"
    ffmpeg(*WOVEN, *X264, path)
    return path


def test_a2_019_combs_without_a_flag_are_told_of(unflagged: Path, tmp_path: Path) -> None:
    film = read(unflagged)
    assert not film.info.layout.interlaced
    assert [COMBED in n.text for n in film.notes.all() if n.kind == "unflagged_fields"] == [True]
    ffmpeg(*FILM, *X264, tmp_path / "progressive.mp4")
    assert read(tmp_path / "progressive.mp4").notes.count("unflagged_fields") == 0


@pytest.mark.media
def test_a2_019_real_film_is_believed(media: Path) -> None:
    for name in ("low_stage_cuts_multi.mp4", "clean_bigmotion_512.mp4", "low_webcam_hand.mkv", "low_tv_128.mp4"):
        film = read(media / "faces" / name, ReadSettings(end=3))
        assert film.notes.count("unflagged_fields") == 0, name


@pytest.mark.parametrize(("said", "top_first"), [("tff", True), ("bff", False), ("progressive", None)])
def test_a2_019_what_is_said_of_fields_counts(
    said: str, top_first: bool | None, unflagged: Path, tmp_path: Path
) -> None:
    """Said against a missing flag, and against a wrong one: the output is flagged so, its samples are the same."""
    for source in (unflagged, tmp_path / "wrong.mp4"):
        if source != unflagged:
            ffmpeg(*WOVEN, *X264, "-flags", "+ildct", "-x264-params", "tff=1", source)
        film = read(source, ReadSettings(field_order=said))
        assert film.info.interlaced_as is top_first and film.notes.count("unflagged_fields") == 0
        out = tmp_path / f"{said}.mkv"
        transcode(source, out, FAST, ReadSettings(field_order=said), overwrite=True)
        assert read(out).info.interlaced_as is top_first
        transcode(source, out, FFV1, ReadSettings(field_order=said), overwrite=True)
        assert_same_pictures(read(source), read(out))


def test_a2_019_what_is_said_reaches_the_filters(unflagged: Path, tmp_path: Path) -> None:
    """bwdif takes the fields in the order that is said: with the right one motion goes on, else it jumps back."""
    jumps = {}
    for order in ("tff", "bff"):
        out = tmp_path / f"{order}.mkv"
        line = ["-vf", "av.bwdif,detect=none,restore=none", "--field", order, "-c:v", "ffv1", "--progress", "none"]
        assert cli.run([str(unflagged), "-o", str(out), *line]) == 0
        luma = [p[0].astype(int) for p in read(out).planes]
        assert len(luma) == 100
        jumps[order] = np.mean([np.abs(b - a).mean() for a, b in pairwise(luma)])
    assert jumps["tff"] < 0.8 * jumps["bff"]


@pytest.mark.media
def test_a2_020_fields_coded_apart_and_mixed(media: Path, tmp_path: Path) -> None:
    """PAFF and MBAFF: one frame for two fields, flagged, in its own kind and without loss."""
    for name, frames in (("interlaced_foreman_cif.264", 100), ("interlaced_h264_mp4.mp4", 126)):
        before = read(media / "odd" / name)
        assert before.n == frames and before.info.layout.interlaced
        transcode(media / "odd" / name, tmp_path / f"{name}.mp4", FAST)
        after = read(tmp_path / f"{name}.mp4")
        assert after.n == frames and after.info.interlaced_as == before.info.interlaced_as


def with_pulldown(stream: bytes) -> bytes:
    """MPEG-2 pictures marked to be shown 3, 2, 3, 2 fields long (ISO 13818-2 §6.3.10)."""
    out, count = bytearray(stream), 0
    for match in re.finditer(rb"\x00\x00\x01\xb5", stream):
        at = match.end()
        if out[at] >> 4 != 8:
            continue
        tff, repeat = [(1, 1), (0, 0), (0, 1), (1, 0)][count % 4]
        out[at + 3] = out[at + 3] & 0x7F | tff << 7
        out[at + 3] = out[at + 3] & 0xFD | repeat << 1
        out[at + 4] |= 0x80  # progressive_frame
        count += 1
    return bytes(out)


def test_a2_021_soft_telecine_is_a_variable_rate(tmp_path: Path) -> None:
    """Film at 24 whose pictures are shown 3 and 2 fields long: their times and count pass as they are."""
    ffmpeg(
        *FILM,
        "-r",
        "30000/1001",
        "-c:v",
        "mpeg2video",
        "-q:v",
        "3",
        "-bf",
        "0",
        "-flags",
        "+ildct",
        tmp_path / "raw.m2v",
    )
    (tmp_path / "soft.m2v").write_bytes(with_pulldown((tmp_path / "raw.m2v").read_bytes()))
    source = tmp_path / "soft.mkv"
    ffmpeg("-fflags", "+genpts", "-i", tmp_path / "soft.m2v", "-c", "copy", source)
    before = read(source)
    steps = {round(float(b - a) * 59.94) for a, b in pairwise(before.pts)}
    assert steps == {2, 3}
    transcode(source, tmp_path / "out.mkv")
    after = read(tmp_path / "out.mkv")
    assert assert_same_times(before, after, Fraction(1, 1000)) == 0
    assert_same_pictures(before, after)


def test_a2_022_hard_telecine_is_undone_by_two_filters(tmp_path: Path) -> None:
    """Combs in two of five pictures go, and what is left are the film's own pictures at 24000/1001."""
    ffmpeg(*FILM, "-c:v", "ffv1", tmp_path / "film.mkv")
    ffmpeg(*FILM, "-vf", "telecine", "-c:v", "ffv1", tmp_path / "tv.mkv")
    out = tmp_path / "out.mkv"
    line = ["-vf", "av.fieldmatch,av.decimate,detect=none,restore=none", "-c:v", "ffv1", "--progress", "none"]
    assert cli.run([str(tmp_path / "tv.mkv"), "-o", str(out), *line]) == 0
    film, back = read(tmp_path / "film.mkv"), read(out)
    assert abs(back.info.rate - Fraction(24000, 1001)) < Fraction(1, 100)
    assert abs(back.n - film.n) <= 1
    of_film = [p[0].astype(int) for p in film.planes]
    nearest = [min(float(np.abs(p[0] - q).mean()) for q in of_film) for p in back.planes]
    assert np.median(nearest) < 0.01 and np.mean(np.array(nearest) < 0.5) > 0.9


def test_packets_hold_one_picture_each(unflagged: Path) -> None:
    """What the tests above count on."""
    with av.open(str(unflagged)) as film:
        assert film.streams.video[0].frames == len(packets(unflagged, 0)) == 50
