"""The command as users meet it: outputs, records, exit codes, signals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from skimage.data import astronaut

VIDRESTORE = [sys.executable, "-m", "vidrestore"]
FAST = ["-preset", "ultrafast"]
FULL = "blend=feather:strength=1"  # a face that is sound is changed as well


def run(*arguments: str | Path, cwd: Path | None = None, stdin: Any = None) -> subprocess.CompletedProcess[str]:
    command = [*VIDRESTORE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, stdin=stdin, errors="replace")
    assert "Traceback" not in done.stderr
    return done


def planes(path: Path) -> list[list[np.ndarray]]:
    found = []
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            sizes = [(p.height, p.line_size, p.width) for p in frame.planes]
            found.append(
                [
                    np.frombuffer(p, np.uint8).reshape(h, s)[:, :w]
                    for p, (h, s, w) in zip(frame.planes, sizes, strict=True)
                ]
            )
    return [[np.array(p) for p in f] for f in found]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a photograph that drifts over a pattern, with sound; the face is some 110 px wide."""
    path = tmp_path_factory.mktemp("film") / "small.mp4"
    head = astronaut()[0:220, 100:350]  # without the helmet, whose ring has a face's shape
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:320, :480]
    ground = np.stack([100 + 40 * np.sin(x / 30), 110 + 30 * np.cos(y / 25), 120 + x * 0], -1)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "18", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = 480, 320, "yuv420p"
        sound = out.add_stream("aac", rate=16000)
        for i in range(50):
            picture = ground + rng.normal(0, 3, ground.shape)
            left = 60 + i
            picture[16:236, left : left + 250] = head
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            out.mux(video.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")))
        tone = (8000 * np.sin(np.arange(32000) / 20)).astype(np.int16)[None]
        samples = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        samples.sample_rate = 16000
        out.mux(sound.encode(samples))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def test_the_one_command(film: Path, tmp_path: Path) -> None:
    source = tmp_path / "my old 'clip'.mp4"
    source.write_bytes(film.read_bytes())
    done = run(source)
    assert (done.returncode, done.stdout) == (0, "")
    target = tmp_path / "my old 'clip'.restored.mp4"
    assert len(planes(target)) == 50
    record = json.loads(Path(f"{target}.json").read_text())
    assert record["exit_code"] == 0 and record["frames_out"] == 50
    assert len(record["tracks"]) == 1 and record["tracks"][0]["frames"] >= 48
    assert record["weights"] and record["chain"].startswith("decode=pyav")
    assert sorted(p.name for p in tmp_path.iterdir()) == [source.name, target.name, target.name + ".json"]
    assert source.read_bytes() == film.read_bytes()


def test_nothing_outside_the_face_changes(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    assert run(film, "-o", out, "-vf", FULL, "-c:v", "ffv1").returncode == 0
    changed = 0
    for before, after in zip(planes(film), planes(out), strict=True):
        changed += int((before[0] != after[0]).sum())
        for a, b, n in zip(before, after, (1, 2, 2), strict=True):
            assert np.array_equal(a[:, : 60 // n], b[:, : 60 // n]) and np.array_equal(
                a[:, 400 // n :], b[:, 400 // n :]
            )
    assert changed > 50 * 1000, "and inside it does"


def test_the_null_restorer_changes_no_bit(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    assert run(film, "-o", out, "-vf", "restore=none", "-c:v", "ffv1").returncode == 0
    for before, after in zip(planes(film), planes(out), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_equal_runs_give_equal_films(film: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.mkv", tmp_path / "two.mkv"
    for out, prefetch in ((one, 1), (two, 99)):
        assert (
            run(film, "-o", out, "--seed", "3", "--set", f"prefetch_mb={prefetch}", "-vf", FULL, *FAST).returncode == 0
        )
    a, b = (json.loads(Path(f"{p}.json").read_text()) for p in (one, two))
    for record in (a, b):
        for key in ("seconds", "target", "settings"):
            record.pop(key)
    assert a == b
    for first, second in zip(planes(one), planes(two), strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(first, second, strict=True))


def test_strength_zero_and_detect_none_are_the_film_itself(film: Path, tmp_path: Path) -> None:
    for i, chain in enumerate(["blend=feather:strength=0", "detect=none"]):
        out = tmp_path / f"{i}.mkv"
        assert run(film, "-o", out, "-vf", chain, "-c:v", "ffv1").returncode == 0
        for before, after in zip(planes(film), planes(out), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_existing_outputs_are_safe(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    refused = run(film, "-o", out)
    assert refused.returncode == 5
    assert f"error: {out}: " in refused.stderr and "exists; use -y to replace or -n to skip" in refused.stderr
    skipped = run(film, "-o", out, "-n")
    assert skipped.returncode == 0 and "skipped" in skipped.stderr
    assert out.read_text() == "precious" and not Path(f"{out}.json").exists()
    assert run(film, "-o", out, "-y", "-vf", "detect=none", *FAST).returncode == 0
    assert len(planes(out)) == 50


def test_the_input_is_never_the_output(film: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.mp4"
    os.link(film, link)
    done = run(film, "-o", link, "-y")
    assert done.returncode == 5 and "output is the input" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.mp4"], 3, "error: missing.mp4: "),
        (["."], 3, "is a directory"),
        (["FILM", "-o", "no/such/folder/out.mp4"], 5, "no/such/folder"),
        (["FILM", "-o", "/proc/out.mp4"], 5, "/proc"),
        (["FILM", "-vf", "restore=clasic"], 2, "error: chain: col 9: no restore plugin 'clasic'"),
        (["FILM", "-crff", "18"], 2, "has no option 'crff'; did you mean 'crf'?"),
        (["FILM", "-crf", "many"], 2, "error: -crf many: "),
        (["FILM", "-c:v", "libx246"], 2, "no encoder 'libx246'; did you mean 'libx26"),
        (["FILM", "--sed", "3"], 2, "--sed"),
        (["FILM", "-ss", "soon"], 2, "'soon' is no time"),
        (["FILM", "-y", "-n"], 2, "not both"),
        (["FILM", "--preview", "0"], 2, "0 seconds show nothing"),
        (["FILM", "--preview", "3", "-to", "5"], 2, "give one"),
        (["FILM", "--device", "cuda:7"], 7, "cuda"),
        (["FILM", "--set", "window"], 2, "is no KEY=VALUE"),
        (["FILM", "other.mp4"], 2, "unexpected extra argument"),
        ([], 2, "missing argument"),
        (["FILM", "-crf"], 2, "needs a value"),
        (["-"], 2, "error: -: "),
    ],
)
def test_one_line_and_the_right_code(film: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = run(*[str(film) if a == "FILM" else a for a in arguments], cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vidrestore: error: ") and message in lines[0]
    assert not [p for p in tmp_path.rglob("*") if p.suffix != ".json"], "nothing half-written"


def test_the_record_of_a_failure(film: Path, tmp_path: Path) -> None:
    report = tmp_path / "why.json"
    done = run(film, "-o", tmp_path / "out.mp4", "-c:v", "libx246", "--report", report)
    record = json.loads(report.read_text())
    assert record["exit_code"] == done.returncode == 2
    assert record["error"]["kind"] == "UsageError" and "libx246" in record["error"]["line"]


def test_a_part_of_the_film(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    assert (
        run(film, "-o", out, "-ss", "0:00.4", "-to", "1.2", "-vf", "detect=none", "-c:v", "libx264", *FAST).returncode
        == 0
    )
    with av.open(str(out)) as cut:
        times = [f.time for f in cut.decode(video=0)]
    assert len(times) == 20 and times[0] == 0
    before, after = planes(film)[10], planes(out)[0]
    assert np.abs(before[0].astype(int) - after[0]).mean() < 4


@pytest.mark.parametrize(("begin", "first"), [([], 20), (["-ss", "0.4"], 10)])
def test_a_preview_is_the_middle_or_from_where_it_is_said(
    film: Path, tmp_path: Path, begin: list[str], first: int
) -> None:
    """Half a second of a film of two: 12.5 frames."""
    link = tmp_path / "small.mp4"
    link.write_bytes(film.read_bytes())
    assert run(link, "--preview", "0.5", *begin, "-vf", "detect=none", "-crf", "0").returncode == 0
    before, after = planes(film), planes(tmp_path / "small.preview.mp4")
    assert len(after) in (12, 13)
    gaps = [np.abs(frame[0].astype(int) - after[0][0]).mean() for frame in before]
    assert abs(int(np.argmin(gaps)) - first) <= 1


def test_a_photograph_is_a_film_of_one_frame(tmp_path: Path) -> None:
    from PIL import Image

    source = tmp_path / "face.png"
    Image.fromarray(astronaut()).save(source)
    assert run(source, "-vf", FULL).returncode == 0
    out = np.asarray(Image.open(tmp_path / "face.restored.png"))
    changed = np.argwhere((out != astronaut()).any(-1))
    assert out.shape == (512, 512, 3) and len(changed) > 3000
    assert changed.min(0)[0] >= 20 and changed.max(0)[0] <= 260, "only the face"


def test_a_sound_face_keeps_every_bit_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    from PIL import Image, ImageFilter

    head = astronaut()[0:220, 100:350]  # without the helmet, whose ring has a face's shape
    head = np.asarray(Image.fromarray(head).resize((500, 440), Image.Resampling.LANCZOS).filter(ImageFilter.SHARPEN))
    sound, damaged = tmp_path / "sound.png", tmp_path / "damaged.png"
    Image.fromarray(head).save(sound)
    Image.fromarray(head).resize((83, 73), Image.Resampling.BOX).resize((500, 440)).save(damaged)
    strengths = []
    for source in (sound, damaged):
        assert run(source).returncode == 0
        strengths.append(json.loads((tmp_path / f"{source.stem}.restored.png.json").read_text())["strength"])
    assert strengths == [{"untouched": 1.0, "mean": 0.0}, {"untouched": 0.0, "mean": 1.0}]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sound.restored.png")), head)


def test_progress_as_json_lines(film: Path, tmp_path: Path) -> None:
    done = run(film, "-o", tmp_path / "out.mp4", "-vf", "detect=none", "--progress", "json", *FAST)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0]["event"] == "progress" and lines[0]["total"] == 50
    assert {"fps", "eta", "faces", "memory_mb"} <= set(lines[0])
    assert lines[-1]["event"] == "done" and lines[-1]["frames"] == 50


def test_quiet_without_a_terminal(film: Path, tmp_path: Path) -> None:
    done = run(film, "-o", tmp_path / "out.mp4", "-vf", "detect=none", *FAST)
    assert (done.stdout, done.stderr) == ("", "")


def test_through_pipes(film: Path, tmp_path: Path) -> None:
    piped = tmp_path / "piped.mkv"
    stream = tmp_path / "in.mkv"
    with av.open(str(film)) as source, av.open(str(stream), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    with stream.open("rb") as feed, piped.open("wb") as sink:
        done = subprocess.run([*VIDRESTORE, "-", "-o", "-"], stdin=feed, stdout=sink, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    direct = tmp_path / "direct.mkv"
    assert run(stream, "-o", direct, "-c:v", "ffv1").returncode == 0
    for a, b in zip(planes(piped), planes(direct), strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def test_a_closed_reader_ends_quietly(film: Path) -> None:
    process = subprocess.Popen(
        [*VIDRESTORE, str(film), "-o", "-", "-vf", "detect=none"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("keep", [False, True])
def test_a_signal_leaves_nothing_half_written(film: Path, tmp_path: Path, number: int, code: int, keep: bool) -> None:
    out = tmp_path / "out.mkv"
    arguments = [*VIDRESTORE, str(film), "-o", str(out), "--progress", "json", "-preset", "veryslow"]
    process = subprocess.Popen(
        [*arguments, *(["--keep-partial"] if keep else [])], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert '"progress"' in process.stderr.readline()  # the first frame is out
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(timeout=20) == code
    said = [line for line in rest.splitlines() if not line.startswith("{")]
    assert len(said) == 1 and said[0].startswith("vidrestore: error: stopped: ")
    assert not out.exists()
    record = json.loads(Path(f"{out}.json").read_text())
    assert record["exit_code"] == code and record["error"]["kind"] == "Stopped"
    left = [p.name for p in tmp_path.iterdir() if p.name != "out.mkv.json"]
    assert len(left) == (1 if keep else 0)


def test_plugins_and_their_options() -> None:
    listed = run("plugins")
    assert listed.returncode == 0 and "retinaface" in listed.stdout and "bytetrack" in listed.stdout
    rows = json.loads(run("plugins", "--json").stdout)
    assert {"kind", "name", "from", "about"} == set(rows[0])
    options = run("plugins", "feather")
    assert "radius" in options.stdout and "strength" in options.stdout
    wrong = run("plugins", "fether")
    assert wrong.returncode == 2 and "did you mean 'feather'?" in wrong.stderr


def test_config_show_names_origins() -> None:
    shown = run("config", "show", "-vf", "detect=retinaface:every=3", "-crf", "18")
    lines = shown.stdout.splitlines()
    assert any(line.startswith("detect.every = 3") and line.endswith("# flag") for line in lines)
    assert any(line.startswith("encoder.crf = 18") and line.endswith("# flag") for line in lines)
    table = json.loads(run("config", "show", "--json").stdout)
    assert table["chain"].startswith("decode=") and len(table["sha256"]) == 64
