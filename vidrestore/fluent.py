"""The command line's runs, written in Python as ffmpeg-python writes ffmpeg's::

    import vidrestore as vr

    film = vr.input("old.mp4", ss=10, to=20).filter("av.bwdif").filter("restore", "ldbfr", seed=7)
    film.output("new.mkv", crf=18).run()

    for picture in vr.input("old.mp4").filter("restore", "ldbfr").pictures():
        my_encoder.write(picture.rgb, picture.seconds)

Nothing is opened before ``run`` or ``pictures``. What is wrong raises `vidrestore.errors.VidrestoreError`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vidrestore import options
from vidrestore.chain import quote
from vidrestore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.config import RunConfig
    from vidrestore.engine.job import Progress
    from vidrestore.engine.record import Record
    from vidrestore.types import Frame

_SETTINGS = {"ss": "start", "to": "end"}  # ffmpeg's words for ours
_SPELT = {"c_v": "c:v", "c_a": "c:a"}
_AV = "av."


def input(source: str | PathLike[str], *, preset: str | None = None, **settings: Any) -> Stream:
    """A film to work on; "-" is standard input.

    Args:
        settings: of ``vidrestore config show``, by name (``seed=7``, ``device="cuda"``); ``ss`` and ``to`` in seconds.
    """
    return Stream(str(source), preset, {_SETTINGS.get(key, key): value for key, value in settings.items()})


@dataclass(frozen=True)
class Stream:
    """A film and the steps that it goes through."""

    source: str
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()  # of a chain, as text

    def filter(self, stage: str, *args: Any, **options: Any) -> Stream:
        """One more step: ``filter("restore", "ldbfr", seed=7)``, or ``filter("av.scale", 1280, -2, flags="lanczos")``.

        Values are taken as they are: commas and colons in them need no quotes.
        """
        return replace(self, steps=(*self.steps, _step(stage, args, options)))

    def output(self, target: str | PathLike[str] | None = None, **encoder: Any) -> Output:
        """Where the film goes: a file, "-" for standard output, None for a name beside the source.

        Args:
            encoder: options by ffmpeg's names, as ``crf=18``; ``c_v`` and ``c_a`` stand for ``c:v`` and ``c:a``.
        """
        named = {_SPELT.get(key, key): options.text(value) for key, value in encoder.items()}
        return Output(self, None if target is None else str(target), named)

    @property
    def chain(self) -> str | None:
        """The steps as one chain."""
        return ",".join(self.steps) or None

    def config(self, encoder: Mapping[str, str] | None = None) -> RunConfig:
        """What a run would do. Raises UsageError as the command line does."""
        from vidrestore.config import resolve

        return resolve(preset=self.preset, chain=self.chain, settings=self.settings, encoder=encoder)

    def pictures(self) -> Iterator[Picture]:
        """The restored film's pictures, in order, for whoever has an encoder of their own. Memory stays bounded,
        however slowly they are taken; leaving the loop ends the run."""
        from vidrestore.engine.job import finished_frames

        for frame in finished_frames(self.source, self.config(), _warning()):
            yield Picture(frame)


@dataclass(frozen=True)
class Output:
    """A stream and where it goes."""

    stream: Stream
    target: str | None
    encoder: Mapping[str, str]
    overwrite: bool = False

    def overwrite_output(self) -> Output:
        """The same, replacing a file that is there."""
        return replace(self, overwrite=True)

    def run(self, tell: Callable[[Progress], None] | None = None) -> Record:
        """Restore, publish, write the run record. Warnings are Python's.

        Args:
            tell: called after every frame.
        """
        from vidrestore.engine.job import Job, run

        config = self.stream.config(self.encoder)
        return run(Job(self.stream.source, self.target, config, overwrite=self.overwrite), _warning(), tell)

    def get_args(self) -> list[str]:
        """The same run on the command line, without the program's name."""
        stream = self.stream
        args = [stream.source, *(["-o", self.target] if self.target is not None else [])]
        args += ["-p", stream.preset] if stream.preset else []
        args += ["-vf", stream.chain] if stream.chain else []
        for key, value in stream.settings.items():
            args += ["--set", f"{key}={options.text(value)}"]
        for key, value in self.encoder.items():
            args += [f"-{key}", value]
        return [*args, *(["-y"] if self.overwrite else [])]

    def compile(self, cmd: str = "vidrestore") -> list[str]:
        """The same run as a command for `subprocess`."""
        return [cmd, *self.get_args()]


@dataclass(frozen=True, eq=False)
class Picture:
    """One restored picture."""

    frame: Frame  # native planes, times, colour tags

    @property
    def seconds(self) -> float:
        """When it is shown."""
        return self.frame.seconds

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """u8 [h, w, 3], gamma-encoded as the film is, upright."""
        from vidrestore.media.colour import upright_rgb

        return upright_rgb(self.frame)

    @property
    def tensor(self) -> Tensor:
        """f32 [3, h, w] in 0..1 on the CPU, at the film's own depth, as the picture is stored: not turned."""
        from vidrestore.media.colour import Region, read_rgb

        layout = self.frame.layout
        return read_rgb(self.frame, Region(0, 0, layout.width, layout.height)).clamp(0, 1)


def _step(stage: str, args: tuple[Any, ...], given: Mapping[str, Any]) -> str:
    if stage.startswith(_AV):
        values = [_filter_value(a) for a in args] + [f"{key}={_filter_value(value)}" for key, value in given.items()]
        return stage + ("=" + ":".join(values) if values else "")
    if not args:
        raise UsageError("filter", f"'{stage}' needs a plugin", f'e.g. .filter("{stage}", "none")')
    plugin, *rest = (options.text(a) for a in args)
    named = [f"{key}={quote(options.text(value))}" for key, value in given.items()]
    return f"{stage}={':'.join([plugin, *map(quote, rest), *named])}"


def _filter_value(value: Any) -> str:
    """A value with both of ffmpeg's levels of quoting, where it needs them."""
    text = options.text(value)
    option = "".join(f"\\{c}" if c in "\\':" else c for c in text)
    return quote(option) if option != text or set(text) & set(",;[]= ") else text


def _warning() -> Any:
    from vidrestore.notes import Notes

    return Notes(lambda line: warnings.warn(line, stacklevel=2))
