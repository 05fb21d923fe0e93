"""The bundled detector and detect=none."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from skimage import data

from vidrestore.errors import ResourceError
from vidrestore.hooks import Detector
from vidrestore_plugins.detect.none import NoDetector, NoOptions
from vidrestore_plugins.detect.retinaface.network import build, fused, halved, load, network_input
from vidrestore_plugins.detect.retinaface.plugin import RetinaFaceDetector, RetinaFaceOptions
from vidrestore_plugins.detect.retinaface.priors import (
    decode_boxes,
    decode_landmarks,
    encode_boxes,
    encode_landmarks,
    priors,
)
from vidrestore_plugins.detect.retinaface.search import WITNESSES, fine_count, grid, outputs, search

if TYPE_CHECKING:
    from pathlib import Path

    from vidrestore.api import Faces

ASTRONAUT = np.array([(203.4, 103.6), (247.5, 104.4), (224.1, 127.7), (204.0, 143.1), (242.9, 143.7)])  # by YuNet, px


@pytest.fixture(scope="module")
def detector() -> RetinaFaceDetector:
    out = RetinaFaceDetector(RetinaFaceOptions())
    out.open(torch.device("cpu"))
    return out


def found(detector: RetinaFaceDetector, image: np.ndarray) -> Faces:
    return detector.detect(torch.from_numpy(np.ascontiguousarray(image))[None])[0]


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1]


def test_priors_closed_form() -> None:
    grid = priors(64, 96)
    assert len(grid) == 2 * (8 * 12 + 4 * 6 + 2 * 3)
    assert grid[0].tolist() == [4, 4, 16]
    assert grid[1].tolist() == [4, 4, 32]
    assert grid[2].tolist() == [12, 4, 16]  # along the row first
    assert grid[2 * 12].tolist() == [4, 12, 16]
    assert grid[2 * 96].tolist() == [8, 8, 64]
    assert grid[-1].tolist() == [80, 48, 512]


def test_decoding_is_the_inverse_of_encoding() -> None:
    gen = torch.Generator().manual_seed(0)
    grid = priors(64, 64)
    middle = torch.rand(len(grid), 2, generator=gen) * 64
    half = torch.rand(len(grid), 2, generator=gen) * 40 + 2
    boxes = torch.cat((middle - half, middle + half), dim=1)
    points = torch.rand(len(grid), 5, 2, generator=gen) * 64
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, grid), grid), boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(decode_landmarks(encode_landmarks(points, grid), grid), points, atol=1e-3, rtol=0)


def test_decoding_golden() -> None:  # by hand: centre 4 + 1 * 0.1 * 16, side 16 * exp(0)
    grid = priors(32, 32)[:1]
    assert decode_boxes(torch.tensor([[1.0, 0, 0, 0]]), grid)[0].tolist() == pytest.approx([-2.4, -4, 13.6, 12])


@pytest.mark.parametrize("size", [(1, 1), (32, 64), (33, 65), (360, 640)])
def test_priors_of_two_scales_belong_to_the_outputs(size: tuple[int, int]) -> None:
    net = build("mobile0.25").eval()
    with torch.inference_mode():
        found = outputs(net, torch.zeros(1, *size, 3, dtype=torch.uint8))
    assert [len(part[0]) for part in found] == 3 * [len(grid(*size))]


def test_half_scale_priors_lie_where_their_pixels_do() -> None:
    fine = fine_count(64, 64)
    assert fine == 2 * (64 + 16)
    assert grid(64, 64)[fine - 1].tolist() == [56, 56, 128]
    assert grid(64, 64)[fine].tolist() == [8.5, 8.5, 32]


def test_halving_takes_means() -> None:
    x = torch.arange(32 * 32.0).view(1, 1, 32, 32).expand(1, 3, 32, 32)
    small = halved(x)
    assert small.shape == (1, 3, 32, 32)
    assert small[0, 0, 0, :2].tolist() == [16.5, 18.5]
    assert small[..., 16:].abs().max() == 0


def test_agreeing_priors_vote_by_score() -> None:
    prior = torch.tensor([(50.0, 50, 40), (50, 50, 40), (200, 50, 40)])
    codes = torch.zeros(1, 3, 4)
    codes[0, 1, 0] = 1.0  # the second prior sees the same face 4 px to the right
    logits = torch.tensor([[(0.0, 4.0), (0.0, 3.0), (0.0, 2.0)]])
    faces = search((codes, logits, torch.zeros(1, 3, 10)), prior, 0.2, 0.4)
    scores = logits[0, :, 1].sigmoid().tolist()
    believed = [(scores[0] + scores[1]) / WITNESSES, scores[2] / WITNESSES]
    assert faces[:, 1].tolist() == pytest.approx(believed, abs=1e-6)
    assert faces[0, 2].item() == pytest.approx(30 + 4 * scores[1] / (scores[0] + scores[1]), abs=1e-4)
    assert faces[1, 2].item() == pytest.approx(180)


def test_a_lone_confident_prior_is_not_believed() -> None:
    prior = torch.tensor([(50.0, 50, 40), (52, 50, 40), (50, 52, 40), (200, 50, 40)])
    logits = torch.tensor([[(0.0, 3.0), (0.0, 2.5), (0.0, 2.5), (0.0, 6.0)]])
    faces = search((torch.zeros(1, 4, 4), logits, torch.zeros(1, 4, 10)), prior, 0.6, 0.4)
    assert len(faces) == 1
    assert faces[0, 2] < 60


def test_fusing_batch_norm_changes_nothing() -> None:
    net = build("mobile0.25").eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    x = torch.rand(1, 3, 64, 96) * 255 - 110
    with torch.inference_mode():
        plain, quick = net(x), fused(copy.deepcopy(net))(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused(net).modules())
    for a, b in zip(plain, quick, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_network_input_is_bgr_less_mean_padded_with_mean() -> None:
    image = torch.zeros(1, 30, 33, 3, dtype=torch.uint8)
    image[..., 0], image[..., 2] = 123, 255
    x = network_input(image)
    assert x.shape == (1, 3, 32, 64)
    assert x[0, :, 0, 0].tolist() == [255 - 104, -117, 0]
    assert x[0, :, 31].abs().max() == 0
    assert x[0, :, :, 33:].abs().max() == 0


def test_contract(detector: RetinaFaceDetector) -> None:
    assert isinstance(detector, Detector)
    assert (detector.side, detector.every) == (640, 2)
    faces = detector.detect(torch.zeros(3, 50, 70, 3, dtype=torch.uint8))
    assert [len(f) for f in faces] == [0, 0, 0]


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (16, 16), (16, 300)])
def test_tiny_pictures_hold_no_face(detector: RetinaFaceDetector, size: tuple[int, int]) -> None:
    assert len(found(detector, np.full((*size, 3), 90, np.uint8))) == 0


def test_no_pictures(detector: RetinaFaceDetector) -> None:
    assert detector.detect(torch.zeros(0, 64, 64, 3, dtype=torch.uint8)) == []


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("quality", [100, 25])
def test_finds_the_astronaut(detector: RetinaFaceDetector, scale: float, quality: int) -> None:
    faces = found(detector, jpeg(resized(data.astronaut(), scale), quality))
    assert 1 <= len(faces) <= 2  # at full size the lining of her helmet ring passes for one: see the card
    assert faces.scores[0] > 0.99
    eyes = np.hypot(*(ASTRONAUT[1] - ASTRONAUT[0])) * scale
    want = (ASTRONAUT + 0.5) * scale - 0.5
    off = np.linalg.norm(faces.landmarks[0] - want, axis=1) / eyes
    assert off.mean() < 0.1, off
    x0, y0, x1, y1 = faces.boxes[0] / scale
    assert (x0, y0, x1, y1) == pytest.approx((178, 65, 270, 176), abs=12)


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_no_face_where_there_is_none(detector: RetinaFaceDetector, name: str) -> None:
    image = getattr(data, name)()
    assert len(found(detector, resized(image, 640 / max(image.shape)))) == 0


def test_a_picture_does_not_depend_on_its_batch(detector: RetinaFaceDetector) -> None:
    image = data.astronaut()[:256, 100:356]
    others = [image[:, ::-1], image[::-1], np.roll(image, 40, axis=1)]
    batch = torch.from_numpy(np.stack([image, *others]))
    for alone, together in zip(
        (detector.detect(batch[i : i + 1])[0] for i in range(4)), detector.detect(batch), strict=True
    ):
        assert len(alone) == len(together)
        np.testing.assert_allclose(alone.boxes, together.boxes, atol=1e-3)
        np.testing.assert_allclose(alone.landmarks, together.landmarks, atol=1e-3)


def test_mirrored_picture_gives_mirrored_face(detector: RetinaFaceDetector) -> None:
    image = data.astronaut()[:256, 100:356]
    plain, mirrored = found(detector, image), found(detector, image[:, ::-1])
    back = mirrored.landmarks[0][[1, 0, 2, 4, 3]] * (-1, 1) + (255, 0)
    assert np.abs(back - plain.landmarks[0]).mean() < 3


def test_draws_nothing_at_random(detector: RetinaFaceDetector) -> None:
    state = torch.get_rng_state()
    first, second = (found(detector, data.astronaut()) for _ in range(2))
    assert np.array_equal(first.boxes, second.boxes)
    assert torch.equal(state, torch.get_rng_state())


def test_loading_draws_nothing_at_random() -> None:
    state = torch.get_rng_state()
    RetinaFaceDetector(RetinaFaceOptions()).open(torch.device("cpu"))
    assert torch.equal(state, torch.get_rng_state())


def test_both_networks_are_built_without_weights_or_warnings(recwarn: pytest.WarningsRecorder) -> None:
    for name in ("mobile0.25", "resnet50"):
        assert all(p.device.type == "meta" for p in build(name, "meta").parameters())
    assert not recwarn.list


def test_options_are_checked() -> None:
    with pytest.raises(ValidationError):
        RetinaFaceOptions(threshold=1.5)
    with pytest.raises(ValidationError):
        RetinaFaceOptions(tresh=0.5)  # type: ignore[call-arg]
    assert next(iter(RetinaFaceOptions.model_fields)) == "threshold"
    assert all(field.description for field in RetinaFaceOptions.model_fields.values())


def test_broken_facexlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facexlib.detection.retinaface", None)
    with pytest.raises(ResourceError, match="facexlib cannot be imported") as caught:
        build("mobile0.25")
    assert caught.value.exit_code == 7
    assert "pip install --force-reinstall facexlib" in str(caught.value)


def test_wrong_weights_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "retinaface_mobile025.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(ResourceError, match="does not hold the weights"):
        load("mobile0.25", path)


def test_importing_the_plugin_imports_no_torch() -> None:
    code = (
        "import sys, vidrestore_plugins.detect.retinaface.plugin, vidrestore_plugins.detect.none; "
        "assert not {'torch', 'facexlib', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_none_finds_nothing() -> None:
    detector = NoDetector(NoOptions())
    assert isinstance(detector, Detector)
    detector.open(torch.device("cpu"))
    assert [len(f) for f in detector.detect(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))] == [0, 0]
