"""Inputs opened safely: by content and not by name, nothing from the network, no lists of other files."""

from __future__ import annotations

import os
import re
import stat
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.format import ContainerFormat, formats_available

from vidrestore.errors import InputAccessError, InputMediaError, UsageError
from vidrestore.media.faults import AV_ERRORS, libav_lines, open_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av.codec.hwaccel import HWAccel

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
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@cache
def allowed_formats() -> str:
    """libav's demuxers that read one local file, as its white list wants them."""
    names = {ContainerFormat(name, "r").name for name in formats_available if _is_demuxer(name)}
    return ",".join(sorted(name for name in names if name not in _REFUSED))


def _is_demuxer(name: str) -> bool:
    try:
        return ContainerFormat(name, "r").is_input
    except ValueError:
        return False


def local_path(source: str) -> Path:
    """The absolute path of an input name. Raises InputAccessError for addresses and what is no readable file."""
    path = Path(source)
    if not os.path.lexists(path) and _SCHEME.match(source):
        scheme = source.partition(":")[0]
        raise InputAccessError(source, f"{scheme}: input refused", "give a local file")
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


def open_input(source: str, options: Mapping[str, str] | None = None, hwaccel: HWAccel | None = None) -> Any:
    """Open a local file, or standard input for ``-``, as a PyAV container; ``hwaccel`` decodes where it can.

    Raises InputAccessError (3) and InputMediaError (4) with one line.
    """
    wanted = {"protocol_whitelist": "file,pipe,fd", "format_whitelist": allowed_formats(), **(options or {})}
    form = None
    if source == "-":
        if sys.stdin is not None and os.isatty(0):
            raise UsageError("-", "standard input is a terminal", "pipe a film into it or name a file")
        name = "pipe:0"
    else:
        path = local_path(source)
        form, name = _known_by_head(path, source), str(path)

    def open_it() -> Any:
        return av.open(name, "r", format=form, options=dict(wanted), hwaccel=hwaccel, metadata_errors="surrogateescape")

    try:
        return open_it()
    except AV_ERRORS as error:
        if source == "-":
            empty = isinstance(error, (EOFError, av.InvalidDataError))
            raise InputMediaError("-", "no data on stdin" if empty else open_error("-", error, []).what) from error
        raise open_error(source, error, libav_lines(open_it), _head(path, 8)) from error


def _head(path: Path, size: int) -> bytes:
    """The first bytes of a regular file; nothing of a FIFO, whose beginning looking would eat."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(size)


def _known_by_head(path: Path, source: str) -> str | None:
    """The demuxer of image files, which libav would take for numbered series by their names. Refuses lists."""
    head = _head(path, 65536)
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_LISTS) or (head.startswith(b"<?xml") and b"<MPD" in head[:1024]):
        raise InputAccessError(source, "playlists are refused", "give the media file itself")
    if any(lock in head for lock in _ASF_LOCKS):
        raise InputMediaError(source, "stream is encrypted (DRM)")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp_pipe"
    return next((form for magic, form in _STILLS.items() if head.startswith(magic)), None)
