"""Which container, encoder and pixel format an output gets: those of the input where they can be written.

Nothing is thrown away unasked: a pixel format is kept, else widened to the nearest one that holds every value;
where the encoder has none the run stops before its first frame and says what to type.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError

from vidrestore.errors import InputMediaError, OutputError, UsageError, did_you_mean
from vidrestore.media.formats import Colour, layout_of, planar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vidrestore.media.probe import Hdr, MediaInfo
    from vidrestore.types import Layout

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".mts": "mpegts",
    ".m2ts": "mpegts",
    ".nut": "nut",
    ".avi": "avi",
    ".y4m": "yuv4mpegpipe",
}
STILLS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".webp": "libwebp", ".tif": "tiff", ".tiff": "tiff"}
_FORMAT_NAMES = {"mkv": "matroska", "ts": "mpegts", "y4m": "yuv4mpegpipe"}
_FAMILIES = {"mov": "mp4", "matroska": "matroska", "mpegts": "mpegts", "nut": "nut"}
_SUFFIX = {"mp4": ".mp4", "mov": ".mov", "matroska": ".mkv", "webm": ".webm", "mpegts": ".ts", "nut": ".nut"}
LOSSLESS = frozenset({"ffv1", "ffvhuff", "huffyuv", "utvideo", "rawvideo", "v210", "v410", "r210", "qtrle", "png"})

_PRESETS = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"]

# Encoder -> options it starts from; ffmpeg's names, the user's come on top.
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "medium", "crf": "16"},
    "libx264rgb": {"preset": "medium", "crf": "16"},
    "libx265": {"preset": "medium", "crf": "16", "a53cc": "1"},
    "libvpx-vp9": {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    "libsvtav1": {"preset": "8", "crf": "20"},
    **{name: {"preset": "p5", "rc": "vbr", "cq": "19"} for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc")},
    "prores_ks": {"vendor": "apl0"},
    "ffv1": {"level": "3", "slicecrc": "1", "g": "1"},
    "mjpeg": {"qmin": "1", "qmax": "2"},
    "libwebp": {"quality": "95"},
}


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """What the user asks of the output; everything left out follows the input."""

    codec: str | None = None  # ffmpeg's name of the encoder
    options: Mapping[str, str] = field(default_factory=dict)  # its options by ffmpeg's names: crf, preset, x264-params
    pix_fmt: str | None = None
    format: str | None = None  # container, by ffmpeg's name
    audio_codec: str | None = None  # None copies
    audio_fallback: str | None = None  # for sound that no container of ours holds as it is; None: an error
    threads: int = 0  # of the encoder; 0 = one and a half a core, 16 at most
    pad_even: bool = False  # add a column or row where the encoder wants even sizes
    drop_alpha: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)  # added to the container's metadata
    preserve: bool = False  # the file gets the time and mode of the source's
    bitexact: bool = True  # no library versions or random numbers in the container


@dataclass(frozen=True, slots=True)
class Coding:
    """An encoder of pictures, whoever has it."""

    name: str  # ffmpeg's, e.g. "libx264"
    codec: str  # what it writes, e.g. "h264"
    pix_fmts: tuple[str, ...] = ()  # that it takes; empty: it does not say


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """The settled encoder of the film."""

    encoder: str
    codec: str  # what it writes, e.g. "h264"
    pix_fmt: str
    width: int
    height: int
    options: Mapping[str, str]
    threads: int


def container_of(target: Path | None, settings: EncodeSettings, info: MediaInfo) -> str:
    """The output's container by libav's name; "still" for a picture file.

    Raises OutputError (5) for what cannot be written.
    """
    suffix = target.suffix.lower() if target is not None else ""
    if settings.format is not None:
        name = _FORMAT_NAMES.get(settings.format, settings.format)
        if name not in CONTAINERS.values():
            known = sorted({*CONTAINERS.values(), *_FORMAT_NAMES})
            raise UsageError("-f", f"no container '{settings.format}'{did_you_mean(settings.format, known)}")
        return name
    if target is None:
        return "matroska"
    if suffix == ".gif":
        raise OutputError(str(target), "gif output is not supported", "use .mkv or .mp4")
    if suffix in STILLS:
        if info.still:
            return "still"
        raise OutputError(str(target), f"{suffix} holds one picture, the input is a film", "use .mkv or .mp4")
    if suffix not in CONTAINERS:
        raise OutputError(str(target), f"no container is known by '{suffix}'", "use .mkv or .mp4, or -f")
    return CONTAINERS[suffix]


def family_suffix(info: MediaInfo) -> str:
    """The ending of the input's own family of containers, else Matroska's."""
    if info.still:
        return {"png": ".png", "mjpeg": ".jpg", "webp": ".webp", "tiff": ".tiff"}.get(info.codec, ".png")
    if info.family == "mov":
        quicktime = info.metadata.get("major_brand", "").strip() == "qt" or info.codec == "prores"
        return ".mov" if quicktime else ".mp4"
    if info.family == "matroska" and info.codec in ("vp8", "vp9") and _web_sound(info):
        return ".webm"
    return _SUFFIX.get(_FAMILIES.get(info.family, "matroska"), ".mkv")


def _web_sound(info: MediaInfo) -> bool:
    kinds = {"audio": ("vorbis", "opus"), "subtitle": ("webvtt",), "video": ("vp8", "vp9")}
    return all(s.codec in kinds.get(s.kind, ()) for s in info.streams)


def choose_encoder(info: MediaInfo, layout: Layout, container: str) -> str:
    """The encoder that continues the input's codec in this container."""
    codec = info.codec
    if container == "yuv4mpegpipe":
        return "wrapped_avframe"  # pictures as they are
    if layout.family == "rgb" or layout.alpha:
        return _encoder_of_rich(info, layout, container)
    if codec in LOSSLESS and (kept := _lossless(codec, container)):
        return kept
    if container == "webm":
        return "libsvtav1" if _svt_takes(layout) and (codec == "av1" or layout.bits > 8) else "libvpx-vp9"
    if codec in ("vp8", "vp9") and container in ("matroska", "mp4") and layout.bits == 8:
        return "libvpx-vp9"
    if codec == "av1" and _svt_takes(layout) and _holds(container, "libsvtav1"):
        return "libsvtav1"
    if (
        codec == "prores"
        and container in ("mov", "matroska")
        and layout.bits <= 10
        and layout.chroma in ((1, 0), (0, 0))
    ):
        return "prores_ks"
    if layout.bits > 12 or layout.chroma not in ((1, 1), (1, 0), (0, 0)):
        return "ffv1" if _holds(container, "ffv1") else "libx264"
    return "libx265" if codec == "hevc" or layout.bits > 8 else "libx264"


def _encoder_of_rich(info: MediaInfo, layout: Layout, container: str) -> str:
    """For alpha and RGB, which few encoders hold."""
    if container == "webm" or (info.codec in ("vp8", "vp9") and container in ("matroska", "mp4") and layout.bits == 8):
        return "libvpx-vp9"
    if info.codec == "prores" and container == "mov" and layout.bits <= 10:
        return "prores_ks"
    if (info.codec != "gif" or container != "mp4") and (kept := _lossless(info.codec, container)):
        return kept
    return "libx264rgb" if layout.family == "rgb" and layout.bits == 8 and not layout.alpha else "libx265"


def _lossless(codec: str, container: str) -> str:
    """FFV1 where the container holds it, else the input's own lossless codec, else nothing."""
    return next((name for name in ("ffv1", codec) if name in LOSSLESS and _holds(container, name)), "")


def _svt_takes(layout: Layout) -> bool:
    return layout.bits in (8, 10) and layout.family == "yuv" and layout.chroma == (1, 1)


def _holds(container: str, encoder: str) -> bool:
    with av.open(os.devnull, "w", format=container) as probe:
        return encoder in probe.supported_codecs


def libav_coding(name: str) -> Coding:
    """An encoder of this build of libav. Raises UsageError (2) with the nearest name."""
    codec = encoder_named(name, "video")
    return Coding(codec.name, codec.canonical_name, tuple(f.name for f in codec.video_formats or []))


def plan_video(
    info: MediaInfo,
    layout: Layout,
    container: str,
    settings: EncodeSettings,
    subject: str,
    known: Callable[[str], Coding] = libav_coding,
) -> VideoPlan:
    """Settle encoder, pixel format, size and options. Raises UsageError (2) and OutputError (5)."""
    codec = known(settings.codec or choose_encoder(info, layout, container))
    pix_fmt = choose_pix_fmt(codec, layout, settings, subject)
    width, height = even_size(codec.name, pix_fmt, layout, settings, subject)
    if codec.codec in ("h264", "hevc") and max(width, height) > 16384:
        raise OutputError(subject, f"{width}x{height} is larger than {codec.name} can hold", "use -c:v ffv1")
    options = starting_options(codec.name, plain_options(settings.options))
    _check_words(codec.name, options)
    if codec.name == "ffv1":
        _fit_slices(options, width, height)
    if layout.interlaced and info.interlaced_as is not None:
        _add_params(options, codec.name, interlace_params(codec.name, info.interlaced_as))
    _add_params(options, codec.name, repeatable_params(codec.name))
    if info.hdr is not None:
        _add_params(options, codec.name, hdr_params(codec.name, info.hdr))
    if codec.name == "libwebp" and layout.family == "rgb":
        options.setdefault("lossless", "1")
    if codec.name == "libx265":
        _add_params(options, codec.name, "log-level=error")  # it writes to stderr by itself
    if codec.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # so does this one; errors only
    threads = settings.threads or int(options.pop("threads", 0)) or default_threads()
    return VideoPlan(codec.name, codec.codec, pix_fmt, width, height, options, threads)


def _check_words(encoder: str, options: Mapping[str, str]) -> None:
    """Presets of x264 and x265, which complain about unknown ones on stderr by themselves. Raises UsageError (2)."""
    preset = options.get("preset", "medium")
    if encoder.startswith("libx26") and preset not in _PRESETS and not preset.isdigit():
        raise UsageError("encoder", f"{encoder} has no preset '{preset}'{did_you_mean(preset, _PRESETS)}")


def _fit_slices(options: dict[str, str], width: int, height: int) -> None:
    """FFV1 refuses more slices than a picture has room for, and tiny pictures in the version that has slices."""
    if min(width, height) < 16 and "slices" not in options:
        options["level"] = "1"
        options.pop("slicecrc", None)
    elif width * height >= 320 * 240:
        options.setdefault("slices", "4" if width * height < 1920 * 1080 else "16")


def encoder_named(name: str, kind: Literal["video", "audio"]) -> Codec:
    """libav's encoder of pictures or sound. Raises UsageError (2) with the nearest name."""
    flag, noun = ("-c:v", "video") if kind == "video" else ("-c:a", "sound")
    try:
        codec = Codec(name, "w")
    except (UnknownCodecError, ValueError):
        near = did_you_mean(name, sorted(av.codec.codecs_available))
        raise UsageError(flag, f"no encoder '{name}'{near}") from None
    if codec.type != kind:
        raise UsageError(flag, f"{name} encodes {codec.type}, not {noun}")
    return codec


def common_options(encoder: str, options: Mapping[str, str]) -> dict[str, str]:
    """Those that mean the same to every encoder: size of groups, bit rates. What an encoder calls its own (crf, preset)
    has another meaning, or none, elsewhere."""
    context: Any = av.CodecContext.create(encoder, "w")
    own = {option.name for option in context.supported_options.private}
    every = {option.name for option in context.supported_options.generic} - own
    return {name: value for name, value in options.items() if name.removesuffix(":v") in every}


def plain_options(options: Mapping[str, str]) -> dict[str, str]:
    """Encoder options without ffmpeg's stream specifier (``b:v`` is ``b``). Its ``-q`` becomes both bounds of the
    quantiser, as a picture's own quality cannot be set through PyAV."""
    plain = {name.removesuffix(":v"): str(value) for name, value in options.items()}
    for name in ("q", "qscale"):
        if name in plain:
            plain["qmin"] = plain["qmax"] = plain.pop(name)
    return plain


def default_threads() -> int:
    """What x264 takes for itself: one and a half a core. A number, because its output depends on it."""
    return min(16, max(1, (os.cpu_count() or 1) * 3 // 2))


def starting_options(encoder: str, asked: Mapping[str, str]) -> dict[str, str]:
    """Our defaults with the user's options on top; another way to set quality takes ours away."""
    ours = dict(_DEFAULTS.get(encoder, {}))
    if any(name in asked for name in ("b", "qp", "qmin", "qmax", "global_quality", "lossless")):
        for name in ("crf", "cq", "rc"):
            ours.pop(name, None)
    return {**ours, **asked}


def choose_pix_fmt(codec: Coding, layout: Layout, settings: EncodeSettings, subject: str) -> str:
    """The layout's pixel format if the encoder has it, else the smallest that holds every value of it."""
    have = codec.pix_fmts
    if settings.pix_fmt is not None:
        if have and settings.pix_fmt not in have:
            near = did_you_mean(settings.pix_fmt, have)
            raise UsageError("--pix-fmt", f"{codec.name} does not take '{settings.pix_fmt}'{near}")
        return settings.pix_fmt
    if not have or layout.pix_fmt in have:
        return layout.pix_fmt
    wider = [(cost, name) for name in have if (cost := _widening(layout, name, drop_alpha=settings.drop_alpha))]
    if wider:
        return min(wider)[1]
    raise OutputError(subject, *_cannot_hold(codec.name, layout))


def _cannot_hold(encoder: str, layout: Layout) -> tuple[str, str]:
    if layout.alpha:
        return f"{encoder} cannot hold alpha", "use -c:v ffv1, -c:v prores_ks or --drop-alpha"
    if layout.family == "rgb":
        return f"{encoder} cannot hold RGB ({layout.pix_fmt})", "use -c:v ffv1 or -c:v libx264rgb, or --pix-fmt"
    return f"{encoder} cannot hold {layout.pix_fmt}", "use -c:v libx265, -c:v ffv1 or --pix-fmt"


def _widening(layout: Layout, name: str, *, drop_alpha: bool) -> tuple[int, int, int, str] | None:
    """How much larger a format is than the layout's; None where it would lose something."""
    try:
        flat = planar(name, name)
    except InputMediaError:
        return None
    to = layout_of(flat, layout.width, layout.height, Colour())
    same = to.family == layout.family or (layout.family == "gray" and to.family == "yuv")
    holds_alpha = to.alpha or not layout.alpha or drop_alpha
    if not same or not holds_alpha or to.bits < layout.bits:
        return None
    if layout.family == "yuv" and (to.chroma[0] > layout.chroma[0] or to.chroma[1] > layout.chroma[1]):
        return None
    if name.startswith("yuvj") and not layout.full_range:
        return None
    if name in ("ya8", "pal8", "rgb8", "bgr8", "monob", "monow") or "555" in name or "565" in name or "444le" in name:
        return None
    spare_chroma = layout.chroma[0] + layout.chroma[1] - to.chroma[0] - to.chroma[1]
    return (to.bits, spare_chroma + (layout.family == "gray"), to.alpha - layout.alpha, (name != flat and name) or "")


def even_size(encoder: str, pix_fmt: str, layout: Layout, settings: EncodeSettings, subject: str) -> tuple[int, int]:
    """The size that is coded: the picture's, or one more where the encoder's chroma grid wants it and we may pad."""
    width, height = layout.width, layout.height
    if encoder not in ("libx264", "libx265", "libsvtav1"):
        return width, height
    step = layout_of(planar(pix_fmt, subject), 2, 2, Colour()).chroma
    odd_w, odd_h = width % (1 << step[0]), height % (1 << step[1])
    if not odd_w and not odd_h:
        return width, height
    if settings.pad_even:
        return width + odd_w, height + odd_h
    names = {(1, 1): "4:2:0", (1, 0): "4:2:2", (0, 0): "4:4:4"}
    what = f"{width}x{height} is odd and {encoder} {names.get(step, pix_fmt)} cannot hold it"
    raise OutputError(subject, what, "use --pix-fmt yuv444p, -c:v ffv1 or --pad-even")


def _add_params(options: dict[str, str], encoder: str, params: str) -> None:
    """Add to the encoder's own parameter string; what the user wrote there comes last and wins."""
    name = {
        "libx264": "x264-params",
        "libx264rgb": "x264-params",
        "libx265": "x265-params",
        "libsvtav1": "svtav1-params",
    }.get(encoder)
    if params and name is not None:
        options[name] = f"{params}:{options[name]}" if name in options else params


def repeatable_params(encoder: str) -> str:
    """x264's AVX-512 code, as libav's builds for Python have it, gives other bits from run to run (seen with version
    165); with AVX2's they are those of all older processors."""
    return "asm=AVX2" if encoder in ("libx264", "libx264rgb") and _has_avx512() else ""


@cache
def _has_avx512() -> bool:
    cpus = Path("/proc/cpuinfo")
    return cpus.is_file() and "avx512bw" in cpus.read_text(encoding="utf-8", errors="replace")


def interlace_params(encoder: str, top_first: bool) -> str:
    return f"{'tff' if top_first else 'bff'}=1" if encoder == "libx264" else ""


def hdr_params(encoder: str, hdr: Hdr) -> str:
    """Mastering display and light level as encoder parameters; nothing for encoders that cannot carry them.

    x264 and x265 count chromaticities in 0.00002 and luminance in 0.0001 cd/m2, SVT-AV1 takes plain numbers.
    """
    if encoder not in ("libx264", "libx265", "libsvtav1"):
        return ""
    svt = encoder == "libsvtav1"
    out = ["hdr10=1", "repeat-headers=1"] if encoder == "libx265" else []
    if len(hdr.primaries) == 4 and hdr.luminance is not None:
        unit, light = (Fraction(1), Fraction(1)) if svt else (Fraction(50000), Fraction(10000))

        def pair(name: str, values: tuple[Fraction, Fraction], scale: Fraction) -> str:
            a, b = (value * scale for value in values)
            return f"{name}({float(a):.5f},{float(b):.5f})" if svt else f"{name}({round(a)},{round(b)})"

        red, green, blue, white = hdr.primaries
        points = zip(("G", "B", "R", "WP"), (green, blue, red, white), strict=True)
        shape = "".join(pair(name, xy, unit) for name, xy in points)
        shape += pair("L", (hdr.luminance[1], hdr.luminance[0]), light)
        key = "mastering-display" if encoder != "libx265" else "master-display"
        out.append(f"{key}={shape}")
    if hdr.light is not None:
        key = {"libx264": "cll", "libx265": "max-cll", "libsvtav1": "content-light"}[encoder]
        out.append(f"{key}={hdr.light[0]},{hdr.light[1]}")
    return ":".join(out)
