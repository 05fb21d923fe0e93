"""What an output's head says: muxer options, tags, chapters, the turn of the picture; and what it cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidrestore.media.probe import UPRIGHT, plain_matrix, turn_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from fractions import Fraction

    from vidrestore.media.encoding import VideoPlan
    from vidrestore.media.probe import Matrix3, MediaInfo
    from vidrestore.notes import Notes
    from vidrestore.types import Layout

MOV = ("mp4", "mov")
TURNS = (*MOV, "matroska", "webm")  # containers that hold a display matrix
CHAPTERS = (*MOV, "matroska", "webm", "nut")
TAGGED = CHAPTERS  # containers that hold tags of any name
DATE = "VIDRESTORE_DATE"  # of the run, where that is wanted; creation_time and the like say when the film was made
# Tags that describe the input's file and not the film, and what Matroska's tools have counted in it.
_OF_THE_FILE = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", DATE.lower()})
_COUNTED = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS")
_ITUNES = frozenset(
    {"title", "artist", "author", "album_artist", "composer", "album", "date", "comment", "genre", "copyright"}
    | {"grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time"}
)


def muxer_options(container: str, *, piped: bool, covers: bool = False, bitexact: bool = True) -> dict[str, str]:
    """Options of the muxer: own tags survive in mp4, and pipes get formats that need no seeking.

    mp4 keeps either tags of any name or cover pictures, which are iTunes' invention.
    """
    options = {"fflags": "+bitexact"} if bitexact else {}
    if container in MOV:
        flags = ([] if covers else ["use_metadata_tags"]) + (["frag_keyframe", "delay_moov"] if piped else [])
        options |= {"movflags": "+".join(flags)} if flags else {}
    if container == "yuv4mpegpipe":
        options["strict"] = "-1"  # more than 8 bits
    return options


def container_tags(info: MediaInfo, own: Mapping[str, str], notes: Notes, *, itunes: bool) -> dict[str, str]:
    """The input's tags and ours. ``itunes``: only those of its list have a place; ours go into the comment."""
    tags = {k: v for k, v in info.metadata.items() if k.lower() not in _OF_THE_FILE} | dict(own)
    if not itunes:
        return tags
    kept = {k: v for k, v in tags.items() if k in _ITUNES}
    lost = sorted(k for k in tags if k not in _ITUNES and k not in own)
    if lost:
        notes.warn("tags_lost", info.path, f"mp4 with a cover picture has no place for {', '.join(lost)}")
    words = [kept["comment"]] if "comment" in kept else []
    kept["comment"] = "; ".join(words + [f"{k}: {v}" for k, v in own.items() if k not in _ITUNES])
    return {k: v for k, v in kept.items() if v}


def film_tags(info: MediaInfo, container: str, timecode: str | None) -> dict[str, str]:
    """The film's own tags, without what was counted of its old stream."""
    kept = {k: v for k, v in info.stream.metadata.items() if k.lower() not in _OF_THE_FILE}
    kept = {k: v for k, v in kept.items() if not k.startswith(_COUNTED)}
    if info.stereo and container == "matroska":
        kept["stereo_mode"] = info.stereo  # its muxer makes an element of it
    return kept | ({"timecode": timecode} if timecode is not None else {})


def shifted_chapters(info: MediaInfo, shift: Fraction) -> Iterator[Any]:
    """Chapters moved with the film; those that a cut leaves out are gone."""
    for chapter in info.chapters:
        ticks = round(shift / chapter["time_base"]) if shift else 0
        start, end = max(0, chapter["start"] - ticks), chapter["end"] - ticks
        if end > 0 or not ticks:
            yield {**chapter, "start": start, "end": end}


def matrix_for(info: MediaInfo, layout: Layout, container: str) -> Matrix3 | None:
    """The display matrix to write: all nine numbers where the container keeps them, else the turn alone."""
    if turn_of(info.matrix) != layout.turn:  # a filter has turned the picture
        a, b, c, d = (65536 * n for n in layout.turn)
        return (a, c, 0, b, d, 0, 0, 0, 1 << 30)
    if info.matrix == UPRIGHT or container not in TURNS:
        return None
    plain = {abs(n) for n in (*info.matrix[:2], *info.matrix[3:5])} == {0, 65536}
    return info.matrix if plain and container in MOV else plain_matrix(info.matrix)


def sar_for(info: MediaInfo, layout: Layout) -> Fraction | None:
    """The shape of samples to write; None where the input says nothing."""
    return layout.sar if layout.sar != 1 or info.sar is not None else None


def needs_shape(container: str, encoder: str, sar: Fraction | None) -> bool:
    """Whether neither the bitstream nor PyAV tells Matroska's muxer that samples are not square."""
    told = ("libx264", "libx264rgb", "libx265")
    return container in ("matroska", "webm") and sar not in (None, 1) and encoder not in told


def warn_losses(info: MediaInfo, layout: Layout, container: str, plan: VideoPlan, notes: Notes) -> None:
    """Say once what the chosen encoder or container cannot carry."""
    if info.hdr is not None and plan.encoder not in ("libx264", "libx265", "libsvtav1"):
        notes.warn("hdr_metadata_lost", info.path, f"{plan.encoder} cannot carry mastering display and light level")
    if layout.sar != 1 and container in ("nut", "mpegts") and plan.encoder in ("ffv1", "libvpx-vp9"):
        notes.warn("sar_lost", info.path, f"{container} does not keep the shape of samples ({layout.sar}); use mkv")
    if layout.turn != (1, 0, 0, 1) and container not in TURNS:
        notes.warn("rotation_lost", info.path, f"{container} holds no rotation; use mkv or mp4")
    if layout.interlaced and plan.encoder in ("libx265", "libvpx-vp9", "libsvtav1"):
        notes.warn("interlace_flag_lost", info.path, f"{plan.encoder} codes whole frames; fields are not flagged")
    if info.stereo and container not in ("matroska", "webm"):
        what = f"{container} is not told how the two eyes' pictures lie ({info.stereo}); use mkv"
        notes.warn("stereo3d_lost", info.path, what)
    if info.spherical:
        notes.warn("spherical_lost", info.path, "that the picture is spherical cannot be written; tag the output again")
    if container in ("avi", "yuv4mpegpipe"):
        name = {"yuv4mpegpipe": "y4m"}.get(container, container)
        notes.warn("times_lost", info.path, f"{name} numbers its frames at one rate and holds no times; use mkv or mp4")
    if info.chapters and container not in CHAPTERS:
        notes.warn("chapters_lost", info.path, f"{container} holds no chapters; use mkv or mp4")
    if plan.pix_fmt != layout.pix_fmt and not plan.pix_fmt.startswith(("bgr", "rgb", "argb", "yuvj", layout.pix_fmt)):
        notes.warn("pix_fmt_widened", info.path, f"{layout.pix_fmt} is written as {plan.pix_fmt}")


def warn_date(info: MediaInfo, own: Mapping[str, str], container: str, notes: Notes) -> None:
    """Say where the time of the run was wanted and has no place."""
    if DATE in own and container not in TAGGED:
        name = {"still": "a picture's file", "yuv4mpegpipe": "y4m"}.get(container, container)
        notes.warn("date_lost", info.path, f"{name} has no place for the time of the run; use mkv or mp4")
