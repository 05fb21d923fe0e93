"""Outputs appear whole or not at all, and never over something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from media_tools import FAST, FFV1, decoder, read, transcode

from vidrestore.errors import OutputError, UsageError
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.publish import PartFile, part_name
from vidrestore.media.writer import PyAVEncoder
from vidrestore.notes import Notes


def test_a2_81_output_is_the_input(good: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(good.read_bytes())
    os.link(source, tmp_path / "hard.mp4")
    for target in (source, tmp_path / "hard.mp4", tmp_path / "." / "in.mp4"):
        with pytest.raises(OutputError, match="output is the input"):
            transcode(source, target, FAST, overwrite=True)
    assert source.read_bytes() == good.read_bytes()


def test_a2_82_existing_output(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists; use -y to replace or -n to skip"):
        transcode(good, target, FAST)
    assert target.read_bytes() == b"precious"
    transcode(good, target, FAST, overwrite=True)
    assert read(target).n == 25


def test_a2_82_target_that_appears_during_the_run_is_spared(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    notes = Notes()
    with decoder().open(str(good), notes) as film, PyAVEncoder().open(target, film, FAST, notes) as sink:
        for frame in film.frames():
            sink.write(frame)
        target.write_bytes(b"precious")
        with pytest.raises(OutputError, match="appeared"):
            sink.finish()
    assert target.read_bytes() == b"precious"


def test_a2_83_output_folder(good: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        transcode(good, tmp_path / "none" / "out.mp4", FAST)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="no such folder"):
        transcode(good, tmp_path / "file" / "out.mp4", FAST)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a directory"):
        transcode(good, tmp_path / "folder.mp4", FAST, overwrite=True)
    with pytest.raises(OutputError, match="name is too long"):
        transcode(good, tmp_path / ("n" * 300 + ".mp4"), FAST)


def test_a2_83_unwritable_folder_is_found_before_the_first_frame(good: Path, tmp_path: Path) -> None:
    """In a process without root's rights, which see no read-only folder."""
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o555)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[3]);\n"
        "from media_tools import *\n"
        "os.geteuid() == 0 and os.seteuid(65534)\n"
        "from vidrestore.media.publish import PartFile\n"
        "from vidrestore.errors import OutputError\n"
        "try: PartFile(Path(sys.argv[1]), sys.argv[2], overwrite=False)\n"
        "except OutputError as error: print(error)\n"
    )
    tools = str(Path(__file__).parent)
    command = [sys.executable, "-c", code, str(shut / "out.mp4"), str(good), tools]
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "not writable" in done.stdout or "permission denied" in done.stdout, done.stdout + done.stderr


def test_a2_84_disk_full(good: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of the disk."""
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[3])\n"
        "from media_tools import *\n"
        "from vidrestore.errors import VidrestoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try: transcode(sys.argv[1], Path(sys.argv[2]))\n"
        "except VidrestoreError as error: print(error.exit_code, error)\n"
    )
    target = tmp_path / "out.mkv"
    command = [sys.executable, "-c", code, str(good), str(target), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("5 ") and "holds no file of this size" in done.stdout, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a2_84_full_device(good: Path) -> None:
    done = run_pipe(good, "-", stdout="/dev/full")
    assert done.returncode == 5
    assert b"no space left on device" in done.stderr


def test_a2_85_nothing_under_the_final_name_until_it_is_whole(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    notes = Notes()
    with decoder().open(str(good), notes) as film, PyAVEncoder().open(target, film, FAST, notes) as sink:
        part = tmp_path / ".out.mp4.vidrestore-part"
        assert sink.part == part and part.exists()  # before the first frame
        for frame in film.frames():
            sink.write(frame)
            assert not target.exists()
        sink.finish()
        assert target.exists() and not part.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a2_86_abort_removes_or_keeps_what_plays(noisy: Path, tmp_path: Path) -> None:
    for keep in (False, True):
        target = tmp_path / f"{keep}.mkv"
        notes = Notes()
        with decoder().open(str(noisy), notes) as film, PyAVEncoder().open(target, film, FFV1, notes) as sink:
            for frame in film.frames():
                sink.write(frame)
                if frame.index == 30:
                    break
            part = sink.part
            sink.abort(keep_partial=keep)
        assert not target.exists() and part is not None and part.exists() == keep
        if keep:
            assert read(part).n == 31


def test_a2_85_an_exception_leaves_nothing(good: Path, tmp_path: Path) -> None:
    notes = Notes()
    with (
        pytest.raises(KeyError),
        decoder().open(str(good), notes) as film,
        PyAVEncoder().open(tmp_path / "out.mp4", film, FAST, notes) as sink,
    ):
        sink.write(next(film.frames()))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a2_99_symlinks(good: Path, tmp_path: Path) -> None:
    (tmp_path / "in.mp4").symlink_to(good)
    transcode(tmp_path / "in.mp4", tmp_path / "real.mp4", FAST)
    (tmp_path / "out.mp4").symlink_to(tmp_path / "real.mp4")
    with pytest.raises(OutputError, match="output is a symlink"):
        transcode(good, tmp_path / "out.mp4", FAST, overwrite=True)


def test_two_runs_with_one_target(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    busy = pytest.raises(OutputError, match="being written by another run")
    with PartFile(target, str(good), overwrite=False), busy:
        PartFile(target, str(good), overwrite=False)
    transcode(good, tmp_path / "out.mp4", FAST)  # what a killed run left behind is taken over


def test_part_names_fit_the_file_system() -> None:
    assert part_name("film.mp4") == ".film.mp4.vidrestore-part"
    long = [part_name("ä" * 120 + f"{i}.mp4") for i in range(2)]
    assert all(len(os.fsencode(n)) <= 255 for n in long) and long[0] != long[1]


def test_same_input_same_bytes(good: Path, tmp_path: Path) -> None:
    """A2 rows 104, 105: no clock, no random numbers, for every container."""
    for name in ("a.mkv", "a.mp4"):
        settings = EncodeSettings(codec="libx264", options={"preset": "veryfast"}, threads=2)
        transcode(good, tmp_path / f"1{name}", settings)
        transcode(good, tmp_path / f"2{name}", settings)
        assert (tmp_path / f"1{name}").read_bytes() == (tmp_path / f"2{name}").read_bytes()


@pytest.mark.parametrize(
    ("settings", "code", "what"),
    [
        (EncodeSettings(codec="libx246"), 2, "no encoder 'libx246'; did you mean 'libx26"),
        (EncodeSettings(codec="aac"), 2, "encodes audio, not video"),
        (EncodeSettings(codec="libx264", options={"pressed": "fast"}), 2, "no option 'pressed'; did you mean 'preset'"),
        (EncodeSettings(codec="libx264", options={"preset": "fastest"}), 2, "libx264"),
        (EncodeSettings(codec="libx264", options={"crf": "many"}), 2, "libx264"),
        (EncodeSettings(codec="libx264", pix_fmt="yuv420p12le"), 2, "does not take 'yuv420p12le'"),
        (EncodeSettings(format="mp5"), 2, "no container 'mp5'; did you mean 'mp4'"),
        (EncodeSettings(codec="prores_ks"), 5, "cannot hold prores_ks"),
        (EncodeSettings(audio_codec="aacc"), 2, "no encoder 'aacc'"),
    ],
)
def test_wrong_settings_stop_before_the_first_frame(
    settings: EncodeSettings, code: int, what: str, good: Path, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, OutputError)) as caught:
        transcode(good, tmp_path / "out.mp4", settings)
    assert caught.value.exit_code == code and what in str(caught.value), str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_quality_scale_of_old_encoders(good: Path, tmp_path: Path) -> None:
    sizes = []
    for q in ("2", "20"):
        target = tmp_path / f"{q}.mp4"
        transcode(good, target, EncodeSettings(codec="mpeg4", options={"q:v": q}))
        sizes.append(target.stat().st_size)
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize("encoder", ["libvpx-vp9", "libsvtav1", "prores_ks", "libx265"])
def test_every_frame_becomes_one_packet_at_default_settings(encoder: str, noisy: Path, tmp_path: Path) -> None:
    """A2 row 97: hidden reference frames are not counted as lost or doubled."""
    target = tmp_path / "out.mkv"
    transcode(noisy, target, EncodeSettings(codec=encoder))
    assert read(target).n == 100


def test_user_options_reach_the_encoder(good: Path, tmp_path: Path) -> None:
    params = {"preset": "veryfast", "crf": "30", "g": "5", "bf": "0", "x264-params": "ref=2"}
    transcode(good, tmp_path / "out.mp4", EncodeSettings(codec="libx264", options=params, bitexact=False))
    said = (tmp_path / "out.mp4").read_bytes()
    for word in (b"crf=30.0", b"keyint=5", b"bframes=0", b"ref=2"):
        assert word in said


def run_pipe(source: Path | str, target: str, *args: str, stdin: bytes | None = None, stdout: str | None = None):  # type: ignore[no-untyped-def]
    """Run the reader and writer in a process of their own, with real pipes."""
    command = [sys.executable, str(Path(__file__).parent / "pipe_process.py"), str(source), target, *args]
    if stdout is not None:
        with open(stdout, "wb") as file:  # noqa: PTH123
            return subprocess.run(command, input=stdin, stdout=file, stderr=subprocess.PIPE, check=False)
    return subprocess.run(command, input=stdin, capture_output=True, check=False)
