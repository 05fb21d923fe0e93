"""``vidrestore batch``: a tree restored, unharmed by kills, by bad films and by other runners."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import av
import imageio_ffmpeg
import pytest
from conftest import BATCH, FAST, batch, decoded, ffmpeg, published, tree

from vidrestore.batch.store import Store
from vidrestore.cli import run

Films = Callable[[int], Path]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def outputs(folder: Path) -> dict[str, list[str]]:
    return {str(p.relative_to(folder)): decoded(p) for p in sorted(folder.rglob("*.restored.mp4"))}


def killed_after(lines: int, *arguments: str | Path) -> list[dict[str, object]]:
    """Run a batch and kill it, with its workers, as soon as it has said so much. Gives what it said."""
    command = [*BATCH, "run", *map(str, arguments), "--progress", "json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    said: list[dict[str, object]] = []
    for line in process.stderr:
        said += [json.loads(line)] if line.startswith("{") else []
        if len(said) >= lines:
            break
    process.send_signal(signal.SIGKILL)  # the runner alone: its workers must end with it
    process.wait()
    rest = process.stderr.read()  # ... until nobody holds the other end any more
    return said + [json.loads(line) for line in rest.splitlines() if line.startswith("{")]


def test_a_tree_is_mirrored_recorded_and_done_once(films: Films, tmp_path: Path) -> None:
    source, out = films(3), tmp_path / "out"
    before = {p: p.read_bytes() for p in source.rglob("*.mp4")}
    assert batch("run", source, "-o", out, *FAST).returncode == 0
    names = ("tape 0.restored.mp4", "old/tape 1.restored.mp4", "tape 2.restored.mp4")
    assert tree(out) == published(*names), "segments are gone"
    record = json.loads((out / "tape 0.restored.mp4.json").read_text())
    assert record["frames_out"] == 36 and record["exit_code"] == 0 and len(record["source_sha256"]) == 64
    assert record["segments"][0] == [0, 8] and record["segments"][-1][1] == 36
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.mp4")}
    again = batch("run", source, "-o", out, *FAST)
    assert again.returncode == 0 and stamps == {p: p.stat().st_mtime_ns for p in out.rglob("*.mp4")}
    assert {p: p.read_bytes() for p in source.rglob("*.mp4")} == before
    changed = batch("run", source, "-o", out, *FAST, "-crf", "30")
    assert changed.returncode == 5 and "other options" in changed.stderr
    assert batch("run", source, "-o", out, *FAST, "-crf", "30", "-y").returncode == 0
    assert all(stamps[p] != p.stat().st_mtime_ns for p in out.rglob("*.mp4"))


def test_pictures_and_sound_are_those_of_a_plain_run(clip: Path, tmp_path: Path) -> None:
    lossless = ["-vf", "detect=none", "-c:v", "ffv1"]
    assert batch("run", clip, "-o", tmp_path, *lossless, "-f", "mkv", "--segment", "8").returncode == 0
    plain = tmp_path / "plain.mkv"
    subprocess.run([*BATCH[:-1], str(clip), "-o", str(plain), *lossless], check=True)
    assert decoded(tmp_path / "clip.restored.mkv") == decoded(plain)
    probe = "import av,sys\nwith av.open(sys.argv[1]) as c: print([(p.pts, p.size) for p in c.demux(audio=0)])"
    sounds = [subprocess.check_output([BATCH[0], "-c", probe, str(p)]) for p in (plain, tmp_path / "clip.restored.mkv")]
    assert sounds[0] == sounds[1]


def test_times_and_modes_of_sources_and_the_time_of_the_run(films: Films, tmp_path: Path) -> None:
    """Preserved in outputs alone; run again nothing is done, though they look old."""
    source, out = films(2), tmp_path / "out"
    for path in source.rglob("*.mp4"):
        path.chmod(0o604)
    told = ["--preserve", "--stamp"]
    begun = datetime.now(UTC).replace(microsecond=0)
    assert batch("run", source, "-o", out, *FAST, *told).returncode == 0
    found = {path.relative_to(source).with_suffix(""): path.stat() for path in source.rglob("*.mp4")}
    outputs = [out / f"{name}.restored.mp4" for name in found]
    for path, like in zip(outputs, found.values(), strict=True):
        state = path.stat()
        assert (state.st_mode & 0o7777, state.st_mtime_ns) == (0o604, like.st_mtime_ns)
        assert Path(f"{path}.json").stat().st_mtime > begun.timestamp() - 1
        with av.open(str(path)) as film:
            assert begun <= datetime.fromisoformat(film.metadata["VIDRESTORE_DATE"]) <= datetime.now(UTC)
    files = [path.stat().st_ino for path in outputs]
    assert batch("run", source, "-o", out, *FAST, *told).returncode == 0
    assert [path.stat().st_ino for path in outputs] == files


@pytest.mark.parametrize(
    "steps, segments",
    [
        ("av.crop=80:48,detect=none,av.hflip", 5),
        ("av.crop=80:48:n:0,detect=none", 1),
        ("detect=none,av.tmix=frames=3", 1),
    ],
)
def test_filters_that_take_each_frame_by_itself_leave_a_film_in_segments(
    steps: str, segments: int, clip: Path, tmp_path: Path
) -> None:
    chain = ["-vf", steps, "-c:v", "ffv1"]
    assert batch("run", clip, "-o", tmp_path, *chain, "-f", "mkv", "--segment", "8").returncode == 0
    plain = tmp_path / "plain.mkv"
    assert run([str(clip), "-o", str(plain), *chain]) == 0
    assert decoded(tmp_path / "clip.restored.mkv") == decoded(plain)
    assert len(json.loads((tmp_path / "clip.restored.mkv.json").read_text())["segments"]) == segments


def kill_often(source: Path, out: Path, kills: int, workers: int, rng: random.Random) -> None:
    """Kill a batch again and again; each time whatever was being done is at most one segment a worker."""
    arguments = [source, "-o", out, *FAST, "--workers", str(workers)]
    ends: list[tuple[object, object]] = []
    begun: list[tuple[object, object, object]] = []
    for _ in range(kills):
        said = killed_after(rng.randint(1, 14), *arguments)
        begun += [(e["job"], e["kind"], e["number"]) for e in said if e["event"] == "begin"]
        for path in out.rglob("*.restored.mp4"):
            assert len(decoded(path)) == 36, "what has its name is whole"
        with Store(out) as store:
            ends = [(t.job, t.number) for j in store.jobs() for t in store.tasks(j.id) if t.result != "{}"]
        assert len(ends) == len(set(ends))
    assert batch("run", *arguments).returncode == 0
    again = len(begun) - len(set(begun))
    assert again <= kills * workers, "no more than what was in hand is done again"


def test_killed_again_and_again_it_ends_as_if_undisturbed(films: Films, tmp_path: Path) -> None:
    source, calm, out = films(2), tmp_path / "calm", tmp_path / "out"
    assert batch("run", source, "-o", calm, *FAST).returncode == 0
    kill_often(source, out, 3, 1, random.Random(1))
    assert outputs(out) == outputs(calm) and tree(out) == tree(calm)


@pytest.mark.slow
def test_twenty_kills_of_twelve_films(films: Films, tmp_path: Path) -> None:
    source, calm, out = films(12), tmp_path / "calm", tmp_path / "out"
    assert batch("run", source, "-o", calm, *FAST).returncode == 0
    kill_often(source, out, 20, 2, random.Random(2))
    assert outputs(out) == outputs(calm) and tree(out) == tree(calm)


def test_two_runners_share_one_store(films: Films, tmp_path: Path) -> None:
    source, out = films(2), tmp_path / "out"
    command = [*BATCH, "run", str(source), "-o", str(out), *FAST, "--progress", "json"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [line for p in both for line in p.communicate()[1].splitlines() if line.startswith("{")]
    assert [p.returncode for p in both] == [0, 0]
    ends = [(e["job"], e["kind"]) for e in map(json.loads, said) if e["event"] == "end" and e["kind"] != "restore"]
    assert len(ends) == len(set(ends)) == 4
    assert all(len(frames) == 36 for frames in outputs(out).values())


def test_bad_films_are_told_and_the_others_done(films: Films, clip: Path, tmp_path: Path) -> None:
    source, out = films(2), tmp_path / "out"
    (source / "a.mkv").write_bytes(b"no film at all")
    (source / "cut.mp4").write_bytes(clip.read_bytes())
    manifest = source / "list.csv"
    rows = ["source", "a.mkv", "tape 0.mp4", "gone.mp4", "old/tape 1.mp4"]
    manifest.write_text("\n".join(rows) + "\n")
    done = batch("run", manifest, "-o", out, *FAST, "--keep-going")
    assert done.returncode == 8
    assert "gone.mp4: no such file" in done.stderr and "a.mkv: is not a media file" in done.stderr
    assert tree(out) == published("tape 0.restored.mp4", "old/tape 1.restored.mp4")
    status = json.loads(batch("status", out, "--json").stdout)
    assert status["counts"] == {"failed": 2, "done": 2}
    assert [f["code"] for f in status["films"]] == [4, 3, 0, 0], "failures first"
    (source / "gone.mp4").write_bytes(clip.read_bytes())
    assert batch("retry", out).returncode == 8
    assert (out / "gone.restored.mp4").exists(), "what came back is done"


def test_a_film_that_vanishes_on_the_way(films: Films, tmp_path: Path) -> None:
    source, out = films(2), tmp_path / "out"
    killed_after(4, source, "-o", out, *FAST)
    (source / "tape 0.mp4").unlink()
    done = batch("retry", out)
    assert done.returncode == 8 and "no such file" in done.stderr
    assert tree(out) >= {"old/tape 1.restored.mp4"} and "tape 0.restored.mp4" not in tree(out)


def test_a_film_that_breaks_off_is_published_and_counts_as_failed(films: Films, clip: Path, tmp_path: Path) -> None:
    source, out, whole = films(1), tmp_path / "out", tmp_path / "whole.ts"
    ffmpeg("-i", clip, "-c", "copy", "-f", "matroska", whole)
    data = whole.read_bytes()
    (source / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    done = batch("run", source, "-o", out, *FAST, "--keep-going")
    assert done.returncode == 8 and "input ends at" in done.stderr
    record = json.loads((out / "cut.restored.mkv.json").read_text())
    assert record["exit_code"] == 6 and 0 < record["frames_out"] < 36
    assert len(decoded(out / "cut.restored.mkv")) == record["frames_out"]
    (source / "cut.mkv").write_bytes(data)
    assert batch("retry", out).returncode == 0, "the whole film has come"
    assert len(decoded(out / "cut.restored.mkv")) == 36


@pytest.mark.parametrize("name", ["/tmp/x.mp4", "../x.mp4", "a/../../x.mp4", "C:\\x.mp4", "\\\\host\\x.mp4", ".x.mp4"])
def test_outputs_stay_in_the_tree(name: str, clip: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "list.jsonl"
    manifest.write_text(json.dumps({"source": str(clip), "output": name}))
    done = batch("run", manifest, "-o", tmp_path / "out", *FAST)
    assert done.returncode == 2 and "output" in done.stderr and not (tmp_path / "out").exists()


def test_names_with_odd_bytes_and_options_of_their_own(clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "odd", tmp_path / "out"
    folder.mkdir()
    odd = os.fsdecode(b"tape \xff\n'1'.mp4")
    (folder / odd).write_bytes(clip.read_bytes())
    rows = [{"source": odd, "-crf": 40}, {"source": odd, "output": "small/b.mkv"}]
    manifest = folder / "list.jsonl"
    manifest.write_text(json.dumps(rows[0]) + "\n")
    assert batch("run", folder, "-o", out, *FAST).returncode == 0
    big = (out / odd.replace(".mp4", ".restored.mp4")).stat().st_size
    assert batch("run", manifest, "-o", out, *FAST, "-y").returncode == 0
    assert (out / odd.replace(".mp4", ".restored.mp4")).stat().st_size < big
    manifest.write_text(json.dumps(rows[1]) + "\n")
    assert batch("run", manifest, "-o", out, *FAST).returncode == 0
    assert len(decoded(out / "small/b.mkv")) == 36


def test_two_films_with_one_output_are_refused(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("A.mp4", "a.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    done = batch("run", folder, "-o", tmp_path / "out", *FAST)
    assert done.returncode == 2 and "is the output of both" in done.stderr


def test_cancelled_verified_and_made_anew(films: Films, tmp_path: Path) -> None:
    source, out = films(2), tmp_path / "out"
    killed_after(3, source, "-o", out, *FAST)
    assert batch("cancel", out, "old/tape 1.restored.mp4").stdout == "1 cancelled\n"
    assert batch("retry", out).returncode == 0
    assert tree(out) == published("tape 0.restored.mp4")
    assert batch("verify", out).returncode == 0
    film = out / "tape 0.restored.mp4"
    data = bytearray(film.read_bytes())
    data[-9] ^= 1
    film.write_bytes(data)
    bad = batch("verify", out)
    assert bad.returncode == 8 and "differs" in bad.stdout
    film.unlink()
    assert batch("run", source, "-o", out, *FAST).returncode == 0
    assert batch("verify", out).stdout == "2 of 2 as published\n"


def test_an_archive_copy_is_ffv1_3_with_check_sums_that_ffmpeg_confirms(clip: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out", clip.stat()
    done = batch("run", clip, "-o", out, "-p", "archive", "-vf", "detect=none", "--segment", "8")
    assert done.returncode == 0, done.stderr
    assert (clip.stat().st_mtime_ns, clip.stat().st_size) == (before.st_mtime_ns, before.st_size)
    film = out / "clip.restored.mkv"
    record = json.loads((out / "clip.restored.mkv.json").read_text())["output"]
    assert (record["encoder"], record["container"]) == ("ffv1", "matroska")
    assert (record["options"]["level"], record["options"]["slicecrc"], record["options"]["g"]) == ("3", "1", "1")
    theirs = tmp_path / "theirs"
    ffmpeg("-i", film, "-map", "0:v:0", "-f", "framemd5", theirs)
    sums = [
        [line.split(",")[4:] for line in path.read_text().splitlines() if not line.startswith("#")]
        for path in (out / "clip.restored.mkv.framemd5", theirs)
    ]
    assert len(sums[0]) == 36 and sums[0] == sums[1]
    damaged = bytearray(film.read_bytes())
    damaged[len(damaged) // 2] ^= 0x55
    film.write_bytes(damaged)
    told = subprocess.run([FFMPEG, "-v", "error", "-i", str(film), "-f", "null", "-"], capture_output=True, text=True)
    assert "CRC" in told.stderr or "crc" in told.stderr, "a flipped bit shows"


def test_the_report_lists_failures_first_and_escapes_names(clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(clip.read_bytes())
    (folder / "z <b> & 'bad'.mkv").write_bytes(b"junk")
    assert batch("run", folder, "-o", out, *FAST, "--keep-going").returncode == 8
    said = batch("report", out)
    assert said.returncode == 0 and said.stdout.split() == [str(out / "report.json"), str(out / "report.html")]
    page = (out / "report.html").read_text()
    assert "<b>" not in page and page.index("&lt;b&gt;") < page.index("good.restored.mp4")
    pictures = [out / name for name in set(re.findall(r'src="(\.vidrestore/[^"]+)"', page))]
    assert len(pictures) == 1 and all(p.read_bytes().startswith(b"\xff\xd8") for p in pictures)
    films = json.loads((out / "report.json").read_text())["films"]
    assert [f["state"] for f in films] == ["failed", "done"] and films[1]["frames"] == 36


def test_a_dry_run_leaves_nothing(films: Films, tmp_path: Path) -> None:
    done = batch("run", films(2), "-o", tmp_path / "out", *FAST, "--dry-run")
    assert done.returncode == 0 and "2 films, 2 to do, 72 frames" in done.stdout
    assert not (tmp_path / "out").exists() and "in one piece" not in done.stdout
    filters = ["-vf", "av.tmix=frames=3,detect=none"]
    assert "in one piece" in batch("run", films(2), "-o", tmp_path / "out", *filters, "--dry-run").stdout


@pytest.mark.slow
def test_a_stalled_worker_is_ended_and_its_work_done_again(films: Films, tmp_path: Path) -> None:
    arguments = ["run", str(films(1)), "-o", str(tmp_path / "out"), *FAST, "--retries", "3", "--stall", "8"]
    command = [*BATCH, *arguments, "--progress", "json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGSTOP)
    events = [json.loads(line)["event"] for line in process.stderr if line.startswith("{")]
    assert process.wait() == 0 and "stalled" in events
    assert len(decoded(tmp_path / "out" / "tape 0.restored.mp4")) == 36


ODD = ("vfr_slow.flv", "h264_size_change.mp4", "neg_first_pts.mp4", "svq3_nonutf8_tags.mov", "packed_bframes.avi")


@pytest.mark.media
@pytest.mark.parametrize("name", ODD)
def test_odd_films_come_out_as_from_a_plain_run(name: str, media: Path, tmp_path: Path) -> None:
    """Variable rate, pictures that change their size, times before zero, tags in no known alphabet, AVI's times."""
    source, plain = media / "odd" / name, tmp_path / "plain.mkv"
    options = ["-vf", "detect=none", "-c:v", "ffv1", "-to", "1"]
    done = batch("run", source, "-o", tmp_path, *options, "-f", "mkv", "--segment", "8")
    assert done.returncode == 0, done.stderr
    subprocess.run([*BATCH[:-1], str(source), "-o", str(plain), *options], check=True, capture_output=True)
    assert decoded(tmp_path / f"{source.stem}.restored.mkv") == decoded(plain)


@pytest.mark.media
@pytest.mark.parametrize("name", ["odd/packed_bframes.avi", "faces/low_hand_occlusion.avi"])
def test_avi_has_the_times_that_a_plain_run_gives_it(name: str, media: Path, tmp_path: Path) -> None:
    """It numbers its frames at one rate, so that only their order and number can be kept."""
    source, plain = media / name, tmp_path / "plain.avi"
    options = ["-vf", "detect=none", "-c:v", "mpeg4", "-to", "1"]
    assert batch("run", source, "-o", tmp_path, *options, "-f", "avi", "--segment", "8").returncode == 0
    assert run([str(source), "-o", str(plain), *options]) == 0
    stamps = [[line.split()[0] for line in decoded(p)] for p in (tmp_path / f"{source.stem}.restored.avi", plain)]
    assert stamps[0] == stamps[1] and len(stamps[0]) > 8
