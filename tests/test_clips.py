"""Real clips and odd files through the whole pipeline: VIDRESTORE_MEDIA names the folder that has them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from vidrestore.config import resolve
from vidrestore.engine.job import Job, run
from vidrestore.engine.scenes import shots
from vidrestore.errors import VidrestoreError, exit_code_of
from vidrestore.media.reader import PyAVDecoder, ReadSettings
from vidrestore.notes import Notes

pytestmark = pytest.mark.media
ROOT = Path(os.environ.get("VIDRESTORE_MEDIA", "/nonexistent"))
CLIPS = sorted(p.name for p in ROOT.glob("faces/*"))
ODD = sorted(p.name for p in ROOT.glob("odd/*"))
SECONDS = 1.2  # of each clip: enough for two windows

# Odd files that must be refused or end early, with their exit codes; all others must work.
REFUSED = {
    "animated.webp": 4, "drm_wmv3.wmv": 4, "encrypted_cenc.mp4": 4,
    "header_only.mkv": 4, "text_renamed.mp4": 4, "theora_2x2.ogv": 4, "vp9_invalid_bitstream.webm": 4,
    "zero_bytes.mp4": 4,
}  # fmt: skip
PARTIAL = {"corrupt_tail.mp4", "rot_sar_truncated.mp4", "wtv_face_truncated.wtv", "cinepak_film_partial.cpk"}


def job(source: Path, target: Path, chain: str, **settings: object) -> Job:
    options = {"c:v": "ffv1"} if chain == "restore=none" else {"preset": "ultrafast"}
    return Job(str(source), str(target), resolve(chain=chain, settings=settings, encoder=options, environment={}))


@pytest.mark.parametrize("name", CLIPS)
def test_the_null_restorer_gives_the_clip_back(name: str, tmp_path: Path) -> None:
    """Faces are found, tracked, cut out and put back, and not one bit of any picture changes."""
    source, target = ROOT / "faces" / name, tmp_path / "out.mkv"
    record = run(job(source, target, "restore=none", end=SECONDS), Notes())
    assert record.tracks, "a face is found in every clip"
    decoder = PyAVDecoder(PyAVDecoder.Options(threads=1))
    cut, first = ReadSettings(end=SECONDS), ReadSettings(video_stream=0)  # a phone's second film is larger
    with decoder.open(str(source), Notes(), settings=cut) as a, decoder.open(str(target), Notes(), settings=first) as b:
        times = []
        for before, after in zip(a.frames(), b.frames(), strict=True):
            assert before.layout.pix_fmt.replace("yuvj", "yuv") == after.layout.pix_fmt.replace("yuvj", "yuv")
            assert before.layout.full_range == after.layout.full_range
            assert all(np.array_equal(p, q) for p, q in zip(before.planes, after.planes, strict=True))
            times.append((before.seconds, after.seconds))
    shift = times[0][1] - times[0][0]
    assert all(abs(y - x - shift) <= 0.00051 * 2 for x, y in times), "Matroska counts milliseconds"


def test_a_clip_restored_in_full(tmp_path: Path) -> None:
    """The default encoder on a clip with a large face, restored in full: times exact, changes where the face is."""
    source, target = ROOT / "faces" / "clean_greenscreen_512.mp4", tmp_path / "out.mp4"
    record = run(job(source, target, "restore=classic,blend=feather:strength=1", end=SECONDS), Notes())
    assert record.frames_changed == record.frames_out == 30
    saved = json.loads(Path(f"{target}.json").read_text())
    assert saved["tracks"][0]["frames"] == 30 and saved["tracks"][0]["mean_change"] > 0
    decoder = PyAVDecoder(PyAVDecoder.Options(threads=1))
    cut = ReadSettings(end=SECONDS)
    with decoder.open(str(source), Notes(), settings=cut) as a, decoder.open(str(target), Notes()) as b:
        assert [f.pts * f.time_base for f in a.frames()] == [f.pts * f.time_base for f in b.frames()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_odd_files_work_or_say_why_in_one_line(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes((ROOT / "odd" / name).read_bytes())
    config = resolve(chain="detect=retinaface:every=4", environment={})
    code, error = 0, None
    try:
        record = run(Job(str(source), None, config), Notes())
    except VidrestoreError as caught:
        code, error = exit_code_of(caught), caught
    if name in REFUSED:
        assert code == REFUSED[name], error
        assert not [p for p in tmp_path.iterdir() if p.suffix not in (".json",) and p.name != name], "nothing is left"
        return
    assert code == (6 if name in PARTIAL else 0), error
    if code == 0:
        assert record.frames_out > 0 and record.frames_out == record.output["frames"]
    (out,) = [p for p in tmp_path.iterdir() if ".restored." in p.name and p.suffix != ".json"]
    with PyAVDecoder(PyAVDecoder.Options(threads=1)).open(str(out), Notes()) as film:
        frames = sum(1 for _ in film.frames())
    assert frames == json.loads(Path(f"{out}.json").read_text())["frames_out"]


def test_cuts_of_a_film_with_six_shots() -> None:
    """RealVideo with burnt whites: five cuts, seen by eye at these frames."""
    decoder = PyAVDecoder(PyAVDecoder.Options(threads=1))
    with decoder.open(str(ROOT / "faces" / "low_realvideo_cuts.rm"), Notes()) as film:
        begins = [frame.index for frame, begin in shots(film.frames()) if begin]
    assert begins == [0, 29, 53, 73, 87, 109]
