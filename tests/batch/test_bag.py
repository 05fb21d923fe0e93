"""A bag of a batch, judged by the public validator."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256, sha512
from pathlib import Path

import bagit
import pytest
from conftest import FAST, batch, tree


def test_a_bag_is_valid_and_holds_what_was_published(films: Callable[[int], Path], tmp_path: Path) -> None:
    source, out, made = films(2), tmp_path / "out", tmp_path / "bag"
    (source / "bad.mkv").write_bytes(b"no film")
    assert batch("run", source, "-o", out, *FAST, "--keep-going", "--masks").returncode == 8
    before, here = tree(out), Path.cwd()
    done = batch("bag", out, made)
    assert done.returncode == 8 and done.stdout == f"left out: bad.restored.mkv: failed\n2 films in {made}\n"
    assert Path.cwd() == here and tree(out) == before
    bag = bagit.Bag(str(made))
    assert bag.validate() and bag.version == "1.0" and sorted(bag.algorithms) == ["sha256", "sha512"]
    films_in = {"restored/tape 0.restored.mp4", "restored/old/tape 1.restored.mp4"}
    beside = {f"reports/{name}" for name in before if not name.endswith(".restored.mp4")}
    assert set(bag.payload_files()) == {
        f"data/{name}" for name in films_in | beside | {"reports/batch.json", "original-ref.json"}
    }
    for name in films_in:
        data = (out / name.removeprefix("restored/")).read_bytes()
        assert bag.entries[f"data/{name}"] == {"sha256": sha256(data).hexdigest(), "sha512": sha512(data).hexdigest()}
    originals = json.loads((made / "data/original-ref.json").read_text())
    assert {one["restored"]: one["sha256"] for one in originals} == {
        f"{path.relative_to(source).with_suffix('')}.restored.mp4": sha256(path.read_bytes()).hexdigest()
        for path in source.rglob("*.mp4")
    }
    again = batch("bag", out, made)
    assert again.returncode == 5 and "exists" in again.stderr


@pytest.mark.parametrize("fault", ["changed", "gone", "bytes", "percent"])
def test_what_cannot_be_bagged_is_said_and_leaves_nothing(fault: str, clip: Path, tmp_path: Path) -> None:
    folder, out, made = tmp_path / "films", tmp_path / "out", tmp_path / "bag"
    folder.mkdir()
    name = {"bytes": os.fsdecode(b"tape \xff"), "percent": "100%"}.get(fault, "tape")
    (folder / f"{name}.mp4").write_bytes(clip.read_bytes())
    assert batch("run", folder, "-o", out, *FAST).returncode == 0
    film = out / f"{name}.restored.mp4"
    if fault == "changed":
        film.write_bytes(film.read_bytes() + b"x")
    elif fault == "gone":
        film.unlink()
    done = batch("bag", out, made)
    said = {"changed": "differs from what was published", "gone": "is gone"}.get(fault, "cannot stand in a bag")
    assert done.returncode == 5 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["films", "out"]
