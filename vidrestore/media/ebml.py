"""What PyAV gives no way to ask of Matroska and WebM, or to hand to their muxer: a crop, and the shape of samples.

A track that is to get a shape is written with a longer name than it has. When the file is complete its track
entry is written anew in the same place and length: the true name, DisplayWidth and DisplayHeight added to its
picture settings, padding for the rest. Elements and their numbers: RFC 9559; their coding: RFC 8794.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path

_SEGMENT, _TRACKS, _ENTRY, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_NAME, _VOID, _CRC = 0x536E, 0xEC, 0xBF
_WIDTH, _HEIGHT, _UNIT = 0x54B0, 0x54BA, 0x54B2
_CROP = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # PixelCropLeft, Top, Right, Bottom
_SHAPE = (_WIDTH, _HEIGHT, _UNIT)  # a unit of "unknown" is what the muxer writes where it is told nothing
_MARK = "\u2007" * 24  # 72 bytes of room, in characters that no name ends with
_HEAD = 1 << 20  # bytes in which the tracks are found


def marked(name: str) -> str:
    """A track name with room behind it."""
    return name + _MARK


def set_display_shape(path: Path, width: int, height: int, sar: Fraction) -> bool:
    """Give the marked track of a finished file its display size. False where it was not found."""
    with path.open("r+b") as file:
        head = bytearray(file.read(_HEAD))
        found = _find_tracks(head)
        if found is None:
            return False
        start, end = found
        tracks = _rewritten(bytes(head[start:end]), width, height, sar)
        if tracks is None or len(tracks) != end - start:
            return False
        file.seek(start)
        file.write(tracks)
    return True


def crop_of(path: Path, track: int) -> tuple[int, ...]:
    """How many px of a track's stored picture are not to be shown: left, top, right, bottom. Tracks count from 0."""
    with path.open("rb") as file:
        head = bytearray(file.read(_HEAD))
    start, end = _find_tracks(head) or (0, 0)
    entries = [(s, e) for number, _, s, e in _elements(head, start, end) if number == _ENTRY]
    crop = dict.fromkeys(_CROP, 0)
    for number, _, first, last in _elements(head, *entries[track]) if track < len(entries) else ():
        for inner, _, s, e in _elements(head, first, last) if number == _VIDEO else ():
            if inner in crop:
                crop[inner] = int.from_bytes(head[s:e], "big")
    return tuple(crop.values())


class ShapedPipe:
    """Standard output that holds the head of a file back until its marked track has its shape."""

    def __init__(self, handle: int, width: int, height: int, sar: Fraction) -> None:
        self._handle, self._size = handle, (width, height, sar)
        self._held: bytearray | None = bytearray()

    def write(self, data: bytes) -> int:
        """Take bytes from the muxer; they go on at once when the head has passed."""
        if self._held is None:
            self._send(data)
            return len(data)
        self._held += data
        found = _find_tracks(self._held)
        if found is not None:
            start, end = found
            tracks = _rewritten(bytes(self._held[start:end]), *self._size)
            if tracks is not None and len(tracks) == end - start:
                self._held[start:end] = tracks
        if found is not None or len(self._held) > _HEAD:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Let go of what is held back."""
        held, self._held = self._held, None
        if held:
            self._send(held)

    def _send(self, data: bytes | bytearray) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]


def _find_tracks(head: bytearray) -> tuple[int, int] | None:
    """Where the content of Tracks lies."""
    for number, _, start, end in _elements(head, 0, len(head)):
        if number == _SEGMENT:
            for inner, _, inner_start, inner_end in _elements(head, start, min(end, len(head))):
                if inner == _TRACKS and inner_end <= len(head):
                    return inner_start, inner_end
    return None


def _rewritten(tracks: bytes, width: int, height: int, sar: Fraction) -> bytes | None:
    """The content of Tracks with the marked entry changed; None where no entry is marked."""
    out, done = b"", False
    for number, first, start, end in _elements(tracks, 0, len(tracks)):
        content = tracks[start:end]
        if number == _ENTRY and _MARK.encode() in content:
            content = _entry(content, width, height, sar)
            done = True
        if number != _CRC:  # the sum comes first and is made last
            out += tracks[first:start] + content
    if tracks[:1] == bytes([_CRC]):
        out = bytes([_CRC, 0x84]) + zlib.crc32(out).to_bytes(4, "little") + out
    return out if done else None


def _entry(content: bytes, width: int, height: int, sar: Fraction) -> bytes:
    """A track entry of the same length with its true name and a display size."""
    shown = _display_size(width, height, sar)
    out = b""
    for number, first, start, end in _elements(content, 0, len(content)):
        inner = content[start:end]
        if number == _NAME:
            name = inner.decode().removesuffix(_MARK)
            out += _element(_NAME, name.encode()) if name else b""
        elif number == _VIDEO:
            inner = b"".join(inner[f:e] for n, f, _, e in _elements(inner, 0, len(inner)) if n not in _SHAPE)
            inner += _element(_WIDTH, shown[0].to_bytes(4, "big")) + _element(_HEIGHT, shown[1].to_bytes(4, "big"))
            out += _element(_VIDEO, inner)
        else:
            out += content[first:end]
    spare = len(content) - len(out)
    return out + bytes([_VOID, 0x40, spare - 3]) + bytes(spare - 3)


def _display_size(width: int, height: int, sar: Fraction) -> tuple[int, int]:
    """Whole numbers of exactly the right ratio, near the size of the picture stretched."""
    ratio = width * sar / height
    times = -(-height // ratio.denominator)
    if ratio.denominator <= 4 * height:
        exact = (width * sar).denominator == 1 and sar >= 1
        return (int(width * sar), height) if exact else (ratio.numerator * times, ratio.denominator * times)
    return round(width * sar), height


def _element(number: int, content: bytes) -> bytes:
    """An element with its size in two bytes."""
    size = (0x4000 | len(content)).to_bytes(2, "big")
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + size + content


def _elements(data: bytes | bytearray, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The elements in a range: number, where its head, its content and what follows begin."""
    while at < end:
        first = at
        number, at = _number(data, at, keep_mark=True)
        size, at = _number(data, at, keep_mark=False)
        if number < 0 or size < 0:
            return
        yield number, first, at, at + size
        at += size


def _number(data: bytes | bytearray, at: int, *, keep_mark: bool) -> tuple[int, int]:
    """A number of variable length and where it ends; -1 where there is none."""
    if at >= len(data) or data[at] == 0:
        return -1, at
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return -1, at
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_mark else value & ((1 << 7 * length) - 1)), at + length
