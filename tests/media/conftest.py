"""Small films that many tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
from media_tools import PATTERN, TONE, X264, ffmpeg


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files made once."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="session")
def good(made: Path) -> Path:
    """25 frames of H.264 with B-frames and a second of AAC in mp4, its index at the end."""
    path = made / "good.mp4"
    ffmpeg(*PATTERN, *TONE, *X264, "-c:a", "aac", "-ac", "2", path)
    return path


@pytest.fixture(scope="session")
def noisy(made: Path) -> Path:
    """100 frames of H.264 in mp4, its index first, so large that it can be cut off."""
    path = made / "noisy.mp4"
    picture = "testsrc2=size=192x128:rate=25:duration=4,noise=alls=30:allf=t"
    sound = "sine=frequency=440:sample_rate=48000:duration=4"
    args = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *X264, "-g", "25", "-c:a", "aac"]
    ffmpeg(*args, "-movflags", "+faststart", path)
    return path


@pytest.fixture(scope="session")
def many(made: Path) -> Path:
    """Film, three sounds, two captions, an attachment, chapters and tags in Matroska."""
    (made / "s.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,400\nfirst line\n\n2\n00:00:00,500 --> 00:00:00,900\nsecond\n"
    )
    (made / "c.txt").write_text(
        ";FFMETADATA1\ntitle=A title with ü\nreel=7\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=500\nEND=1000\ntitle=two\n"
    )
    (made / "note.txt").write_bytes(b"attached bytes\n")
    path = made / "many.mkv"
    ffmpeg(
        *PATTERN, *TONE, *TONE, *TONE, "-i", made / "s.srt", "-i", made / "c.txt",
        "-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:a", "-map", "4:s", "-map", "4:s",
        "-map_metadata", "5", "-map_chapters", "5", *X264,
        "-c:a:0", "aac", "-c:a:1", "libmp3lame", "-c:a:2", "flac", "-c:s:0", "srt", "-c:s:1", "ass",
        "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu", "-metadata:s:a:2", "language=fra",
        "-metadata:s:s:0", "language=eng", "-disposition:a:0", "0", "-disposition:a:1", "default",
        "-disposition:s:1", "forced", "-attach", made / "note.txt", "-metadata:s:t", "mimetype=text/plain", path,
    )  # fmt: skip
    return path
