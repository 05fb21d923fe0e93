"""Runs written in Python: the same chain, the same film as the command line's; pictures for one's own encoder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch

import vidrestore as vr
from vidrestore import cli
from vidrestore.chain import filter_args, parse
from vidrestore.errors import UsageError, VidrestoreError


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    pattern = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *pattern, "-c:v", "ffv1", "-pix_fmt", "yuv420p", path]
    subprocess.run(command, check=True)
    return path


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def test_it_is_the_command_lines_run(film: Path, tmp_path: Path) -> None:
    stream = vr.input(film, ss=0.2, to=0.8, seed=7).filter("av.hflip").filter("restore", "classic", 0.5, size=256)
    ours = stream.output(tmp_path / "a.mkv", c_v="ffv1", slices=4)
    assert stream.chain == "av.hflip,restore=classic:0.5:size=256"
    record = ours.run()
    assert record.frames_out == 15
    there = vr.input(film, ss=0.2, to=0.8, seed=7).filter("av.hflip").filter("restore", "classic", 0.5, size=256)
    args = there.output(tmp_path / "b.mkv", c_v="ffv1", slices=4).get_args()
    assert cli.run(args) == 0
    for a, b in zip(pictures(tmp_path / "a.mkv"), pictures(tmp_path / "b.mkv"), strict=True):
        assert np.array_equal(a, b)
    assert ours.compile()[0] == "vidrestore"


def test_an_output_that_is_there_stays_unless_told(film: Path, tmp_path: Path) -> None:
    out = vr.input(film).filter("detect", "none").output(tmp_path / "a.mkv")
    out.run()
    with pytest.raises(VidrestoreError, match="exists"):
        out.run()
    out.overwrite_output().run()
    assert "-y" in out.overwrite_output().get_args()


def test_pictures_are_the_finished_films(film: Path, tmp_path: Path) -> None:
    stream = vr.input(film).filter("detect", "none").filter("av.scale", 48, -2, flags="neighbor")
    stream.output(tmp_path / "a.mkv", c_v="ffv1").run()
    seen = list(stream.pictures())
    assert [p.seconds for p in seen] == pytest.approx([i / 25 for i in range(25)])
    with av.open(str(tmp_path / "a.mkv")) as container:
        for picture, frame in zip(seen, container.decode(video=0), strict=True):
            assert picture.rgb.shape == (32, 48, 3) and picture.rgb.dtype == np.uint8
            assert picture.tensor.shape == (3, 32, 48) and picture.tensor.dtype == torch.float32
            assert np.array_equal(picture.frame.planes[0], frame.to_ndarray()[:32])
            gap = np.abs(picture.rgb - 255 * picture.tensor.permute(1, 2, 0).numpy()).max()
            assert gap <= 0.5 + 1e-3


def test_leaving_the_loop_ends_the_run(film: Path) -> None:
    walk = vr.input(film).pictures()
    assert next(walk).seconds == 0
    walk.close()
    with pytest.raises(StopIteration):
        next(walk)


@pytest.mark.parametrize("value", ["a:b", "it's", "x,y;[z]", r"C:\models\a:b", "", "plain", "between(t,0,3)", "a b"])
def test_values_are_taken_as_they_are(value: str) -> None:
    (step,) = parse(vr.input("x").filter("restore", "ldbfr", weights=value).chain or "")
    assert step.args[0].value == value
    (step,) = parse(vr.input("x").filter("av.drawbox", text=value).chain or "")
    option = filter_args(step).removeprefix("text=")
    assert _unescaped(option) == value, "libavfilter undoes one level more"


def _unescaped(text: str) -> str:
    out, letters = "", iter(text)
    for c in letters:
        out += next(letters) if c == "\\" else c
    return out


def test_what_is_wrong_is_told_as_on_the_command_line(film: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'ldbfr'"):
        vr.input(film).filter("restore", "ldbrf").output(tmp_path / "a.mkv").run()
    with pytest.raises(UsageError, match="needs a plugin"):
        vr.input(film).filter("restore")
    with pytest.raises(VidrestoreError, match="no such file"):
        next(vr.input(tmp_path / "none.mkv").pictures())
    with pytest.warns(UserWarning, match="sound stays"):
        vr.input(film).filter("av.setpts", "2*PTS").filter("detect", "none").output(tmp_path / "b.mkv").run()


def test_the_name_alone_imports_nothing_heavy() -> None:
    code = "import vidrestore as vr, sys; vr.input('x').filter('restore', 'ldbfr'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nor_does_a_film_that_nobody_looks_at(film: Path, tmp_path: Path) -> None:
    code = (
        "import vidrestore as vr, sys; film = vr.input(sys.argv[1]).filter('detect', 'none'); "
        "film.filter('restore', 'none').output(sys.argv[2]).run(); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(film), str(tmp_path / "out.mkv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
