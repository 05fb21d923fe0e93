"""What a plugin's author begins with: the guide's plugins and the scaffolded ones work as they are, both ways."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from vidrestore import registry, testing
from vidrestore.cli import run
from vidrestore.scaffold import ROLES, make

ROOT = Path(__file__).parent.parent
GUIDE = dict(re.findall(r'```python\n"""(\w+=\w+): (.*?)```', (ROOT / "docs" / "plugins.md").read_text(), re.S))
FULL = "smooth=none,blend=feather:strength=1"  # what the detector finds is changed


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of an oval of skin colour with two eyes in the middle of a blue ground."""
    path = tmp_path_factory.mktemp("film") / "small.mkv"
    y, x = np.mgrid[:192, :256]
    picture = np.empty((192, 256, 3), np.uint8)
    picture[:] = (40, 60, 140)
    picture[((x - 128) / 50) ** 2 + ((y - 96) / 64) ** 2 < 1] = (200, 150, 120)
    for eye in (108, 148):
        picture[(x - eye) ** 2 + (y - 84) ** 2 < 36] = (60, 40, 40)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for _ in range(12):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A command takes signals and torch's threads for itself, for it ends with its process; these here do not."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for number, handler in signals.items():
        signal.signal(number, handler)


def luma(path: Path) -> np.ndarray:
    """i16 [frames, h, w]"""
    with av.open(str(path)) as film:
        return np.stack([f.to_ndarray(format="gray").astype(np.int16) for f in film.decode(video=0)])


def change(film: Path, target: Path) -> np.ndarray:
    before, after = luma(film), luma(target)
    assert before.shape == after.shape
    return np.abs(after - before)


def record(target: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{target}.json").read_text())
    return found


def restored(film: Path, target: Path, chain: str) -> np.ndarray:
    assert run([str(film), "-o", str(target), "-vf", chain, "-c:v", "ffv1", "--progress", "none"]) == 0
    return change(film, target)


@pytest.fixture
def guide(tmp_path: Path) -> dict[str, str]:
    """The guide's plugins, each in a file of its own: kind -> path:Class."""
    found = {}
    for step, text in GUIDE.items():
        kind, _, name = step.partition("=")
        path = tmp_path / f"{name}.py"
        path.write_text(f'"""{step}: {text}')
        (cls,) = re.findall(r"^class (\w+):$", text, re.M)
        found[kind] = f"{path}:{cls}"
    return found


def test_the_plugins_of_the_guide_keep_their_contracts(guide: dict[str, str]) -> None:
    assert set(guide) == {"detect", "blend", "restore"}
    for kind, plugin in guide.items():
        getattr(testing, f"check_{ROLES[kind]}")(registry.find(kind, plugin))


def test_the_plugins_of_the_guide_restore_a_film(film: Path, tmp_path: Path, guide: dict[str, str]) -> None:
    """The detector finds the one face in every frame; the blender puts back what it was told to believe."""
    steps = f"detect={guide['detect']},restore={guide['restore']},smooth=none,blend={guide['blend']}:strength=1"
    believed = restored(film, tmp_path / "believed.mkv", f"{steps}:limit=1")
    (track,) = record(tmp_path / "believed.mkv")["tracks"]
    assert track["frames"] == 12
    assert (believed[:, 66:126, 100:156].max((1, 2)) > 5).all(), "the face changes in every frame"
    assert believed[:, :, :20].max() == 0, "what is far from it does not"
    doubted = restored(film, tmp_path / "doubted.mkv", f"{steps}:limit=0.001")
    assert doubted.mean() < 0.05 * believed.mean()


def test_scaffolded_plugins_are_used_from_their_files(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the command says they are to be tried, all in one chain, from a folder whose name must be quoted in it."""
    monkeypatch.chdir(tmp_path)
    steps = []
    for kind in ("detect", "track", "assess", "restore", "smooth", "embed", "blend"):
        assert run(["plugins", "new", kind, "mine", "-o", "my own, new"]) == 0
        (tried,) = re.findall(r"try it: +(vidrestore .*)", capsys.readouterr().out)
        program, source, flag, step = shlex.split(tried)
        assert (program, source, flag) == ("vidrestore", "INPUT", "-vf")
        steps.append(step)
    steps.insert(-1, "gate=quality:warn")
    full = restored(film, tmp_path / "full.mkv", f"{','.join(steps)}:strength=1")
    (track,) = record(tmp_path / "full.mkv")["tracks"]
    assert track["frames"] == 12 and track["identity"] > 0.9
    assert (full.max((1, 2)) > 5).all(), "the face changes in every frame"
    asked = restored(film, tmp_path / "asked.mkv", ",".join(steps))
    assert asked.max() == 0, "the assessor finds no noise in this film, so that nothing needs to change"


def test_a_scaffolded_degrader_damages_a_film(film: Path, tmp_path: Path) -> None:
    """What is typed for it is another command; it stands in no chain, so that its path is not quoted as one."""
    made = make("degrade", "mine", tmp_path / "my own")
    assert made.use == "degrade INPUT --model mine"
    command, source, *model = shlex.split(made.use_file)
    assert (command, source) == ("degrade", "INPUT")
    target = tmp_path / "worn.mkv"
    assert run([command, str(film), "-o", str(target), *model, "--progress", "none"]) == 0
    assert change(film, target).mean() > 1


@pytest.mark.slow
def test_scaffolded_plugins_are_used_installed(film: Path, tmp_path: Path) -> None:
    """From wheels of their own, by the names that their entry points give them."""
    site = tmp_path / "site"
    folders = [str(make(kind, "mine", tmp_path).folder) for kind in ("detect", "restore")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), *folders], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    vidrestore = [sys.executable, "-m", "vidrestore"]
    shown = subprocess.run([*vidrestore, "plugins", "--json"], env=environment, capture_output=True, check=True)
    mine = {row["kind"]: row for row in json.loads(shown.stdout) if row["name"] == "mine"}
    assert set(mine) == {"detect", "restore"}
    assert mine["restore"]["from"] == "vidrestore-restore-mine 0.1.0"
    assert mine["restore"]["about"] == "more contrast about a face's mean colour."
    target = tmp_path / "out.mkv"
    work = [str(film), "-o", str(target), "-vf", f"detect=mine,restore=mine:gain=1.5,{FULL}", "-c:v", "ffv1"]
    subprocess.run([*vidrestore, *work], env=environment, capture_output=True, check=True)
    assert "restore=mine:gain=1.5" in record(target)["chain"]
    assert change(film, target).max() > 5


def pytest_in(folder: Path, environment: dict[str, str]) -> str:
    """The last line of the tests of a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "."]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip().splitlines()[-1]


def test_the_scaffolded_tests_pass_for_every_kind(tmp_path: Path) -> None:
    folders = [make(kind, "my_own", tmp_path).folder for kind in ROLES]
    path = os.pathsep.join(map(str, folders))
    assert pytest_in(tmp_path, {**os.environ, "PYTHONPATH": path}).startswith(f"{len(ROLES)} passed")


def test_they_pass_in_their_own_folder_before_anything_is_installed(tmp_path: Path) -> None:
    assert pytest_in(make("track", "mine", tmp_path).folder, dict(os.environ)).startswith("1 passed")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("detector", "mine", "no kind 'detector' to begin with; did you mean 'detect'. have: detect track"),
        ("detect", "My-Own", "'My-Own' is no name for a plugin: .* first; try: my_own"),
        ("detect", "3d_", "try: d"),
        ("detect", "../x", "try: x"),
        ("detect", "é", "try: mine"),
        ("blend", "feather", "blend=feather is a plugin of vidrestore .*; choose another name"),
    ],
)
def test_a_bad_kind_or_name_is_refused(
    kind: str, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plugins", "new", kind, name, "-o", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"^vidrestore: error: plugins new: .*{said}", line)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "vidrestore-detect-mine"
    folder.mkdir()
    assert run(["plugins", "new", "detect", "mine", "-o", str(tmp_path)]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"vidrestore: error: {folder}: exists; choose another name, or another folder with -o"
    assert not list(folder.iterdir())
    (tmp_path / "file").touch()
    assert run(["plugins", "new", "detect", "mine", "-o", str(tmp_path / "file")]) == 5
    assert "cannot be written" in capsys.readouterr().err


def test_beginning_a_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from vidrestore.cli import run\n"
        f"assert run(['plugins', 'new', 'restore', 'mine', '-o', {str(tmp_path)!r}]) == 0\n"
        "assert not {'torch', 'numpy', 'av', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)


def test_the_list_needs_no_word_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "blend=feather"]) == 0
    short = capsys.readouterr().out
    assert run(["plugins", "list", "blend=feather"]) == 0
    assert capsys.readouterr().out == short and "radius" in short
