"""What a restored film says of itself: where it was changed, by what, what was left alone, and that all else is the
source's."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from conftest import FAST, batch
from numpy.typing import NDArray
from skimage.data import astronaut
from skimage.transform import resize

from vidrestore.cli import run

STEPS = "align=ffhq:min_size=50,restore=classic:size=128:denoise=0:deblock=0,smooth=none,blend=feather:strength=1"
FRAMES = 24


@dataclass
class Told:
    """A film, what was made of it, and what is said of that."""

    source: Path
    before: bytes
    out: Path
    record: dict[str, Any]

    @property
    def film(self) -> Path:
        return self.out / "two.restored.mkv"

    @property
    def masks(self) -> Path:
        return self.out / self.record["masks"]["file"]


def planes(path: Path) -> NDArray[np.uint8]:
    """u8 [t, h, w] of luma."""
    with av.open(str(path)) as film:
        shown = ((f, f.planes[0]) for f in film.decode(video=0))
        rows = (np.frombuffer(p, np.uint8).reshape(f.height, p.line_size)[:, : f.width].copy() for f, p in shown)
        return np.stack(list(rows))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large face and a small one, in a picture with an odd number of rows."""
    path = tmp_path_factory.mktemp("films") / "two.mkv"
    face = astronaut()[0:220, 100:350]
    small = (resize(face, (72, 82), anti_aliasing=True) * 255).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 400, 241, "yuv420p"
        for i in range(FRAMES):
            picture = np.full((241, 400, 3), 90, np.uint8)
            picture[16:236, 5 + i : 255 + i] = face
            picture[100:172, 310:392] = small
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def told(two: Path) -> Told:
    before, out = two.read_bytes(), two.parent / "out"
    done = batch("run", two, "-o", out, "-vf", STEPS, "-c:v", "ffv1", "--masks", "--segment", "16")
    assert done.returncode == 0, done.stderr
    return Told(two, before, out, json.loads((out / "two.restored.mkv.json").read_text()))


def test_the_source_stays_and_the_output_says_what_it_is(told: Told) -> None:
    assert told.source.read_bytes() == told.before
    with av.open(str(told.film)) as film:
        tags = {key.upper(): value for key, value in film.metadata.items()}
    for part in (
        "synthesised=faces",
        "tool=vidrestore/",
        f"chain={told.record['chain']}",
        "report=two.restored.mkv.json",
    ):
        assert part in tags["VIDRESTORE"]
    assert sha256(told.before).hexdigest() in tags["VIDRESTORE"]
    assert all(weights in tags["VIDRESTORE"] for weights in told.record["weights"].values()) and told.record["weights"]
    assert tags["COMMENT"] == told.record["notice"]
    assert "not evidence of anybody's identity" in tags["COMMENT"] and "recognising faces" in tags["COMMENT"]


def test_every_changed_sample_lies_in_a_region_that_is_listed(told: Told) -> None:
    (face,) = told.record["tracks"]
    assert (face["first_frame"], face["last_frame"], face["frames"]) == (0, FRAMES - 1, FRAMES)
    assert face["score"] > 0.5 and face["mean_change"] > 0 and told.record["seed"] == 0
    changed = planes(told.source) != planes(told.film)
    x0, y0, x1, y1 = face["region"]
    assert (
        changed.any()
        and not np.delete(changed, np.s_[x0:x1], 2).any()
        and not np.delete(changed, np.s_[y0:y1], 1).any()
    )
    assert 0.5 < (planes(told.masks) > 0).sum((1, 2)).mean() / face["mask_area"] < 2


def test_faces_that_were_left_alone_are_listed_with_the_reason(told: Told) -> None:
    (face,) = told.record["unaltered"]
    assert face["reasons"] == ["smaller than min_size"] and face["frames"] == FRAMES
    assert 310 < face["box"][0] < face["box"][2] < 392


def test_masks_are_grey_ffv1_at_the_films_times_and_hold_all_that_changed(told: Told) -> None:
    with av.open(str(told.masks)) as masks, av.open(str(told.film)) as film:
        stream = masks.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("ffv1", "gray")
        stamps = [[f.pts * f.time_base for f in c.decode(video=0)] for c in (masks, film)]
    assert stamps[0] == stamps[1] and len(stamps[0]) == FRAMES
    changed, mask = planes(told.source) != planes(told.film), planes(told.masks)
    assert not (changed & (mask == 0)).any() and (mask[changed] > 0).all()
    assert mask.max() == 255 and (mask == 0).mean() > 0.5


def test_the_sums_outside_the_masks_are_those_of_source_and_output_alike(told: Told) -> None:
    """Taken again with another decoder and no code of ours."""
    from hashlib import md5

    def outside(path: Path) -> list[str]:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-"]
        data = np.frombuffer(subprocess.check_output(command), np.uint8).reshape(FRAMES, -1)
        found = []
        for frame, mask in zip(data, planes(told.masks), strict=True):
            luma, chroma = frame[: 241 * 400].reshape(241, 400), frame[241 * 400 :].reshape(2, 121, 200)
            full = np.concatenate([mask, np.full((1, 400), 255, np.uint8)])
            inside = full.reshape(121, 2, 200, 2).min((1, 3)) > 0
            found.append(md5(np.where(mask > 0, 0, luma).tobytes() + np.where(inside, 0, chroma).tobytes()).hexdigest())
        return found

    path = told.out / told.record["masks"]["outside"]["file"]
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    sums = [line.split(", ")[-1] for line in lines]
    assert sums == outside(told.source) == outside(told.film)
    assert told.record["masks"]["outside"]["of"] == "the output, decoded"
    assert sha256(path.read_bytes()).hexdigest() == told.record["masks"]["outside"]["sha256"]


def test_a_plain_run_writes_the_same_masks_and_sums(told: Told, tmp_path: Path) -> None:
    target, masks = tmp_path / "plain.mkv", tmp_path / "masks.mkv"
    command = [str(told.source), "-o", str(target), "-vf", STEPS, "-c:v", "libx264", "-crf", "40", "--pad-even"]
    assert run([*command, "--masks", str(masks)]) == 0
    assert (planes(masks) == planes(told.masks)).all()
    record = json.loads((tmp_path / "plain.mkv.json").read_text())["masks"]
    assert record["outside"]["of"] == "the frames before they were encoded"
    ours = [(tmp_path / record["outside"]["file"]), told.out / told.record["masks"]["outside"]["file"]]
    sums = [[line for line in path.read_text().splitlines() if not line.startswith("#")] for path in ours]
    assert sums[0] == sums[1]
    assert run([*command, "-y", "--masks", str(target)]) == 5, "one file cannot hold both"


def test_verify_finds_masks_that_were_changed(told: Told) -> None:
    assert batch("verify", told.out).stdout == "1 of 1 as published\n"
    data = told.masks.read_bytes()
    try:
        told.masks.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        done = batch("verify", told.out)
        assert done.returncode == 8 and "masks.mkv differs from what was published" in done.stdout
        told.masks.unlink()
        assert "masks.mkv is gone" in batch("verify", told.out).stdout
    finally:
        told.masks.write_bytes(data)


def test_of_lossy_films_the_proof_is_of_frames_before_they_were_encoded(clip: Path, tmp_path: Path) -> None:
    assert batch("run", clip, "-o", tmp_path, *FAST, "--masks").returncode == 0
    record = json.loads((tmp_path / "clip.restored.mp4.json").read_text())["masks"]
    assert record["outside"]["of"] == "the frames before they were encoded" and record["frames"] == 36
    with av.open(str(tmp_path / record["file"])) as masks:
        assert sum(not f.to_ndarray().any() for f in masks.decode(video=0)) == 36, "nothing was touched"
    assert batch("verify", tmp_path).stdout == "1 of 1 as published\n"
    clip_like = tmp_path / record["outside"]["file"]
    clip_like.write_text(clip_like.read_text().replace("0, ", "1, ", 1))
    assert batch("verify", tmp_path).returncode == 8


@pytest.mark.parametrize("flag", ["--no-provenance", "--no-record", "--no-tag"])
def test_nothing_turns_disclosure_off(flag: str, two: Path, tmp_path: Path) -> None:
    assert batch("run", two, "-o", tmp_path / "out", flag).returncode == 2 and not (tmp_path / "out").exists()
