"""Streams that must change to fit the container: captions into its text format, sound where the user asks for it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import av
from av.audio.resampler import AudioResampler
from av.codec import Codec

from vidrestore.errors import OutputError
from vidrestore.media.encoding import encoder_named
from vidrestore.media.faults import AV_ERRORS, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidrestore.media.tracks import Track

# What text decoders yield is ASS; the encoders want its head even where the source has none.
_ASS_HEAD = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
_USUAL = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # for sound that does not say where its channels stand
_BITS_A_CHANNEL = 96_000  # of lossy sound, bit/s


class Lane(Protocol):
    """One output stream that is fed with packets of an input stream."""

    stream: Any

    def convert(self, packet: Any) -> Iterator[Any]: ...

    def flush(self) -> Iterator[Any]: ...


class TextLane:
    """Captions from one text format into another; times are kept, styles go."""

    def __init__(self, out: Any, template: Any, track: Track) -> None:
        self._decoder = template.codec_context
        self._decoder.open(strict=False)
        self.stream = out.add_stream(track.codec)
        context = self.stream.codec_context
        context.time_base = template.time_base
        context.subtitle_header = self._decoder.subtitle_header or _ASS_HEAD
        self.stream.metadata.update(template.metadata)
        self.stream.disposition = int(template.disposition)

    def convert(self, packet: Any) -> Iterator[Any]:
        subtitle = self._decoder.decode2(packet)
        if subtitle is None or not len(subtitle):
            return  # a pause between captions, which mov_text spells out
        text = self.stream.codec_context.encode_subtitle(subtitle)
        text.pts = text.dts = packet.pts
        text.duration = packet.duration
        text.time_base = packet.time_base
        yield text

    def flush(self) -> Iterator[Any]:
        return iter(())


class SoundLane:
    """Sound decoded and coded anew with the encoder the user named."""

    def __init__(self, out: Any, template: Any, track: Track, subject: str) -> None:
        codec = encoder_named(track.codec, "audio")
        self._decoder = template.codec_context
        if self._decoder is None or not self._decoder.sample_rate or not self._decoder.layout.nb_channels:
            raise OutputError(subject, f"{track.stream} cannot be decoded", "leave -c:a out to copy it")
        rate = _nearest_rate(codec, self._decoder.sample_rate)
        try:
            self.stream = out.add_stream(codec.name, rate=rate)
        except ValueError as error:
            raise OutputError(subject, f"{out.format.name} cannot hold {codec.name} sound") from error
        try:
            self._open(codec, rate)
        except AV_ERRORS as error:
            raise OutputError(subject, f"{codec.name} refuses {track.stream}: {reason(error)}") from error
        self._resampler = self._new_resampler()
        self._form: tuple[Any, ...] = ()
        self.stream.metadata.update({k: v for k, v in template.metadata.items() if k != "encoder"})
        self.stream.disposition = int(template.disposition)

    def _open(self, codec: Codec, rate: int) -> None:
        context, layout = self.stream.codec_context, self._decoder.layout
        context.layout = _USUAL.get(layout.nb_channels, layout.name) if "channels" in layout.name else layout.name
        context.time_base = Fraction(1, rate)
        formats = [f.name for f in codec.audio_formats or []]
        if self._decoder.format is not None and (self._decoder.format.name in formats or not formats):
            context.format = self._decoder.format.name
        if codec.lossy:
            context.bit_rate = _BITS_A_CHANNEL * layout.nb_channels
        context.open()

    def _new_resampler(self) -> AudioResampler:
        context = self.stream.codec_context
        size = context.frame_size or None
        return AudioResampler(context.format, context.layout, context.sample_rate, frame_size=size)

    def convert(self, packet: Any) -> Iterator[Any]:
        try:
            frames = self._decoder.decode(packet)
        except AV_ERRORS:
            frames = []  # a damaged packet: time goes on by the stamps of the next
        for frame in frames:
            yield from self._encode(frame)

    def _encode(self, frame: av.AudioFrame | None) -> Iterator[Any]:
        form = self._form if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._form and form != self._form:  # the recording changes its channels or rate: a new beginning
            for part in self._resampler.resample(None):
                yield from self.stream.encode(part)
            self._resampler = self._new_resampler()
        self._form = form
        for part in self._resampler.resample(frame):
            yield from self.stream.encode(part)

    def flush(self) -> Iterator[Any]:
        try:
            frames = self._decoder.decode(None)
        except AV_ERRORS:
            frames = []
        for frame in frames:
            yield from self._encode(frame)
        yield from self._encode(None)
        yield from self.stream.encode(None)


def _nearest_rate(codec: Codec, rate: int) -> int:
    """The encoder's sample rate that loses least: the same, else the next higher, else its highest."""
    rates = sorted(codec.audio_rates or [])
    if not rates or rate in rates:
        return rate
    return next((r for r in rates if r > rate), rates[-1])
