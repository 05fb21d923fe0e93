"""Another encoder takes over where the first one fails: the film is begun anew, as packets of two do not fit into one
stream."""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vidrestore.config import ResolvedStep, options_model
from vidrestore.errors import EncoderFailed, EncoderRefused, OutputError, UsageError
from vidrestore.media.encoder import try_encoder
from vidrestore.media.encoding import common_options, container_of, encoder_named, plan_video

if TYPE_CHECKING:
    from vidrestore.config import RunConfig
    from vidrestore.engine.record import Record
    from vidrestore.media.encoding import EncodeSettings
    from vidrestore.media.probe import MediaInfo
    from vidrestore.notes import Notes

FAULTS: Final = (EncoderRefused, EncoderFailed)
_FLAG: Final = "--fallback-encoder"
_OF_THE_FILM: Final = ("pix_fmt", "r", "f", "c:a", "acodec")  # whoever codes it
_LIBAV: Final = "pyav"


def check_fallback(name: str, source: str, target: str | None) -> None:
    """Refuse what cannot be begun anew. Raises UsageError (2)."""
    try:
        encoder_named(name, "video")
    except UsageError as error:
        raise UsageError(_FLAG, error.what, error.remedy) from None
    if source == "-" or is_pipe(source):
        raise UsageError(_FLAG, "a pipe cannot be read again from its beginning", "name a file")
    if target == "-":
        raise UsageError(_FLAG, "what has gone into a pipe cannot be taken back", "add -o FILE")


def check_fits(settings: EncodeSettings, target: Path, info: MediaInfo) -> None:
    """Know now whether the other encoder could take over. ``settings``: those it would have. Raises UsageError (2)."""
    container = container_of(target, settings, info)
    if container == "still":
        return
    try:
        try_encoder(plan_video(info, info.layout, container, settings, str(target)), container, info, str(target))
    except (OutputError, UsageError) as error:
        raise UsageError(_FLAG, error.what, "name another one") from error


def with_fallback(config: RunConfig) -> RunConfig:
    """The same run, coded by libav's other encoder. It gets the options that mean the same to every encoder."""
    name = config.settings.fallback_encoder
    assert name is not None
    of_film = {key: value for key, value in config.encoder.items() if key in _OF_THE_FILM}
    step = ResolvedStep("encode", _LIBAV, options_model("encode", _LIBAV)(), None, "flag", {})
    steps = tuple(step if s.stage == "encode" else s for s in config.steps)
    encoder = {**of_film, **common_options(name, config.encoder), "c:v": name}
    return replace(config, steps=steps, encoder=encoder)


def fall_back(config: RunConfig, fault: OutputError | EncoderFailed, record: Record, notes: Notes) -> RunConfig | None:
    """What to run in place of what failed, said in one warning; None where there is nothing else to try."""
    name = config.settings.fallback_encoder
    first = record.output.get("encoder") or config.encoder.get("c:v") or config.encoder.get("vcodec")
    if name is None or (first == name and config.step("encode").plugin == _LIBAV):
        return None
    instead = with_fallback(config)
    lost = [f"-{key} {value}" for key, value in config.encoder.items() if key not in (*instead.encoder, "vcodec")]
    without = f", without {' '.join(lost)}" if lost else ""
    notes.begin_anew()
    notes.warn("encoder_fallback", fault.subject, f"{fault.what}; the film is begun anew with {name}{without}")
    return instead


def told(fault: OutputError | EncoderFailed, first: Record) -> dict[str, Any]:
    """What the record says of the encoder that failed."""
    return {"chain": first.config.chain, "encoder": dict(first.config.encoder), "why": fault.what}


def is_pipe(source: str) -> bool:
    """Whether a name is that of a FIFO, which can be read but once."""
    with suppress(OSError):
        return stat.S_ISFIFO(Path(source).stat().st_mode)
    return False
