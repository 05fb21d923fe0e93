"""The streams that are not restored: what the output's container can hold of them, decided before the first frame."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import av

from vidrestore.errors import OutputError
from vidrestore.media.encoding import CONTAINERS, EncodeSettings, family_suffix, plan_video
from vidrestore.media.faults import AV_ERRORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore.media.probe import MediaInfo, StreamInfo
    from vidrestore.notes import Notes

# attach: a cover picture goes in as an attachment; renew: the muxer writes it from tags or chapters
Action = Literal["restore", "copy", "transcode", "attach", "drop", "renew"]

# What a muxer's header accepts but hardly anything plays, or its packets are refused later.
_UNPLAYABLE = {"mp4": ("pcm_", "vorbis", "wma", "adpcm_", "amr_"), "mov": ("amr_",)}
_TEXT = frozenset({"subrip", "ass", "ssa", "mov_text", "webvtt", "text"})
_TEXT_OF = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
_NO_STREAMS = frozenset({"yuv4mpegpipe"})  # holds pictures alone
_NAMES = {"matroska": "mkv", "mpegts": "ts", "yuv4mpegpipe": "y4m"}
_SOUND = {"mp4": "aac", "mov": "aac", "webm": "libopus", "mpegts": "aac", "avi": "libmp3lame"}


@dataclass(frozen=True, slots=True)
class Track:
    """What becomes of one stream."""

    stream: StreamInfo
    action: Action
    codec: str = ""  # encoder where transcoded
    why: str = ""  # where dropped or transcoded unasked


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What becomes of every stream, in the order of the input."""

    tracks: tuple[Track, ...]
    timecode: str | None = None  # start of a time code track, which the muxer writes anew

    def warn(self, notes: Notes, path: str) -> None:
        """Say what is lost."""
        for track in self.tracks:
            if track.action == "drop":
                notes.warn(f"stream_dropped_{track.stream.index}", path, f"{track.stream} dropped: {track.why}")
            elif track.action == "transcode" and track.why:
                what = f"{track.stream} becomes {track.codec}: {track.why}"
                notes.warn(f"stream_transcoded_{track.stream.index}", path, what)
            elif track.action == "transcode" and track.stream.codec in ("ass", "ssa"):
                notes.warn("subtitle_style", path, f"{track.stream}: styles are lost in {track.codec}")


def plan_streams(
    info: MediaInfo, templates: Sequence[Any], container: str, settings: EncodeSettings, subject: str
) -> StreamPlan:
    """Decide for every stream of the input. ``templates`` are PyAV's streams.

    Raises OutputError (5) for sound that the container cannot hold.
    """
    timecode = next((s.metadata["timecode"] for s in info.streams if s.metadata.get("timecode")), None)
    tracks = tuple(
        Track(stream, "restore")
        if stream.index == info.video
        else _decide(info, stream, templates[stream.index], container, settings, subject)
        for stream in info.streams
    )
    return StreamPlan(tracks, timecode)


def default_suffix(info: MediaInfo, templates: Sequence[Any]) -> str:
    """The ending of an output that the user has not named: the input's family if picture and sound fit there, else
    .mkv."""
    own = family_suffix(info)
    if info.still:
        return own
    try:
        plan_video(info, info.layout, CONTAINERS[own], EncodeSettings(pad_even=True), info.path)
    except OutputError:
        return ".mkv"
    return own if sound_fits(info, templates, CONTAINERS[own]) else ".mkv"


def sound_fits(info: MediaInfo, templates: Sequence[Any], container: str) -> bool:
    """Whether all sound can be copied into a container."""
    return all(_fits(s, templates[s.index], container) for s in info.streams if s.kind == "audio")


def _decide(
    info: MediaInfo, stream: StreamInfo, template: Any, container: str, settings: EncodeSettings, subject: str
) -> Track:
    name = _NAMES.get(container, container)
    if container in _NO_STREAMS:
        return Track(stream, "drop", why=f"{name} holds pictures only")
    if stream.tag == "tmcd" or (stream.kind == "data" and "timecode" in stream.metadata):
        if container in ("mp4", "mov"):
            return Track(stream, "renew")
        return Track(stream, "drop", why=f"{name} has no time code track; kept as a tag")
    if stream.kind == "data" and stream.codec == "bin_data" and info.family == "mov" and info.chapters:
        return Track(stream, "renew")  # QuickTime's chapters are a text track too
    if stream.kind == "audio" and settings.audio_codec not in (None, "copy"):
        assert settings.audio_codec is not None
        return Track(stream, "transcode", settings.audio_codec)
    if stream.cover and container == "matroska":
        return Track(stream, "attach")
    if _fits(stream, template, container):
        return Track(stream, "copy")
    if stream.kind == "subtitle" and stream.codec in _TEXT and container in _TEXT_OF:
        return Track(stream, "transcode", _TEXT_OF[container])
    if stream.kind == "audio" and settings.audio_fallback is not None:
        return Track(stream, "transcode", settings.audio_fallback, why=f"{name} cannot hold {stream.codec}")
    if stream.kind == "audio":
        what = f"stream {stream.index} ({stream.codec}) does not fit {name}"
        elsewhere = "" if container == "matroska" else "-o out.mkv or "
        raise OutputError(subject, what, f"use {elsewhere}-c:a {_SOUND.get(container, 'flac')}")
    hint = "; mkv can" if stream.kind in ("subtitle", "attachment") and container != "matroska" else ""
    return Track(stream, "drop", why=f"{name} cannot hold it{hint}")


def _fits(stream: StreamInfo, template: Any, container: str) -> bool:
    """Ask the muxer itself, with a trial output in memory."""
    if stream.codec.startswith(_UNPLAYABLE.get(container, ("\0",))):
        return False
    if stream.kind == "data" and stream.codec == "none":
        return False  # mov's muxer takes it, but without the description that gives its bytes a meaning
    if stream.kind == "attachment" and container != "matroska":
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            out = add_copy(trial, template, container)
            out.metadata.clear()
            out.metadata.update({k: v for k, v in template.metadata.items() if k in ("filename", "mimetype")})
            trial.start_encoding()
    except AV_ERRORS:
        return False
    return True


def add_copy(container: Any, template: Any, name: str) -> Any:
    """Add a stream that takes packets of the template's as they are."""
    if template.type == "attachment":
        out = container.add_stream_from_template(template)
    else:
        out = container.add_stream_from_template(template, opaque=True)
    if name in ("mp4", "mov") and template.codec_context is not None and template.codec_context.name == "hevc":
        out.codec_context.codec_tag = "hvc1"  # hev1 is refused by Apple's players
    out.metadata.update(template.metadata)
    out.disposition = int(template.disposition)
    return out
