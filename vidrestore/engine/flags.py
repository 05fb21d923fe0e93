"""What a configuration asks of the reader and of the encoder."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from vidrestore.engine.stamping import stamp
from vidrestore.errors import UsageError
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.reader import ReadSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidrestore.config import RunConfig

SETTINGS_OF_ENCODER = ("c:v", "vcodec", "pix_fmt", "r", "f", "c:a", "acodec")  # those that are no encoder options


def read_settings(config: RunConfig) -> ReadSettings:
    s = config.settings
    rate = config.encoder.get("r")
    return ReadSettings(
        start=s.start,
        end=s.end,
        video_stream=s.video_stream,
        rate=_rate(rate) if rate is not None else None,
        assume_color=s.assume_color,
        field_order=s.field_order,
        strict=s.strict,
        keep_going=s.keep_going,
        network=s.allow_network,
        playlists=s.allow_playlists,
    )


def encode_settings(config: RunConfig, tags: Mapping[str, str], *, piped: bool, named: bool) -> EncodeSettings:
    """What the flags ask of the output.

    Into a pipe goes FFV1 in Matroska: nothing is lost on the way. Where the user has not ``named`` the output, sound
    that no container holds becomes FLAC; where he has, it is an error that says what to do.
    """
    given = dict(config.encoder)
    lossless = "ffv1" if piped and given.get("f", "matroska") in ("matroska", "mkv", "nut") else None
    return EncodeSettings(
        codec=given.get("c:v") or given.get("vcodec") or lossless,
        options={k: v for k, v in given.items() if k not in SETTINGS_OF_ENCODER},
        pix_fmt=given.get("pix_fmt"),
        format=given.get("f"),
        audio_codec=given.get("c:a") or given.get("acodec"),
        audio_fallback=None if named else "flac",
        threads=config.settings.encoder_threads,
        pad_even=config.settings.pad_even,
        drop_alpha=config.settings.drop_alpha,
        tags={**tags, **stamp(config)},
        preserve=config.settings.preserve,
    )


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise UsageError("-r", f"'{text}' is no frame rate", "write a number or a fraction, e.g. -r 30000/1001")
    return rate
