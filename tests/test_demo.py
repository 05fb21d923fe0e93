"""The demonstration: its clip, and the command for somebody with no film at hand."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from vidrestore.cli.demo import NAMES
from vidrestore.demo import clip
from vidrestore.errors import OutputError
from vidrestore.media.making import read_frames, write_film

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidrestore", "demo", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as film:
        return [bytes(p) for p in film.demux(audio=0) if p.size]


def ramp(count: int) -> NDArray[np.uint8]:
    """Smooth pictures that move."""
    y, x = np.mgrid[:48, :64]
    frames = [np.stack([2 * x + 5 * t, 3 * y + 40, x + y + 3 * t], -1) for t in range(count)]
    return np.stack(frames).astype(np.uint8)


def test_the_picture_is_small_and_its_origin_is_told() -> None:
    folder = files("vidrestore.demo")
    assert len((folder / "portrait.jpg").read_bytes()) < 80_000
    assert "public domain" in (folder / "README.md").read_text()


def test_the_portrait_moves_and_fills_the_picture() -> None:
    frames = clip.moving()
    assert frames.shape == (clip.COUNT, clip.HEIGHT, clip.WIDTH, 3) and frames.dtype == np.uint8
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))
    assert steps.min() > 0.3 and steps.max() < 12, "it moves in every frame, and never jumps"
    assert np.abs(clip.tone()).max() < 0.3 and len(clip.tone()) / clip.SOUND_RATE == clip.COUNT / clip.RATE


def test_heads_are_compared_twice_as_large() -> None:
    left = clip.moving()[:2]
    pair = clip.compared(left, 255 - left)
    assert pair.shape == (2, 600, 1088, 3)
    assert np.abs(pair[:, ::2, :544:2].astype(int) - left[clip.CLOSE]).mean() < 6
    assert np.abs(pair[:, :, :544].astype(int) + pair[:, :, 544:] - 255).mean() < 2


def test_a_film_of_arrays_reads_back(tmp_path: Path) -> None:
    path, frames = tmp_path / "film.mp4", ramp(9)
    tone = np.sin(np.arange(9 * 640) / 7).astype(np.float32) / 8
    write_film(path, frames, 25, tone, 16000)
    error = read_frames(path).astype(float) - frames
    assert np.sqrt((error**2).mean()) < 3
    assert np.abs(error.mean((0, 1, 2))).max() < 0.3, "no channel is darker or lighter"
    assert len(sound(path)) >= 6
    with pytest.raises(OutputError, match="exists"):
        write_film(path, frames, 25, tone, 16000)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"], "nothing unfinished is left behind"


def test_a_film_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    odd = ramp(2)[:, :47]
    with pytest.raises(OutputError):
        write_film(tmp_path / "film.mp4", odd, 25, np.zeros(16000, np.float32), 16000)
    assert not list(tmp_path.iterdir())


def test_earlier_files_are_safe_and_a_folder_must_exist(tmp_path: Path) -> None:
    kept = tmp_path / NAMES[2]
    kept.write_text("precious")
    refused = demo("-o", tmp_path)
    assert refused.returncode == 5 and "exists; use -y to replace it" in refused.stderr
    assert [p.name for p in tmp_path.iterdir()] == [NAMES[2]] and kept.read_text() == "precious"
    lost = demo("-o", tmp_path / "none")
    assert lost.returncode == 5 and "no such folder; make it first" in lost.stderr


@pytest.mark.slow
def test_the_command_leaves_three_films(tmp_path: Path) -> None:
    done = demo("-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [str(tmp_path / name) for name in NAMES]
    damaged, restored, compared = (read_frames(tmp_path / name).astype(np.int16) for name in NAMES)
    assert damaged.shape == restored.shape == (clip.COUNT, clip.HEIGHT, clip.WIDTH, 3)
    assert np.abs(compared - clip.compared(*(x.astype(np.uint8) for x in (damaged, restored)))).mean() < 2
    change = np.abs(restored - damaged)
    face, corner = change[30:60, 110:230, 190:290].mean(), change[30:60, :60, :60].mean()
    assert face > 1.3 * corner, "the face changes by more than the encoder's loss"
    assert sound(tmp_path / NAMES[0]) == sound(tmp_path / NAMES[1])
