"""assess=head: its scales, what it must not depend on, and its recipe at a small size."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from vidrestore.errors import InputAccessError, UsageError
from vidrestore_plugins.assess.head.clips import Clips, filmed_clips, portraits
from vidrestore_plugins.assess.head.network import RINGS, Head, decoded, encoded, luma_256, spectra
from vidrestore_plugins.assess.head.recipe import losses, main

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def picture(seed: int, side: int = 256) -> NDArray[np.uint8]:
    """Edges and shades at many sizes."""
    rng = np.random.default_rng(seed)
    canvas = np.full((side, side, 3), 120, np.uint8)
    for _ in range(60):
        x, y, r = (int(v) for v in rng.integers((0, 0, 4), (side, side, side // 5)))
        cv2.circle(canvas, (x, y), r, tuple(int(c) for c in rng.integers(40, 220, 3)), -1, cv2.LINE_AA)
    return canvas


def shards(folder: Path, count: int = 3) -> None:
    """A folder of faces as the recipe reads it: some free and sharp, one soft, one not free."""
    rows = [(f"f{i}", "free", "train" if i else "val", 0.4) for i in range(count + 1)]
    rows += [("soft", "free", "train", 1.0), ("research", "research", "train", 0.4)]
    lines = ["stem,terms,split,scale,tag", *(f"{s},{t},{p},{c}," for s, t, p, c in rows)]
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    with tarfile.open(folder / "faces256-free-00.tar", "w") as tar:
        for i, row in enumerate(rows):
            content = cv2.imencode(".jpg", picture(i))[1].tobytes()
            member = tarfile.TarInfo(f"{row[0]}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_the_scales_read_back_and_stay_within_bounds() -> None:
    damage = torch.tensor([[1.0, 0.0, 0.0], [4.0, 0.02, 0.04]])
    assert torch.allclose(decoded(encoded(damage)), damage, atol=1e-5)
    wild = decoded(torch.tensor([[-50.0, -50.0, -50.0], [50.0, 50.0, 50.0]]))
    assert wild[0].tolist() == [1.0, 0.0, 0.0] and bool(torch.isfinite(wild).all())


def test_spectra_are_blind_to_brightness_and_scale_with_contrast() -> None:
    luma = luma_256(torch.from_numpy(picture(0)).permute(2, 0, 1)[None].float() / 255)
    power = spectra(luma)
    assert power.shape == (1, RINGS * 7)
    assert torch.allclose(spectra(luma + 0.1), power, rtol=1e-3, atol=1e-9)
    assert torch.allclose(spectra(3 * luma), 9 * power, rtol=1e-3, atol=1e-9)


def test_a_wave_shows_in_its_ring_and_white_noise_in_all() -> None:
    wave = 0.5 + 0.1 * torch.sin(2 * torch.pi * 9 * torch.arange(256) / 32).expand(1, 1, 256, 256)
    mean = spectra(wave)[0, -RINGS:]
    assert int(mean.argmax()) + 1 == 9 and float(mean[13:].max()) < 1e-3 * float(mean.max())
    noise = 0.5 + 0.02 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(spectra(noise)[0, -RINGS:].sqrt(), torch.tensor(0.02), rtol=0.15)


@pytest.mark.parametrize("side", [128, 256, 512])
def test_luma_comes_at_one_size(side: int) -> None:
    crops = torch.full((2, 3, side, side), 0.25)
    assert torch.allclose(luma_256(crops), torch.full((2, 1, 256, 256), 0.25))


def test_the_head_is_small() -> None:
    assert sum(p.numel() for p in Head().parameters()) < 100_000


def test_clips_come_from_free_sharp_faces_of_their_split(tmp_path: Path) -> None:
    shards(tmp_path)
    assert (len(portraits(tmp_path, "train")), len(portraits(tmp_path, "val"))) == (3, 1)
    with pytest.raises(InputAccessError, match=r"faces\.csv"):
        portraits(tmp_path / "nowhere", "train")


def test_clips_know_their_damage(tmp_path: Path) -> None:
    faces = [picture(i) for i in range(3)]
    made = filmed_clips(faces, 8, np.random.default_rng(0))
    assert made.power.shape == (16, RINGS * 7) and made.damage.shape == (16, 3)
    assert float(made.damage[:, 0].min()) >= 1 and float(made.damage[:, 1:].min()) >= 0
    again = filmed_clips(faces, 8, np.random.default_rng(0))
    assert torch.equal(made.damage[:, 0], again.damage[:, 0]), "every draw comes from the generator"
    detail = made.power[:, RINGS * 5 + 12]  # of the sharpest patches
    sharp, coarse = made.damage[:, 0] < 1.5, made.damage[:, 0] > 3
    assert float(detail[sharp].mean()) > float(detail[coarse].mean())


def test_contrast_scales_noise_and_coding_but_not_resolution() -> None:
    data = Clips(torch.ones(1, RINGS * 7), torch.tensor([[2.0, 0.01, 0.02]]))
    power, damage = data.batch(np.random.default_rng(0), 16)
    assert (damage[:, 0] == 2).all() and torch.allclose(damage[:, 2], 2 * damage[:, 1])
    spread = power[:, 0].sqrt()
    assert torch.allclose(spread, damage[:, 1] / 0.01, rtol=1e-3) and float(spread.max() / spread.min()) > 1.5


def test_the_recipe_learns_resumes_and_exports_half_floats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file

    shards(tmp_path)
    arguments = ["--data", str(tmp_path), "--clips", "10", "--work", str(tmp_path / "work"), "--rate", "1e-3"]
    out = tmp_path / "head.safetensors"
    main([*arguments, "--steps", "2", "--out", str(out)])
    half = load_file(out)
    assert {v.dtype for v in half.values()} == {torch.float16} and out.stat().st_size < 300_000
    Head().load_state_dict({k: v.float() for k, v in half.items()})
    main([*arguments, "--steps", "4", "--out", str(out), "--resume", str(tmp_path / "work" / "run.pt")])
    said = capsys.readouterr().out
    assert said.count("filming") == 2, "clips are filmed once for each split"
    assert "held out, step 4" in said
    with pytest.raises(UsageError, match="budget"):
        main(arguments)


def test_training_lowers_the_loss() -> None:
    """Two kinds of texture, told apart in a few steps."""
    rng = np.random.default_rng(0)
    flat = np.clip(128 + rng.normal(0, 0.5, (8, 256, 256)), 0, 255)
    rough = np.clip(128 + rng.normal(0, 12, (8, 256, 256)), 0, 255)
    luma = torch.from_numpy(np.concatenate([flat, rough])).float()[:, None] / 255
    damage = torch.tensor([[1.0, 0.5 / 255, 0]] * 8 + [[1.0, 12 / 255, 0]] * 8)
    torch.manual_seed(0)
    net, data = Head(), Clips(spectra(luma), damage)
    net.scale_to(data.power)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        losses(net, data.batch(rng, 8))["loss"].backward()
        optimiser.step()
    with torch.inference_mode():
        found = 255 * decoded(net(luma))[:, 1]
    assert float(found[:8].max()) < 2 and float(found[8:].min()) > 6


def test_the_bundled_head_tells_sound_from_damaged() -> None:
    from vidrestore_plugins.assess.head.plugin import HeadAssessor, HeadOptions

    head = HeadAssessor(HeadOptions())
    sharp = torch.from_numpy(picture(5, 512)).permute(2, 0, 1)[None].float() / 255
    with pytest.raises(ValueError, match="before open"):
        head.assess(sharp)
    head.open(torch.device("cpu"))
    small = torch.nn.functional.interpolate(sharp, size=(80, 80), mode="bilinear", antialias=True)
    enlarged = torch.nn.functional.interpolate(small, size=(512, 512), mode="bicubic").clamp(0, 1)
    grain = 0.03 * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))
    said = head.assess(torch.cat([sharp, enlarged, (sharp + grain).clamp(0, 1)]))
    assert said.resolution[0] < 1.5 and said.resolution[1] > 2.2
    assert said.noise[0] < 1.5 / 255 and said.noise[2] > 3 * said.noise[0]
