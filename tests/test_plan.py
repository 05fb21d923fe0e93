"""`vidrestore plan` says what a run then does and writes nothing; `--scale` enlarges before faces are looked for."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from vidrestore import cli
from vidrestore.config import resolve
from vidrestore.demo.clip import damaged
from vidrestore.engine.sampling import sampled
from vidrestore.errors import UsageError
from vidrestore.media.making import write_film
from vidrestore.media.reader import read_info
from vidrestore.notes import Notes


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's face, two seconds, and a caption."""
    from vidrestore.demo.clip import tone

    folder = tmp_path_factory.mktemp("plan")
    plain, path = folder / "plain.mp4", folder / "film.mkv"
    write_film(plain, damaged()[:50], 25, tone(), 48000)
    (folder / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,400\nfirst\n")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-i", plain, "-i", folder / "s.srt"]
    subprocess.run([*command, "-map", "0", "-map", "1", "-c", "copy", path], check=True)
    return path


def planned(film: Path, capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert cli.run(["plan", str(film), "--json", "--progress", "none", *args]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_plan_is_what_the_run_then_does(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    args = ["-o", str(out), "-vf", "assess=none,restore=classic", "--gate", "off", "-crf", "20", "-to", "0.6"]
    before = set(film.parent.iterdir())
    plan = planned(film, capsys, *args)
    assert set(film.parent.iterdir()) == before and list(tmp_path.iterdir()) == []
    assert cli.run([str(film), *args, "--progress", "none"]) == 0
    record = json.loads((tmp_path / "out.mp4.json").read_text())
    assert plan["chain"] == record["chain"] and plan["target"] == str(out) and plan["refused"] == ""
    same = ("container", "encoder", "pix_fmt", "options", "streams")
    assert {k: plan["output"][k] for k in same} == {k: record["output"][k] for k in same}
    assert any("transcode mov_text" in s for s in plan["output"]["streams"])
    assert plan["looked"]["with_faces"] == plan["looked"]["pictures"] >= 20
    assert plan["looked"]["faces"] == pytest.approx(1, abs=0.1) and 30 < plan["looked"]["width"] < 400
    assert plan["frames"] == pytest.approx(record["output"]["frames"], abs=2)
    assert 0.9 < plan["disk"] / out.stat().st_size < 1.1
    assert plan["takes"] > 0 and plan["memory"] > 1 << 27 and 0 <= plan["strength"] <= 1
    assert planned(film, capsys, "-o", str(out), "-vf", "detect=none", "-to", "0.2")["refused"] == "exists"


def test_a_table_for_people_and_a_line_for_pipes(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan", str(film), "-vf", "detect=none", "--progress", "none", "-ss", "1"]) == 0
    said = capsys.readouterr().out
    titles = ("output", "container", "picture", "streams", "chain", "device", "faces", "time", "memory", "disk")
    assert all(any(line.startswith(t) for line in said.splitlines()) for t in titles)
    for args in (["-"], [str(film), "-o", "-"]):
        assert cli.run(["plan", *args, "--progress", "none"]) == 2
        assert "plan: a pipe" in capsys.readouterr().err


def test_pictures_come_from_decord_where_it_may_and_else_from_seeks(film: Path, tmp_path: Path) -> None:
    config, notes = resolve(environment={}), Notes()
    times = [0.2, 1.0, 1.8]
    frames, by = sampled(read_info(str(film), notes), config, times, notes)
    assert by == "decord" and len(frames) == 3
    ts = tmp_path / "film.ts"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-loglevel",
        "error",
        "-i",
        film,
        "-map",
        "0:v",
        "-c",
        "copy",
    ]
    subprocess.run([*command, ts], check=True)
    frames, by = sampled(read_info(str(ts), notes), config, times, notes)
    assert by == "pyav" and len(frames) == 3
    assert [n.text for n in notes.all() if n.kind == "sampler_refused"] == [
        "decord is not asked: its container is mpegts"
    ]


def test_scale_enlarges_before_detection(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    before = read_info(str(film), Notes()).layout
    args = ["-o", str(out), "-vf", "av.hflip,detect=none", "--scale", "1.5", "-to", "0.2", "--progress", "none"]
    assert cli.run([str(film), *args]) == 0
    after = read_info(str(out), Notes()).layout
    for side, was in ((after.width, before.width), (after.height, before.height)):
        assert side % 2 == 0 and abs(side - Fraction(3, 2) * was) <= 1
    chain = resolve(chain="av.hflip,restore=classic,av.format=gray", environment={}, scale=2).chain
    at = [chain.index(word) for word in ("av.hflip", "av.scale", "detect=", "restore=", "av.format")]
    assert at == sorted(at) and "flags=lanczos" in chain
    assert resolve(chain=chain, environment={}).chain == chain
    with pytest.raises(UsageError, match="--scale: 9 is not from"):
        resolve(environment={}, scale=9)
