"""embed=compact: what it sees, what it knows, and how it is taught."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from trainings import picture, settings_kept

from vidrestore.errors import ResourceError, UsageError
from vidrestore.train.embedder import Embedder, on_template
from vidrestore.train.loop import Budget, Run, fit
from vidrestore.train.portraits import Portraits, as_tensor
from vidrestore_plugins.embed.compact.faces import Faces, Pairs, bent, mixed
from vidrestore_plugins.embed.compact.learning import Student, known, losses
from vidrestore_plugins.embed.compact.network import SIZES, Compact, load, looked_at
from vidrestore_plugins.embed.compact.plugin import CompactEmbedder, CompactOptions
from vidrestore_plugins.embed.compact.recipe import main
from vidrestore_plugins.halves import save

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor


@pytest.fixture(autouse=True)
def settings_that_the_recipe_changes() -> Iterator[None]:
    torch.set_num_threads(1)
    with settings_kept():
        yield


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    return Portraits([picture(i) for i in range(4)], np.full(4, 0.25))


@pytest.fixture(scope="module")
def teacher(portraits: Portraits) -> Embedder:
    """Of random weights, with normalisation fitted to what it sees."""
    torch.manual_seed(5)
    net = Embedder().train()
    faces = on_template(torch.stack([as_tensor(image) for image in portraits.images]))
    with torch.no_grad():
        for _ in range(20):
            net(faces)
    return net.eval().requires_grad_(False)


def test_the_same_part_of_a_face_is_seen_at_every_size() -> None:
    y, x = np.mgrid[:512, :512] / 512
    crop = torch.from_numpy(np.stack([x, y, 0.5 + 0.4 * np.sin(20 * x) * np.cos(16 * y)])).float()[None]
    large = looked_at(crop)
    small = looked_at(F.interpolate(crop, (256, 256), mode="area"))
    assert large.shape == small.shape == (1, 3, 112, 112)
    taught = on_template(F.interpolate(crop, (256, 256), mode="area"))
    assert float((large - taught).abs().max()) < 0.03, "and it is what the teacher sees"


def test_the_bundled_network_is_small() -> None:
    net = Compact(SIZES["small"])
    assert sum(p.numel() for p in net.parameters()) < 1e6


def test_another_network_is_refused(tmp_path: Path) -> None:
    net = Compact(SIZES["nano"]).eval()
    save(net, tmp_path / "own.safetensors")
    again = load(tmp_path / "own.safetensors")
    faces = torch.rand(2, 3, 112, 112)
    torch.testing.assert_close(again(faces)[0], net(faces)[0], atol=5e-3, rtol=0)
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ResourceError, match="not the weights of embed=compact"):
        load(tmp_path / "other.safetensors")


def test_mirroring_makes_both_sides_alike() -> None:
    embedder = CompactEmbedder(CompactOptions(mirror=True))
    embedder.open(torch.device("cpu"))
    crops = torch.from_numpy(picture(3)).permute(2, 0, 1)[None].float() / 255
    crops[..., 128:] *= 0.5
    torch.testing.assert_close(embedder.embed(crops), embedder.embed(crops.flip(-1)), atol=2e-2, rtol=0)


def test_batches_follow_from_the_generator_and_hold_a_face_and_its_damage(portraits: Portraits) -> None:
    one, two = (Faces(portraits, 6)(np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one.truth, two.truth) and torch.equal(one.damaged, two.damaged)
    assert one.truth.shape == one.damaged.shape == (6, 3, 256, 256)
    error = (one.truth - one.damaged).abs().mean((1, 2, 3))
    assert 0.002 < float(error.mean()) < 0.15, "most are damaged, and still faces"


def test_mixtures_lie_between_their_faces_and_bends_keep_the_colours() -> None:
    a, b = np.full((64, 64, 3), 40, np.uint8), np.full((64, 64, 3), 200, np.uint8)
    for seed in range(8):
        both = mixed(a, b, np.random.default_rng(seed))
        assert both.min() >= 40 and both.max() <= 200 and abs(both.mean() - 120) < 70
    face = picture(1)
    moved = bent(face, np.random.default_rng(2))
    assert moved.shape == face.shape and not np.array_equal(moved, face)
    assert abs(float(moved.mean()) - float(face.mean())) < 8


class Parrot(nn.Module):
    """Says of every second half what the teacher says of the first: the perfect student."""

    def __init__(self, teacher: Embedder, truth: Tensor) -> None:
        super().__init__()
        self.voice = nn.Parameter(torch.ones(()))
        vectors, (_, *maps) = teacher(on_template(truth))
        self.vectors, self.maps = torch.cat([vectors, vectors]), [torch.cat([m, m]) for m in maps]

    def forward(self, faces: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.vectors, self.maps


def test_who_says_what_the_teacher_says_of_the_truth_loses_nothing(portraits: Portraits, teacher: Embedder) -> None:
    pairs = Faces(portraits, 3)(np.random.default_rng(1))
    terms = losses(teacher, Parrot(teacher, pairs.truth), pairs)
    assert float(terms["loss"]) < 0.03, "but for half precision"
    swapped = losses(teacher, Parrot(teacher, pairs.truth.roll(1, 0)), pairs)
    assert float(swapped["clean"]) > 2 * float(terms["clean"])


def test_a_student_learns_faces_by_heart(portraits: Portraits, teacher: Embedder) -> None:
    pairs = Faces(portraits, 4)(np.random.default_rng(1))
    run = Run(Student(SIZES["nano"]), seed=0, decay=0.9)
    with torch.no_grad():
        first = float(losses(teacher, run.net, pairs)["loss"])

    def same(rng: np.random.Generator) -> Pairs:
        return pairs

    fit(run, Budget(steps=20, rate=1e-2, warmup=5), same, lambda net, batch: losses(teacher, net, batch))
    last = losses(teacher, run.net, pairs)
    assert float(last["loss"].detach()) < 0.6 * first
    average: Any = run.average
    said = list(known(average.net, portraits, teacher))
    assert [line.split()[0] for line in said] == ["clean", "mild", "medium", "heavy"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces as the recipe wants them: an index, and a shard of pictures."""
    made = tmp_path_factory.mktemp("faces")
    rows = [f"face{i},{'val' if i > 3 else 'train'},free,photos" for i in range(6)]
    (made / "faces.csv").write_text("\n".join(["stem,split,terms,source", *rows]) + "\n")
    with tarfile.open(made / "faces256-free-0.tar", "w") as tar:
        for i in range(6):
            content = cv2.imencode(".jpg", picture(i), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            info = tarfile.TarInfo(f"face{i}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made


def test_the_recipe_makes_weights_and_goes_on_where_it_was(
    folder: Path, teacher: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(teacher.state_dict(), tmp_path / "teacher.safetensors")

    def train(name: str, steps: int) -> dict[str, Tensor]:
        out = tmp_path / f"{name}.safetensors"
        given = ["--data", folder, "--out", out, "--work", tmp_path / name, "--steps", steps, "--batch", 0.125]
        main([str(word) for word in [*given, "--size", "nano", "--embedder", tmp_path / "teacher.safetensors"]])
        return load(out).state_dict()

    whole = train("whole", 4)
    assert "4 faces, 2 held out" in capsys.readouterr().out
    train("parts", 2)
    parts = train("parts", 4)
    assert "going on at step 2" in capsys.readouterr().out
    assert whole.keys() == parts.keys()
    assert (tmp_path / "whole" / "embed.pt").is_file()


def test_a_student_needs_a_teacher(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a teacher; give MobileFaceNet's safetensors with --embedder"):
        main(["--data", str(folder), "--steps", "1", "--work", str(tmp_path)])
