"""`vidrestore evaluate`: its numbers for films made for it, its reports against one another."""

from __future__ import annotations

import json
import math
import signal
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidrestore import cli
from vidrestore.config import resolve
from vidrestore.demo import clip
from vidrestore.errors import InputMediaError
from vidrestore.media.recoding import yuv420
from vidrestore.notes import Notes
from vidrestore.quality.evaluate import evaluate
from vidrestore.quality.metrics import METRICS
from vidrestore.quality.page import page
from vidrestore.quality.report import as_dict
from vidrestore.quality.result import Evaluation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Run = Callable[..., tuple[int, str, str]]

COUNT = 18
ROOT = Path(__file__).parents[1]


def who(crops: torch.Tensor) -> torch.Tensor:
    """A face is its picture at 8 px: enough to tell films apart."""
    small = F.adaptive_avg_pool2d(crops, 8).flatten(1)
    return F.normalize(small - small.mean(1, keepdim=True), dim=1)


# -- films ---------------------------------------------------------------------------------------------------------


def write(path: Path, frames: NDArray[np.uint8], lift: list[int] | None = None, rate: int = 25) -> Path:
    """FFV1, 4:2:0, limited range; ``lift`` is added to the luma of each frame."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
        for i, frame in enumerate(frames):
            planes = yuv420(frame)
            if lift:
                planes[: frame.shape[0]] = np.clip(planes[: frame.shape[0]].astype(int) + lift[i], 0, 255)
            picture: Any = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.pts, picture.time_base = i, Fraction(1, rate)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demonstration's portrait, moving and standing still; still but lighter and darker from frame to frame;
    blurred; and films that match nothing."""
    folder = tmp_path_factory.mktemp("films")
    moving = clip.moving()[:COUNT]
    still = np.repeat(moving[:1], COUNT, 0)
    blurred = np.stack([np.asarray(cv2.GaussianBlur(frame, (0, 0), 2.0), np.uint8) for frame in moving])
    return {
        "clean": write(folder / "clean.mkv", moving),
        "still": write(folder / "still.mkv", still),
        "flicker": write(folder / "flicker.mkv", still, [2 * (-1) ** i for i in range(COUNT)]),
        "blurred": write(folder / "blurred.mkv", blurred),
        "short": write(folder / "short.mkv", moving[:2]),
        "small": write(folder / "small.mkv", moving[:, :-40]),
        "empty": write(folder / "empty.mkv", np.full_like(moving, 90)),
        "slow": write(folder / "slow.mkv", np.full_like(moving, 90), rate=20),
    }


def measured(**paths: Path) -> Evaluation:
    config = resolve(settings={"device": "cpu"})
    return evaluate({role: str(path) for role, path in paths.items()}, config, Notes(), who=who)


@pytest.fixture(scope="module")
def blurred(films: dict[str, Path]) -> Evaluation:
    return measured(restored=films["blurred"], reference=films["clean"], source=films["blurred"])


def test_a_film_agrees_with_itself(films: dict[str, Path]) -> None:
    found = measured(restored=films["clean"], reference=films["clean"])
    assert (found.frames, found.faces, len(found.tracks)) == (COUNT, COUNT, 1)
    expected = {
        "ssim": 1, "detail": 1, "ids": 1, "sigma_ids": 0, "vidd_excess": 0, "akd": 0, "lme": 0, "jitter_ratio": 1,
        "jitter_error": 0, "e_warp_error": 0, "e_warp_excess": 0, "tof": 0, "seam": 1,
    }  # fmt: skip
    for key, value in expected.items():
        assert found.value(key, "restored") == pytest.approx(value, abs=2e-5), key
        assert found.value("psnr", "restored") == pytest.approx(100.0)


def test_flicker_of_a_still_film_has_a_closed_form(films: dict[str, Path]) -> None:
    """Luma that alternates by +-d is an error of +-d: squared, its change from frame to frame is 4 d^2."""
    found = measured(restored=films["flicker"], reference=films["still"])
    d = 2 / 219
    assert found.value("e_warp_error", "restored") == pytest.approx(1000 * 4 * d**2, rel=0.02)
    assert found.value("e_warp", "restored") == pytest.approx(1000 * 4 * d**2, rel=0.02)
    assert found.value("e_warp", "reference") == pytest.approx(0, abs=1e-6)
    for key in ("psnr", "psnr_picture"):  # a little more where black clips
        assert found.value(key, "restored") == pytest.approx(-20 * math.log10(d), abs=0.3)


def test_blur_is_told(blurred: Evaluation) -> None:
    def of(key: str, role: str = "restored") -> float:
        value = blurred.value(key, role)
        assert value is not None, key
        return value

    assert 20 < of("psnr_face") < 40 and 0.5 < of("ssim") < 0.99
    assert of("detail") < 0.2 and of("e_warp_excess") < 0 < of("e_warp_error")
    assert of("psnr_face", "source") == of("psnr_face")  # one and the same film
    assert (
        of("sharpness") == pytest.approx(1) and of("id_source") == pytest.approx(1) and of("seam") == pytest.approx(1)
    )


def test_against_the_source_alone(films: dict[str, Path]) -> None:
    found = measured(restored=films["clean"], source=films["blurred"])
    data = {row["key"]: row for row in as_dict(found)["metrics"]}
    assert not {"psnr", "ssim", "ids", "e_warp_error", "akd"} & data.keys()
    assert data["sharpness"]["values"]["restored"] > 3  # the blur took most of it
    assert data["e_warp"]["ratio"] == pytest.approx(
        data["e_warp"]["values"]["restored"] / data["e_warp"]["values"]["source"], rel=1e-4
    )
    assert data["jitter_ratio"]["values"].keys() == {"restored"}


def test_a_film_without_faces(films: dict[str, Path]) -> None:
    found = measured(restored=films["empty"], reference=films["empty"])
    assert (found.faces, found.tracks) == (0, [])
    assert [row["key"] for row in as_dict(found)["metrics"]] == ["psnr_picture"]
    assert "No face was found" in page(found)


@pytest.mark.parametrize(
    ("restored", "reference", "said"),
    [("short", "clean", "ends after 2 frames"), ("clean", "short", "goes on after the 2 frames"),
     ("small", "clean", "is 480x320")],
)  # fmt: skip
def test_films_that_do_not_match_are_refused(films: dict[str, Path], restored: str, reference: str, said: str) -> None:
    with pytest.raises(InputMediaError, match=said):
        measured(restored=films[restored], reference=films[reference])


def test_films_of_other_times_are_paired_by_number_with_a_warning(films: dict[str, Path]) -> None:
    said: list[str] = []
    paths = {"restored": str(films["slow"]), "reference": str(films["empty"])}
    found = evaluate(paths, resolve(settings={"device": "cpu"}), Notes(said.append), who=who)
    assert found.frames == COUNT and found.value("psnr_picture", "restored") == pytest.approx(100)
    assert len(said) == 1 and said[0].endswith("frames are paired by number")


# -- the page ------------------------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """What stands on a page: tags with their attributes, cells of the first table by row, the data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[str]] = {}
        self.data = ""
        self._path: list[str] = []
        self._row = ""
        self.feed(text)
        self.close()
        assert not self._path, f"unclosed: {self._path}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "line", "polyline"):
            self._path.append(tag)
        key = dict(attrs).get("data-key")
        if tag == "tr" and key and key not in self.rows:
            self._row = key
            self.rows[key] = []
        elif tag == "tr":
            self._row = ""
        if tag == "td" and self._row and "class" not in dict(attrs):
            self.rows[self._row].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._path.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._path and self._path[-1] == "script" and self.tags[-1][1].get("type") == "application/json":
            self.data += data
        elif self._path and self._path[-1] == "td" and self._row and self.rows[self._row]:
            self.rows[self._row][-1] += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}.items()
        return [found for name, found in self.tags if name == tag and wanted <= found.items()]


def test_the_page_shows_the_numbers_of_the_json(blurred: Evaluation) -> None:
    text, data = page(blurred), as_dict(blurred)
    seen = Seen(text)
    assert json.loads(seen.data) == json.loads(json.dumps(data))
    assert list(seen.rows)[: len(data["metrics"])] == [row["key"] for row in data["metrics"]]
    for row in data["metrics"]:
        shown = dict(zip(("source", "restored", "reference"), seen.rows[row["key"]], strict=True))
        for role, cell in shown.items():
            value = row["values"].get(role)
            assert (cell == "") == (value is None), (row["key"], role)
            if value is not None:  # the JSON has more digits
                assert float(cell) == pytest.approx(value, abs=0.6 * 10.0 ** -len(cell.partition(".")[2]))


def test_the_page_has_a_plot_a_curve_and_a_wipe_a_track(blurred: Evaluation) -> None:
    seen, data = Seen(page(blurred)), as_dict(blurred)
    drawn = {row["key"]: sum(len(curve) > 1 for curve in row["curve"].values()) for row in data["metrics"]}
    assert [f["data-key"] for f in seen.all("figure")] == [key for key, lines in drawn.items() if lines]
    assert len(seen.all("polyline")) == sum(drawn.values())
    points = [tuple(map(float, p.split(","))) for line in seen.all("polyline") for p in (line["points"] or "").split()]
    assert all(0 <= x <= 1000 and 0 <= y <= 100 for x, y in points)
    assert len(seen.all("div", class_="wipe")) == len(data["tracks"]) == 1
    samples = seen.all("button", class_="sample")
    assert 3 <= len(samples) <= 6 and [s["aria-pressed"] for s in samples].count("true") == 1
    assert len(seen.all("img")) == 2 + 3 * len(samples)


def test_the_page_needs_nothing_from_outside(blurred: Evaluation) -> None:
    seen = Seen(page(blurred))
    links = [value for _, found in seen.tags for key, value in found.items() if key in ("src", "href", "srcset")]
    assert links and all(link and link.startswith("data:image/jpeg;base64,") for link in links)
    policy = seen.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy and (policy[0]["content"] or "").startswith("default-src 'none'")


def test_names_of_films_are_only_text(films: dict[str, Path], tmp_path: Path) -> None:
    odd = tmp_path / "<script>alert(1)</script>&.mkv".replace("/", "_")
    odd.write_bytes(films["empty"].read_bytes())
    text = page(measured(restored=odd, reference=films["empty"]))
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The command in this process: exit code, standard output, standard error."""

    def one(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run(["evaluate", *map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield one
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_command_writes_its_reports(films: dict[str, Path], tmp_path: Path, run: Run) -> None:
    reports = (tmp_path / "r.json", tmp_path / "r.html")
    arguments = (films["blurred"], "--reference", films["clean"], "--json", reports[0], "--html", reports[1])
    code, out, err = run(*arguments, "-to", "0.39")
    assert code == 0, err
    data = json.loads(reports[0].read_text())
    assert (data["frames"], data["films"]["restored"]) == (10, str(films["blurred"]))
    assert "PSNR, face" in out and "10 frames, 10 faces in 1 track" in out
    assert "LPIPS is left out" in err and "DISTS is left out" in err
    assert data["identity"].startswith("embed=compact") and 0.2 < values(data, "ids")["restored"] < 1
    assert Seen(reports[1].read_text()).data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.html", "r.json"]
    code, _, err = run(*arguments)
    assert code == 5 and "use -y" in err


def values(data: dict[str, Any], key: str) -> dict[str, float]:
    found: dict[str, float] = next(row["values"] for row in data["metrics"] if row["key"] == key)
    return found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{clean}"], 2, "give --reference FILM, --source FILM or both"),
        (["-", "--source", "{clean}"], 2, "write it to a file first"),
        (["{clean}", "--source", "{clean}", "--embedder", "nobody"], 2, "no embed plugin 'nobody'"),
        (["{clean}", "--source", "{clean}", "--embedder", "nowhere.safetensors"], 3, "no such file"),
        (["{clean}", "--reference", "nowhere.mkv"], 3, "no such file"),
        (["{small}", "--reference", "{clean}"], 4, "compare films of one size"),
        (["{clean}", "--reference", "{clean}", "--json", "/nowhere/r.json", "-to", "0.1"], 5, "cannot be written"),
    ],
)
def test_faults_are_one_line(films: dict[str, Path], arguments: list[str], code: int, said: str, run: Run) -> None:
    got, _, err = run(*(a.format(**films) for a in arguments))
    lines = [line for line in err.splitlines() if "left out" not in line]
    assert got == code and len(lines) == 1 and said in lines[0], err


def test_every_measure_is_explained() -> None:
    text = (ROOT / "docs" / "evaluate.md").read_text()
    for metric in METRICS:
        assert f"| `{metric.key}` |" in text, metric.key
