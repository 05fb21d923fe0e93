"""Inputs opened safely: by content and not by name; the network and lists of other files only where they are asked
for."""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import av
from av.format import ContainerFormat, formats_available

from vidrestore.errors import InputAccessError, InputMediaError, UsageError
from vidrestore.media.faults import AV_ERRORS, libav_lines, open_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from av.codec.hwaccel import HWAccel

    from vidrestore.notes import Notes

NETWORK = ("http", "https", "ftp", "rtmp", "rtmps", "rtp", "rtsp", "srt", "tcp", "tls", "udp")
PLAYLISTS = ("concat", "concatf", "subfile", "crypto", "data", "async", "cache")  # protocols that read other files
_LISTING = ("hls", "dash", "concat")  # ... and formats
# Formats that read other files, take input from devices or the network, or invent pictures.
_REFUSED = frozenset(
    {"concat", "concatf", "hls", "dash", "sdp", "rtp", "rtsp", "sap", "imf", "webm_dash_manifest", "vobsub"}
    | {"image2", "image2pipe", "lavfi", "ffmetadata", "data", "tty", "bin", "xbin", "adf", "idf", "tedcaptions"}
    | {"alsa", "oss", "fbdev", "kmsgrab", "x11grab", "xcbgrab", "pulse", "sndio", "openal", "jack", "iec61883"}
    | {"libcdio", "libdc1394", "android_camera", "avfoundation", "dshow", "vfwcap", "gdigrab", "decklink"}
    | {"video4linux2,v4l2", "video4linux2", "v4l2"}
)
_LISTS = (b"#EXTM3U", b"ffconcat ", b"<MPD", b"v=0\r", b"v=0\n", b"[playlist]")
_STILLS = {
    b"\x89PNG\r\n\x1a\n": "png_pipe",
    b"\xff\xd8\xff": "jpeg_pipe",
    b"II*\0": "tiff_pipe",
    b"MM\0*": "tiff_pipe",
}
STILL_FORMATS = ("png_pipe", "jpeg_pipe", "tiff_pipe", "webp_pipe")
# ASF objects that say the content is locked (Content Encryption, Extended Content Encryption).
_ASF_LOCKS = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
PATIENCE = 10.0  # seconds without a film on standard input before that is said
_NETWORK_PATIENCE = 30.0  # seconds that an address, or a list of live pieces, may take to answer
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)[:,]")  # subfile's options come before its colon
_NUMBER = re.compile(r"%(?:0(\d))?d")


@cache
def allowed_formats(*more: str) -> str:
    """libav's demuxers that read one local file, as its white list wants them, and more by name."""
    names = {ContainerFormat(name, "r").name for name in formats_available if _is_demuxer(name)}
    return ",".join(sorted(name for name in names if name not in _REFUSED or name in more))


def _is_demuxer(name: str) -> bool:
    try:
        return ContainerFormat(name, "r").is_input
    except ValueError:
        return False


def local_path(source: str) -> Path:
    """The absolute path of an input name. Raises InputAccessError for addresses and what is no readable file."""
    path = Path(source)
    if scheme := address_scheme(source):
        flag = {**dict.fromkeys(NETWORK, "network"), **dict.fromkeys(PLAYLISTS, "playlists")}.get(scheme.lower())
        remedy = "give a local file" + (f", or add --allow-{flag}" if flag else "")
        raise InputAccessError(source, f"{scheme}: input refused", remedy)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputAccessError(source, "no such file") from None
    except NotADirectoryError:
        raise InputAccessError(source, "no such file") from None
    except PermissionError:
        raise InputAccessError(source, "permission denied") from None
    except (OSError, ValueError) as error:
        raise InputAccessError(source, f"cannot be read: {error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputAccessError(source, "is a directory", "use vidrestore batch for folders")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise InputMediaError(source, "is empty")
    if not os.access(path, os.R_OK):
        raise InputAccessError(source, "permission denied")
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, and names are shown as given


def address_scheme(source: str) -> str:
    """The scheme of an address; nothing where a file has this name, or where it is none."""
    found = _SCHEME.match(source)
    return found[1] if found and not os.path.lexists(source) else ""


def is_sequence(source: str) -> bool:
    """Whether the name stands for numbered pictures, as ``frames/%05d.png``, and no file has it."""
    return len(_NUMBER.findall(Path(source).name)) == 1 and not os.path.lexists(source)


def stem_of(source: str) -> str:
    """What outputs are named after: a file's name without its ending, of numbered pictures what they share."""
    path = Path(source)
    if not is_sequence(source):
        return path.stem
    return _NUMBER.sub("", path.stem).strip(" ._-") or path.absolute().parent.name


def _sequence(source: str, rate: Fraction | None) -> _Way:
    """Numbered pictures, from the lowest number on. Raises InputAccessError (3), InputMediaError (4) for a gap."""
    path = Path(source).absolute()
    digits = _NUMBER.search(path.name)
    assert digits is not None
    number = r"(\d+)" if digits[1] is None else rf"(\d{{{digits[1]},}})"
    before, after = re.escape(path.name[: digits.start()]), re.escape(path.name[digits.end() :])
    pattern = re.compile(before + number + after)
    files = path.parent.iterdir() if path.parent.is_dir() else ()
    found = sorted(int(match[1]) for file in files if (match := pattern.fullmatch(file.name)))
    if not found:
        raise InputAccessError(source, "no such file, and no numbered pictures of this name")
    gap = next((a + 1 for a, b in pairwise(found) if b > a + 1), None)
    if gap is not None:
        raise InputMediaError(source, f"picture {gap} is missing, others follow", "number them without a gap")
    name = str(path.parent).replace("%", "%%") + "/" + path.name
    options = {"pattern_type": "sequence", "start_number": str(found[0]), "framerate": str(rate or 25)}
    return _Way(name, "image2", options, ("image2",))


@dataclass(frozen=True, slots=True)
class _Way:
    """How libav is to open an input."""

    name: str
    form: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ()  # allowed beside those that read one file
    protocols: tuple[str, ...] = ("file", "pipe", "fd")
    patience: float | None = None  # seconds


def _way(source: str, *, network: bool, playlists: bool, rate: Fraction | None) -> _Way:
    scheme = address_scheme(source).lower()
    lists = _LISTING if playlists else ()
    if scheme in NETWORK and network:
        # what comes from elsewhere reads no file here
        protocols = (*NETWORK, *(PLAYLISTS if playlists else ()))
        return _Way(source, formats=(*lists, "rtsp", "rtp"), protocols=protocols, patience=_NETWORK_PATIENCE)
    protocols = ("file", "pipe", "fd", *(PLAYLISTS if playlists else ()), *(NETWORK if network else ()))
    if scheme in PLAYLISTS and playlists:
        return _Way(source, formats=lists, protocols=protocols)
    if source == "-":
        if sys.stdin is not None and os.isatty(0):
            raise UsageError("-", "standard input is a terminal", "pipe a film into it or name a file")
        return _Way("pipe:0")
    if is_sequence(source) and not scheme:
        return _sequence(source, rate)
    path = local_path(source)
    form = _known_by_head(path, source, playlists=playlists)
    return _Way(str(path), form, formats=lists, protocols=protocols, patience=_NETWORK_PATIENCE if playlists else None)


def open_input(
    source: str,
    *,
    network: bool = False,
    playlists: bool = False,
    rate: Fraction | None = None,
    hwaccel: HWAccel | None = None,
) -> Any:
    """Open a local file, numbered pictures, or standard input for ``-``, as a PyAV container; ``hwaccel`` decodes where
    it can. ``network`` and ``playlists`` allow addresses, and lists of other files; ``rate`` is that of pictures.

    Raises InputAccessError (3) and InputMediaError (4) with one line.
    """
    way = _way(source, network=network, playlists=playlists, rate=rate)
    lists = {"protocol_whitelist": ",".join(way.protocols), "format_whitelist": allowed_formats(*way.formats)}

    def open_it() -> Any:
        return av.open(
            way.name, "r", format=way.form, options={**lists, **way.options}, hwaccel=hwaccel,
            metadata_errors="surrogateescape", timeout=way.patience,
        )  # fmt: skip

    try:
        return open_it()
    except AV_ERRORS as error:
        if source == "-":
            empty = isinstance(error, (EOFError, av.InvalidDataError))
            raise InputMediaError("-", "no data on stdin" if empty else open_error("-", error, []).what) from error
        raise open_error(source, error, libav_lines(open_it), _head(Path(way.name), 8)) from error


@contextmanager
def waiting(source: str, notes: Notes) -> Iterator[None]:
    """Say that nothing comes in, where standard input is waited for."""
    timer = Timer(PATIENCE, lambda: notes.warn("waiting", source, "waiting for input on stdin"))
    timer.daemon = True
    if source == "-":
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _head(path: Path, size: int) -> bytes:
    """The first bytes of a regular file; nothing of a FIFO, whose beginning looking would eat."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(size)


def _known_by_head(path: Path, source: str, *, playlists: bool) -> str | None:
    """The demuxer of image files, which libav would take for numbered series by their names. Refuses lists, unless
    they are asked for."""
    head = _head(path, 65536)
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    if not playlists and (text.startswith(_LISTS) or (head.startswith(b"<?xml") and b"<MPD" in head[:1024])):
        raise InputAccessError(source, "playlists are refused", "give the media file itself, or add --allow-playlists")
    if any(lock in head for lock in _ASF_LOCKS):
        raise InputMediaError(source, "stream is encrypted (DRM)")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp_pipe"
    return next((form for magic, form in _STILLS.items() if head.startswith(magic)), None)
