"""What is done to one film of a batch, as text that another process reads; and what makes it one job and no other."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from vidrestore.config import RunConfig, resolve
from vidrestore.engine.staging import network_threads, weight_hashes
from vidrestore.errors import InputAccessError, UsageError
from vidrestore.media.encoding import default_threads
from vidrestore.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

_ENDS: Final = 1 << 20  # bytes of a file's head and tail that stand for it
_CHANGES_NOTHING: Final = ("prefetch_mb", "keep_partial")
# libavfilter's filters that make of each frame one frame, by that frame alone.
FRAMEWISE: Final = frozenset({
    "avgblur", "cas", "chromashift", "colorbalance", "colorchannelmixer", "colorlevels", "crop", "curves",
    "exposure", "fillborders", "format", "gblur", "hflip", "hue", "limiter", "lut", "lut3d", "lutrgb", "lutyuv",
    "median", "negate", "noformat", "pad", "rgbashift", "rotate", "scale", "setdar", "setsar", "transpose",
    "unsharp", "vflip", "vibrance",
})  # fmt: skip
_COUNTS: Final = re.compile(r"\bn\b")  # in an expression: the number of the frame, counted from where a worker began
_NOWHERE: Final = {"XDG_CONFIG_HOME": os.devnull}  # an environment that says nothing
_WITH_WEIGHTS: Final = ("detect", "assess", "restore", "embed", "blend")


@dataclass(frozen=True, slots=True)
class Spec:
    """How a film is run. Everything is settled: no default of this machine or user is asked again."""

    preset: str
    chain: str
    settings: dict[str, Any]
    encoder: dict[str, str]
    segment: int  # frames, about
    weights: dict[str, str]  # name -> SHA-256
    overwrite: bool = False
    masks: bool = False  # a film of masks beside the output

    @classmethod
    def of(
        cls, config: RunConfig, segment: int, weights: dict[str, str], *, overwrite: bool, masks: bool = False
    ) -> Spec:
        """Settle a configuration."""
        settings = config.settings.model_dump(mode="json")
        settings["threads"] = settings["threads"] or network_threads()
        if "threads" not in config.encoder:
            settings["encoder_threads"] = settings["encoder_threads"] or default_threads()
        return cls(config.preset, config.chain, settings, dict(config.encoder), segment, weights, overwrite, masks)

    def config(self) -> RunConfig:
        """The configuration. Raises UsageError."""
        found = resolve(chain=self.chain, settings=self.settings, encoder=self.encoder, environment=_NOWHERE)
        return replace(found, preset=self.preset)

    def text(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, sort_keys=True)

    @classmethod
    def read(cls, text: str) -> Spec:
        return cls(**json.loads(text))

    def key(self, identity: str, output: Path) -> str:
        """What makes it this job: source, options, weights, version and output."""
        counted = {k: v for k, v in self.settings.items() if k not in _CHANGES_NOTHING}
        parts = [identity, self.chain, counted, self.encoder, self.segment, self.weights, os.fsencode(output).hex()]
        parts += ["masks"] if self.masks else []
        return sha256(json.dumps([*parts, __version__], sort_keys=True).encode()).hexdigest()


def weights_of(config: RunConfig) -> dict[str, str]:
    """Name -> SHA-256 of every weights file that a run will use. Raises ResourceError (7)."""
    if config.step("detect").make().side == 0:
        return {}
    return weight_hashes(config.step(stage).make() for stage in _WITH_WEIGHTS)


def check_batch(config: RunConfig) -> None:
    """Refuse what a film in pieces cannot have. Raises UsageError."""
    align = config.step("align").options.model_dump()
    if any(c.isdigit() for c in str(align.get("faces", "all"))):
        raise UsageError("--faces", "numbers of faces belong to one film", "use all or largest")
    if (encode := config.step("encode").plugin) != "pyav":
        raise UsageError(f"encode={encode}", "a batch writes with encode=pyav", "leave it out")
    if config.settings.on_change == "split":
        raise UsageError("--on-change", "a batch makes one file of a film", "leave it out")
    if config.settings.fallback_encoder is not None:
        raise UsageError("--fallback-encoder", "all segments of a film are of one encoder", "leave it out")
    if config.encoder.get("f") in ("y4m", "yuv4mpegpipe"):
        raise UsageError("-f", "y4m cannot be written in pieces", "use -f matroska")


def remembers(config: RunConfig) -> bool:
    """Whether a filter may look at more than the frame it is given: then a film cannot be worked in segments."""
    return any(step.plugin not in FRAMEWISE or _COUNTS.search(step.raw) for step in (*config.before, *config.after))


def identity_of(path: Path, *, whole: bool) -> str:
    """What tells a source from another: its size and time with the SHA-256 of its ends, or its size and the SHA-256
    of all of it (``whole``), which a copy keeps. Raises InputAccessError (3)."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            if whole:
                return f"{status.st_size} {_digest(iter(lambda: file.read(_ENDS), b''))}"
            head = file.read(_ENDS)
            file.seek(max(0, status.st_size - _ENDS))
            return f"{status.st_size} {status.st_mtime_ns} {_digest((head, file.read(_ENDS)))}"
    except FileNotFoundError as error:
        raise InputAccessError(str(path), "no such file") from error
    except OSError as error:
        raise InputAccessError(str(path), f"cannot be read: {error.strerror}") from error


def _digest(blocks: Any) -> str:
    found = sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()
