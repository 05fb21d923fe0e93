"""decode=decord looks at single pictures, of films that it reads as libav does, and at nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_tools import PATTERN, X264, ffmpeg

from vidrestore import cli
from vidrestore.errors import InputMediaError
from vidrestore.media.colour import upright_rgb
from vidrestore.media.reader import PyAVDecoder, ReadSettings, read_info
from vidrestore.media.sampling import film_extent, pictures_at
from vidrestore.notes import Notes
from vidrestore_plugins.decode.decord import DecordDecoder

# Peak memory, MB, of a process that looks at n pictures of a film.
LOOK = """
import resource, sys
from vidrestore.media.reader import read_info
from vidrestore.notes import Notes
from vidrestore_plugins.decode.decord import DecordDecoder
info = read_info(sys.argv[1], Notes())
n = int(sys.argv[2])
for frame in DecordDecoder(DecordDecoder.Options()).sample(info, [i * float(info.duration) / n for i in range(n)]):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def sampled(path: Path, seconds: list[float]) -> list[tuple[float, np.ndarray]]:
    info = read_info(str(path), Notes())
    return [(f.seconds, upright_rgb(f)) for f in DecordDecoder(DecordDecoder.Options()).sample(info, seconds)]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, a key frame every ten frames."""
    path = tmp_path_factory.mktemp("decord") / "film.mp4"
    picture = "testsrc2=size=96x64:rate=25:duration=3,setparams=colorspace=smpte170m:range=tv"
    ffmpeg("-f", "lavfi", "-i", picture, *X264, "-g", "10", path)
    return path


def test_pictures_are_those_of_libav_at_these_times(film: Path) -> None:
    found = sampled(film, [0.0, 0.5, 1.3, 2.9])
    assert [round(t, 2) for t, _ in found] == [0.0, 0.4, 1.2, 2.8], "the key frames nearest"
    decoder = PyAVDecoder(PyAVDecoder.Options(threads=1))
    theirs = list(pictures_at(decoder, str(film), ReadSettings(), [t for t, _ in found]))
    apart = [[np.abs(upright_rgb(f).astype(int) - picture).mean() for f in theirs] for _, picture in found]
    for i, row in enumerate(apart):  # chroma is enlarged in another way: not equal, but by far the nearest
        assert row[i] < 8 and row[i] < 0.7 * min(row[:i] + row[i + 1 :]), row
    assert film_extent(read_info(str(film), Notes())) == (75, 0.0, pytest.approx(2.96))


def test_a_run_is_refused_with_what_it_is_for(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mkv"
    assert cli.run([str(film), "-o", str(out), "-vf", "decode=decord,detect=none"]) == 2
    said = capsys.readouterr().err
    assert "decode=decord: gives 8-bit pictures to look at ('vidrestore plan'), not the frames of a run" in said
    assert not out.exists()


def test_what_it_misreads_is_refused_in_a_line(film: Path, tmp_path: Path) -> None:
    cut, ten, turned, ts, broken = (tmp_path / n for n in ("cut.mp4", "ten.mkv", "turned.mp4", "film.ts", "broken.mp4"))
    ffmpeg("-ss", "0.5", "-i", film, "-c", "copy", cut)  # an edit list leaves pictures out
    ffmpeg(*PATTERN, "-c:v", "ffv1", "-pix_fmt", "yuv420p10le", ten)
    ffmpeg("-display_rotation", "90", "-i", film, "-c", "copy", turned)
    ffmpeg("-i", film, "-c", "copy", ts)
    data = bytearray(film.read_bytes())
    at = data.index(b"mdat") + 3000
    data[at : at + 9000] = bytes(9000)
    broken.write_bytes(data)
    why = {
        cut: "it counts",
        ten: "have 10 bits",
        turned: "stored turned",
        ts: "container is mpegts",
        broken: "decode it",
    }
    for path, words in why.items():
        with pytest.raises(InputMediaError, match=f"decord is not asked: .*{words}"):
            sampled(path, [0.1, 0.6])


def test_memory_does_not_grow_with_what_it_looks_at(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    source = "testsrc2=size=1280x720:rate=25:duration=8"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", path)

    def peak(n: int) -> int:
        return int(subprocess.run([sys.executable, "-c", LOOK, path, str(n)], capture_output=True, check=True).stdout)

    assert peak(48) < peak(4) + 60, "200 frames of it are 553 MB as RGB"
