"""Colour, range, depth and HDR are named in the output as in the input; nothing is invented."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_tools import FAST, FFV1, PATTERN, X264, assert_same_pictures, ffmpeg, read, transcode

from vidrestore.errors import InputMediaError, OutputError, UsageError
from vidrestore.media.encoding import EncodeSettings
from vidrestore.media.formats import planar
from vidrestore.media.reader import ReadSettings
from vidrestore.types import Layout

NUMBERS = {"bt709": (1, 1, 1), "smpte170m": (6, 6, 6), "bt470bg": (5, 6, 5), "bt2020": (9, 14, 9)}
TRANSFER = {"bt470bg": "smpte170m", "bt2020": "bt2020-10"}


def tagged(path: Path, name: str, span: str) -> Path:
    matrix = "bt2020nc" if name == "bt2020" else name
    set_it = f"setparams=range={span}:color_primaries={name}:color_trc={TRANSFER.get(name, name)}:colorspace={matrix}"
    ffmpeg(*PATTERN, "-vf", f"format=yuv420p,{set_it}", "-c:v", "libx264", "-preset", "ultrafast", path)
    return path


def colours(layout: Layout) -> tuple[int, int, int, int]:
    return layout.primaries, layout.transfer, layout.matrix_tag, layout.range_tag


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("span", ["tv", "pc"])
def test_a2_32_tags_pass(name: str, span: str, tmp_path: Path) -> None:
    before = read(tagged(tmp_path / "in.mp4", name, span))
    layout = before.info.layout
    assert colours(layout) == (*NUMBERS[name], 1 if span == "tv" else 2)
    assert layout.matrix == {"smpte170m": "bt601", "bt470bg": "bt601"}.get(name, name)
    assert layout.full_range == (span == "pc")
    for target, settings in (("out.mp4", FAST), ("x.mkv", FAST), ("ffv1.mkv", FFV1)):
        transcode(tmp_path / "in.mp4", tmp_path / target, settings)
        after = read(tmp_path / target)
        assert colours(after.info.layout) == colours(layout), target
    assert_same_pictures(before, after)


def test_a2_28_full_range_keeps_samples_and_tag(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    wild = "format=yuvj420p,geq=lum='mod(X*5+Y*3,256)':cb=128:cr=128"
    ffmpeg(*PATTERN, "-vf", wild, *X264[:4], "-color_range", "pc", source)
    before = read(source)
    assert before.info.layout.full_range and before.planes[0][0].max() > 240
    transcode(source, tmp_path / "out.mkv")
    after = read(tmp_path / "out.mkv")
    assert after.info.layout.full_range and after.info.layout.range_tag == 2
    assert_same_pictures(before, after)


def test_chroma_siting_follows_the_codec(tmp_path: Path) -> None:
    jpeg, phone = tmp_path / "j.avi", tmp_path / "p.mp4"
    ffmpeg(*PATTERN, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", jpeg)
    ffmpeg(*PATTERN, *X264[:4], "-pix_fmt", "yuvj420p", "-color_range", "pc", phone)
    assert read(jpeg).info.layout.siting == "center"
    assert read(phone).info.layout.siting == "left" and read(phone).info.layout.full_range


def test_a2_29_samples_beyond_the_range_pass(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    wild = "geq=lum='mod(X*5+Y*3,256)':cb='mod(X*7,256)':cr='mod(Y*11,256)'"
    ffmpeg(*PATTERN, "-frames:v", "2", "-vf", f"format=yuv420p,{wild}", "-c:v", "ffv1", "-color_range", "tv", source)
    before = read(source)
    assert before.planes[0][0].min() < 16 and before.planes[0][0].max() > 235
    transcode(source, tmp_path / "out.mkv", touch=True)
    assert_same_pictures(before, read(tmp_path / "out.mkv"))


@pytest.mark.parametrize(("size", "matrix"), [("96x64", "bt601"), ("720x576", "bt601"), ("1280x720", "bt709")])
def test_a2_30_missing_tags_are_assumed_and_stay_missing(size: str, matrix: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration=0.08", *X264, source)
    before = read(source)
    assert before.info.layout.matrix == matrix and not before.info.layout.full_range
    assert colours(before.info.layout) == (2, 2, 2, 0)
    assert before.notes.count("colour_assumed") == 1
    transcode(source, tmp_path / "out.mp4", FAST)
    assert colours(read(tmp_path / "out.mp4").info.layout) == (2, 2, 2, 0)


def test_a2_31_assumed_colour_overrides_and_is_written(tmp_path: Path) -> None:
    source = tagged(tmp_path / "in.mp4", "smpte170m", "tv")
    settings = ReadSettings(assume_color="bt709:full")
    film = read(source, settings)
    assert film.info.layout.matrix == "bt709" and film.info.layout.full_range
    transcode(source, tmp_path / "out.mp4", FAST, settings)
    assert colours(read(tmp_path / "out.mp4").info.layout) == (1, 1, 1, 2)
    with pytest.raises(UsageError, match="no colour 'bt790'; did you mean 'bt709'"):
        read(source, ReadSettings(assume_color="bt790"))
    with pytest.raises(UsageError, match="no range 'ful'; did you mean 'full'"):
        read(source, ReadSettings(assume_color="bt709:ful"))


def test_a2_33_tags_that_change_are_followed(tmp_path: Path) -> None:
    from media_tools import decoder

    from vidrestore.notes import Notes

    parts = []
    for i, name in enumerate(("bt709", "smpte170m")):
        path = tagged(tmp_path / f"{i}.mp4", name, "tv")
        ffmpeg("-i", path, "-c", "copy", "-output_ts_offset", str(i), tmp_path / f"{i}.ts")
        parts.append((tmp_path / f"{i}.ts").read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    with decoder().open(str(tmp_path / "both.ts"), Notes()) as film:
        layouts = [(f.layout.matrix, f.cut) for f in film.frames()]
    assert layouts == [("bt709", False)] * 25 + [("bt601", False)] * 25


def test_a2_34_ten_bits_stay_ten(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    ffmpeg(*PATTERN, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", source)
    before = read(source)
    assert before.planes[0][0].dtype == np.uint16 and before.planes[0][0].max() > 255
    copy = transcode(source, tmp_path / "out.mp4", EncodeSettings(options={"preset": "ultrafast"}))
    assert copy.summary.encoder == "libx265"
    assert read(tmp_path / "out.mp4").info.layout.pix_fmt == "yuv420p10le"


def test_a2_34_ten_bits_in_webm_are_av1(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, "-c:v", "ffv1", "-pix_fmt", "yuv420p10le", source)
    copy = transcode(source, tmp_path / "out.webm", EncodeSettings(options={"preset": "12"}))
    assert (copy.summary.encoder, copy.summary.pix_fmt) == ("libsvtav1", "yuv420p10le")


def test_a2_35_twelve_and_sixteen_bits(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, "-c:v", "ffv1", "-pix_fmt", "yuv420p12le", source)
    with pytest.raises(OutputError, match="libx264 cannot hold yuv420p12le; use -c:v libx265, -c:v ffv1"):
        transcode(source, tmp_path / "out.mkv", FAST)
    x265 = EncodeSettings(codec="libx265", options={"preset": "ultrafast"})
    transcode(source, tmp_path / "out.mp4", x265)
    assert read(tmp_path / "out.mp4").info.layout.bits == 12
    copy = transcode(source, tmp_path / "kept.mkv", EncodeSettings())
    assert (copy.summary.encoder, copy.summary.pix_fmt) == ("ffv1", "yuv420p12le")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("encoder", ["libx265", "libx264", "libsvtav1"])
def test_a2_36_hdr10_static_metadata(encoder: str, suffix: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    params = (
        "log-level=error:hdr10=1:repeat-headers=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:"
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    )
    colour = ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"]
    ten = ["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"]
    ffmpeg(*PATTERN, *ten, *colour, "-x265-params", params, source)
    before = read(source).info
    assert before.layout.hdr and before.hdr is not None and before.hdr.light == (1000, 400)
    out = tmp_path / f"out{suffix}"
    fast = {"preset": "12"} if encoder == "libsvtav1" else {"preset": "ultrafast"}
    transcode(source, out, EncodeSettings(codec=encoder, options=fast))
    after = read(out).info
    assert colours(after.layout)[:3] == (9, 16, 9) and after.layout.bits == 10
    assert after.hdr is not None and after.hdr.light == before.hdr.light
    for a, b in zip(before.hdr.primaries, after.hdr.primaries, strict=True):
        assert all(abs(x - y) < Fraction(1, 10000) for x, y in zip(a, b, strict=True))
    assert after.hdr.luminance is not None
    assert abs(after.hdr.luminance[1] - 1000) < 1


def test_a2_36_a_codec_that_cannot_carry_it_says_so(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    params = "log-level=error:hdr10=1:max-cll=1000,400:master-display=G(1,2)B(3,4)R(5,6)WP(7,8)L(10000000,1)"
    ffmpeg(*PATTERN, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", params, source)
    copy = transcode(source, tmp_path / "out.mkv", FFV1)
    assert [line for line in copy.said if "ffv1 cannot carry mastering display and light level" in line]


def test_a2_37_hlg(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    params = "log-level=error:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"
    ffmpeg(
        *PATTERN,
        *["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params"],
        params,
        source,
    )
    transcode(source, tmp_path / "out.mp4", EncodeSettings(options={"preset": "ultrafast"}))
    layout = read(tmp_path / "out.mp4").info.layout
    assert layout.hdr and colours(layout)[:3] == (9, 18, 9)


def test_a2_39_alpha(tmp_path: Path) -> None:
    source = tmp_path / "in.webm"
    alpha = "format=yuva420p,geq=lum=lum(X\\,Y):cb=cb(X\\,Y):cr=cr(X\\,Y):a=X*255/W"
    vp9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0"]
    ffmpeg(*PATTERN, "-vf", alpha, *vp9, source)
    before = read(source)
    assert before.info.layout.alpha and len(before.planes[0]) == 4
    assert np.ptp(before.planes[0][3]) > 200
    transcode(source, tmp_path / "out.mkv")
    assert_same_pictures(before, read(tmp_path / "out.mkv"))
    copy = transcode(source, tmp_path / "out.webm", EncodeSettings(options={"cpu-used": "8", "deadline": "realtime"}))
    assert copy.summary.pix_fmt == "yuva420p"
    again = read(tmp_path / "out.webm")
    assert again.info.layout.alpha and np.abs(again.planes[0][3].astype(int) - before.planes[0][3]).mean() < 8
    with pytest.raises(OutputError, match="libx264 cannot hold alpha; use -c:v ffv1, -c:v prores_ks or --drop-alpha"):
        transcode(source, tmp_path / "out.mp4", FAST)
    dropped = EncodeSettings(codec="libx264", options={"preset": "ultrafast"}, drop_alpha=True)
    transcode(source, tmp_path / "out.mp4", dropped)
    assert not read(tmp_path / "out.mp4").info.layout.alpha


def test_a2_40_grey_stays_grey(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, "-c:v", "ffv1", "-pix_fmt", "gray", source)
    film = read(source)
    assert len(film.planes[0]) == 1 and film.info.layout.family == "gray"
    assert transcode(source, tmp_path / "out.mkv", EncodeSettings()).summary.pix_fmt == "gray"
    copy = transcode(source, tmp_path / "out.mp4", EncodeSettings(codec="libsvtav1", options={"preset": "12"}))
    assert copy.summary.pix_fmt == "yuv420p"
    after = read(tmp_path / "out.mp4")
    assert all(np.abs(p.astype(int) - 128).max() <= 1 for p in after.planes[0][1:])


def test_a2_41_gif(tmp_path: Path) -> None:
    source = tmp_path / "in.gif"
    ffmpeg(*PATTERN, source)
    film = read(source)
    assert film.info.layout.pix_fmt == "gbrp" and film.n == 25
    assert film.notes.count("transparency_dropped") == 0
    with pytest.raises(OutputError, match=r"gif output is not supported; use \.mkv or \.mp4"):
        transcode(source, tmp_path / "out.gif", EncodeSettings())
    transcode(source, tmp_path / "out.mkv", EncodeSettings())
    assert_same_pictures(film, read(tmp_path / "out.mkv"))
    assert transcode(source, tmp_path / "out.mp4", EncodeSettings()).summary.frames == 25


def test_a2_41_transparent_gif_is_noted_once(tmp_path: Path) -> None:
    source = tmp_path / "in.gif"
    hole = "format=rgba,geq=r=r(X\\,Y):g=g(X\\,Y):b=b(X\\,Y):a=255*gt(X\\,40)"
    ffmpeg(*PATTERN, "-filter_complex", f"{hole},split[a][b];[a]palettegen[p];[b][p]paletteuse", source)
    film = read(source)
    assert len([n for n in film.notes.all() if n.kind == "transparency_dropped"]) == 1


def test_a2_42_rgb_needs_no_second_matrix(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, "-c:v", "libx264rgb", "-preset", "ultrafast", "-pix_fmt", "rgb24", source)
    film = read(source)
    assert film.info.layout.family == "rgb" and film.info.layout.matrix_tag == 0
    lossless = EncodeSettings(codec="libx264rgb", options={"qp": "0", "preset": "ultrafast"})
    transcode(source, tmp_path / "out.mp4", lossless)
    assert_same_pictures(film, read(tmp_path / "out.mp4"))
    with pytest.raises(OutputError, match=r"libx264 cannot hold RGB .gbrp.; use -c:v ffv1 or -c:v libx264rgb"):
        transcode(source, tmp_path / "no.mp4", FAST)


def test_a2_43_formats_without_planes() -> None:
    for name in ("bayer_rggb8", "xyz12le", "gbrpf32le", "grayf32le", "cuda", "vaapi"):
        with pytest.raises(InputMediaError, match=f"pixel format {name} is not supported"):
            planar(name, "film")


def test_a2_43_refused_in_a_file(tmp_path: Path) -> None:
    source = tmp_path / "in.nut"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bayer_rggb8"
        container.mux(stream.encode(av.VideoFrame(32, 32, "bayer_rggb8")))
        container.mux(stream.encode(None))
    with pytest.raises(InputMediaError, match="pixel format bayer_rggb8 is not supported"):
        read(source)


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p"])
def test_a2_26_chroma_is_kept_or_widened_never_narrowed(pix_fmt: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    ffmpeg(*PATTERN, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", pix_fmt, source)
    assert transcode(source, tmp_path / "out.mp4", FAST).summary.pix_fmt == pix_fmt
    with pytest.raises(OutputError, match=f"libsvtav1 cannot hold {pix_fmt}"):
        transcode(source, tmp_path / "no.mp4", EncodeSettings(codec="libsvtav1"))


@pytest.mark.parametrize(("pix_fmt", "wider"), [("yuv411p", "yuv422p"), ("yuv410p", "yuv420p"), ("yuv440p", "yuv444p")])
def test_a2_27_rare_subsampling_is_widened(pix_fmt: str, wider: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, "-c:v", "ffv1", "-pix_fmt", pix_fmt, source)
    copy = transcode(source, tmp_path / "out.mp4", FAST)
    assert copy.summary.pix_fmt == wider
    assert [line for line in copy.said if f"{pix_fmt} is written as {wider}" in line]
    a, b = read(source), read(tmp_path / "out.mp4")
    assert np.abs(a.planes[0][0].astype(int) - b.planes[0][0]).mean() < 3
    assert transcode(source, tmp_path / "out.mkv", EncodeSettings()).summary.pix_fmt == pix_fmt


def test_a2_23_odd_sizes(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PATTERN, "-vf", "scale=65:47", "-c:v", "ffv1", "-pix_fmt", "yuv420p", source)
    message = "65x47 is odd and libx264 4:2:0 cannot hold it; use --pix-fmt yuv444p, -c:v ffv1 or --pad-even"
    with pytest.raises(OutputError, match=message):
        transcode(source, tmp_path / "no.mp4", FAST)
    fast = {"preset": "ultrafast", "qp": "0"}
    padded = EncodeSettings(codec="libx264", options=fast, pad_even=True)
    transcode(source, tmp_path / "padded.mp4", padded)
    a, b = read(source), read(tmp_path / "padded.mp4")
    assert (b.info.layout.width, b.info.layout.height) == (66, 48)
    for p, q in zip(a.planes[3], b.planes[3], strict=True):
        high, wide = p.shape
        assert np.array_equal(p, q[:high, :wide]) and np.array_equal(q[:high, wide:], p[:, -1:][:, : q.shape[1] - wide])
    wide = EncodeSettings(codec="libx264", options={"preset": "ultrafast"}, pix_fmt="yuv444p")
    transcode(source, tmp_path / "444.mp4", wide)
    assert (read(tmp_path / "444.mp4").info.layout.width, read(tmp_path / "444.mp4").n) == (65, 25)
