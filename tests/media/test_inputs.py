"""Inputs that are not simply a file: numbered pictures, addresses, lists, raw streams, programs of a broadcast."""

from __future__ import annotations

import functools
import http.server
import socket
import subprocess
import sys
import threading
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from media_tools import PATTERN, TONE, X264, assert_same_pictures, ffmpeg, read, transcode

from vidrestore import cli
from vidrestore.errors import VidrestoreError
from vidrestore.media import opening
from vidrestore.media.reader import ReadSettings, read_info
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NULL = ["-vf", "detect=none,restore=none", "-c:v", "ffv1", "--progress", "none"]


def refused(source: object, code: int, words: str, settings: ReadSettings | None = None) -> None:
    with pytest.raises(VidrestoreError) as caught:
        read_info(str(source), Notes(), settings)
    assert caught.value.exit_code == code and words in str(caught.value)


# -- numbered pictures ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, shot_0007.png on, in a folder with a percent sign in its name."""
    folder = tmp_path_factory.mktemp("100%d")
    ffmpeg(*PATTERN, "-frames:v", "12", "-start_number", "7", str(folder).replace("%", "%%") + "/shot_%04d.png")
    return folder


def test_a2_056_numbered_pictures_are_a_film(shots: Path, tmp_path: Path) -> None:
    """All twelve, in order, at the rate that is asked for, named after what the pictures share."""
    folder = tmp_path / "in"
    folder.mkdir()
    for path in shots.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert cli.run([str(folder / "shot_%04d.png"), "-r", "12", *NULL]) == 0
    film = read(folder / "shot.restored.mkv")
    assert film.n == 12 and film.info.rate == 12
    assert [round(float(t) * 12) for t in film.pts] == list(range(12))
    one = read(shots / "shot_0010.png")
    assert all(np.array_equal(p, q) for p, q in zip(one.planes[0], film.planes[3], strict=True))


def test_a2_056_without_a_rate_25_is_assumed_and_said(shots: Path) -> None:
    film = read(shots / "shot_%04d.png")
    assert film.n == 12 and film.info.rate == 25 and film.notes.count("no_timestamps") == 1


def test_a2_056_missing_pictures_and_names(shots: Path, tmp_path: Path) -> None:
    refused(tmp_path / "shot_%04d.png", 3, "no numbered pictures of this name")
    for number in (1, 2, 4):
        (tmp_path / f"{number}.png").write_bytes((shots / "shot_0007.png").read_bytes())
    refused(tmp_path / "%d.png", 4, "picture 3 is missing, others follow")
    (tmp_path / "%d.png").write_bytes((shots / "shot_0008.png").read_bytes())
    assert read(tmp_path / "%d.png").n == 1  # a file of this very name is itself


# -- the network, and lists of files -------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server of a folder."""
    (tmp_path / "www").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a2_079_addresses_only_where_asked_for(served: str, many: Path, tmp_path: Path) -> None:
    (tmp_path / "www" / "film.mkv").write_bytes(many.read_bytes())
    address, out = f"{served}/film.mkv", tmp_path / "out.mkv"
    refused(address, 3, "http: input refused; give a local file, or add --allow-network")
    assert cli.run([address, "--allow-network", *NULL]) == 2  # where to?
    assert cli.run([address, "-o", str(out), "--allow-network", *NULL]) == 0
    assert_same_pictures(read(many), read(out))
    refused(f"{served}/none.mkv", 4, "cannot be opened", ReadSettings(network=True))


def test_a2_079_a_list_from_the_network_reads_no_file_here(served: str, good: Path, tmp_path: Path) -> None:
    piece = f"#EXTINF:1,\nfile://{good}\n#EXT-X-ENDLIST\n"
    (tmp_path / "www" / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + piece)
    address = f"{served}/list.m3u8"
    refused(address, 3, "playlists and addresses are refused", ReadSettings(network=True))
    with pytest.raises(VidrestoreError) as caught:
        read_info(address, Notes(), ReadSettings(network=True, playlists=True))
    assert caught.value.exit_code in (3, 4)


def test_a2_079_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_NETWORK_PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x.mkv"
        refused(address, 3, "does not answer", ReadSettings(network=True))


def test_a2_080_a_live_list_that_stands_still_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opening, "_NETWORK_PATIENCE", 1.0)
    (tmp_path / "live.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nnone.ts\n")
    refused(tmp_path / "live.m3u8", 4, "is not a media file", ReadSettings(playlists=True))


def test_a2_080_lists_only_where_asked_for(tmp_path: Path) -> None:
    ffmpeg(*PATTERN, *X264, tmp_path / "a.ts")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile a.ts\nfile a.ts\n")
    joined = f"concat:{tmp_path / 'a.ts'}|{tmp_path / 'a.ts'}"
    for source, frames in ((tmp_path / "list.m3u8", 25), (tmp_path / "list.ffconcat", 50), (joined, 50)):
        refused(source, 3, "--allow-playlists")
        assert read(source, ReadSettings(playlists=True)).n == frames
    refused("async:x.mkv", 3, "async: input refused; give a local file, or add --allow-playlists")
    refused("gopher://x", 3, "gopher: input refused; give a local file")


# -- raw streams and broadcasts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "coded"),
    [("x.m2v", ["-c:v", "mpeg2video"]), ("x.ivf", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]),
     ("x.obu", ["-c:v", "libsvtav1", "-preset", "12"]), ("x.h264", X264), ("x.hevc", ["-c:v", "libx265"])],
)  # fmt: skip
def test_a2_070_raw_streams(name: str, coded: list[str], tmp_path: Path) -> None:
    """Numbered at 25 a second, which is said, or at -r; IVF alone has times of its own."""
    quiet = ["-x265-params", "log-level=none"] if name.endswith("hevc") else []
    ffmpeg(*PATTERN, *coded, *quiet, tmp_path / name)
    film = read(tmp_path / name)
    assert film.n == 25 and film.pts == [Fraction(i, 25) for i in range(25)]
    assert film.notes.count("no_timestamps") == (0 if name.endswith("ivf") else 1)
    slow = read(tmp_path / name, ReadSettings(rate=Fraction(24000, 1001)))
    assert slow.pts[24] == pytest.approx(24 * 1001 / 24000, abs=1e-5)


def test_a2_071_programs_of_a_broadcast(tmp_path: Path) -> None:
    """Two programs: the first's film is restored, --video-stream takes the other's, and everything passes."""
    source = tmp_path / "two.ts"
    second = ["-f", "lavfi", "-i", "testsrc=size=96x64:rate=25:duration=1"]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "2:v", "-map", "1:a"]
    programs = ["-program", "title=one:st=0:st=1", "-program", "title=two:st=2:st=3"]
    ffmpeg(*PATTERN, *TONE, *second, *maps, *X264, "-c:a", "aac", *programs, source)
    first, other = read(source), read(source, ReadSettings(video_stream=1))
    assert first.info.stream.index == 0 and other.info.stream.index == 2
    assert not np.array_equal(first.planes[0][0], other.planes[0][0])
    transcode(source, tmp_path / "out.mkv")
    kinds = [s.kind for s in read_info(str(tmp_path / "out.mkv"), Notes()).streams]
    assert kinds == ["video", "audio", "video", "audio"]


def test_a2_071_sound_that_begins_late_is_found(tmp_path: Path) -> None:
    """Six seconds of picture before the first sound."""
    source = tmp_path / "late.ts"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=8"]
    ffmpeg(*picture, "-itsoffset", "6", *TONE, "-map", "0", "-map", "1", *X264, "-c:a", "aac", source)
    transcode(source, tmp_path / "out.mkv")
    assert [s.kind for s in read_info(str(tmp_path / "out.mkv"), Notes()).streams] == ["video", "audio"]


def test_a2_091_waiting_for_standard_input_is_said(good: Path) -> None:
    """Once, after a while; and the film is read when it comes."""
    code = (
        "import vidrestore.media.opening as o; o.PATIENCE = 0.2\n"
        "from vidrestore.cli import main; main(['-', '-o', '-', '-vf', 'detect=none,restore=none'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    assert b"waiting for input on stdin" in process.stderr.readline()
    process.stdin.write((good.parent / "many.mkv").read_bytes())
    process.stdin.close()
    assert process.stdout.read(4) == b"\x1aE\xdf\xa3"
    process.stdout.read()
    assert process.wait(60) == 0 and b"waiting" not in process.stderr.read()
