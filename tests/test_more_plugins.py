"""The steps beside the defaults: what each promises beyond its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidrestore import testing
from vidrestore.errors import ResourceError
from vidrestore.types import FaceBatch, Faces
from vidrestore_plugins.blend.laplacian import Laplacian, LaplacianOptions
from vidrestore_plugins.detect.yunet import YuNetDetector, YuNetOptions
from vidrestore_plugins.restore.spandrel import SpandrelOptions, SpandrelRestorer
from vidrestore_plugins.track.sort import Sort, SortOptions

CPU = torch.device("cpu")


def faces_at(*boxes: tuple[float, float, float, float], score: float = 0.9) -> Faces:
    n = len(boxes)
    return Faces(
        np.array(boxes, np.float32).reshape(n, 4), np.zeros((n, 5, 2), np.float32), np.full(n, score, np.float32),
        np.full(n, -1, np.int64),
    )  # fmt: skip


# -- track=sort --------------------------------------------------------------------------------------------------


def test_a_face_that_is_missed_keeps_its_number_for_a_while() -> None:
    tracker = Sort(SortOptions(lost=2))
    for i in range(6):
        assert tracker.update(faces_at((4.0 * i, 0, 4.0 * i + 40, 40))).tracks.tolist() == [0]
    for _ in range(2):
        assert len(tracker.update(Faces.empty())) == 0
    assert tracker.update(faces_at((32, 0, 72, 40))).tracks.tolist() == [0], "where it was going"
    for _ in range(3):
        tracker.update(Faces.empty())
    assert tracker.update(faces_at((48, 0, 88, 40))).tracks.tolist() == [1], "forgotten"


def test_only_a_sure_detection_begins_a_track() -> None:
    tracker = Sort(SortOptions(begin=0.6))
    assert len(tracker.update(faces_at((0, 0, 40, 40), score=0.5))) == 0
    tracker.update(faces_at((0, 0, 40, 40), score=0.7))
    assert tracker.update(faces_at((0, 0, 40, 40), score=0.3)).tracks.tolist() == [0]


# -- detect=yunet ------------------------------------------------------------------------------------------------


@pytest.fixture
def yunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from kornia.models.yunet import YuNet
    from safetensors.torch import save_file

    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path))
    torch.manual_seed(1)
    net = YuNet("train", pretrained=False)  # the phase draws fresh weights
    path = tmp_path / "yunet.safetensors"
    save_file(net.state_dict(), path)
    return path


def test_yunet_keeps_the_contract_and_finds_the_same_in_a_larger_picture(yunet: Path) -> None:
    testing.check_detector(YuNetDetector, threshold=0.05)
    detector = YuNetDetector(YuNetOptions(threshold=0.05))
    detector.open(CPU)
    picture = torch.randint(0, 256, (1, 100, 70, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wide = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    wide[:, :100, :70] = picture
    a, b = detector.detect(picture)[0], detector.detect(wide)[0]
    assert len(a) > 0
    np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
    assert (np.diff(a.scores) <= 0).all(), "best first"


def test_yunet_says_what_is_wrong_with_its_weights(
    yunet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yunet.write_bytes(b"no weights")
    with pytest.raises(ResourceError, match="does not hold its weights"):
        YuNetDetector(YuNetOptions()).open(CPU)


# -- blend=laplacian ---------------------------------------------------------------------------------------------


def batch(crops: torch.Tensor) -> FaceBatch:
    n = len(crops)
    zero = np.zeros(n, np.int64)
    return FaceBatch(crops, zero, zero, np.zeros(n), torch.ones(n, 32, 32), np.ones(n, np.float32))


@pytest.mark.parametrize("size", [256, 512, 96])
def test_what_was_not_changed_comes_back(size: int) -> None:
    crops = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    out, alpha = Laplacian(LaplacianOptions()).blend(batch(crops), crops.clone())
    torch.testing.assert_close(out, crops, atol=1e-5, rtol=0)
    assert alpha[..., 0, :].max() == 0 and alpha[..., :, -1].max() == 0 and alpha[..., size // 2, size // 2].min() == 1


def test_coarse_tones_change_over_more_widely_than_fine_detail() -> None:
    size = 256
    crops = torch.full((1, 3, size, size), 0.4)
    stripes = 0.2 * (torch.arange(size) % 2 - 0.5).expand(1, 3, size, size)
    blender = Laplacian(LaplacianOptions())
    tone = blender.blend(batch(crops), crops + 0.2)[0] - crops
    fine = blender.blend(batch(crops), crops + stripes)[0] - crops
    row = size // 2

    def width(profile: torch.Tensor) -> int:
        """Px of the half row over which a change goes from a tenth to nine tenths of its most."""
        half = profile[: size // 2] / profile.max()
        return int(((half > 0.1) & (half < 0.9)).sum())

    assert width(tone[0, 0, row]) > 2 * width(fine[0, 0, row].abs())


# -- restore=spandrel --------------------------------------------------------------------------------------------


def compact(path: Path, scale: int, channels: int = 3) -> Path:
    """A small network of a published kind, with weights of no use."""
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    net = SRVGGNetCompact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)
    torch.save(net.state_dict(), path)
    return path


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_network_from_a_file_keeps_the_contract(scale: int, tmp_path: Path) -> None:
    path = compact(tmp_path / "net.pth", scale)
    testing.check_restorer(SpandrelRestorer, weights=str(path), size=64)


class Loud:
    """What a file must not be able to do."""

    def __reduce__(self) -> Any:
        return print, ("loaded",)


def test_a_file_that_will_not_do_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "odd.pth")
    torch.save({"a": Loud()}, tmp_path / "loud.pth")
    (tmp_path / "text.safetensors").write_text("none")
    for name in ("odd.pth", "loud.pth", "text.safetensors", "absent.pth"):
        with pytest.raises(ResourceError, match=name) as caught:
            SpandrelRestorer(SpandrelOptions(weights=str(tmp_path / name))).open(CPU)
        assert "\n" not in str(caught.value)
    assert "loaded" not in capsys.readouterr().out
    with pytest.raises(ResourceError, match="weights=FILE"):
        SpandrelRestorer(SpandrelOptions()).open(CPU)
    with pytest.raises(ResourceError, match="colour pictures"):
        SpandrelRestorer(SpandrelOptions(weights=str(compact(tmp_path / "grey.pth", 1, 1)))).open(CPU)
