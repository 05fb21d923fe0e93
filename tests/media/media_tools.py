"""Small files made by ffmpeg, and films read, written and compared in one line."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

from vidrestore import cli
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.planes import editable
from vidrestore.media.probe import MediaInfo
from vidrestore.media.reader import PyAVDecoder, ReadSettings
from vidrestore.media.writer import PyAVEncoder
from vidrestore.notes import Notes

FFV1 = EncodeSettings(codec="ffv1")
FAST = EncodeSettings(codec="libx264", options={"preset": "ultrafast"})
PATTERN = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1"]
TONE = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=1"]
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p"]


def ffmpeg(*args: str | Path) -> None:
    """Run ffmpeg; its words are in the failure."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def decoder(threads: int = 0) -> PyAVDecoder:
    return PyAVDecoder(PyAVDecoder.Options(threads=threads))


@dataclass
class Film:
    """A film read to its end."""

    info: MediaInfo
    pts: list[Fraction]  # seconds
    durations: list[Fraction]
    planes: list[tuple[Any, ...]]
    cuts: list[int]
    corrupt: int
    bad_packets: int
    ts_fixed: int
    failure: Exception | None
    notes: Notes

    @property
    def n(self) -> int:
        return len(self.pts)


def read(path: Path | str, settings: ReadSettings | None = None) -> Film:
    """Decode a whole film, keeping copies of its planes."""
    notes = Notes()
    pts, durations, planes, cuts = [], [], [], []
    with decoder().open(str(path), notes, settings=settings) as film:
        for frame in film.frames():
            pts.append(frame.pts * frame.time_base)
            durations.append(frame.duration * frame.time_base)
            planes.append(tuple(p.copy() for p in frame.planes))
            if frame.cut:
                cuts.append(frame.index)
        counts = film.corrupt_frames, film.bad_packets, film.ts_fixed
        return Film(film.info, pts, durations, planes, cuts, *counts, film.failure, notes)


@dataclass
class Copy:
    """What a run gave."""

    target: Path
    summary: Any
    failure: Exception | None
    notes: Notes
    shift: Fraction
    said: list[str] = field(default_factory=list)


def transcode(
    source: Path | str,
    target: Path,
    encode: EncodeSettings = FFV1,
    settings: ReadSettings | None = None,
    *,
    overwrite: bool = False,
    touch: bool = False,
    keep: list[tuple[Any, ...]] | None = None,
) -> Copy:
    """Read a film and write it; ``touch`` takes every frame through ``editable``, ``keep`` gets copies of planes."""
    said: list[str] = []
    notes = Notes(said.append)
    with decoder().open(str(source), notes, settings=settings) as film:
        with PyAVEncoder().open(target, film, encode, notes, overwrite=overwrite) as sink:
            for frame in film.frames():
                if keep is not None:
                    keep.append(tuple(p.copy() for p in frame.planes))
                sink.write(editable(frame) if touch else frame)
            sink.finish()
        return Copy(target, sink.summary, film.failure, notes, film.shift, said)


def assert_same_pictures(a: Film, b: Film) -> None:
    assert a.n == b.n
    for i, (x, y) in enumerate(zip(a.planes, b.planes, strict=True)):
        assert len(x) == len(y), f"frame {i}: {len(x)} and {len(y)} planes"
        for k, (p, q) in enumerate(zip(x, y, strict=True)):
            assert p.dtype == q.dtype and np.array_equal(p, q), f"frame {i}, plane {k} differs"


def assert_same_times(a: Film, b: Film, tolerance: Fraction = Fraction(0)) -> Fraction:
    """Time stamps equal after one common shift, which is given back."""
    assert a.n == b.n
    shift = b.pts[0] - a.pts[0]
    worst = max(abs(y - x - shift) for x, y in zip(a.pts, b.pts, strict=True))
    assert worst <= tolerance, f"times differ by up to {float(worst)} s"
    return shift


def open_files() -> set[str]:
    """Numbers of this process's open files."""
    return {p.name for p in Path("/proc/self/fd").iterdir()}


def with_messages(stream: bytes, messages: Iterator[bytes], *, hevc: bool = False) -> bytes:
    """A raw stream (H.264 or HEVC, one slice a picture) with a registered user message (SEI of ITU-T T.35) before each
    picture."""
    out = b""
    for unit in re.split(rb"\x00\x00\x00?\x01", stream)[1:]:
        kind = unit[0] >> 1 & 63 if hevc else unit[0] & 31
        if kind < 32 if hevc else kind in (1, 5):
            message = next(messages)
            body = re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", bytes([4, len(message)]) + message + b"\x80")
            out += b"\0\0\0\1" + (b"\x4e\x01" if hevc else b"\x06") + body
        out += b"\0\0\0\1" + unit
    return out


def packets(path: Path, index: int) -> list[bytes]:
    """The bytes of a stream's packets."""
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams[index]) if p.size]


def stamps(path: Path, index: int) -> list[Fraction]:
    """The times of a stream's packets, seconds."""
    with av.open(str(path)) as container:
        stream = container.streams[index]
        return [p.pts * p.time_base for p in container.demux(stream) if p.size and p.pts is not None]


MS = Fraction(1, 1000)  # Matroska counts in these: every stamp is rounded to one, shifts too


def refused(good: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """What is said of a command that must not begin (SOURCE -o TARGET ..., code 2), beside good.mp4 and a FIFO in the
    current folder: one line, and nothing is left but a record."""
    Path("good.mp4").write_bytes(good.read_bytes())
    os.mkfifo("fifo")
    assert cli.run(arguments) == 2
    said = capfd.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert {p.name for p in Path.cwd().iterdir()} <= {"good.mp4", "fifo", f"{arguments[2]}.json"}
    return said.err


_FAILING = """
import av
from vidrestore.media.encoder import LibavCoders
from vidrestore.media.writer import PyAVEncoder

class Coders(LibavCoders):
    def coder(self, plan, subject):
        coder = super().coder(plan, subject)
        encode, count = coder.encode, iter(range(1000))
        def until(picture):
            if next(count) == AT and subject.endswith(OF):
                raise av.error.ExternalError(542398533, "Generic error in an external library")
            return encode(picture)
        coder.encode = until
        return coder

class Failing(PyAVEncoder):
    def open(self, *args, **more):
        return super().open(*args, coders=Coders(), **more)
"""


def failing(folder: Path, at: int, of: str = "") -> str:
    """A chain with a plugin that codes as libav does, up to some picture (the one after the last is the film's end) of
    outputs whose names end so."""
    (folder / "failing.py").write_text(_FAILING.replace("AT", str(at)).replace("OF", repr(of)))
    return f"detect=none,encode={folder}/failing.py:Failing"
