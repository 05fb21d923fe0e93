"""Runs from outside: stopped at any moment, killed, given an encoder that fails, in another time zone, with threads."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
from media_tools import (
    FAST,
    FFV1,
    PATTERN,
    X264,
    EncodeSettings,
    assert_same_pictures,
    decoder,
    failing,
    ffmpeg,
    read,
    refused,
    transcode,
)

from vidrestore import cli
from vidrestore.errors import OutputError, RunError
from vidrestore.media.encoder import LibavCoders
from vidrestore.media.reader import ReadSettings
from vidrestore.media.writer import PyAVEncoder
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

VIDRESTORE = [sys.executable, "-m", "vidrestore"]
NULL = ["-vf", "detect=none,restore=none", "--progress", "none"]
MOMENTS = int(os.environ.get("VIDRESTORE_MOMENTS", "12"))  # of stopping


# -- stopped and killed --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that takes longer than any test waits."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=100", *X264, "-preset", "ultrafast", path)
    return path


def children_of(session: int) -> list[str]:
    """What is left of a session, by the commands' names."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, own = rest.split()[:4]
        if int(own) == session and state != "Z":
            found.append(name)
    return found


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a2_086_087_stopped_at_any_moment(moment: int, long: Path, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM, from the first imports to the middle of the film, with another program in the run too: the
    right code soon, one line at most, nothing at the output's name, no process left."""
    rng = random.Random(moment)
    number, code = [(signal.SIGINT, 130), (signal.SIGTERM, 143)][moment % 2]
    out = tmp_path / "out.mkv"
    chain = ("detect=none,restore=none", "restore=classic", "detect=none,restore=none,encode=ffmpeg")[moment % 3]
    command = [*VIDRESTORE, str(long), "-o", str(out), "-vf", chain, "-preset", "veryslow", "--progress", "none"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with pytest.raises(subprocess.TimeoutExpired):  # it runs till then
        process.wait(rng.uniform(0.1, 4.0))
    process.send_signal(number)
    asked = time.monotonic()
    _, said = process.communicate(timeout=30)
    # before the program has come to its own handler the system ends it: to a shell that is the same code
    assert process.returncode in (code, -number), said
    assert time.monotonic() - asked < 10  # two seconds on a machine that does nothing else
    assert len(said.splitlines()) <= 1 and "Traceback" not in said, said
    assert not out.exists() and {p.name for p in tmp_path.iterdir()} <= {"out.mkv.json"}
    assert children_of(process.pid) == []


def test_a2_088_killed_outright_and_run_again(long: Path, tmp_path: Path) -> None:
    """SIGKILL leaves a hidden part at most; the next run takes its place and leaves the film and its record alone."""
    out = tmp_path / "out.mkv"
    command = [*VIDRESTORE, str(long), "-o", str(out), *NULL[:2], "-preset", "veryslow", "--progress", "json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and "progress" in process.stderr.readline()
    process.kill()
    process.communicate(timeout=30)
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir()] == [".out.mkv.vidrestore-part"]
    assert cli.run([str(long), "-o", str(out), *NULL, "-c:v", "ffv1", "-to", "1"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"out.mkv", "out.mkv.json"}
    assert read(out).n == 25


# -- encoders that fail --------------------------------------------------------------------------------------------


class Failing(LibavCoders):
    """libav's encoders, until the tenth picture."""

    def coder(self, plan: Any, subject: str) -> Any:
        coder = super().coder(plan, subject)
        encode, count = coder.encode, iter(range(1000))

        def until_ten(picture: Any) -> Any:
            if next(count) == 10:
                raise av.error.ExternalError(542398533, "Generic error in an external library")
            return encode(picture)

        coder.encode = until_ten  # type: ignore[method-assign]
        return coder


def test_a2_096_an_encoder_that_fails_is_named_with_its_frame(good: Path, tmp_path: Path) -> None:
    """As a card does that is lost on the way; nothing is left behind."""
    failure = pytest.raises(RunError, match="libx264 failed at frame 10: generic error")
    out, notes, encoder = tmp_path / "out.mkv", Notes(), PyAVEncoder()
    with (
        failure as caught,
        decoder().open(str(good), notes) as film,
        encoder.open(out, film, FAST, notes, coders=Failing()) as sink,
    ):
        for frame in film.frames():
            sink.write(frame)
    assert caught.value.exit_code == 6 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [0, 10, 25])
def test_a2_096_another_encoder_begins_anew(
    at: int, good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The film is that of a run with the other encoder, byte for byte: with the options that are every encoder's. One
    warning says so, the record says what failed."""
    asked = ["-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "30", "-g", "5", "--progress", "none"]
    out, masks, plain = tmp_path / "out.mkv", tmp_path / "masks.mkv", tmp_path / "plain" / "out.mkv"
    plain.parent.mkdir()
    command = [str(good), "-o", str(out), "-vf", failing(tmp_path, at), *asked, "--masks", str(masks)]
    assert cli.run([*command, "--fallback-encoder", "libx264"]) == 0
    said = capfd.readouterr().err.splitlines()
    failed = f"libx265 failed at frame {at}: generic error in an external library"
    without = "without -x265-params log-level=none -crf 30"
    assert said[1:] == [] and said[0].endswith(f"{failed}; the film is begun anew with libx264, {without}"), said
    assert cli.run([str(good), "-o", str(plain), "-vf", "detect=none", "-c:v", "libx264", "-g", "5"]) == 0
    assert out.read_bytes() == plain.read_bytes()
    told, usual = json.loads(Path(f"{out}.json").read_text()), json.loads(Path(f"{plain}.json").read_text())
    assert told["output"] == usual["output"] and told["chain"] == usual["chain"] and told["frames_out"] == 25
    assert told["fallback"]["why"] == failed and "failing.py" in told["fallback"]["chain"]
    assert told["fallback"]["encoder"]["c:v"] == "libx265" and "fallback" not in usual
    assert read(masks).n == 25 and told["masks"]["frames"] == 25
    made = {"out.mkv", "out.mkv.json", "masks.mkv", "masks.mkv.outside.framemd5"}
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} - {"failing.py"} == made


def test_a2_096_an_encoder_that_refuses_is_replaced_too(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """MPEG-1 knows no 7 frames a second. That the other one would refuse too is known at the start."""
    out = tmp_path / "out.mkv"
    command = [str(good), "-o", str(out), "--progress", "none"]
    refused = ["-vf", "detect=none,av.fps=7", "-c:v", "mpeg1video"]
    assert cli.run([*command, *refused, "--fallback-encoder", "mpeg4"]) == 0
    assert "mpeg1video refuses 96x64 yuv420p: " in capfd.readouterr().err and read(out).info.codec == "mpeg4"
    steps = ["-vf", "detect=none,av.fps=7", "-c:v", "libx264", "-y"]
    assert cli.run([*command, *steps, "--fallback-encoder", "mpeg1video"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and "error: --fallback-encoder: mpeg1video refuses 96x64 yuv420p: " in said[0]
    assert said[0].endswith("; name another one")
    assert {p.name for p in tmp_path.iterdir()} == {"out.mkv", "out.mkv.json"}


@pytest.mark.parametrize(
    ("source", "target", "name", "line"),
    [
        ("gone.mp4", "out.mkv", "libx26", "--fallback-encoder: no encoder 'libx26'; did you mean 'libx26"),
        ("gone.mp4", "out.mkv", "aac", "--fallback-encoder: aac encodes audio, not video"),
        ("-", "out.mkv", "libx264", "--fallback-encoder: a pipe cannot be read again from its beginning; name a file"),
        ("fifo", "out.mkv", "libx264", "--fallback-encoder: a pipe cannot be read again from its beginning"),
        ("good.mp4", "-", "libx264", "--fallback-encoder: what has gone into a pipe cannot be taken back; add -o FILE"),
        ("good.mp4", "out.webm", "libx264", "--fallback-encoder: webm cannot hold libx264; name another one"),
    ],
)
def test_a2_096_what_cannot_take_over_is_refused_at_the_start(
    source: str,
    target: str,
    name: str,
    line: str,
    good: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unknown encoder before the film is even looked for."""
    monkeypatch.chdir(tmp_path)
    assert line in refused(good, [source, "-o", target, *NULL, "--fallback-encoder", name], capfd)


def test_a2_096_a_batch_has_one_encoder_a_film(good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its segments are joined as they are."""
    command = ["batch", "run", str(good), "-o", str(tmp_path / "out"), "-vf", "detect=none"]
    assert cli.run([*command, "--set", "fallback_encoder=libx264"]) == 2
    assert "--fallback-encoder: all segments of a film are of one encoder" in capfd.readouterr().err


def test_a2_097_an_encoder_that_drops_pictures_is_found_out(tmp_path: Path) -> None:
    """VP9 at a rate so low that it leaves pictures out: the count says so, and nothing is published."""
    source = tmp_path / "noise.mkv"
    noise = "nullsrc=size=320x240:rate=25:duration=4,geq=random(1)*255:128:128"
    ffmpeg("-f", "lavfi", "-i", noise, "-c:v", "ffv1", source)
    drops = {"b": "20k", "minrate": "20k", "maxrate": "20k", "deadline": "realtime", "cpu-used": "8",
             "drop-threshold": "60", "lag-in-frames": "0", "bufsize": "20k"}  # fmt: skip
    with pytest.raises(RunError, match=r"libvpx-vp9 gave \d+ pictures for 100 frames"):
        transcode(source, tmp_path / "out.mkv", EncodeSettings(codec="libvpx-vp9", options=drops))
    assert [p.name for p in tmp_path.iterdir()] == ["noise.mkv"]


def test_a2_076_larger_than_an_encoder_holds(tmp_path: Path) -> None:
    """16386 px are two more than H.264 and HEVC have; FFV1 takes them."""
    source = tmp_path / "wide.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=16386x16:rate=25:duration=0.08", "-c:v", "ffv1", source)
    for encoder in ("libx264", "libx265"):
        with pytest.raises(OutputError, match=f"16386x16 is larger than {encoder} can hold; use -c:v ffv1"):
            transcode(source, tmp_path / "out.mkv", EncodeSettings(codec=encoder))
    transcode(source, tmp_path / "out.mkv", FFV1)
    assert_same_pictures(read(source), read(tmp_path / "out.mkv"))


# -- what must not matter ------------------------------------------------------------------------------------------


def test_a2_104_neither_clock_nor_place_nor_language_is_in_an_output(many: Path, tmp_path: Path) -> None:
    found = []
    for zone, language in (("UTC", "C"), ("Pacific/Chatham", "tr_TR.UTF-8")):
        out = tmp_path / zone.replace("/", "_") / "out.mkv"
        out.parent.mkdir()
        environment = {**os.environ, "TZ": zone, "LC_ALL": language, "LANG": language}
        command = [*VIDRESTORE, str(many), "-o", str(out), *NULL, "-preset", "ultrafast"]
        subprocess.run(command, check=True, env=environment)
        record = json.loads(Path(f"{out}.json").read_text())
        found.append((out.read_bytes(), {k: v for k, v in record.items() if k not in ("seconds", "target")}))
    assert found[0] == found[1]


def test_a2_105_threads_that_decode_change_nothing(noisy: Path, tmp_path: Path) -> None:
    """Another count of them, the same bytes; those of the encoder are part of its settings, and in the record."""
    outputs = []
    for threads in (1, 4):
        out = tmp_path / f"{threads}.mkv"
        settings, notes = EncodeSettings(threads=2), Notes()
        with decoder(threads).open(str(noisy), notes) as film, PyAVEncoder().open(out, film, settings, notes) as sink:
            for frame in film.frames():
                sink.write(frame)
            sink.finish()
        assert sink.summary.threads == 2
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]


def test_a2_102_an_output_is_a_new_file(good: Path, tmp_path: Path) -> None:
    """Its mode is the user's mask's, its time now; when the film was made stays in its tags."""
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    ffmpeg("-i", good, "-c", "copy", "-metadata", "creation_time=1999-12-31T23:59:58Z", source)
    source.chmod(0o400)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    before = os.umask(0o027)
    try:
        transcode(source, out, FAST)
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o640 and out.stat().st_mtime > 1_600_000_000
    with av.open(str(out)) as film:
        assert film.metadata["creation_time"] == "1999-12-31T23:59:58.000000Z"


@pytest.mark.parametrize(("name", "mode"), [("in.mp4", 0o604), ("read-only.mp4", 0o400), ("in.png", 0o640)])
def test_a2_102_preserved_time_and_mode(name: str, mode: int, good: Path, tmp_path: Path) -> None:
    """To the nanosecond, whatever the user's mask; no other right than to read, write and run goes over."""
    source, out = tmp_path / name, tmp_path / f"out{Path(name).suffix}"
    ffmpeg("-i", good, *(["-c", "copy"] if name.endswith("mp4") else ["-frames:v", "1"]), source)
    source.chmod(mode | 0o4000)
    os.utime(source, ns=(5, 1_000_000_000_123_456_789))
    before = os.umask(0o027)
    try:
        assert cli.run([str(source), "-o", str(out), *NULL, "--preserve"]) == 0
    finally:
        os.umask(before)
    kept = out.stat()
    assert kept.st_mode & 0o7777 == mode and kept.st_mtime_ns == 1_000_000_000_123_456_789
    assert kept.st_atime > 1_600_000_000, "when it was read is its own"
    assert Path(f"{out}.json").stat().st_mtime > 1_600_000_000
    assert {p.name for p in tmp_path.iterdir()} == {name, out.name, f"{out.name}.json"}


@pytest.mark.parametrize("source", ["-", "film.fifo", "%03d.png", "good.mp4"])
def test_a2_102_a_pipe_has_no_time_to_preserve(
    source: str, good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before anything is read."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("film.fifo")
    ffmpeg("-i", good, "-frames:v", "2", "%03d.png")
    ffmpeg("-i", good, "-c", "copy", "good.mp4")
    before = {p.name for p in tmp_path.iterdir()}
    out = "-" if source == "good.mp4" else "out.mkv"
    assert cli.run([source, "-o", out, *NULL, "--preserve"]) == 2
    said = capfd.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and "--preserve: " in said.err and "time" in said.err
    assert {p.name for p in tmp_path.iterdir()} - before <= {"out.mkv.json"}


def test_a2_102_104_no_date_of_ours_is_in_an_output(good: Path, tmp_path: Path) -> None:
    """Whenever a film is run, in every container its bytes are the same."""

    def run() -> dict[str, bytes]:
        for kind in ("mp4", "mov", "mkv", "ts", "nut", "avi"):
            out = tmp_path / f"out.{kind}"
            assert cli.run([str(good), "-o", str(out), *NULL, "-c:v", "libx264", "-preset", "ultrafast", "-y"]) == 0
        return {p.name: p.read_bytes() for p in tmp_path.glob("out.*") if p.suffix != ".json"}

    first, second = run(), int(time.time())
    while int(time.time()) < second + 2:  # dates in files count seconds
        assert run() == first and len(first) == 6


def test_a2_102_stamped_with_the_time_of_the_run(good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In UTC, beside the source's own dates; the next run tells its own, or none."""
    source = tmp_path / "in.mp4"
    ffmpeg("-i", good, "-c", "copy", "-metadata", "creation_time=1999-12-31T23:59:58Z", source)
    fast = [*NULL, "-c:v", "libx264", "-preset", "ultrafast"]
    for kind in ("mp4", "mkv", "nut"):
        begun = datetime.now(UTC).replace(microsecond=0)
        out, again = tmp_path / f"out.{kind}", tmp_path / f"again.{kind}"
        assert cli.run([str(source), "-o", str(out), *fast, "--stamp"]) == 0
        with av.open(str(out)) as film:
            told = datetime.fromisoformat(film.metadata["VIDRESTORE_DATE"])
            made = {key.lower(): value for key, value in film.metadata.items()}["creation_time"]
        assert begun <= told <= datetime.now(UTC) and film.metadata["VIDRESTORE_DATE"].endswith("Z")
        assert made.startswith("1999-12-31T23:59:58")
        assert cli.run([str(out), "-o", str(again), *fast]) == 0
        with av.open(str(again)) as film:
            assert "VIDRESTORE" in film.metadata and "VIDRESTORE_DATE" not in film.metadata
    capfd.readouterr()
    assert cli.run([str(source), "-o", str(tmp_path / "out.ts"), *fast, "--stamp"]) == 0
    said = capfd.readouterr().err
    assert "mpegts has no place for the time of the run; use mkv or mp4" in said


def test_a2_046_new_parameters_in_the_stream(tmp_path: Path) -> None:
    """Another profile, reference count and quantiser from one key frame on: nothing to see, nothing to say."""
    data = b""
    for i, how in enumerate((["-profile:v", "baseline"], ["-profile:v", "high", "-refs", "5", "-qp", "30"])):
        ffmpeg(
            *PATTERN,
            *X264[:2],
            *how,
            "-pix_fmt",
            "yuv420p",
            "-bf",
            "0",
            "-output_ts_offset",
            str(i),
            tmp_path / f"{i}.ts",
        )
        data += (tmp_path / f"{i}.ts").read_bytes()
    (tmp_path / "two.ts").write_bytes(data)
    film = read(tmp_path / "two.ts")
    assert film.n == 50 and film.cuts == [] and film.notes.count("picture_changed") == 0
    assert film.pts == [Fraction(i, 25) for i in range(50)]
    transcode(tmp_path / "two.ts", tmp_path / "out.mkv", FFV1)
    assert_same_pictures(film, read(tmp_path / "out.mkv"))


# -- names of many outputs -----------------------------------------------------------------------------------------


def names(folder: Path, *films: str) -> Iterator[Path]:
    folder.mkdir()
    for name in films:
        path = folder / name
        path.write_bytes(b"")
        yield path


@pytest.mark.parametrize(
    "films", [("A.MP4", "a.mp4"), ("e\u0301.mp4", "\u00e9.mp4"), ("a.mkv", "a.wmv"), ("a.mp4", "a.m4v")]
)
def test_a2_100_101_two_films_with_one_output(
    films: tuple[str, str], good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that differ in case or spelling alone, or by an ending that the output does not have: found before any
    work, both named."""
    for path in names(tmp_path / "in", *films):
        ffmpeg("-i", good, "-c", "copy", "-f", "mp4" if path.suffix.lower() in (".mp4", ".m4v") else "matroska", path)
    out = tmp_path / "out"
    assert cli.run(["batch", "run", str(tmp_path / "in"), "-o", str(out), "-vf", "detect=none"]) == 2
    said = capsys.readouterr().err
    assert "is the output of both" in said and said.count("\n") == 1
    assert not list(out.rglob("*.mp4")) and not list(out.rglob("*.mkv"))


def test_a2_078_the_longest_names(good: Path, tmp_path: Path) -> None:
    """A name of 244 letters: the output's fits, its record's is shortened."""
    source = tmp_path / f"{'n' * 240}.mp4"
    source.write_bytes(good.read_bytes())
    assert cli.run([str(source), *NULL, "-preset", "ultrafast"]) == 0
    out = next(p for p in tmp_path.iterdir() if p.name.endswith(".restored.mp4"))
    record = next(p for p in tmp_path.iterdir() if p.suffix == ".json")
    assert read(out).n == 25 and json.loads(record.read_text())["exit_code"] == 0


def test_what_is_read_of_a_cut_is_not_more(noisy: Path) -> None:
    """What the tests of cut films above count on."""
    assert read(noisy, ReadSettings(end=Fraction(1))).n == 25
