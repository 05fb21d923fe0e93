"""Small films with cuts, and batches run as users run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import md5
from io import StringIO
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

from vidrestore.cli import run

BATCH = [sys.executable, "-m", "vidrestore", "batch"]
FAST = ["-vf", "detect=none", "-preset", "ultrafast", "--segment", "8", "--retries", "0"]


def ffmpeg(*args: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *map(str, args)]
    subprocess.run(command, check=True)


@dataclass
class Done:
    """How a command ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def batch(*arguments: str | Path) -> Done:
    """Run a batch command in this process, its workers in their own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            code = run(["batch", *map(str, arguments)])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return Done(code, out.getvalue(), err.getvalue())


def decoded(path: Path) -> list[str]:
    """One line a frame: its time and the hash of its planes."""
    with av.open(str(path), metadata_errors="surrogateescape") as film:
        stream = film.streams.video[0]
        frames = film.decode(stream)
        return [f"{f.pts * f.time_base} {md5(b''.join(bytes(p) for p in f.planes)).hexdigest()}" for f in frames]


def tree(folder: Path) -> set[str]:
    """Every file below a folder but the database's own and the pictures for the report."""
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {name for name in found if not name.startswith((".vidrestore/jobs.sqlite", ".vidrestore/previews/"))}


def published(*names: str) -> set[str]:
    """Films with what lies beside them."""
    return {name + ending for name in names for ending in ("", ".json", ".framemd5")}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 frames in two shots, with B-frames and sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    shots = ["testsrc2=size=96x64:rate=25:duration=0.8", "mandelbrot=size=96x64:rate=25"]
    inputs = [a for shot in shots for a in ("-f", "lavfi", "-i", shot)]
    join = "[1:v]trim=duration=0.64,setpts=PTS-STARTPTS[b];[0:v][b]concat=n=2:v=1[v]"
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=1.44"]
    ffmpeg(*inputs, *sound, "-filter_complex", join, "-map", "[v]", "-map", "2:a", "-c:v", "libx264",
           "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac", path)  # fmt: skip
    return path


@pytest.fixture
def films(clip: Path, tmp_path: Path) -> Callable[[int], Path]:
    """A tree with so many films, no two alike."""

    def make(count: int) -> Path:
        folder = tmp_path / "films"
        for i in range(count):
            path = folder / ("old" if i % 2 else ".") / f"tape {i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = bytearray(clip.read_bytes())
            path.write_bytes(data)
            os.utime(path, ns=(i, i))
        return folder

    return make
