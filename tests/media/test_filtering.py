"""libavfilter's steps: the same pictures at the same times as ffmpeg's own, sound in step, refusals in one line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_tools import TONE, X264, Film, ffmpeg, packets, read, stamps

from vidrestore import cli
from vidrestore.chain import ChainError, filter_args, filters, parse
from vidrestore.config import resolve
from vidrestore.media.filtering import Filtered, check
from vidrestore.media.reader import PyAVDecoder
from vidrestore.notes import Notes

IDLE = "detect=none,restore=none"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Odd samples, a second of sound, 25 frames."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    pattern = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1,setsar=16/15"]
    tags = [
        "-colorspace",
        "smpte170m",
        "-color_range",
        "tv",
        "-color_primaries",
        "smpte170m",
        "-color_trc",
        "smpte170m",
    ]
    ffmpeg(*pattern, *TONE, *X264, *tags, "-c:a", "flac", path)
    return path


@pytest.fixture(scope="module")
def woven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interlaced, the top field first."""
    path = tmp_path_factory.mktemp("film") / "woven.mkv"
    pattern = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=50:duration=1,tinterlace=interleave_top"]
    ffmpeg(*pattern, *TONE, "-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "tff=1", "-crf", "18",
           "-pix_fmt", "yuv420p", "-c:a", "flac", path)  # fmt: skip
    return path


def run(source: Path, target: Path, chain: str, *more: str) -> Film:
    assert cli.run([str(source), "-o", str(target), "-vf", chain, "-c:v", "ffv1", "--progress", "none", *more]) == 0
    return read(target)


def by_ffmpeg(source: Path, target: Path, line: str) -> Film:
    ffmpeg("-i", source, "-map", "0", "-vf", line, "-c:v", "ffv1", "-c:a", "copy", "-fps_mode", "passthrough", target)
    return read(target)


CHAINS = [
    "crop=64:48:16:8",
    "hflip",
    "fps=30000/1001",
    "format=pix_fmts=yuv422p10le",
    "unsharp=5:5:0.5:enable='between(t,0,0.5)'",
    r"unsharp=5:5:0.5:enable=between(t\,0\,0.5)",
    "trim=start=0.2:end=0.6,setpts=PTS-STARTPTS",
    "setparams=range=limited:colorspace=bt709",
    "select='not(mod(n,3))'",
    "scale=48:-2:flags=neighbor",
]


@pytest.mark.parametrize("line", CHAINS)
@pytest.mark.parametrize("late", [False, True])
def test_a_filter_does_what_ffmpeg_does(line: str, late: bool, film: Path, tmp_path: Path) -> None:
    steps = "av." + line.replace(",setpts", ",av.setpts")
    chain = f"{IDLE},blend=none,{steps}" if late else f"{steps},{IDLE}"
    ours, theirs = run(film, tmp_path / "a.mkv", chain), by_ffmpeg(film, tmp_path / "b.mkv", line)
    assert ours.n == theirs.n
    assert [float(t) for t in ours.pts] == pytest.approx([float(t) for t in theirs.pts], abs=1e-3)
    for a, b in zip(ours.planes, theirs.planes, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert ours.info.layout.pix_fmt == theirs.info.layout.pix_fmt and ours.info.sar == theirs.info.sar
    assert ours.info.layout.matrix_tag == (1 if "bt709" in line else 6)
    assert packets(tmp_path / "a.mkv", 1) == packets(film, 1), "all of the sound"
    assert stamps(tmp_path / "a.mkv", 1) == stamps(film, 1), "and in step"


@pytest.mark.parametrize(
    ("chain", "count", "rate"),
    [
        ("av.bwdif=mode=send_frame", 25, 25),
        ("av.bwdif", 50, 50),
        ("av.bwdif=mode=send_field:parity=tff", 50, 50),
        ("av.yadif=1", 50, 50),
        ("av.fieldmatch,av.decimate", 20, 20),
    ],
)
def test_fields_become_whole_pictures(
    chain: str, count: int, rate: int, woven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(woven, tmp_path / "out.mkv", f"{chain},detect=retinaface,restore=none")
    assert "interlaced" not in capsys.readouterr().err
    assert (out.n, out.info.rate) == (count, rate)
    assert not out.info.layout.interlaced
    steps = np.diff([float(t) for t in out.pts])
    assert steps == pytest.approx(1 / rate, abs=2e-3), "evenly"
    assert stamps(tmp_path / "out.mkv", 1) == stamps(woven, 1)


def test_a2_18_faces_in_fields_are_restored_apart(
    woven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(woven, tmp_path / "a.mkv", "restore=none")
    assert capsys.readouterr().err == "", "there is nothing to do about it"
    source = read(woven)
    assert out.info.layout.interlaced and out.info.field_order == source.info.field_order
    for a, b in zip(out.planes, source.planes, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert out.pts == source.pts


def test_a2_18_or_in_frames_as_they_are_and_that_is_told(
    woven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(woven, tmp_path / "a.mkv", "restore=none", "--interlace", "woven")
    assert capsys.readouterr().err.count("add av.bwdif") == 1
    run(woven, tmp_path / "b.mkv", IDLE, "--interlace", "woven")
    assert "bwdif" not in capsys.readouterr().err, "nobody looks at pictures"


def test_the_record_tells_of_another_rate(film: Path, tmp_path: Path) -> None:
    import json

    run(film, tmp_path / "out.mkv", f"av.fps=50,{IDLE}")
    record = json.loads((tmp_path / "out.mkv.json").read_text())
    assert record["output"]["frames"] == 50 and record["input"]["frames_in"] == 25
    assert any(
        note["kind"] == "rate_changed" and "50 frames a second, 25 before" in note["text"] for note in record["notes"]
    )
    assert "av.fps=50," in record["chain"]


def test_picture_cut_without_its_sound_is_told(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(film, tmp_path / "out.mkv", f"av.trim=start=0.2,av.setpts=PTS-STARTPTS,{IDLE}")
    assert "-ss and -to cut both" in capsys.readouterr().err


def test_colour_tags_that_change_begin_the_filters_anew(film: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1,setsar=16/15", *TONE, *X264,
           "-colorspace", "bt709", "-color_range", "tv", "-c:a", "flac", other)  # fmt: skip
    both = tmp_path / "both.ts"
    for i, path in enumerate((film, other)):
        ffmpeg(
            "-i", path, "-c:v", "copy", "-c:a", "aac", "-f", "mpegts", "-output_ts_offset", str(i), tmp_path / f"{i}.ts"
        )
    both.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    with PyAVDecoder(PyAVDecoder.Options()).open(str(both), Notes()) as source:
        frames = list(Filtered(source, parse("av.hflip"), Notes()).frames())
    assert len(frames) == 50
    assert [f.index for f in frames] == list(range(50))
    assert {f.layout.matrix_tag for f in frames[:25]} == {6} and {f.layout.matrix_tag for f in frames[25:]} == {1}


# -- the chain -------------------------------------------------------------------------------------------------


def test_where_a_filter_stands_says_what_it_works_on() -> None:
    before, after = filters(parse("av.bwdif,restore=none,av.scale=2:2,av.hflip"))
    assert [s.plugin for s in before] == ["bwdif"] and [s.plugin for s in after] == ["scale", "hflip"]
    config = resolve(chain="av.bwdif=1,restore=none,av.scale=w=2:h=2", environment={})
    text = config.chain
    assert text.index("decode=") < text.index("av.bwdif=1") < text.index("detect=")
    assert text.index("blend=") < text.index("av.scale=w=2:h=2") < text.index("encode=")
    assert resolve(chain=text, environment={}).chain == text
    kept = resolve(chain="av.hflip", environment={"VIDRESTORE_CHAIN": "av.bwdif,restore=none,av.scale=2:2"})
    assert [s.plugin for s in (*kept.before, *kept.after)] == ["hflip", "scale"], "a side is replaced as a whole"


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("av.a=x=1:y=2", "x=1:y=2"),
        ("av.a=enable='between(t,0,3)'", "enable=between(t,0,3)"),
        (r"av.a=enable=between(t\,0\,3)", "enable=between(t,0,3)"),
        (r"av.a=t='a\:b'", r"t=a\:b"),
        (r"av.a=t=a\\:b", r"t=a\:b"),
        ("av.a", ""),
    ],
)
def test_one_of_two_levels_of_quoting_is_undone(written: str, given: str) -> None:
    assert filter_args(parse(written)[0]) == given


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("av.hqdn3d", "col 4: this libavfilter has no 'hqdn3d'; use av.nlmeans, or filter with ffmpeg in a pipe"),
        ("av.scal=2", "col 4: this libavfilter has no 'scal'; did you mean 'scale'?"),
        ("restore=none,av.scale=w=32:24", "col 17: av.scale: no option name near '24'"),
        ("av.scale=wi=3", "col 4: av.scale: no such option: wi"),
        ("av.bwdif=mode=zzz", 'col 4: av.bwdif: unable to parse "mode" option value "zzz"'),
        ("av.scale=w='a:b'", "col 4: av.scale: no option name near 'b'; in quotes a colon is written \\:"),
        ("av.overlay", "col 4: av.overlay has not one input and one output"),
    ],
)
def test_what_libavfilter_refuses_is_one_line(chain: str, said: str) -> None:
    with pytest.raises(ChainError) as caught:
        check([step for side in filters(parse(chain)) for step in side])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("av.crop=999:999", "av.crop: invalid too big"),
        ("av.volume=2", "av.volume: media type mismatch"),
        ("av.split", "av.split"),
        ("av.format=nv12", "av.format gives nv12; add av.format=yuv420p after it"),
    ],
)
def test_what_only_shows_with_the_film_is_one_line_too(
    chain: str, said: str, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([str(film), "-o", str(tmp_path / "o.mkv"), "-vf", f"{chain},{IDLE}"]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error
    assert not (tmp_path / "o.mkv").exists()


def test_a_filter_that_changes_the_size_on_the_way_is_stopped(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growing = "av.scale=w=48+48*gt(n\\,12):h=64:eval=frame"
    assert cli.run([str(film), "-o", str(tmp_path / "o.mkv"), "-vf", f"{growing},{IDLE}"]) == 6
    assert "one size and format" in capsys.readouterr().err


def test_what_is_known_beforehand_is_what_comes(film: Path) -> None:
    for chain in (
        "av.scale=iw*sar:ih",
        "av.fps=24000/1001",
        "av.transpose",
        "av.setsar=4/3",
        "av.framestep=3",
        "av.tblend",
    ):
        with PyAVDecoder(PyAVDecoder.Options()).open(str(film), Notes()) as source:
            seen = Filtered(source, parse(chain), Notes())
            frames = list(seen.frames())
        layout = seen.info.layout
        assert all((f.planes[0].shape[1], f.planes[0].shape[0]) == (layout.width, layout.height) for f in frames), chain
        span = frames[-1].pts * frames[-1].time_base - frames[0].pts * frames[0].time_base
        assert float((len(frames) - 1) / span) == pytest.approx(float(seen.info.rate), rel=0.03), chain
        assert layout.sar == {"av.scale=iw*sar:ih": Fraction(256, 255), "av.setsar=4/3": Fraction(4, 3)}.get(
            chain, layout.sar
        )
