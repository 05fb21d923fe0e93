"""Interlaced film in segments: faces field by field, all else as it was, and that proven."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import av
import imageio_ffmpeg
import numpy as np
import pytest
from conftest import batch
from skimage.data import astronaut

from vidrestore.cli import run

if TYPE_CHECKING:
    from pathlib import Path

STEPS = "restore=classic:size=128,smooth=none,blend=feather:strength=1"
FRAMES = 24


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that moves from field to field, the lower field first."""
    import subprocess

    folder = tmp_path_factory.mktemp("tape")
    face = astronaut()[0:220, 100:350]
    with av.open(str(folder / "fields.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=50)
        stream.width, stream.height, stream.pix_fmt = 400, 240, "yuv420p"
        for i in range(2 * FRAMES):
            picture = np.full((240, 400, 3), 90, np.uint8)
            picture[10:230, 5 + 2 * i : 255 + 2 * i] = face
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", folder / "fields.mkv"]
    coded = ["-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "bff=1", "-crf", "20", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-vf", "tinterlace=interleave_bottom", *coded, folder / "tape.mkv"], check=True)
    return folder / "tape.mkv"


def luma(path: Path) -> tuple[np.ndarray, set[bool]]:
    """u8 [t, h, w], and whether pictures are flagged interlaced."""
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
    return np.stack([f.to_ndarray()[:240] for f in frames]), {f.interlaced_frame for f in frames}


def test_a_tape_is_restored_field_by_field_in_segments(tape: Path, tmp_path: Path) -> None:
    done = batch("run", tape, "-o", tmp_path / "out", "-vf", STEPS, "-c:v", "ffv1", "--masks", "--segment", "16")
    assert done.returncode == 0, done.stderr
    assert "interlaced" not in done.stderr, "nothing that anyone must do something about"
    record = json.loads((tmp_path / "out" / "tape.restored.mkv.json").read_text())
    assert record["frames_out"] == FRAMES == record["masks"]["frames"]
    assert any("field by field" in note["text"] for note in record["notes"])
    assert record["masks"]["outside"]["of"] == "the output, decoded", "outside the masks each sample is the source's"
    before, flags = luma(tape)
    after, flags_after = luma(tmp_path / "out" / "tape.restored.mkv")
    assert flags == flags_after == {True}
    assert after.shape == before.shape
    assert run([str(tape), "-o", str(tmp_path / "whole.mkv"), "-vf", STEPS, "-c:v", "ffv1", "--progress", "none"]) == 0
    whole, _ = luma(tmp_path / "whole.mkv")
    assert np.array_equal(after[:16], whole[:16]), "the first segment"
    assert np.abs(after.astype(int) - whole)[17:].mean() < 0.1
    moved = (after != before).mean((1, 2))
    assert moved.min() > 0.03


def test_deinterlacing_makes_a_frame_of_every_field(tape: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    assert run([str(tape), "-o", str(target), "-vf", STEPS, "--deinterlace", "--progress", "none"]) == 0
    film, flags = luma(target)
    assert len(film) == 2 * FRAMES and flags == {False}
    fields = tape.with_name("fields.mkv")
    assert run([str(fields), "-o", str(tmp_path / "same.mkv"), "-vf", "detect=none", "--deinterlace"]) == 0
    assert len(luma(tmp_path / "same.mkv")[0]) == 2 * FRAMES, "a film without fields has no more frames than before"
