"""Hardware that is asked for and not here: films are read in software, an encoder without its device is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from av.codec.hwaccel import hwdevices_available
from media_tools import assert_same_pictures, read

from vidrestore import cli
from vidrestore.media.reader import PyAVDecoder, _works
from vidrestore.notes import Notes


@pytest.mark.parametrize("hwaccel", ["auto", "cuda", "vaapi"])
def test_the_same_pictures_with_and_without_hardware(hwaccel: str, good: Path, tmp_path: Path) -> None:
    """Decoding H.264 is exact, on a device too; where none can, one line says so."""
    notes = Notes()
    out = tmp_path / "out.mkv"
    with PyAVDecoder(PyAVDecoder.Options(hwaccel=hwaccel)).open(str(good), notes) as film:
        hard = film.in_hardware
    assert hard == (any(map(_works, hwdevices_available())) if hwaccel == "auto" else _works(hwaccel))
    said = [n.text for n in notes.all() if n.kind == "no_hwaccel"]
    where = "" if hwaccel == "auto" else f"{hwaccel}: "
    assert said == ([] if hard else [f"{where}no hardware here decodes it; it is decoded in software"])
    chain = f"decode=pyav:hwaccel={hwaccel},detect=none"
    assert cli.run([str(good), "-o", str(out), "-vf", chain, "-c:v", "ffv1", "--progress", "none"]) == 0
    assert_same_pictures(read(good), read(out))


@pytest.mark.parametrize("step", ["encode=pyav", "encode=ffmpeg"])
def test_an_encoder_without_its_device(
    step: str, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    code = cli.run(
        [str(good), "-o", str(out), "-vf", f"detect=none,{step}", "-c:v", "h264_nvenc", "--progress", "none"]
    )
    said = capsys.readouterr().err
    if _works("cuda"):
        assert code == 0 and read(out).n == 25
        return
    assert code == 5 and not out.exists() and said.count("\n") == 1
    assert "h264_nvenc refuses 96x64 yuv420p: " in said and "Cannot load libcuda" in said
    assert said.endswith("it needs its own hardware and driver; use -c:v libx264 or libx265\n")
