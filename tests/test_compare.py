"""A film beside its source: every sample of both, in native planes, as viewers see left and right."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from vidrestore import cli
from vidrestore.media.reader import PyAVDecoder
from vidrestore.notes import Notes
from vidrestore.types import Frame

# A face in the middle of every frame, and a restorer that turns its tones over.
PLUGINS = """
import numpy as np
from pydantic import BaseModel
from vidrestore.api import Faces


class Nothing(BaseModel):
    model_config = {"frozen": True, "extra": "forbid"}


class Middle:
    Options, side, every = Nothing, 640, 1

    def __init__(self, options): ...
    def open(self, device): ...

    def detect(self, images):
        _, h, w, _ = images.shape
        points = np.array([[-9, -8], [9, -8], [0, 2], [-7, 10], [7, 10]], np.float32) + (w / 2, h / 2)
        box = np.array([[w / 2 - 20, h / 2 - 20, w / 2 + 20, h / 2 + 20]], np.float32)
        one = np.ones(1, np.float32)
        return [Faces(box, points[None].astype(np.float32), one, np.full(1, -1, np.int64)) for _ in images]


class Over:
    Options, size, latents = Nothing, 64, ()

    def __init__(self, options): ...
    def open(self, device): ...

    def restore(self, faces, ctx):
        return 1 - faces.crops
        yield
"""


def changed(folder: Path) -> list[str]:
    file = folder / "turned.py"
    file.write_text(PLUGINS)
    steps = f"detect={file}:Middle,restore={file}:Over,smooth=none,gate=quality:off,blend=feather:color=0:strength=1"
    return ["-vf", steps, "-c:v", "ffv1", "--progress", "none"]


def made(path: Path, pix_fmt: str, size: str = "96x64", *more: str) -> Path:
    pattern = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10:duration=1"]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        *pattern,
        "-c:v",
        "ffv1",
        "-pix_fmt",
        pix_fmt,
        *more,
        path,
    ]
    subprocess.run(command, check=True)
    return path


def frames(path: Path) -> list[Frame]:
    with PyAVDecoder(PyAVDecoder.Options()).open(str(path), Notes()) as film:
        return list(film.frames())


@pytest.mark.parametrize(
    ("pix_fmt", "size"), [("yuv420p", "96x64"), ("yuv422p10le", "96x64"), ("gbrp", "97x65"), ("yuv420p", "97x65")]
)
def test_both_halves_hold_every_sample(pix_fmt: str, size: str, tmp_path: Path) -> None:
    film = made(tmp_path / "film.mkv", pix_fmt, size)
    assert cli.run([str(film), "-o", str(tmp_path / "r.mkv"), *changed(tmp_path)]) == 0
    assert cli.run([str(film), "-o", str(tmp_path / "c.mkv"), *changed(tmp_path), "--compare", "side"]) == 0
    source, restored, both = (frames(tmp_path / name) for name in ("film.mkv", "r.mkv", "c.mkv"))
    assert len(both) == len(source) == len(restored)
    for a, b, c in zip(source, restored, both, strict=True):
        assert c.pts == b.pts
        for x, y, z in zip(a.planes, b.planes, c.planes, strict=True):
            height, half = z.shape[0], z.shape[1] // 2
            assert np.array_equal(z[:, :half], x[:height, :half]) and np.array_equal(z[:, half:], y[:height, :half])
            assert abs(half - x.shape[1]) <= 1 and abs(height - x.shape[0]) <= 1
        assert not np.array_equal(a.planes[0], b.planes[0]), "the film was changed at all"


def test_a_wipe_shows_the_source_left_of_its_line(tmp_path: Path) -> None:
    film = made(tmp_path / "film.mkv", "yuv420p")
    assert cli.run([str(film), "-o", str(tmp_path / "r.mkv"), *changed(tmp_path)]) == 0
    assert cli.run([str(film), "-o", str(tmp_path / "c.mkv"), *changed(tmp_path), "--compare", "wipe"]) == 0
    source, restored, both = (frames(tmp_path / name) for name in ("film.mkv", "r.mkv", "c.mkv"))
    lines = []
    for a, b, c in zip(source, restored, both, strict=True):
        luma = c.planes[0]
        (bright,) = np.nonzero((luma == 255).all(0))
        at = int(bright[0])
        lines.append(at)
        assert np.array_equal(luma[:, :at], a.planes[0][:, :at])
        assert np.array_equal(luma[:, at + 2 :], b.planes[0][:, at + 2 :])
    assert lines == sorted(lines) and lines[0] == 0 and lines[-1] > 30


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_left_is_the_viewers_left(turn: int, tmp_path: Path) -> None:
    plain = made(tmp_path / "plain.mkv", "yuv420p")
    film = tmp_path / "turned.mov"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", str(turn), "-i", plain]
    subprocess.run([*command, "-c:v", "libx264", "-qp", "0", film], check=True)
    assert cli.run([str(film), "-o", str(tmp_path / "c.mkv"), *changed(tmp_path), "--compare", "side"]) == 0
    from vidrestore.media.colour import upright_rgb

    source, both = frames(film)[0], frames(tmp_path / "c.mkv")[0]
    want, seen = upright_rgb(source).astype(int), upright_rgb(both).astype(int)
    assert seen.shape == (want.shape[0], 2 * want.shape[1], 3)
    assert np.abs(seen[:, : want.shape[1]] - want).mean() < 1
    assert np.abs(seen[:, want.shape[1] :] - want).mean() > 5


def test_its_name_is_its_own_and_a_pipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = made(tmp_path / "film.mkv", "yuv420p")
    assert cli.run([str(film), *changed(tmp_path), "--compare", "side"]) == 0
    assert (tmp_path / "film.compare.mkv").exists() and not (tmp_path / "film.restored.mkv").exists()
    assert cli.run(["-", "-o", str(tmp_path / "o.mkv"), "--compare", "side"]) == 2
    assert "name a file" in capsys.readouterr().err
