"""The ffmpeg program: where it is, which encoders it has. What runs it is the engine's."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Final

from vidrestore.api import Coding, ResourceError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENCODER: Final = re.compile(r"^ V\S{5} (\S+) .*?(?:\(codec (\S+)\))?$", re.M)
_PIX_FMTS: Final = re.compile(r"Supported pixel formats: (.*)")


def binary(wanted: str | None, subject: str) -> str:
    """The program by name or path; without one, ffmpeg's own, else imageio-ffmpeg's. Raises ResourceError (7)."""
    if wanted is not None:
        found = shutil.which(wanted)
        if found is None:
            raise ResourceError(subject, f"no program '{wanted}'", "give its path as bin=/path/to/ffmpeg")
        return found
    if (found := shutil.which("ffmpeg")) is not None:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        remedy = "install ffmpeg, or pip install 'vidrestore[ffmpeg]'"
        raise ResourceError(subject, "there is no ffmpeg here", remedy) from None


def encoder(program: str, name: str) -> Coding:
    """One of its encoders of pictures. Raises UsageError (2) with the nearest name."""
    have = _encoders(program)
    if name not in have:
        raise UsageError("-c:v", f"this ffmpeg has no encoder '{name}'{did_you_mean(name, sorted(have))}")
    told = _PIX_FMTS.search(_asked(program, f"encoder={name}"))
    return Coding(name, have[name], tuple(told[1].split()) if told else ())


@cache
def _encoders(program: str) -> Mapping[str, str]:
    """Encoders of pictures -> what they write."""
    return {name: codec or name for name, codec in _ENCODER.findall(_run(program, "-encoders"))}


@cache
def _asked(program: str, topic: str) -> str:
    return _run(program, "-h", topic)


def _run(program: str, *args: str) -> str:
    try:
        done = subprocess.run(
            [program, "-nostdin", "-hide_banner", *args], capture_output=True, text=True, check=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ResourceError(program, f"is no ffmpeg that works: {error}", "give another as bin=") from error
    return done.stdout
