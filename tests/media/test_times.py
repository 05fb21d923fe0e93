"""Times come out as they went in, and what is wrong with them is put right by rule."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from media_tools import (
    FAST,
    FFV1,
    MS,
    PATTERN,
    TONE,
    X264,
    assert_same_pictures,
    assert_same_times,
    ffmpeg,
    read,
    stamps,
    transcode,
)

from vidrestore.errors import RunError
from vidrestore.media.reader import ReadSettings

TICK = Fraction(1, 90000)


def times_pass(source: Path, tmp_path: Path) -> None:
    """Exact in mp4, a rounding in Matroska."""
    before = read(source)
    transcode(source, tmp_path / "out.mp4", FAST)
    assert_same_times(before, read(tmp_path / "out.mp4"))
    transcode(source, tmp_path / "out.mkv", FFV1)
    after = read(tmp_path / "out.mkv")
    assert_same_times(before, after, MS)
    assert_same_pictures(before, after)


def test_a2_01_variable_rate(tmp_path: Path) -> None:
    source = tmp_path / "vfr.mp4"
    ffmpeg(*PATTERN, *TONE, "-vf", "select='mod(n,7)*lt(mod(n,11),9)'", "-fps_mode", "passthrough", *X264, source)
    film = read(source)
    assert len({b - a for a, b in zip(film.pts, film.pts[1:], strict=False)}) > 1
    times_pass(source, tmp_path)


def test_a2_02_long_last_frame_keeps_its_duration(tmp_path: Path) -> None:
    source = tmp_path / "long.mp4"
    slow = "setpts='if(lt(N,24),N,N+24)/25/TB'"
    ffmpeg(*PATTERN, "-vf", slow, "-fps_mode", "passthrough", *X264, "-bf", "0", source)
    with av.open(str(source)) as container:
        last = [p for p in container.demux(video=0) if p.size][-1]
        want = last.duration * last.time_base
    film = read(source)
    assert film.durations[-1] == want
    assert film.durations[-2] == film.pts[-1] - film.pts[-2] > film.durations[0]
    transcode(source, tmp_path / "out.mp4", FAST)
    assert read(tmp_path / "out.mp4").durations[-1] == want


def test_a2_03_b_frames_and_negative_dts(tmp_path: Path) -> None:
    source = tmp_path / "b.mp4"
    params = ["-bf", "8", "-x264-params", "open-gop=1:b-pyramid=normal"]
    ffmpeg(*PATTERN, *TONE, *X264, *params, source)
    with av.open(str(source)) as container:
        assert next(container.demux(video=0)).dts < 0
    times_pass(source, tmp_path)


def test_a2_04_packets_without_dts_are_not_the_end(tmp_path: Path) -> None:
    source = tmp_path / "b.mkv"
    two = ["-map", "0:v", "-map", "0:v", *X264, "-bf", "3"]
    ffmpeg(*PATTERN, *two, source)
    with av.open(str(source)) as container:
        assert next(container.demux(video=0)).dts is None
    assert read(source).n == 25
    for name in ("out.mkv", "out.mp4"):  # the second film is copied packet by packet
        transcode(source, tmp_path / name, FAST)
        with av.open(str(tmp_path / name)) as container:
            assert sum(1 for _ in container.decode(video=1)) == 25


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a2_05_raw_streams_are_numbered_by_rate(codec: str, tmp_path: Path) -> None:
    source = tmp_path / f"raw.{codec}"
    encoder = {"h264": "libx264", "hevc": "libx265"}[codec]
    ffmpeg(*PATTERN, "-c:v", encoder, "-preset", "ultrafast", "-pix_fmt", "yuv420p", source)
    film = read(source)
    assert film.pts == [Fraction(i, 25) for i in range(25)]
    assert film.notes.count("no_timestamps") == 1
    assert "assuming 25 fps (set -r)" in film.notes.all()[0].text
    slow = read(source, ReadSettings(rate=Fraction(30000, 1001)))
    assert slow.pts == [i * Fraction(1001, 30000) for i in range(25)]
    assert slow.notes.count("no_timestamps") == 0
    times_pass(source, tmp_path)


def test_a2_05_missing_times_before_the_first_known(tmp_path: Path) -> None:
    """Matroska cannot say negative times: the frames before zero come without one, and keep step with the sound."""
    source = tmp_path / "negative.mkv"
    plain = tmp_path / "plain.mkv"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "flac", plain)
    ffmpeg("-i", plain, "-c", "copy", "-output_ts_offset", "-0.4", "-avoid_negative_ts", "disabled", source)
    film = read(source)
    assert film.n == 25
    assert film.pts == sorted(set(film.pts)) and film.pts[0] == 0
    times_pass(source, tmp_path)


def test_a2_06_repeated_times(tmp_path: Path) -> None:
    source = tmp_path / "same.mkv"
    ffmpeg(*PATTERN, "-vf", "setpts='floor(N/2)*2/25/TB'", "-fps_mode", "passthrough", *X264, "-bf", "0",
           "-enc_time_base", "1:1000", source)  # fmt: skip
    with av.open(str(source)) as container:
        raw = [f.pts for f in container.decode(video=0)]
    assert len(set(raw)) < len(raw) == 25
    film = read(source)
    assert film.n == 25 and film.ts_fixed == 12
    assert all(b - a in (MS, Fraction(79, 1000)) for a, b in zip(film.pts, film.pts[1:], strict=False))
    transcode(source, tmp_path / "out.mp4", FAST)
    assert read(tmp_path / "out.mp4").n == 25
    with pytest.raises(RunError, match="repeated or falling time stamps"):
        read(source, ReadSettings(strict=True))


def glued(tmp_path: Path) -> Path:
    """Two recordings one after the other in one transport stream, each with a clock that begins at its own time."""
    parts = []
    for i, start in enumerate((50, 3)):
        part = tmp_path / f"part{i}.ts"
        ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "aac", "-output_ts_offset", str(start), "-f", "mpegts", part)
        parts.append(part.read_bytes())
    path = tmp_path / "glued.ts"
    path.write_bytes(b"".join(parts))
    return path


def test_a2_07_falling_clock_moves_sound_and_picture_alike(tmp_path: Path) -> None:
    source = glued(tmp_path)
    film = read(source)
    assert film.n == 50
    steps = [b - a for a, b in zip(film.pts, film.pts[1:], strict=False)]
    assert min(steps) > 0 and max(steps) < Fraction(1, 5)
    assert film.notes.count("clock_joined") == 1
    transcode(source, tmp_path / "out.mp4", FAST)
    sound, picture = stamps(tmp_path / "out.mp4", 1), sorted(stamps(tmp_path / "out.mp4", 0))
    assert sound == sorted(sound)
    # Within each part the sound began by the picture: it still does.
    second = min(t for t in sound if t > picture[24] + Fraction(1, 50))
    assert abs(second - picture[25]) < Fraction(1, 10)


def test_a2_09_late_beginning_of_one_stream(tmp_path: Path) -> None:
    plain, source = tmp_path / "plain.mp4", tmp_path / "late.mp4"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "aac", plain)
    ffmpeg("-itsoffset", "0.4", "-i", plain, "-i", plain, "-map", "0:v", "-map", "1:a", "-c", "copy", source)
    before = read(source)
    assert before.pts[0] == Fraction(2, 5)
    transcode(source, tmp_path / "out.mp4", FAST)
    gap = before.pts[0] - stamps(source, 1)[0]
    assert abs(read(tmp_path / "out.mp4").pts[0] - stamps(tmp_path / "out.mp4", 1)[0] - gap) <= MS
    assert_same_times(before, read(tmp_path / "out.mp4"))


def test_a2_10_frames_cut_off_by_an_edit_list_stay_hidden(tmp_path: Path) -> None:
    plain, source = tmp_path / "plain.mp4", tmp_path / "cut.mp4"
    ffmpeg(*PATTERN, *TONE, *X264, "-g", "100", "-c:a", "aac", plain)
    ffmpeg("-ss", "0.5", "-i", plain, "-c", "copy", source)
    with av.open(str(source)) as container:
        assert sum(1 for p in container.demux(video=0) if p.size) > 13
    film = read(source)
    assert film.n in (12, 13) and film.pts[0] == 0
    times_pass(source, tmp_path)


def test_a2_11_offset_between_streams_survives_fragments(tmp_path: Path) -> None:
    plain, source = tmp_path / "plain.mp4", tmp_path / "frag.mp4"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "aac", plain)
    late = ["-itsoffset", "0.4", "-i", plain, "-i", plain, "-map", "0:v", "-map", "1:a", "-c", "copy"]
    ffmpeg(*late, "-movflags", "frag_keyframe+delay_moov", source)
    before = read(source)
    transcode(source, tmp_path / "out.mkv", FAST)
    after = read(tmp_path / "out.mkv")
    gap = before.pts[0] - stamps(source, 1)[0]
    assert abs(after.pts[0] - stamps(tmp_path / "out.mkv", 1)[0] - gap) <= 2 * MS
    assert_same_times(before, after, MS)


def test_a2_12_broadcast_clock_begins_at_zero_for_all_streams(tmp_path: Path) -> None:
    source = tmp_path / "late.ts"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "aac", "-output_ts_offset", "3600", source)
    with av.open(str(source)) as container:
        origin = Fraction(container.start_time, av.time_base)
        assert origin > 3600
        first = min(f.pts for f in container.decode(video=0)) * TICK
    film = read(source)
    assert abs(film.pts[0] - (first - origin)) <= TICK
    transcode(source, tmp_path / "out.mp4", FAST)
    gap = first - stamps(source, 1)[0]
    out = tmp_path / "out.mp4"
    assert abs(read(out).pts[0] - stamps(out, 1)[0] - gap) <= MS


def test_a2_13_wrapped_clock_goes_on_rising(tmp_path: Path) -> None:
    source = tmp_path / "wrap.ts"
    wrap = str(2**33 / 90000 - 1.9)
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "aac", "-output_ts_offset", wrap, source)
    film = read(source)
    assert film.n == 25
    assert film.pts == sorted(film.pts) and film.pts[-1] < 2
    times_pass(source, tmp_path)


def test_a2_08_long_gap_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "gap.mkv"
    ffmpeg(*PATTERN, "-vf", "setpts='(N+400*gte(N,12))/25/TB'", "-fps_mode", "passthrough", *X264, "-bf", "0", source)
    film = read(source)
    assert film.n == 25
    assert film.pts[12] - film.pts[11] > 10
    times_pass(source, tmp_path)


def test_a2_53_steps_back_trust_the_order_of_the_decoder(tmp_path: Path) -> None:
    """Containers without presentation times: packed B-frames in AVI."""
    source = tmp_path / "packed.avi"
    ffmpeg(*PATTERN, "-c:v", "mpeg4", "-q:v", "3", "-bf", "2", "-bsf:v", "mpeg4_unpack_bframes", source)
    film = read(source)
    assert film.n == 25
    assert all(b - a == Fraction(1, 25) for a, b in zip(film.pts, film.pts[1:], strict=False))


@pytest.mark.parametrize("name", ["good.mp4", "good.mkv", "good.ts", "raw.h264"])
def test_cut_is_exact_and_begins_at_zero(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    sound = [] if name == "raw.h264" else [*TONE, "-c:a", "aac"]
    ffmpeg(*PATTERN, *sound, *X264, "-g", "10", source)
    whole = read(source)
    cut = ReadSettings(start=Fraction(3, 10), end=Fraction(7, 10))
    part = read(source, cut)
    wanted = [i for i, t in enumerate(whole.pts) if Fraction(3, 10) <= t < Fraction(7, 10)]
    assert part.n == len(wanted)
    assert [p[0].tobytes() for p in part.planes] == [whole.planes[i][0].tobytes() for i in wanted]
    begins = Fraction(8, 25) if name == "raw.h264" else Fraction(3, 10)  # at a frame where ticks are frames
    assert all(abs(t - (whole.pts[i] - begins)) <= MS for t, i in zip(part.pts, wanted, strict=True))
    if sound:
        transcode(source, tmp_path / "out.mkv", FFV1, cut)
        times = stamps(tmp_path / "out.mkv", 1)
        assert 0 <= times[0] < Fraction(1, 40) and Fraction(3, 10) < times[-1] < Fraction(2, 5)


def test_cut_shortens_captions_and_moves_chapters(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    transcode(many, out, FFV1, ReadSettings(start=0.6, end=0.9))
    assert stamps(out, 4) == [0]
    with av.open(str(out)) as container:
        assert [c["metadata"]["title"] for c in container.chapters()] == ["two"]
        assert container.chapters()[0]["start"] == 0
