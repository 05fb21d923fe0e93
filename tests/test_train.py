"""The training loop, its damage and the detector's recipe, at nano size."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from vidrestore.errors import InputAccessError, InputMediaError, UsageError
from vidrestore.train.damage import degrade, lost_size, photograph, tone
from vidrestore.train.loop import Budget, Log, Run, fit
from vidrestore.train.shards import pictures
from vidrestore.train.sheet import sheet, write_png
from vidrestore_plugins.detect.retinaface.faces import paste, points_at, pyramid, similarity
from vidrestore_plugins.detect.retinaface.loss import Labels, match, multibox
from vidrestore_plugins.detect.retinaface.priors import corners, priors
from vidrestore_plugins.detect.retinaface.recipe import main
from vidrestore_plugins.detect.retinaface.scenes import Scene, crop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

EIGHT = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WORDS = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only lose by threads, and by far on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def nano() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 4, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.02), nn.Linear(64, 4),
    )  # fmt: skip


def draw(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.permutation(8)[:6])


def losses(net: nn.Module, rows: Tensor) -> dict[str, Tensor]:
    return {"loss": nn.functional.mse_loss(net(EIGHT[rows]), WORDS[rows])}


def test_the_loop_learns_eight_pictures_by_heart(tmp_path: Path) -> None:
    run = Run(nano(), seed=0, decay=0.9, weight_decay=0.0)
    fit(run, Budget(steps=150, rate=2e-2, warmup=10), draw, losses, log=Log(tmp_path / "log.csv", 50))
    with torch.no_grad():
        assert losses(run.average, torch.arange(8))["loss"] < 0.05
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,rate,loss"
    assert [line.split(",")[0] for line in lines[1:]] == ["50", "100", "150"]


def test_a_part_learns_at_its_own_pace() -> None:
    net = nano()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    run = Run(net, seed=0, weight_decay=0.0, pace=lambda name: 0.1 if name.startswith("0.") else 1.0)
    run.advance(lambda net: losses(net, torch.arange(8)), 1e-3)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in net.named_parameters()}
    assert moved["0.weight"] == pytest.approx(1e-4, rel=0.05)  # Adam's first step is the rate itself
    assert moved["7.weight"] == pytest.approx(1e-3, rel=0.05)


def test_resuming_gives_the_weights_of_an_unbroken_run(tmp_path: Path) -> None:
    budget = Budget(steps=30, rate=1e-2, warmup=5)
    torch.manual_seed(9)
    whole = Run(nano(), seed=4)
    fit(whole, budget, draw, losses)

    class PowerCutError(Exception):
        """The lights go out."""

    def cut(run: Run, line: str | None) -> None:
        if run.step == 17:
            raise PowerCutError

    torch.manual_seed(9)
    first = Run(nano(), seed=4)
    with pytest.raises(PowerCutError):
        fit(first, budget, draw, losses, checkpoint=tmp_path / "run.pt", save_every=10, watch=cut)
    torch.manual_seed(77)
    second = Run(nano(), seed=99)
    second.load(tmp_path / "run.pt")
    assert second.step == 10
    fit(second, budget, draw, losses)
    for a, b in ((whole.net, second.net), (whole.average, second.average)):
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name


def test_a_time_budget_is_kept() -> None:
    run = Run(nano(), seed=0)
    fit(run, Budget(minutes=0.5 / 60), draw, losses)
    assert 0.5 <= run.seconds < 1.5
    spent = run.step
    fit(run, Budget(minutes=0.5 / 60), draw, losses)  # what was spent before counts
    assert run.step == spent


def test_budget_needs_a_bound_and_bends_the_rate() -> None:
    with pytest.raises(UsageError):
        Budget()
    budget = Budget(steps=100, rate=1.0, last_rate=0.0, warmup=10)
    assert budget.rate_at(0, 0) == pytest.approx(0.1)
    assert budget.rate_at(50, 0.5) == pytest.approx(0.5)
    assert budget.rate_at(100, 1.0) == pytest.approx(0.0)


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, level in (("b.png", 10), ("a.png", 200)):
            content = cv2.imencode(".png", np.full((4, 5, 3), (level, 0, 0), np.uint8))[1].tobytes()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    found = list(pictures(path))
    assert [(name, image.shape, image[0, 0].tolist()) for name, image in found] == [
        ("b.png", (4, 5, 3), [0, 0, 10]),
        ("a.png", (4, 5, 3), [0, 0, 200]),
    ]
    assert [name for name, _ in pictures(path, {"a.png"})] == ["a.png"]
    with pytest.raises(InputAccessError):
        list(pictures(tmp_path / "none.tar"))
    path.write_bytes(b"\0" * 100 + b"x" * 1000)
    with pytest.raises(InputMediaError):
        list(pictures(path))


def test_damage_depends_on_its_generator_alone_and_keeps_the_shape() -> None:
    image = np.random.default_rng(0).integers(0, 256, (41, 30, 3), np.uint8)
    for seed in range(30):
        a, b = (
            degrade(photograph(image, rng), lost_size(rng), rng)
            for rng in (np.random.default_rng(seed) for _ in range(2))
        )
        assert a.shape == image.shape
        assert a.dtype == np.uint8
        assert np.array_equal(a, b)


def test_tone_golden() -> None:  # 255 * (51 / 255) ** 2 * 2 = 20.4; + 10; blue at half
    image = np.full((2, 2, 3), 51, np.uint8)
    assert tone(image, 2.0, 2.0, 10.0, (1, 1, 0.5))[0, 0].tolist() == [30, 30, 20]


def test_sheet(tmp_path: Path) -> None:
    out = sheet([np.full((4, 6, 3), k, np.uint8) for k in (1, 2, 3)], columns=2, gap=0)
    assert out.shape == (8, 12, 3)
    assert (out[0, 0, 0], out[0, 6, 0], out[4, 0, 0]) == (1, 2, 3)
    write_png(tmp_path / "sheet.png", out)
    assert (cv2.imread(str(tmp_path / "sheet.png")) == out[:, :, ::-1]).all()


def test_matching_gives_each_face_a_prior_and_leaves_ignored_regions_out() -> None:
    grid = priors(64, 64)
    boxes = torch.tensor([[10.0, 10, 26, 26], [40, 40, 43, 43]])
    ignore = torch.tensor([[0.0, 40, 20, 60]])
    targets = match(Labels(boxes, torch.zeros(2, 5, 2), ignore), grid)
    assert (targets.kind == 1).sum() == len(targets.boxes) >= 2
    assert (targets.kind[(grid[:, 0] < 20) & (grid[:, 1] > 40) & (grid[:, 1] < 60)] == -1).all()
    assert not (match(Labels(boxes[:0], torch.zeros(0, 5, 2), ignore[:0]), grid).kind != 0).any()
    square = corners(grid)[(targets.kind == 1).nonzero()[0]]
    assert square.shape == (1, 4)


def test_right_answers_cost_nothing() -> None:
    grid = priors(64, 64)
    targets = match(Labels(torch.tensor([[10.0, 10, 26, 30]]), torch.full((1, 5, 2), 20.0), torch.zeros(0, 4)), grid)
    boxes, points = torch.zeros(1, len(grid), 4), torch.zeros(1, len(grid), 10)
    face = targets.kind == 1
    boxes[0, face], points[0, face] = targets.boxes, targets.landmarks.flatten(1)
    logits = torch.stack((20.0 * (targets.kind != 1), 20.0 * face), dim=1)[None]
    assert multibox((boxes, logits, points), [targets])["loss"] < 1e-3
    assert multibox((boxes, -logits, points), [targets])["score"] > 20


def test_the_recipe_names_what_is_missing(tmp_path: Path) -> None:
    arguments = ["--data", str(tmp_path), "--teacher", str(tmp_path / "none.onnx"), "--steps", "1"]
    with pytest.raises(InputAccessError, match=r"none\.onnx"):
        main([*arguments, "--work", str(tmp_path / "work")])


def test_training_pictures_carry_their_labels() -> None:
    rng = np.random.default_rng(0)
    scene = Scene(
        rng.integers(0, 256, (80, 120, 3), np.uint8),
        np.array([[20, 10, 50, 50]], np.float32),
        np.array([[(28, 22), (42, 22), (35, 30), (29, 40), (41, 40)]], np.float32),
        np.array([[90, 60, 100, 70]], np.float32),
    )
    out = crop(scene, 2.0, (10, 5), np.zeros((128, 128, 3), np.uint8))
    assert out.boxes.tolist() == [[30.5, 15.5, 90.5, 95.5]]  # x' + 1/2 = 2 (x + 1/2), then the window
    assert out.landmarks[0, 2].tolist() == [60.5, 55.5]
    back = scene.mirrored().mirrored()
    assert np.array_equal(back.landmarks, scene.landmarks) and np.array_equal(back.image, scene.image)
    cut = crop(scene, 2.0, (80, 5), np.zeros((128, 128, 3), np.uint8))  # a sixth of the face is left
    assert len(cut.boxes) == 0 and len(cut.ignore) == 2


def test_pasted_faces_lie_under_their_landmarks() -> None:
    portrait = np.zeros((256, 256, 3), np.uint8)
    points = np.array([(96, 120), (160, 120), (128, 157), (100, 186), (156, 186)], np.float32)
    for x, y in points.astype(int):
        cv2.circle(portrait, (int(x), int(y)), 6, (255, 255, 255), -1)
    for scale, angle, mirror in ((1.0, 0.0, False), (0.3, 25.0, False), (0.12, -40.0, True), (1.6, 10.0, True)):
        canvas = np.zeros((480, 480, 3), np.uint8)
        matrix = similarity(scale, angle, mirror, (240.0, 240.0))
        paste(canvas, pyramid(portrait), np.ones((256, 256), np.float32), matrix)
        for x, y in points_at(points, matrix, mirror):
            rows, columns = np.mgrid[:480, :480]
            near = (np.hypot(columns - x, rows - y) < 14 * scale) * canvas[:, :, 0].astype(float)
            middle = np.array([(columns * near).sum(), (rows * near).sum()]) / near.sum()
            assert np.abs(middle - (x, y)).max() < 0.35, (scale, angle, mirror)
