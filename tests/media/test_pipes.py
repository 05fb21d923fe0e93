"""Standard input and output: what a chain of programs needs."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from threading import Event, Thread

import av
import pytest
from media_tools import MS, PATTERN, assert_same_pictures, assert_same_times, ffmpeg, packets, read

PROCESS = str(Path(__file__).parent / "pipe_process.py")


def run(*args: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, PROCESS, *args], input=stdin, capture_output=True, check=False, timeout=60)


def test_matroska_through_both_pipes(many: Path, tmp_path: Path) -> None:
    done = run("-", "-", stdin=many.read_bytes())
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out.mkv"
    out.write_bytes(done.stdout)
    before, after = read(many), read(out)
    assert after.info.codec == "ffv1"
    assert_same_pictures(before, after)
    assert_same_times(before, after, MS)
    for index in range(1, 6):
        assert packets(many, index) == packets(out, index)
    assert len(after.info.chapters) == 2 and [s.kind for s in after.info.streams][-1] == "attachment"


@pytest.mark.parametrize(
    ("form", "family"), [("nut", "nut"), ("mpegts", "mpegts"), ("mp4", "mov"), ("yuv4mpegpipe", "yuv4mpegpipe")]
)
def test_a2_93_other_forms_for_pipes(form: str, family: str, good: Path, tmp_path: Path) -> None:
    codec = {"nut": "ffv1", "yuv4mpegpipe": "wrapped_avframe"}.get(form, "libx264")
    done = run(str(good), "-", form, codec)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out").write_bytes(done.stdout)
    film = read(tmp_path / "out")
    assert film.info.family == family and film.n == 25
    if codec != "libx264":
        assert_same_pictures(read(good), film)


def test_ffmpeg_reads_what_we_write(good: Path, tmp_path: Path) -> None:
    done = run(str(good), "-")
    (tmp_path / "pipe.mkv").write_bytes(done.stdout)
    ffmpeg("-i", tmp_path / "pipe.mkv", "-map", "0", "-c", "copy", tmp_path / "again.mkv")
    assert_same_pictures(read(good), read(tmp_path / "again.mkv"))


def test_a2_89_closed_reader_ends_quietly(noisy: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, PROCESS, str(noisy), "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 141
    assert b"Traceback" not in said


def test_a2_92_mp4_with_its_index_at_the_end(noisy: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    ffmpeg("-stream_loop", "3", "-i", noisy, "-c", "copy", late)  # more than libav keeps to go back in
    done = run("-", "-", stdin=late.read_bytes())
    assert done.returncode == 4
    assert b"mp4 on a pipe needs moov first; write it with -movflags +faststart" in done.stderr
    assert run("-", "-", stdin=noisy.read_bytes()).returncode == 0


def test_a2_94_nothing_on_stdin() -> None:
    done = run("-", "-", stdin=b"")
    assert done.returncode == 4 and b"no data on stdin" in done.stderr and done.stdout == b""


def test_a2_95_a_terminal_is_not_a_film() -> None:
    ours, theirs = os.openpty()
    done = subprocess.run([sys.executable, PROCESS, "-", "-"], stdin=theirs, capture_output=True, check=False)
    os.close(ours), os.close(theirs)
    assert done.returncode == 2 and b"is a terminal" in done.stderr


def test_a2_90_first_frames_leave_before_the_last_come_in(noisy: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg("-stream_loop", "3", "-i", noisy, "-c", "copy", source)
    data = source.read_bytes()
    go_on = Event()
    process = subprocess.Popen([sys.executable, PROCESS, "-", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None

    def feed() -> None:
        assert process.stdin is not None
        process.stdin.write(data[: len(data) // 2])
        process.stdin.flush()
        go_on.wait(30)
        process.stdin.write(data[len(data) // 2 :])
        process.stdin.close()

    feeder = Thread(target=feed)
    feeder.start()
    early = process.stdout.read(100_000)
    assert len(early) == 100_000 and not go_on.is_set()
    go_on.set()
    (tmp_path / "out.mkv").write_bytes(early + process.stdout.read())
    feeder.join()
    assert process.wait() == 0
    assert read(tmp_path / "out.mkv").n == 400


def test_a2_16_shape_of_samples_through_a_pipe(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    ffmpeg(*PATTERN, "-vf", "setsar=16/15", "-c:v", "libx264", "-metadata:s:v", "title=Reel 7", source)
    done = run(str(source), "-")
    assert done.returncode == 0, done.stderr
    (tmp_path / "out.mkv").write_bytes(done.stdout)
    film = read(tmp_path / "out.mkv")
    assert film.info.sar == Fraction(16, 15) and film.n == 25
    assert_same_pictures(read(source), film)


def test_fifo_as_input(good: Path, tmp_path: Path) -> None:
    """A2 row 98: what cannot be sought is read like standard input."""
    fifo, film = tmp_path / "fifo", tmp_path / "in.mkv"
    ffmpeg("-i", good, "-c", "copy", film)
    os.mkfifo(fifo)
    writer = subprocess.Popen(["cp", str(film), str(fifo)])
    assert read(fifo).n == 25
    assert writer.wait() == 0


def test_logging_stays_as_it_was(good: Path) -> None:
    before = av.logging.get_level()
    read(good)
    assert run(str(good.parent / "none.mp4"), "-").returncode == 3
    assert av.logging.get_level() == before
