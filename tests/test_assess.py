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
from vidrestore_plugins.assess.head.network import Head, bands, decoded, encoded, luma_256, pooled
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


def test_the_bands_are_blind_to_brightness_but_not_to_detail() -> None:
    luma = luma_256(torch.from_numpy(picture(0)).permute(2, 0, 1)[None].float() / 255)
    brighter = bands(luma * 1.0 + 0.1)
    assert torch.allclose(brighter[:, :2], bands(luma)[:, :2], atol=1e-4)
    noisy = luma + 0.02 * torch.randn(luma.shape, generator=torch.Generator().manual_seed(0))
    assert float(bands(noisy)[:, 0].abs().mean()) > 1.5 * float(bands(luma)[:, 0].abs().mean())


def test_soft_bounds_lie_about_the_mean() -> None:
    maps = torch.rand(2, 5, 30, 20, generator=torch.Generator().manual_seed(0))
    mean, low, high = pooled(maps).split(5, 1)
    assert bool((low < mean).all()) and bool((mean < high).all())
    assert bool((low > maps.amin((2, 3))).all()) and bool((high < maps.amax((2, 3))).all())


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
    assert made.luma.shape == (16, 256, 256) and made.damage.shape == (16, 3)
    assert float(made.damage[:, 0].min()) >= 1 and float(made.damage[:, 1:].min()) >= 0
    again = filmed_clips(faces, 8, np.random.default_rng(0))
    assert torch.equal(made.damage[:, 0], again.damage[:, 0]), "every draw comes from the generator"
    detail = bands(made.luma[:, None].float() / 255)[:, 0].abs().mean((1, 2))
    sharp, coarse = made.damage[:, 0] < 1.5, made.damage[:, 0] > 3
    assert float(detail[sharp].mean()) > float(detail[coarse].mean())


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
    luma = torch.from_numpy(np.concatenate([flat, rough]).astype(np.uint8))
    damage = torch.tensor([[1.0, 0.5 / 255, 0]] * 8 + [[1.0, 12 / 255, 0]] * 8)
    torch.manual_seed(0)
    net, data = Head(), Clips(luma, damage)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        losses(net, data.batch(rng, 8))["loss"].backward()
        optimiser.step()
    with torch.inference_mode():
        found = 255 * decoded(net(luma[:, None].float() / 255))[:, 1]
    assert float(found[:8].max()) < 2 and float(found[8:].min()) > 6
