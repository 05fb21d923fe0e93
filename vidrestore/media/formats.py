"""Pixel formats: which pass as they are, which are unpacked on reading, and the ``Layout`` that describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, cast

import av
from av.video.reformatter import Interpolation, VideoReformatter

from vidrestore.errors import InputMediaError, UsageError, did_you_mean
from vidrestore.types import Layout

if TYPE_CHECKING:
    from vidrestore.types import Family, Matrix, Siting

# Planar, one sample a byte or a little-endian word, value in the low bits.
_PLANAR = re.compile(
    r"(?:yuv(?P<kind>[aj]?)(?P<sub>4\d\d)p|(?P<gray>gray)|gbr(?P<alpha>a?)p)(?P<bits>9|10|12|14|16)?(?:le)?"
)
_SUBSAMPLING = {"410": (2, 2), "411": (2, 0), "420": (1, 1), "422": (1, 0), "440": (0, 1), "444": (0, 0)}

# Packed, semi-planar and big-endian formats -> the planar format that holds every one of their values.
_UNPACKED = {
    **dict.fromkeys(("nv12", "nv21"), "yuv420p"),
    "nv16": "yuv422p",
    **dict.fromkeys(("nv24", "nv42", "vyu444"), "yuv444p"),
    **dict.fromkeys(("yuyv422", "uyvy422", "yvyu422"), "yuv422p"),
    "uyyvyy411": "yuv411p",
    **dict.fromkeys(("ayuv", "uyva", "vuya"), "yuva444p"),
    **dict.fromkeys(("vuyx",), "yuv444p"),
    **dict.fromkeys(("p010le", "p010be"), "yuv420p10le"),
    **dict.fromkeys(("p012le", "p012be"), "yuv420p12le"),
    **dict.fromkeys(("p016le", "p016be"), "yuv420p16le"),
    **dict.fromkeys(("p210le", "p210be", "y210le", "y210be", "nv20le", "nv20be"), "yuv422p10le"),
    **dict.fromkeys(("p212le", "p212be", "y212le", "y212be"), "yuv422p12le"),
    **dict.fromkeys(("p216le", "p216be", "y216le", "y216be"), "yuv422p16le"),
    **dict.fromkeys(("p410le", "p410be", "xv30le", "xv30be", "v30xle", "v30xbe"), "yuv444p10le"),
    **dict.fromkeys(("p412le", "p412be", "xv36le", "xv36be"), "yuv444p12le"),
    **dict.fromkeys(("p416le", "p416be", "xv48le", "xv48be"), "yuv444p16le"),
    **dict.fromkeys(("ayuv64le", "ayuv64be"), "yuva444p16le"),
    **dict.fromkeys(("monow", "monob"), "gray"),
    **dict.fromkeys(("rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "0bgr"), "gbrp"),
    **dict.fromkeys(("rgb8", "bgr8", "rgb4", "bgr4", "rgb4_byte", "bgr4_byte"), "gbrp"),
    **{f"{order}{bits}{end}": "gbrp" for order in ("rgb", "bgr") for bits in (565, 555, 444) for end in ("le", "be")},
    **dict.fromkeys(("rgba", "bgra", "argb", "abgr", "pal8", "ya8"), "gbrap"),
    **{f"x2{order}10{end}": "gbrp10le" for order in ("rgb", "bgr") for end in ("le", "be")},
    **{f"{order}48{end}": "gbrp16le" for order in ("rgb", "bgr") for end in ("le", "be")},
    **{f"{order}64{end}": "gbrap16le" for order in ("rgba", "bgra") for end in ("le", "be")},
    **dict.fromkeys(("ya16le", "ya16be"), "gbrap16le"),
}
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, slots=True)
class Colour:
    """H.273 numbers of a picture; 2 is unspecified, range 0 untagged, 1 limited, 2 full."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0


def planar(pix_fmt: str, subject: str) -> str:
    """The planar format that frames of this pixel format are handed on in: mostly itself.

    Raises InputMediaError where no lossless one exists (Bayer, XYZ, float, hardware surfaces).
    """
    if _PLANAR.fullmatch(pix_fmt):
        return pix_fmt
    little = pix_fmt.removesuffix("be") + "le"
    if pix_fmt.endswith("be") and _PLANAR.fullmatch(little):
        return little
    if pix_fmt not in _UNPACKED:
        raise InputMediaError(subject, f"pixel format {pix_fmt} is not supported")
    return _UNPACKED[pix_fmt]


def assumed(text: str, height: int) -> Colour:
    """Read ``bt601|bt709|bt2020[:limited|full]``, as a user says colour for a file that lies or is silent.

    Raises UsageError for any other word.
    """
    name, _, span = text.partition(":")
    if name not in ("bt601", "bt709", "bt2020"):
        raise UsageError("--assume-color", f"no colour '{name}'{did_you_mean(name, ('bt601', 'bt709', 'bt2020'))}")
    if span not in ("", "limited", "full"):
        raise UsageError("--assume-color", f"no range '{span}'{did_you_mean(span, ('limited', 'full'))}")
    numbers = {"bt601": (5, 6, 5) if height in (288, 576) else (6, 6, 6), "bt709": (1, 1, 1), "bt2020": (9, 14, 9)}
    return Colour(*numbers[name], range=2 if span == "full" else 1)


def matrix_of(tag: int, height: int) -> Matrix:
    """The matrix to reckon with; for a file that names none, what its height suggests."""
    named: dict[int, Matrix] = {1: "bt709", 7: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
    return named.get(tag, "bt601" if height < 720 else "bt709")


def layout_of(
    pix_fmt: str,
    width: int,
    height: int,
    colour: Colour,
    *,
    sar: Fraction = Fraction(1),
    turn: tuple[int, int, int, int] = (1, 0, 0, 1),
    interlaced: bool = False,
    siting: Siting = "left",
) -> Layout:
    """Describe a planar format."""
    match = _PLANAR.fullmatch(pix_fmt)
    if match is None:
        raise ValueError(f"layout_of: {pix_fmt} is not planar")
    family: Family = "gray" if match["gray"] else "yuv" if match["sub"] else "rgb"
    span = 2 if match["kind"] == "j" else colour.range
    return Layout(
        pix_fmt=pix_fmt,
        width=width,
        height=height,
        bits=int(match["bits"] or 8),
        family=family,
        chroma=_SUBSAMPLING[match["sub"]] if match["sub"] else (0, 0),
        alpha=match["kind"] == "a" or match["alpha"] == "a",
        full_range=span == 2 or family == "rgb",
        matrix=matrix_of(colour.matrix, height),
        siting=siting,
        primaries=colour.primaries,
        transfer=colour.transfer,
        matrix_tag=colour.matrix,
        range_tag=span,
        sar=sar,
        turn=turn,
        interlaced=interlaced,
    )


def plane_count(layout: Layout) -> int:
    """Planes of a picture, alpha included."""
    return (1 if layout.family == "gray" else 3) + layout.alpha


_SWS_MATRIX = {"bt601": 5, "bt709": 1, "bt2020": 9}
_SWS_RANGE: dict[bool, Literal[1, 2]] = {False: 1, True: 2}


def sws_colour(layout: Layout) -> tuple[int, int]:
    """libswscale's numbers for (matrix, range) of a layout."""
    return _SWS_MATRIX[layout.matrix], _SWS_RANGE[layout.full_range]


def reshape(
    scaler: VideoReformatter, picture: av.VideoFrame, source: Layout | None, pix_fmt: str, size: tuple[int, int]
) -> av.VideoFrame:
    """Convert to a planar format and size without touching colour: same matrix, range and tags on both sides.

    ``source`` says what the samples mean where the format changes family (RGB to YCbCr or back).
    """
    matrix, span = sws_colour(source) if source else (None, None)
    was = Colour(picture.color_primaries, picture.color_trc, picture.colorspace, picture.color_range)
    out = scaler.reformat(
        picture,
        *size,
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=span,
        dst_color_range=span,
        interpolation=EXACT,
    )
    out.color_range, out.colorspace = was.range, was.matrix
    out.pts, out.duration, out.time_base = picture.pts, picture.duration, cast("Fraction", picture.time_base)
    return out
