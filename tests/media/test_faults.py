"""Broken, locked and foreign inputs: read as far as they go, or refused in one line with the right code."""

from __future__ import annotations

import os
import re
from pathlib import Path

import av
import pytest
from media_tools import (
    FAST,
    FFV1,
    PATTERN,
    TONE,
    X264,
    assert_same_pictures,
    decoder,
    ffmpeg,
    open_files,
    read,
    transcode,
)

from vidrestore.errors import InputMediaError, RunError, VidrestoreError
from vidrestore.media.planes import editable
from vidrestore.media.reader import ReadSettings, read_info
from vidrestore.media.writer import PyAVEncoder
from vidrestore.notes import Notes


def refused(path: Path | str, code: int, first: str) -> VidrestoreError:
    with pytest.raises(VidrestoreError) as caught:
        read(path)
    assert caught.value.exit_code == code
    assert re.search(first, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a2_47_missing_moov(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(data[: data.index(b"moov") - 4])
    refused(broken, 4, "clip.mp4: moov atom missing .recording was cut off|moov atom missing")


def test_a2_48_truncated_mp4(noisy: Path, tmp_path: Path) -> None:
    data = noisy.read_bytes()
    broken = tmp_path / "cut.mp4"
    broken.write_bytes(data[: len(data) * 6 // 10])
    film = read(broken)
    assert 40 < film.n < 70
    assert film.failure is not None and film.failure.exit_code == 6
    assert re.search(r"input ends at \d\.\d s of 4\.0 s", str(film.failure))
    copy = transcode(broken, tmp_path / "out.mp4", FAST)
    assert copy.failure is not None
    assert read(tmp_path / "out.mp4").n == film.n
    kept = read(broken, ReadSettings(keep_going=True))
    assert kept.failure is None and kept.notes.count("input_partial") == 1
    with pytest.raises(RunError):
        read(broken, ReadSettings(strict=True))


def test_a2_48_threads_lose_no_sound_frame_before_the_break(noisy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cut.mp4"
    broken.write_bytes(noisy.read_bytes()[: noisy.stat().st_size // 2])
    with av.open(str(broken)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        count = 0
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_corrupt:
                    count += len(stream.decode(packet))
        except av.InvalidDataError:
            pass
        count += len(stream.decode(None))
    assert read(broken).n == count


@pytest.mark.parametrize("suffix", [".mkv"])
def test_a2_49_truncated_without_an_error(suffix: str, noisy: Path, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    ffmpeg("-i", noisy, "-c", "copy", whole)
    broken = tmp_path / f"cut{suffix}"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    film = read(broken)
    assert 30 < film.n < 70
    assert film.failure is not None and film.failure.exit_code == 6
    assert re.search(r"input ends at \d\.\d s of 4\.0 s", str(film.failure))
    assert read(whole).failure is None


def test_a2_49_half_a_broadcast_is_a_broadcast(noisy: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.ts", tmp_path / "part.ts"
    ffmpeg("-i", noisy, "-c", "copy", whole)
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    film = read(part)
    assert 30 < film.n < 70 and film.failure is None
    transcode(part, tmp_path / "out.mp4", FAST)
    assert read(tmp_path / "out.mp4").n == film.n


def test_a2_50_bit_errors_are_counted(noisy: Path, tmp_path: Path) -> None:
    data = bytearray(noisy.read_bytes())
    begin = data.index(b"mdat") + 20_000
    for i in range(40):
        data[begin + i * (len(data) - begin) // 45] ^= 0xFF
    broken = tmp_path / "flipped.mp4"
    broken.write_bytes(data)
    film = read(broken)
    assert film.n > 90
    assert film.corrupt + film.bad_packets > 0
    assert film.notes.count("corrupt_frame") == film.corrupt
    with pytest.raises(RunError, match="run without --strict"):
        read(broken, ReadSettings(strict=True))


def test_a2_51_no_key_frame_at_the_start(noisy: Path, tmp_path: Path) -> None:
    whole, source = tmp_path / "whole.mkv", tmp_path / "off.mkv"
    ffmpeg("-i", noisy, "-an", "-c", "copy", "-bsf:v", "noise=drop='lt(n,3)'", whole)
    whole.rename(source)
    film = read(source)
    assert 0 < film.n < 100
    assert film.pts == sorted(film.pts)
    said = next(n.text for n in film.notes.all() if n.kind == "no_key_frame")
    assert re.fullmatch(r"its first \d+ pictures come before any key frame; those that .* are left out", said)
    assert read(noisy).notes.count("no_key_frame") == 0


def test_a2_52_a_bad_packet_does_not_end_the_film(noisy: Path, tmp_path: Path) -> None:
    with av.open(str(noisy)) as container:
        packet = [p for p in container.demux(video=0) if p.size][60]
        position, size = packet.pos, packet.size
    data = bytearray(noisy.read_bytes())
    data[position : position + size] = b"\xff" * size
    broken = tmp_path / "hole.mp4"
    broken.write_bytes(data)
    film = read(broken)
    assert film.n >= 97
    assert film.bad_packets == 1
    assert film.pts[-1] > 3.9
    assert film.failure is not None and "1 packet cannot be decoded" in str(film.failure)


def test_a2_55_no_video_stream(tmp_path: Path) -> None:
    song = tmp_path / "song.m4a"
    ffmpeg(*TONE, "-c:a", "aac", song)
    refused(song, 4, "song.m4a: no video stream$")


def test_a2_54_only_a_cover_is_no_video(tmp_path: Path, good: Path) -> None:
    cover, song = tmp_path / "cover.jpg", tmp_path / "song.m4a"
    ffmpeg("-i", good, "-frames:v", "1", "-update", "1", cover)
    ffmpeg(*TONE, "-i", cover, "-map", "0", "-map", "1", "-c:a", "aac", "-c:v", "copy",
           "-disposition:v", "attached_pic", song)  # fmt: skip
    refused(song, 4, "no video stream .only a cover picture")


def test_a2_73_one_frame(tmp_path: Path) -> None:
    source = tmp_path / "one.mp4"
    ffmpeg(*PATTERN, "-frames:v", "1", *X264, source)
    before = read(source)
    assert before.n == 1 and before.durations[0] > 0
    transcode(source, tmp_path / "out.mp4", FAST)
    after = read(tmp_path / "out.mp4")
    assert after.n == 1 and after.durations == before.durations


def test_a2_74_zero_frames_leave_no_file(tmp_path: Path) -> None:
    empty, target = tmp_path / "empty.mkv", tmp_path / "out.mkv"
    with av.open(str(empty), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputMediaError, match=r"empty.mkv: no frames"):
        transcode(empty, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.mkv"]


def test_a2_75_tiny_pictures(tmp_path: Path) -> None:
    source = tmp_path / "tiny.mkv"
    ffmpeg(*PATTERN, "-vf", "scale=2:2", *X264, source)
    assert transcode(source, tmp_path / "out.mp4", FAST).summary.frames == 25
    dot = tmp_path / "dot.mkv"
    ffmpeg(*PATTERN, "-vf", "scale=1:1", "-c:v", "ffv1", "-level", "1", "-pix_fmt", "yuv444p", dot)
    film = read(dot)
    transcode(dot, tmp_path / "dot_out.mkv")
    assert_same_pictures(film, read(tmp_path / "dot_out.mkv"))


@pytest.mark.parametrize(
    "name",
    ["with space.mp4", "it's.mp4", 'double"quote.mp4', "new\nline.mp4", "Фильм_顔_é.mp4", "-dash.mp4", "%03d.mp4",
     "a:b=c,d;e.mp4", "http:x.mp4", "star*[x]?.mp4", "back\\slash.mp4", "UPPER.MP4", "noextension", "n" * 240 + ".mp4",
     os.fsdecode(b"bad_\xff_utf8.mp4")],
)  # fmt: skip
def test_a2_78_names(name: str, good: Path, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(good.read_bytes())
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / (name if name != "noextension" else "x.mp4")
    transcode(source, target, FAST)
    assert read(target).n == 25
    assert [p.name for p in (tmp_path / "out").iterdir()] == [target.name]


@pytest.mark.parametrize(
    "name", ["http://host/x.mp4", "rtsp://host/x", "concat:a.ts|b.ts", "subfile,,start,0,end,9,,:x.mp4"]
)
def test_a2_79_addresses_are_refused(name: str) -> None:
    refused(name, 3, "refused|no such file")


@pytest.mark.parametrize(
    ("name", "text"),
    [("list.m3u8", "#EXTM3U\n#EXTINF:1,\n{}\n"), ("list.ffconcat", "ffconcat version 1.0\nfile '{}'\n"),
     ("x.mpd", '<?xml version="1.0"?>\n<MPD>{}</MPD>'), ("x.sdp", "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns={}\r\n"),
     ("renamed.mp4", "#EXTM3U\n{}\n")],
)  # fmt: skip
def test_a2_80_playlists_are_refused(name: str, text: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text.format(good))
    refused(path, 3, "playlists are refused")


def test_a2_98_what_cannot_be_read(tmp_path: Path) -> None:
    refused(tmp_path / "none.mp4", 3, "none.mp4: no such file")
    refused(tmp_path, 3, "is a directory; use vidrestore batch")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    refused(tmp_path / "dangling.mp4", 3, "no such file")


@pytest.mark.parametrize(("data", "what"), [(b"", "is empty"), (b"just words, no film\n" * 20, "is not a media file")])
def test_a2_107_not_media(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(data)
    refused(path, 4, what)


def test_a2_107_opened_by_content(good: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "film.avi"
    ffmpeg("-i", good, "-c", "copy", "-f", "matroska", wrong)
    assert read_info(str(wrong), Notes()).family == "matroska"


def test_a2_106_encrypted(good: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.mp4"
    key = ["-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"]
    ffmpeg("-i", good, "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, locked)
    refused(locked, 4, "stream is encrypted")


def test_a2_69_tags_that_are_not_utf8(good: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked.mp4"
    ffmpeg("-i", good, "-c", "copy", "-metadata", "title=QQQQ", marked)
    marked.write_bytes(marked.read_bytes().replace(b"QQQQ", b"\xe9\xff\xfeQ"))
    assert transcode(marked, tmp_path / "out.mp4", FAST).summary.frames == 25
    assert b"\xe9\xff\xfeQ" in (tmp_path / "out.mp4").read_bytes()


@pytest.mark.parametrize("change", ["size", "format"])
def test_a2_44_45_change_in_mid_stream(change: str, tmp_path: Path) -> None:
    second = {"size": ["-vf", "scale=192:128"], "format": ["-pix_fmt", "yuv422p"]}[change]
    parts = []
    for i, how in enumerate(([], second)):
        ffmpeg(*PATTERN, *X264, *how, "-bf", "0", "-output_ts_offset", str(i), tmp_path / f"{i}.ts")
        parts.append((tmp_path / f"{i}.ts").read_bytes())
    source = tmp_path / "change.ts"
    source.write_bytes(b"".join(parts))
    film = read(source)
    assert film.n == 50 and film.cuts == [25]
    assert {p[0].shape for p in film.planes} == {(64, 96)} and {p[1].shape for p in film.planes} == {(32, 48)}
    assert film.notes.count("picture_changed") == 1
    assert abs(int(film.planes[24][0].mean()) - int(film.planes[25][0].mean())) < 20
    transcode(source, tmp_path / "out.mkv")
    assert_same_pictures(film, read(tmp_path / "out.mkv"))


def test_a2_103_input_changes_while_it_is_read(noisy: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(noisy.read_bytes())
    with decoder().open(str(source), Notes()) as film:
        for frame in film.frames():
            if frame.index == 50:
                with source.open("ab") as file:
                    file.write(b"more")
    assert film.failure is not None and "input changed while reading" in str(film.failure)


@pytest.mark.slow
def test_a2_72_memory_is_flat(good: Path, tmp_path: Path) -> None:
    """A long film through reader and writer: after the first tenth nothing grows any more."""
    source = tmp_path / "long.mp4"
    ffmpeg("-stream_loop", "199", "-i", good, "-c", "copy", source)
    used, notes = [], Notes()
    with decoder().open(str(source), notes) as film, PyAVEncoder().open(tmp_path / "o.mkv", film, FFV1, notes) as sink:
        for frame in film.frames():
            sink.write(editable(frame) if frame.index % 3 else frame)
            if frame.index % 500 == 499:
                used.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
        sink.finish()
    assert len(used) == 10
    assert max(used[1:]) - used[0] < 12 << 20


def test_a2_72_packets_and_files_do_not_grow(good: Path, tmp_path: Path) -> None:
    """Sixty times as long a film: no more packets wait beside the frames, and every file is closed."""
    source = tmp_path / "long.mp4"
    ffmpeg("-stream_loop", "59", "-i", good, "-c", "copy", source)
    waiting = []
    before = open_files()
    with decoder().open(str(source), Notes()) as film:
        for frame in film.frames():
            waiting.append(len(film.copied))
            film.copied.take(frame.index)
        open_now = open_files() - before
    assert len(waiting) == 1500
    assert max(waiting[100:]) <= max(waiting[:100]) + 2
    assert len(open_now) < 8
    assert open_files() <= before
