"""Films whose picture changes on the way: split into parts, each with what lies beside it in its time."""

from __future__ import annotations

import json
from fractions import Fraction
from hashlib import md5
from pathlib import Path

import av
import pytest
from media_tools import MS, X264, Film, assert_same_pictures, failing, ffmpeg, packets, read, refused, stamps

from vidrestore import cli
from vidrestore.media.reader import ReadSettings

PLAIN = ["-vf", "detect=none,restore=none", "--progress", "none"]
SPLIT = [*PLAIN, "-c:v", "ffv1", "--on-change", "split"]
SMALL, LARGE = ["-s", "96x64"], ["-s", "192x128", "-vf", "setsar=16/11"]
PACKET = Fraction(24, 1000)  # of the sound


def glued(folder: Path, kinds: list[list[str]], *, apart: bool = True) -> list[Path]:
    """Broadcasts of a second each, and the film that they make, last. ``apart``: their clocks go on."""
    folder.mkdir(exist_ok=True)
    made = []
    for i, kind in enumerate(kinds):
        picture = f"testsrc2=size=96x64:rate=25:duration=1,hue=h={40 * i}"
        sound = f"sine=frequency={300 + 100 * i}:sample_rate=48000:duration=1"
        made.append(folder / f"{i}.ts")
        ffmpeg(
            "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *X264, "-bf", "0", "-g", "10", *kind,
            "-c:a", "mp2", "-muxdelay", "0", *(["-output_ts_offset", str(i)] if apart else []), made[-1],
        )  # fmt: skip
    whole = folder / "whole.ts"
    whole.write_bytes(b"".join(path.read_bytes() for path in made))
    return [*made, whole]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small, large with samples of another shape, small again; and the whole."""
    return glued(tmp_path_factory.mktemp("three"), [SMALL, LARGE, SMALL])


def parts_of(folder: Path, count: int) -> list[Path]:
    names = ["out.mkv", *(f"out.part{i:03}.mkv" for i in range(2, count + 1))]
    assert {p.name for p in folder.iterdir()} == {name + ending for name in names for ending in ("", ".json")}
    return [folder / name for name in names]


def told(path: Path) -> dict[str, object]:
    record = json.loads(Path(f"{path}.json").read_text())
    assert isinstance(record, dict)
    return record


def assert_sound_of(parts: list[Path], source: Path) -> None:
    """Every packet is in one part, in order, and lies in its time."""
    assert [p for part in parts for p in packets(part, 1)] == packets(source, 1)
    for part in parts[:-1]:
        times = stamps(part, 1)
        assert 0 <= times[0] < 2 * PACKET and Fraction(1) - 2 * PACKET <= times[-1] < Fraction(1) + 3 * MS


@pytest.mark.parametrize("kind", ["ts", "mkv", "mp4"])
def test_a2_044_split_where_the_size_changes(
    kind: str, three: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each part is the film of its own broadcast: pictures to the bit, shape of samples, sound packet by packet."""
    source = three[-1].with_suffix(f".{kind}")
    if kind != "ts":
        ffmpeg("-i", three[-1], "-c", "copy", source)
    assert cli.run([str(source), "-o", str(tmp_path / "out.mkv"), *SPLIT]) == 0
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].endswith("s; the film goes on in out.part002.mkv to out.part003.mkv"), said
    parts = parts_of(tmp_path, 3)
    for part, own in zip(parts, three[:-1], strict=True):
        film = read(part)
        assert_same_pictures(film, read(own))
        assert film.pts[0] < 2 * PACKET and film.pts[24] - film.pts[0] == Fraction(96, 100)
    assert [read(part).info.sar or 1 for part in parts] == [1, Fraction(16, 11), 1]
    assert_sound_of(parts, source)
    listed = told(parts[0])["parts"]
    assert isinstance(listed, list) and [p["file"] for p in listed] == [p.name for p in parts]
    assert [(p["frames"], p["width"], p["height"]) for p in listed] == [(25, 96, 64), (25, 192, 128), (25, 96, 64)]
    assert [round(p["begins"], 1) for p in listed] == [0, 1, 2]
    for part in parts[1:]:
        assert told(part)["frames_out"] == 25 and "parts" not in told(part)


@pytest.mark.media
@pytest.mark.parametrize("name", ["h264_size_change.mp4", "av1_size_change.ivf"])
def test_a2_044_split_films_hold_what_libav_decodes(name: str, media: Path, tmp_path: Path) -> None:
    """Of real files, picture by picture at the size that each of them has."""
    source = media / "odd" / name
    assert cli.run([str(source), "-o", str(tmp_path / "out.mkv"), *SPLIT]) == 0
    parts = parts_of(tmp_path, 2)
    found = [[(f.width, f.height, sums(f)) for f in decoded(part)] for part in parts]
    assert [pictures[0][0] != found[0][0][0] for pictures in found] == [False, True]
    assert [one for pictures in found for one in pictures] == [(f.width, f.height, sums(f)) for f in decoded(source)]


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as film:
        return list(film.decode(video=0))


def sums(frame: av.VideoFrame) -> str:
    return md5(frame.to_ndarray().tobytes()).hexdigest()


def test_a2_045_split_where_the_pixel_format_changes(tmp_path: Path) -> None:
    """In a raw stream, which has no times; frames are numbered through it."""
    made = glued(tmp_path / "made", [[], ["-pix_fmt", "yuv422p"]])
    raw = tmp_path / "film.h264"
    raw.write_bytes(b"")
    for path in made[:-1]:
        ffmpeg("-i", path, "-map", "0:v", "-c", "copy", "-f", "h264", tmp_path / "one")
        raw.write_bytes(raw.read_bytes() + (tmp_path / "one").read_bytes())
    (tmp_path / "out").mkdir()
    assert cli.run([str(raw), "-o", str(tmp_path / "out" / "out.mkv"), *SPLIT]) == 0
    parts = parts_of(tmp_path / "out", 2)
    films = [read(part) for part in parts]
    assert [film.info.pix_fmt for film in films] == ["yuv420p", "yuv422p"]
    for film, own in zip(films, made, strict=False):
        assert_same_pictures(film, read(own))
        assert film.pts == [Fraction(i, 25) for i in range(25)]


def test_a2_044_split_where_the_clock_falls_back_too(tmp_path: Path) -> None:
    """Recordings that were glued together: a time is found by reading up to it."""
    made = glued(tmp_path / "made", [SMALL, LARGE, SMALL], apart=False)
    (tmp_path / "out").mkdir()
    assert cli.run([str(made[-1]), "-o", str(tmp_path / "out" / "out.mkv"), *SPLIT]) == 0
    parts = parts_of(tmp_path / "out", 3)
    for part, own in zip(parts, made, strict=False):
        assert_same_pictures(read(part), read(own))
    assert [p for part in parts for p in packets(part, 1)] == packets(made[-1], 1)


def test_a2_044_chapters_and_masks_of_each_part(three: list[Path], tmp_path: Path) -> None:
    source, marks = tmp_path / "in.mkv", tmp_path / "c.txt"
    chapters = "".join(
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={700 * i}\nEND={700 * i + 700}\ntitle={i}\n" for i in range(4)
    )
    marks.write_text(f";FFMETADATA1\n{chapters}")
    ffmpeg("-i", three[-1], "-i", marks, "-map_chapters", "1", "-c", "copy", source)
    out, masks = tmp_path / "out" / "out.mkv", tmp_path / "masks.mkv"
    out.parent.mkdir()
    report = ["--masks", str(masks), "--report", str(tmp_path / "r.json")]
    assert cli.run([str(source), "-o", str(out), *SPLIT, *report]) == 0
    found = []
    for i in range(1, 4):
        with av.open(str(out if i == 1 else out.with_name(f"out.part{i:03}.mkv"))) as part:
            found.append([(c["metadata"]["title"], round(c["start"] / 1e9, 1)) for c in part.chapters()])
        of = "" if i == 1 else f".part{i:03}"
        assert read(tmp_path / f"masks{of}.mkv").n == json.loads((tmp_path / f"r{of}.json").read_text())["frames_out"]
    assert found == [[("0", 0.0), ("1", 0.7)], [("1", 0.0), ("2", 0.4)], [("2", 0.0), ("3", 0.1)]]


def test_a2_044_a_cut_behind_a_change_has_the_pictures_that_are_there(three: list[Path]) -> None:
    """Though it is read from a key frame before, where they are others."""
    film = read(three[-1], ReadSettings(start=Fraction(3, 2), end=Fraction(19, 10)))
    assert (film.info.layout.width, film.info.layout.height) == (192, 128) and film.n == 10
    assert_same_pictures(film, _tail(read(three[1]), film.n))
    across = read(three[-1], ReadSettings(start=Fraction(3, 2), seek=False))
    assert across.n > 25 and {p[0].shape for p in across.planes} == {(128, 192)} and len(across.cuts) == 1


def _tail(film: Film, count: int) -> Film:
    film.planes, film.pts = film.planes[-count - 2 : -2], film.pts[:count]
    return film


def test_a2_044_nothing_is_split_that_does_not_change(good: Path, tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    (tmp_path / "scale").mkdir()
    for how in ("split", "scale"):
        assert cli.run([str(good), "-o", str(tmp_path / how / "out.mkv"), *PLAIN, "--on-change", how]) == 0
        assert "parts" not in told(*parts_of(tmp_path / how, 1))
    one, other = ((tmp_path / how / "out.mkv").read_bytes() for how in ("split", "scale"))
    assert one == other


def test_a2_044_parts_replace_nothing_unasked(
    three: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before any work, whichever of them is there."""
    out, third = tmp_path / "out.mkv", tmp_path / "out.part003.mkv"
    third.write_bytes(b"precious")
    command = [str(three[-1]), "-o", str(out), *SPLIT]
    assert cli.run(command) == 5
    assert "out.part003.mkv: exists; use -y to replace or -n to skip" in capfd.readouterr().err
    assert cli.run([*command, "-n"]) == 0
    assert third.read_bytes() == b"precious" and not out.exists() and not (tmp_path / "out.part002.mkv").exists()
    assert cli.run([*command, "-y"]) == 0
    assert [read(part).n for part in parts_of(tmp_path, 3)] == [25, 25, 25]


def test_a2_044_what_any_part_is_refused_for_is_known_before_the_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """H.263 knows few sizes. With another encoder at hand that one takes the part over."""
    made = glued(tmp_path / "made", [["-s", "176x144"], ["-s", "192x128"], ["-s", "176x144"]])
    out = tmp_path / "out.avi"
    command = [str(made[-1]), "-o", str(out), *SPLIT, "-c:v", "h263"]
    assert cli.run(command) == 5
    assert "out.part002.avi: h263 refuses 192x128" in capfd.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"made", "out.avi.json"}
    assert cli.run([*command, "--fallback-encoder", "mpeg2video"]) == 0
    codecs = [read(out.with_name(f"out{of}.avi")).info.codec for of in ("", ".part002", ".part003")]
    assert codecs == ["h263", "mpeg2video", "h263"]


def test_a2_044_a_part_that_fails_leaves_those_before(
    three: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each part is whole or not at all; the first one's record says what came of it."""
    steps = ["-vf", failing(tmp_path, 10, "out.part002.mkv")]
    out = tmp_path / "out" / "out.mkv"
    out.parent.mkdir()
    assert cli.run([str(three[-1]), "-o", str(out), *SPLIT, *steps]) == 6
    assert "out.part002.mkv: ffv1 failed at frame 10" in capfd.readouterr().err
    assert {p.name for p in out.parent.iterdir()} == {"out.mkv", "out.mkv.json", "out.part002.mkv.json"}
    assert read(out).n == 25 and told(out)["exit_code"] == 6 and told(out)["frames_out"] == 25
    listed = told(out)["parts"]
    assert isinstance(listed, list) and [p["file"] for p in listed] == ["out.mkv"]


@pytest.mark.parametrize(
    ("source", "target", "more", "line"),
    [
        ("-", "out.mkv", [], "a film is read twice to be split; name a file"),
        ("fifo", "out.mkv", [], "a film is read twice to be split; name a file"),
        ("good.mp4", "-", [], "a pipe holds one film; add -o FILE"),
        ("good.mp4", "out.mkv", ["--faces", "0+2"], "numbers of faces count through a whole film"),
        ("good.mp4", "out.mkv", ["-vf", "decode=ffmpeg,detect=none"], "decode=ffmpeg may scale pictures by itself"),
    ],
)
def test_a2_044_what_cannot_be_split_is_refused(
    source: str,
    target: str,
    more: list[str],
    line: str,
    good: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"--on-change: {line}" in refused(good, [source, "-o", target, *SPLIT, *more], capfd)


def test_a2_044_a_batch_makes_one_file_of_a_film(good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["batch", "run", str(good), "-o", str(tmp_path / "out"), "-vf", "detect=none", "--set", "on_change=split"]
    assert cli.run(command) == 2
    assert "--on-change: a batch makes one file of a film" in capfd.readouterr().err
