"""The ffmpeg program in libav's place: the same film comes out, and a program that fails is one line."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio_ffmpeg
import numpy as np
import pytest
from media_tools import (
    FFV1,
    MS,
    PATTERN,
    TONE,
    assert_same_pictures,
    assert_same_times,
    decoder,
    ffmpeg,
    packets,
    read,
    transcode,
)  # fmt: skip

from vidrestore import cli, testing
from vidrestore.errors import OutputError, ResourceError, RunError, UsageError
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.reader import ReadSettings
from vidrestore.notes import Notes
from vidrestore_plugins.decode.ffmpeg import FFmpegDecoder
from vidrestore_plugins.encode.ffmpeg import FFmpegEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIED = "setsar=16/15,select='not(eq(mod(n,7),3))'"
KINDS = {
    "full": ["-vf", "setparams=range=pc:colorspace=bt709", "-c:v", "libx264", "-pix_fmt", "yuv420p"],
    "fields": ["-vf", "interlace=scan=tff,setparams=field_mode=tff", "-c:v", "libx264", "-flags", "+ildct+ilme"],
    "ten": ["-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le"],
    "rgb": ["-c:v", "ffv1", "-pix_fmt", "gbrp"],
    "alpha": ["-c:v", "ffv1", "-pix_fmt", "yuva444p10le"],
    "gray": ["-c:v", "ffv1", "-pix_fmt", "gray10le"],
}


def encoder(**options: Any) -> FFmpegEncoder:
    return FFmpegEncoder(FFmpegEncoder.Options(**options))


def coded(source: Path, target: Path, settings: EncodeSettings, **options: Any) -> list[str]:
    said: list[str] = []
    notes = Notes(said.append)
    with decoder().open(str(source), notes) as film, encoder(**options).open(target, film, settings, notes) as sink:
        for frame in film.frames():
            sink.write(frame)
        sink.finish()
    return said


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Varying rate, a start after 0, B-frames, samples that are not square, two sounds with languages."""
    path = tmp_path_factory.mktemp("programs") / "film.mkv"
    ffmpeg(
        "-itsoffset", "0.4", *PATTERN, *TONE, "-map", "0", "-map", "1", "-map", "1", "-vf", VARIED,
        "-fps_mode", "passthrough", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "flac",
        "-metadata:s:a:1", "language=deu", path,
    )  # fmt: skip
    return path


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"{request.param}.{'mp4' if request.param == 'fields' else 'mkv'}"
    ffmpeg(*PATTERN, *KINDS[request.param], path)
    return path


@contextmanager
def no_child_left() -> Iterator[None]:
    yield
    mine = Path(f"/proc/{os.getpid()}/task")
    assert not [c for t in mine.iterdir() for c in (t / "children").read_text().split()]


def script(path: Path, text: str) -> str:
    """A program of our own in ffmpeg's place, for what ffmpeg does only on bad days."""
    path.write_text(f"#!/bin/sh\n{text}\n".replace("FFMPEG", imageio_ffmpeg.get_ffmpeg_exe()))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


# -- encoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_film_arrives_as_libav_writes_it(suffix: str, film: Path, tmp_path: Path) -> None:
    settings = EncodeSettings(codec="libx264", options={"crf": "10", "bf": "2"})
    theirs, ours = tmp_path / f"libav{suffix}", tmp_path / f"program{suffix}"
    with no_child_left():
        assert coded(film, ours, settings) == []
    transcode(film, theirs, settings)
    a, b = read(theirs), read(ours)
    assert_same_times(read(film), b, MS)
    assert a.pts == b.pts and a.durations == b.durations
    assert (b.info.sar, b.info.layout, b.info.rate) == (a.info.sar, a.info.layout, a.info.rate)
    assert [(s.codec, s.language, s.disposition) for s in b.info.streams] == [
        (s.codec, s.language, s.disposition) for s in a.info.streams
    ]
    for index in (1, 2):
        assert packets(film, index) == packets(ours, index)
    worst = max(int(np.abs(x[0].astype(int) - y[0]).max()) for x, y in zip(a.planes, b.planes, strict=True))
    assert worst <= 40, "two builds of one encoder"


def test_every_kind_of_picture_keeps_its_bits_and_colours(kind: Path, tmp_path: Path) -> None:
    coded(kind, tmp_path / "out.mkv", FFV1)
    transcode(kind, tmp_path / "libav.mkv", FFV1)
    a, b = read(tmp_path / "libav.mkv"), read(tmp_path / "out.mkv")
    assert_same_pictures(a, b)
    assert b.info.layout == a.info.layout and b.info.interlaced_as == read(kind).info.interlaced_as


def test_an_encoder_that_libav_lacks_here(film: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no encoder 'libxvid'"):
        transcode(film, tmp_path / "no.mkv", EncodeSettings(codec="libxvid"))
    coded(film, tmp_path / "out.mkv", EncodeSettings(codec="libxvid", options={"qmin": "2"}))
    done = read(tmp_path / "out.mkv")
    assert done.info.codec == "mpeg4"
    assert_same_times(read(film), done, MS)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        (EncodeSettings(codec="libx246"), UsageError, "this ffmpeg has no encoder 'libx246'; did you mean 'libx265'"),
        (EncodeSettings(codec="libx264", options={"foo": "1"}), UsageError, "Unrecognized option 'foo:v'"),
        (EncodeSettings(codec="h264_nvenc"), OutputError, "h264_nvenc refuses 96x64 yuv420p: ffmpeg: Cannot load"),
    ],
)
def test_refused_before_the_first_frame(
    settings: EncodeSettings, error: type[Exception], said: str, film: Path, tmp_path: Path
) -> None:
    with no_child_left(), pytest.raises(error, match=said):
        coded(film, tmp_path / "out.mkv", settings)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_dies_on_the_way(film: Path, tmp_path: Path) -> None:
    """The first run, the trial, is whole; the second stops after some of the pictures."""
    dies = script(
        tmp_path / "ffmpeg",
        f'case "$*" in *nut*) ;; *) exec FFMPEG "$@";; esac\n'
        f"if [ -e {tmp_path}/tried ]; then\n"
        f"head -c 60000 | FFMPEG \"$@\"; echo 'the disk of the GPU is full' >&2; exit 1\n"
        f'fi; touch {tmp_path}/tried; exec FFMPEG "$@"',
    )
    with no_child_left(), pytest.raises(RunError, match=r"out\.mkv: ffmpeg: the disk of the GPU is full"):
        coded(film, tmp_path / "out.mkv", FFV1, bin=dies)
    assert not (tmp_path / "out.mkv").exists() and not list(tmp_path.glob(".*part"))


def test_a2_096_libav_takes_over_from_a_program_that_dies(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tried, out = tmp_path / "tried", tmp_path / "out.mkv"
    dies = script(
        tmp_path / "ffmpeg",
        f'case "$*" in *nut*) ;; *) exec FFMPEG "$@";; esac\n'
        f"if [ -e {tried} ]; then head -c 60000 | FFMPEG \"$@\"; echo 'the card is lost' >&2; exit 1; fi\n"
        f'touch {tried}; exec FFMPEG "$@"',
    )
    steps = ["-vf", f"detect=none,encode=ffmpeg:bin={dies}", "-c:v", "ffv1", "--progress", "none"]
    with no_child_left():
        assert cli.run([str(film), "-o", str(out), *steps, "--fallback-encoder", "ffv1"]) == 0
    assert capfd.readouterr().err.endswith(": ffmpeg: the card is lost; the film is begun anew with ffv1\n")
    assert_same_pictures(read(film), read(out))


def test_a_run_that_is_given_up_leaves_no_program_behind(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    with (
        no_child_left(),
        decoder().open(str(film), Notes()) as source,
        encoder().open(out, source, FFV1, Notes()) as sink,
    ):
        sink.write(next(source.frames()))
    assert list(tmp_path.iterdir()) == []


def test_the_encoder_keeps_the_contract(film: Path, tmp_path: Path) -> None:
    testing.check_encoder(FFmpegEncoder, film, tmp_path / "out.mkv")


# -- decoding ----------------------------------------------------------------------------------------------------


def decoded(path: Path, settings: ReadSettings | None = None, **options: Any) -> Any:
    notes = Notes()
    with FFmpegDecoder(FFmpegDecoder.Options(**options)).open(str(path), notes, settings=settings) as film:
        frames = [
            (f.pts * f.time_base, f.duration * f.time_base, tuple(p.copy() for p in f.planes)) for f in film.frames()
        ]
        return film, frames, notes


def assert_like_libav(path: Path, settings: ReadSettings | None = None) -> None:
    with no_child_left():
        film, frames, notes = decoded(path, settings)
    want = read(path, settings)
    assert film.info == want.info
    assert [(t, d) for t, d, _ in frames] == list(zip(want.pts, want.durations, strict=True))
    assert all(
        np.array_equal(p, q) for f, g in zip(frames, want.planes, strict=True) for p, q in zip(f[2], g, strict=True)
    )
    assert [n.text for n in notes.all()] == [n.text for n in want.notes.all()]


def test_every_kind_of_picture_is_read_as_libav_reads_it(kind: Path) -> None:
    assert_like_libav(kind)


@pytest.mark.parametrize("settings", [None, ReadSettings(start=Fraction(3, 10), end=Fraction(7, 10))])
def test_times_and_cuts_are_libavs(settings: ReadSettings | None, film: Path, tmp_path: Path) -> None:
    assert_like_libav(film, settings)
    ffmpeg("-i", film, "-c", "copy", "-map", "0:v", tmp_path / "film.mp4")
    assert_like_libav(tmp_path / "film.mp4", settings)


def test_turned_films_and_hdr(tmp_path: Path) -> None:
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    light = f"hdr10=1:repeat-headers=1:log-level=error:max-cll=1000,400:master-display={display}"
    pq = "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"
    ffmpeg(*PATTERN, "-vf", pq, "-c:v", "libx265", "-x265-params", light, "-pix_fmt", "yuv420p10le", plain)
    ffmpeg("-display_rotation", "90", "-i", plain, "-c", "copy", turned)
    assert read(turned).info.hdr is not None
    assert_like_libav(turned)


def test_damage_is_counted_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    ffmpeg(*PATTERN, "-c:v", "ffv1", "-level", "3", "-slicecrc", "1", path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 255
    path.write_bytes(data)
    film, frames, notes = decoded(path)
    assert len(frames) == read(path).n >= 24 and film.bad_packets >= 1
    assert any("cannot be decoded" in n.text for n in notes.all())


def test_no_such_program_or_hardware(film: Path) -> None:
    with pytest.raises(ResourceError, match="decode=ffmpeg: no program 'ffmpge'"):
        decoded(film, bin="ffmpge")
    with no_child_left(), pytest.raises(ResourceError, match=r"decode=ffmpeg: ffmpeg: .*; use decode=pyav"):
        decoded(film, hwaccel="cuda")


def test_memory_between_the_pipes_is_bounded(tmp_path: Path) -> None:
    """A reader that takes nothing keeps the program waiting: hardly more than what the threads of both hold."""
    path = tmp_path / "long.mkv"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x240:rate=25:duration=20",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        path,
    )
    with FFmpegDecoder(FFmpegDecoder.Options()).open(str(path), Notes()) as film:
        frames = film.frames()
        for _ in range(5):
            next(frames)
        held = film._feed._decoder._run
        assert len(held._pictures) <= 8 and len(held._waiting) <= 9
        frames.close()


def test_the_decoder_keeps_the_contract(film: Path) -> None:
    testing.check_decoder(FFmpegDecoder, film)


def test_both_in_a_chain(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    chain = "decode=ffmpeg,detect=none,restore=none,encode=ffmpeg"
    assert cli.run([str(film), "-o", str(out), "-vf", chain, "-c:v", "ffv1", "--progress", "none"]) == 0
    assert_same_pictures(read(film), read(out))
    assert packets(film, 2) == packets(out, 2)
