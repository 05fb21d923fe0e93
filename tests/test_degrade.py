"""Damage on purpose: presets, what they do to a picture, films frame for frame in step with their source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest

from vidrestore import cli, testing
from vidrestore.demo import clip
from vidrestore.media.making import write_film
from vidrestore.media.recoding import coded
from vidrestore.quality import old_film, vhs
from vidrestore.quality.levels import EYES, enlarged, generator
from vidrestore_plugins.degrade.classic import ClassicDegrader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

PRESETS = ("mild", "medium", "heavy", "old-film", "vhs")
GREY = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_contract_of_degraders(preset: str) -> None:
    testing.check_degrader(ClassicDegrader, preset=preset)


@pytest.mark.parametrize(("preset", "first"), [("old-film", (0.764788, 0.023478)), ("vhs", (0.543446, 0.389418))])
def test_generators_give_the_published_numbers(preset: str, first: tuple[float, float]) -> None:
    rng = generator(preset, "c0", 0)
    assert (rng.random(), rng.random()) == pytest.approx(first, abs=1e-6)


@pytest.fixture(scope="module")
def portrait() -> Frames:
    """16 frames of a moving head, 512 px, as large as the levels are given for."""
    frames = clip.moving()[:16, 0:272, 134:406]
    return np.stack([np.asarray(cv2.resize(f, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8) for f in frames])


def worn(preset: str, frames: Frames, name: str) -> tuple[Any, Frames]:
    count, height, width = frames.shape[:3]
    rng = generator(preset, name, 0)
    draw: Any = old_film.drawn(rng, width, height, count) if preset == "old-film" else vhs.drawn(rng, width, height)
    small = [draw.before_coding(f, t, generator(preset, name, 1000 + t)) for t, f in enumerate(frames)]
    out = coded(np.stack(small), draw.codec, draw.quality)
    return draw, np.stack([enlarged(f, width, height) for f in out])


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_film_is_as_worn_as_published(portrait: Frames) -> None:
    """16.6 dB (15.1 to 18.2) to the grey truth, over draws."""
    truth = np.repeat((portrait @ GREY)[..., None], 3, 3)
    found = []
    for name in ("c0", "c1", "c2", "c3"):
        draw, out = worn("old-film", portrait, name)
        found.append(psnr(out / (old_film.SEPIA if draw.sepia else 1), truth))
    assert 15.1 < np.mean(found) < 18.2
    assert max(found) - min(found) > 0.5, "draws differ"


def test_a_cassette_is_as_worn_as_published(portrait: Frames) -> None:
    """25.9 dB (25.0 to 27.0), over draws."""
    assert 24.0 < np.mean([psnr(worn("vhs", portrait, name)[1], portrait) for name in ("c0", "c1", "c2")]) < 28.0


def test_film_wanders_as_it_should() -> None:
    x = old_film.wandering(np.random.default_rng(0), (4000, 2), 0.7, 1.5)
    assert x.std() == pytest.approx(1.5, rel=0.1)
    assert np.corrcoef(x[1:, 0], x[:-1, 0])[0, 1] == pytest.approx(0.7, abs=0.05)


def test_a_scratch_stays_for_a_while_and_goes() -> None:
    rng = generator("old-film", "scratched", 0)
    draw = next(d for d in (old_film.drawn(rng, 96, 64, 200) for _ in range(9)) if d.scratches)
    scratch = draw.scratches[0]
    assert 5 <= len(scratch.xs) <= 40 and abs(np.diff(scratch.xs)).max() < 1.5
    plain = np.full((64, 96), 128, np.float32)
    during = draw._scratched(plain.copy(), scratch, scratch.first)
    column = np.abs(during - 128).mean(0).argmax()
    assert column == pytest.approx(np.clip(scratch.xs[0], 0, 95), abs=1)
    assert np.array_equal(draw._scratched(plain.copy(), scratch, scratch.first + len(scratch.xs)), plain)


def test_a_cassettes_chroma_is_soft_and_late() -> None:
    """A step in luma and in chroma at the same column: chroma's middle comes later, and takes longer."""
    rng = generator("vhs", "step", 0)
    draw = vhs.drawn(rng, 256, 256)
    quiet = vhs.VHS(**{**_fields(draw), "luma_noise": 0.0, "chroma_noise": 0.0, "jitter": 0.0, "dropouts": 0.0})
    frame = np.full((256, 256, 3), (60, 60, 60), np.uint8)
    frame[:, 128:] = (200, 60, 90)
    out = quiet.before_coding(frame, 0, rng).astype(np.float32)
    ycc = np.asarray(cv2.cvtColor(out[20][None] / 255, cv2.COLOR_RGB2YCrCb))[0]

    def step(line: NDArray[Any]) -> tuple[float, float]:
        rise = (line - line[2:20].mean()) / (line[-20:-2].mean() - line[2:20].mean())
        at = [float(np.interp(level, rise[2:-2], np.arange(2, len(rise) - 2))) for level in (0.25, 0.5, 0.75)]
        return at[1], at[2] - at[0]

    (luma, luma_width), (chroma, chroma_width) = step(ycc[:, 0]), step(ycc[:, 1])
    assert chroma - luma == pytest.approx(draw.delay, abs=0.5)
    assert chroma_width > 2.5 * luma_width


def _fields(draw: vhs.VHS) -> dict[str, Any]:
    return {name: getattr(draw, name) for name in vhs.VHS.__dataclass_fields__ if name != "codec"}


@pytest.mark.parametrize("preset", ["old-film", "vhs"])
def test_lengths_follow_the_face(preset: str) -> None:
    rows = []
    for eyes in (EYES, EYES / 2):
        rng = generator(preset, "c0", 0)
        rows.append(old_film.drawn(rng, 96, 64, 9, eyes) if preset == "old-film" else vhs.drawn(rng, 96, 64, eyes))
    whole, half = rows
    assert half.reduction == pytest.approx(max(1.0, whole.reduction / 2))
    assert half.quality == whole.quality
    name = "blur" if preset == "old-film" else "chroma"
    assert getattr(half, name) == pytest.approx(getattr(whole, name) / 2)


# -- films -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "portrait.mp4"
    write_film(path, clip.moving()[:24], clip.RATE, clip.tone(), clip.SOUND_RATE)
    return path


def degraded(film: Path, target: Path, *more: str) -> dict[str, Any]:
    code = cli.run(["degrade", str(film), "-o", str(target), "--progress", "none", *more])
    record = json.loads(target.with_name(target.name + ".json").read_text())
    assert code == record["exit_code"] == 0
    return dict(record)


def packets(path: Path, kind: str) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as film:
        return [(p.pts, bytes(p)) for p in film.demux(getattr(film.streams, kind)[0]) if p.pts is not None]


def pictures(path: Path) -> tuple[list[Any], Frames]:
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
    return [float(f.time or 0) for f in frames], np.stack([f.to_ndarray(format="rgb24") for f in frames])


def test_a_film_stays_in_step_with_its_source(film: Path, tmp_path: Path) -> None:
    record = degraded(film, tmp_path / "lq.mp4", "--seed", "4")
    times, out = pictures(tmp_path / "lq.mp4")
    wanted, truth = pictures(film)
    assert times == pytest.approx(wanted, abs=1e-3) and out.shape == truth.shape
    assert packets(tmp_path / "lq.mp4", "audio") == packets(film, "audio")
    at = [int(np.argmin([np.abs(frame.astype(int) - t).mean() for t in truth])) for frame in out]
    assert np.abs(np.array(at) - np.arange(len(at))).max() <= 1, "every frame shows what its source shows"
    assert 20 < psnr(out, truth) < 34
    assert record["degrade"]["preset"] == "medium" and record["degrade"]["seed"] == 4
    assert record["degrade"]["eyes"] == pytest.approx(75, abs=20), "the face's size was seen"
    assert "damaged on purpose" in record["notice"]
    with av.open(str(tmp_path / "lq.mp4")) as made:
        assert "degraded=film" in made.metadata["VIDRESTORE"]


def test_a_seed_is_a_tape(film: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        degraded(film, tmp_path / f"{name}.mkv", "--seed", seed, "--preset", "vhs", "-to", "0.4", "-c:v", "ffv1")
    a, b, c = (pictures(tmp_path / f"{name}.mkv")[1] for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.media
def test_a_turned_film_is_damaged_upright(tmp_path: Path, media: Path) -> None:
    """Its lines run across what a viewer sees: a cassette's jitter moves display rows, which are stored columns."""
    degraded(media / "odd" / "rot90_3frames.mov", tmp_path / "turned.mov", "--preset", "vhs", "--set", "eyes=120")
    _, out = pictures(tmp_path / "turned.mov")
    _, truth = pictures(media / "odd" / "rot90_3frames.mov")
    assert out.shape == truth.shape and psnr(out, truth) > 15


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--preset", "vhss"], ["preset", "'vhss'", "old-film, vhs"], 2),
        (["--model", "clasic"], ["clasic", "classic"], 2),
        (["--set", "eye=3"], ["eye", "eyes"], 2),
    ],
)
def test_a_wrong_wish_is_told_in_one_line(
    arguments: list[str], words: list[str], code: int, film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["degrade", str(film), *arguments]) == code
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and all(word in said for word in words), said
