"""Who is in a film, and restoring only some of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import face, faces

from vidrestore import cli
from vidrestore.chain import ChainError
from vidrestore.config import resolve
from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.likeness import ALIKE, likeness, numbers_like
from vidrestore.engine.survey import survey
from vidrestore.engine.tracks import ShotTracks
from vidrestore.notes import Notes

N = 40


def shot() -> ShotTracks:
    """Three faces: 0 on the left grows from 40 to 118 px, 1 in the middle has 80 px, 2 on the right 40 px."""
    tracks = ShotTracks(1, max_gap=6, fade=3)
    for t in range(N):
        found = faces(face(100, 200, 40 + 2 * t), face(400, 200, 80), face(700, 200, 40))
        tracks.see(t, found.with_tracks(np.arange(3)))
    tracks.reached, tracks.over = N, True
    return tracks


def weights(window: int = N, **options: Any) -> np.ndarray:
    """[N, 3], by frame and track, worked in windows."""
    tracks, align, state = shot(), FFHQ(AlignOptions(fade=3, lookahead=3, **options)), {}
    out = np.zeros((N, 3))
    for start in range(0, N, window):
        segments = tracks.between(start, min(N, start + window + align.lookahead))
        times = np.arange(start, N) / 25
        placed, _ = align.place(segments, times, start, min(window, N - start), state)
        out[start + placed.rows, placed.tracks] = placed.weights
    return out


def test_all_are_restored_unless_told() -> None:
    assert (weights() == 1).all()


def test_tracks_are_chosen_by_number() -> None:
    found = weights(faces="0+2")
    assert (found[:, [0, 2]] == 1).all() and (found[:, 1] == 0).all()


def test_the_largest_changes_over_without_a_jump() -> None:
    found = weights(faces="largest")
    assert (found[:, 2] == 0).all()
    assert found[0].tolist() == [0, 1, 0] and found[-1].tolist() == [1, 0, 0]
    assert np.abs(np.diff(found, axis=0)).max() <= 1 / 4 + 1e-6
    assert (found.max(1) == 1).all(), "while two are nearly as wide both are restored"


def test_a_region_holds_whoever_is_in_it() -> None:
    found = weights(region="300+100+200+200")
    assert (found[:, 1] == 1).all() and (found[:, [0, 2]] == 0).all()


@pytest.mark.parametrize("options", [{"faces": "largest"}, {"region": "0+0+130+400"}, {"faces": "1+2"}])
def test_windows_change_nothing(options: dict[str, str]) -> None:
    whole = weights(**options)
    for window in (4, 8, 16):
        np.testing.assert_allclose(weights(window, **options), whole, atol=1e-6)


def test_flags_count_whatever_the_chain_says() -> None:
    config = resolve(
        chain="align=ffhq:30:faces=0", environment={}, flags_of={"align": {"faces": "largest", "region": None}}
    )
    options = config.step("align").options
    assert (options.faces, options.min_size, options.region) == ("largest", 30, None)  # type: ignore[attr-defined]
    assert config.step("align").origins["faces"] == "flag"
    for wrong in ("biggest", "0+", "-1"):
        with pytest.raises(ChainError, match="faces"):
            resolve(environment={}, flags_of={"align": {"faces": wrong}})
    with pytest.raises(ChainError, match="region"):
        resolve(environment={}, flags_of={"align": {"region": "1+2+0+4"}})


@pytest.mark.media
def test_faces_are_listed_and_one_of_them_restored(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = media / "faces" / "low_stage_cuts_multi.mp4"
    page, listed = tmp_path / "faces.html", tmp_path / "faces.json"
    cut = ["-ss", "2", "-to", "3"]
    assert cli.run(["faces", str(film), "--json", str(listed), "--html", str(page), *cut]) == 0
    said = capsys.readouterr().out
    found = json.loads(listed.read_text())["faces"]
    assert len(found) >= 3 and f"{len(found)} faces" in said
    assert [f["number"] for f in found] == sorted(f["number"] for f in found)
    assert all(0 <= f["first"] <= f["last"] <= 1.5 and f["width"] > 15 for f in found)
    html = page.read_text()
    assert all(f'id="face-{f["number"]}"' in html for f in found) and html.count("data:image/jpeg;base64,") == len(
        found
    )

    one = max(found, key=lambda f: f["frames"])["number"]
    out = tmp_path / "out.mkv"
    assert cli.run([str(film), "-o", str(out), "-vf", "restore=classic", "--faces", str(one), *cut]) == 0
    record = json.loads((tmp_path / "out.mkv.json").read_text())
    assert [t["track"] for t in record["tracks"]] == [one]
    assert cli.run(["faces", str(film), "--json", str(listed)]) == 5
    assert "use -y" in capsys.readouterr().err


@pytest.mark.media
def test_faces_like_a_picture_are_found_and_restored(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film, cut = media / "faces" / "clean_crowd_crossing_1080p.mp4", {"start": 0.2, "end": 0.6}
    whole = survey(str(film), resolve(environment={}, settings={"end": 0.2}), Notes())
    who = max(whole, key=lambda face: face.width)
    picture, nobody = tmp_path / "who.jpg", tmp_path / "nobody.png"
    picture.write_bytes(who.picture)
    cv2.imwrite(str(nobody), np.full((64, 64, 3), 90, np.uint8))

    config = resolve(environment={}, settings=cut)
    found = survey(str(film), config, Notes())
    cosines = likeness(found, str(picture), config, Notes())
    assert max(cosines) > 0.6, "the same person, other frames"
    assert sorted(cosines)[-2] < ALIKE, "all the others are somebody else"
    number = found[int(np.argmax(cosines))].number
    assert numbers_like(str(film), str(picture), config, Notes()) == str(number)

    run = ["-ss", "0.2", "-to", "0.6", "--progress", "none"]
    out = tmp_path / "out.mkv"
    asked = [str(film), "-o", str(out), "-vf", "restore=classic", "-preset", "ultrafast", *run]
    assert cli.run([*asked, "--like", str(picture)]) == 0
    record = json.loads((tmp_path / "out.mkv.json").read_text())
    assert [t["track"] for t in record["tracks"]] == [number] and f"faces={number}" in record["chain"]

    capsys.readouterr()
    assert cli.run(["faces", str(film), "--like", str(nobody), *run]) == 4
    assert "no face in it" in capsys.readouterr().err
    assert cli.run([*asked, "-y", "--like", str(picture), "--region", "0+0+9+9"]) == 2
    assert "nobody in the film is at least 0.45 alike; see: vidrestore faces" in capsys.readouterr().err
    assert cli.run([*asked, "-y", "--like", str(picture), "--faces", "0"]) == 2
