"""LD-BFR's training: batches, what each phase learns, and the recipe from a folder of faces to a file of weights."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click
import cv2
import numpy as np
import pytest
import torch
from nano import drawn, stirred
from safetensors.torch import save_file
from trainings import assert_a_power_cut_changes_nothing, settings_kept

from vidrestore.errors import InputAccessError
from vidrestore.train.embedder import Embedder
from vidrestore.train.loop import Run
from vidrestore.train.portraits import Portraits, load_portraits
from vidrestore_plugins.restore.ldbfr.batches import FACE, Batch, Footages
from vidrestore_plugins.restore.ldbfr.files import PARTS, load
from vidrestore_plugins.restore.ldbfr.litevq import LiteVQ
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.phases import Dictionary, Diffusion, Latents, Restoration, likeness
from vidrestore_plugins.restore.ldbfr.recipe import PHASES, main
from vidrestore_plugins.restore.ldbfr.sizes import SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def settings_that_the_recipe_changes() -> Iterator[None]:
    with settings_kept():
        yield


def picture(seed: int) -> np.ndarray:
    """Something with edges at a face's size and place: RGB u8 [256, 256, 3]."""
    rng = np.random.default_rng(seed)
    out = np.full((256, 256, 3), rng.integers(60, 200, 3), np.uint8)
    for x, y, w, h in ((128, 140, 80, 100), (97, 120, 14, 8), (160, 120, 14, 8), (128, 186, 30, 10)):
        at = (int(x + rng.integers(-3, 4)), int(y + rng.integers(-3, 4)))
        cv2.ellipse(out, at, (w, h), 0, 0, 360, rng.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    return np.clip(out + rng.normal(0, 4, out.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the recipe wants it: an index, and a shard of pictures."""
    folder = tmp_path_factory.mktemp("faces")
    rows = [f"face{i},{'val' if i > 3 else 'train'},free,photos" for i in range(6)]
    rows += ["secret,train,research,photos", "drawing,train,free,sfhqt2i"]
    (folder / "faces.csv").write_text("\n".join(["stem,split,terms,source", *rows]) + "\n")
    with tarfile.open(folder / "faces256-free-0.tar", "w") as tar:
        for i, row in enumerate(rows):
            content = cv2.imencode(".jpg", picture(i), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            info = tarfile.TarInfo(row.partition(",")[0] + ".jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    return Portraits([picture(i) for i in range(4)], np.full(4, 0.25))


@pytest.fixture(scope="module")
def fixed(portraits: Portraits) -> Batch:
    """Four clips of two frames each."""
    return Footages(portraits, 4, 64)(np.random.default_rng(3))


def size() -> Any:
    return SIZES["nano"].stage1


# -- faces and batches ---------------------------------------------------------------------------------------


def test_faces_are_chosen_by_split_and_terms(faces: Path) -> None:
    train, held = load_portraits(faces, "train"), load_portraits(faces, "val")
    assert (len(train), len(held)) == (5, 2)
    assert train.shares.sum() == pytest.approx(1)
    assert train.shares[-1] == pytest.approx(0.6 * train.shares[0]), "drawn pictures are seen less often"
    assert len(load_portraits(faces, "train", limit=2)) == 2
    assert train.truth(np.random.default_rng(0)).shape == (3, 256, 256)
    with pytest.raises(InputAccessError, match="no free faces of the split test"):
        load_portraits(faces, "test")
    with pytest.raises(InputAccessError, match="no shards"):
        load_portraits(faces, "train", terms="research")


def test_batches_are_the_same_on_any_number_of_threads(portraits: Portraits) -> None:
    alone = Footages(portraits, 3, 64, 2)(np.random.default_rng(8))
    with ThreadPoolExecutor(2) as pool:
        together = Footages(portraits, 3, 64, 2, pool)(np.random.default_rng(8))
    for a, b in zip(vars(alone).values(), vars(together).values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(alone.damaged, Footages(portraits, 3, 64, 2)(np.random.default_rng(9)).damaged)


@pytest.mark.parametrize(("side", "places", "expected"), [(64, 1, 64), (128, 2, 128), (0, 1, 256 - 2 * FACE)])
def test_rows_come_in_pairs_of_one_face(portraits: Portraits, side: int, places: int, expected: int) -> None:
    batch = Footages(portraits, 2, side, places)(np.random.default_rng(1))
    n = 4 * places
    assert batch.damaged.shape == batch.truth.shape == (n, 3, expected, expected)
    assert batch.weight.shape == (n, 1, expected, expected)
    assert torch.equal(batch.truth[::2], batch.truth[1::2]) and torch.equal(batch.weight[::2], batch.weight[1::2])
    assert not torch.equal(batch.damaged[::2], batch.damaged[1::2])
    for x in (batch.damaged, batch.truth):
        assert -1 <= x.min() < -0.2 < 0.2 < x.max() <= 1
    assert (batch.damaged - batch.truth).abs().mean() < 0.15, "damaged is the truth, damaged"


# -- phases --------------------------------------------------------------------------------------------------


def trained(task: Any, batch: Batch, steps: int, rate: float) -> tuple[float, float]:
    """The loss before and after some steps on one batch, with the same random gates."""
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], rate)
    task.train()
    found = []
    for step in range(steps + 1):
        torch.manual_seed(7 if step in (0, steps) else 100 + step)
        loss = task.losses(batch)["loss"]
        found.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return found[0], found[-1]


def test_thirty_steps_of_restoration_lower_its_loss_by_a_third(fixed: Batch) -> None:
    net = LiteVQ(size())
    codes = net.book.embedding.weight.clone()
    before, after = trained(Restoration(net), fixed, 30, 3e-3)
    assert after < 0.7 * before
    assert torch.equal(net.book.embedding.weight, codes), "the dictionary holds still"


def test_the_fast_mode_learns_four_faces_by_heart(fixed: Batch) -> None:
    net = LiteVQ(size())
    trained(Restoration(net), fixed, 60, 3e-3)
    with torch.inference_mode():
        errors = [
            (x - fixed.truth).square().mean((1, 2, 3)).log10().mean() for x in (net(fixed.damaged)[0], fixed.damaged)
        ]
    assert 10 * (errors[1] - errors[0]) > 2.0, "dB over the input"


def test_the_dictionary_learns_and_its_codes_move(fixed: Batch) -> None:
    net = stirred(LiteVQ(size()))
    task = Dictionary(net)
    codes = net.book.embedding.weight.clone()
    before, after = trained(task, fixed, 30, 3e-3)
    assert after < 0.8 * before
    moved = net.book.embedding.weight
    assert (moved - codes).abs().max() > 0.05
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(len(moved)))
    task.eval()
    still = moved.clone()
    task.losses(fixed)
    assert torch.equal(net.book.embedding.weight, still), "an examination teaches nothing"


def test_the_teacher_stays_what_it_was_and_is_kept_with_the_run(fixed: Batch) -> None:
    net = stirred(LiteVQ(size()))
    task = Restoration(net, Embedder().eval().requires_grad_(False))
    assert {name.partition(".")[0] for name in task.state_dict()} == {"net", "teacher"}, "the embedder has its own file"
    teacher = {name: value.clone() for name, value in task.teacher.state_dict().items()}
    trained(task, fixed, 2, 1e-2)
    assert all(torch.equal(value, teacher[name]) for name, value in task.teacher.state_dict().items())
    later = Restoration(net)  # of a network that has moved on
    later.load_state_dict(task.state_dict())
    assert all(torch.equal(value, teacher[name]) for name, value in later.teacher.state_dict().items())


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """Of random weights, with normalisation fitted to what it sees."""
    torch.manual_seed(5)
    net = Embedder().train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(4, 3, 112, 112))
    return net.eval().requires_grad_(False)


def test_likeness_is_zero_for_the_truth_and_pulls_towards_it(portraits: Portraits, embedder: Embedder) -> None:
    batch = Footages(portraits, 1, 0)(np.random.default_rng(0))
    same = [float(x) for x in likeness(embedder, batch.truth, batch.truth)]
    assert same == pytest.approx([0, 0], abs=1e-5)
    y = batch.damaged.clone().requires_grad_()
    identity, features = likeness(embedder, y, batch.truth)
    assert 0 < identity.item() <= 2 and features.item() > 0.01
    (identity + features).backward()
    assert y.grad is not None and y.grad.abs().amax((1, 2, 3)).min() > 0


def test_whole_faces_are_also_trained_to_stay_the_same_person(portraits: Portraits, embedder: Embedder) -> None:
    batch = Footages(portraits, 1, 0)(np.random.default_rng(0))
    net = stirred(LiteVQ(size()))
    torch.manual_seed(1)
    plain = Restoration(net).losses(batch)
    torch.manual_seed(1)
    personal = Restoration(net, embedder).losses(batch)
    assert set(personal) - set(plain) == {"identity", "features"}
    added = 0.2 * personal["identity"] + 0.05 * personal["features"]
    torch.testing.assert_close(personal["loss"], plain["loss"] + added)
    personal["loss"].backward()
    assert all(p.grad is None for p in embedder.parameters())


def test_latents_of_truths_are_standardised() -> None:
    model = stirred(LDBFR(SIZES["nano"]))
    truths = drawn(6, 3, 64, 64) / 3
    task = Latents(model.ae, model.stage1)
    y = model.ae.decode(model.ae.encode(truths))
    task.standardise(truths)
    z = model.ae.encode(truths)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.ae.decode(z), y, atol=1e-4, rtol=1e-4)
    task.standardise(truths)
    torch.testing.assert_close(model.ae.encode(truths), z, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [Latents, Diffusion])
def test_the_second_stage_learns_while_the_first_holds_still(kind: type, fixed: Batch) -> None:
    model = LDBFR(SIZES["nano"])
    torch.nn.init.normal_(model.stage1.decoder.out.weight, 0, 0.01)
    task = Latents(model.ae, model.stage1) if kind is Latents else Diffusion(model)
    mine = {id(p) for p in task.parameters()}
    others = {name: p.clone() for name, p in model.named_parameters() if id(p) not in mine}
    assert {name.partition(".")[0] for name in others} == set(PARTS) - {"ae" if kind is Latents else "unet"}
    before, after = trained(task, fixed, 25, 3e-3)
    assert after < 0.8 * before
    assert all(torch.equal(p, others[name]) for name, p in model.named_parameters() if name in others)


@pytest.mark.parametrize("phase", ["dictionary", "restoration", "diffusion"])
def test_a_phase_cut_in_the_middle_goes_on_to_the_same_weights(
    phase: str, portraits: Portraits, tmp_path: Path
) -> None:
    def begun() -> Run:
        torch.manual_seed(2)
        model = LDBFR(SIZES["nano"])
        tasks = {
            "dictionary": lambda: Dictionary(model.stage1),
            "restoration": lambda: Restoration(model.stage1),
            "diffusion": lambda: Diffusion(model),
        }
        return Run(tasks[phase](), seed=6)

    assert_a_power_cut_changes_nothing(begun, Footages(portraits, 1, 64), tmp_path / "run.pt")


# -- the recipe ----------------------------------------------------------------------------------------------


def recipe(faces: Path, folder: Path, phases: str, *more: str) -> Path:
    out = folder / "weights.safetensors"
    steps = ["--steps", "2", "--batch", "0.3", "--size", "nano", "--phases", phases]
    main(["--data", str(faces), "--out", str(out), "--work", str(folder / "work"), *steps, *more])
    return out


@pytest.mark.slow
def test_the_recipe_makes_all_parts_and_goes_on_where_it_was(
    faces: Path, embedder: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = ",".join(PHASES)
    save_file(embedder.state_dict(), tmp_path / "embedder.safetensors")
    teacher = ("--embedder", str(tmp_path / "embedder.safetensors"))
    whole = recipe(faces, tmp_path / "whole", every, *teacher)
    said = capsys.readouterr().out
    assert said.startswith("5 faces, 2 held out")
    assert said.count("held out, medium: PSNR") == said.count("identity") == len(PHASES)
    net, parts = load(whole)
    assert parts == set(PARTS) and net.size == SIZES["nano"]
    work = {p.name for p in (tmp_path / "whole" / "work").iterdir()}
    assert work == {f"{name}.{kind}" for name in PHASES for kind in ("pt", "png")}

    first = recipe(faces, tmp_path / "parts", "dictionary,restoration", *teacher)
    assert load(first)[1] == {"stage1"}
    capsys.readouterr()
    then = recipe(faces, tmp_path / "parts", every, *teacher)
    assert "restoration: going on at step 2" in capsys.readouterr().out
    assert then.read_bytes() == whole.read_bytes()


def test_the_recipe_goes_on_from_a_file(faces: Path, tmp_path: Path) -> None:
    first = recipe(faces, tmp_path / "one", "dictionary")
    more = ["--start", str(first), "--rate", "0"]
    second = recipe(faces, tmp_path / "two", "latents", *more)
    one, two = load(first)[0], load(second)[0]
    assert load(second)[1] == {"stage1", "ae"}
    for name, value in one.stage1.state_dict().items():
        assert torch.equal(two.stage1.state_dict()[name], value), name
    with pytest.raises(click.BadParameter, match="not of size tiny"):
        recipe(faces, tmp_path / "three", "latents", "--start", str(first), "--size", "tiny")


def test_restoring_begins_at_the_input_and_goes_on_from_what_restores(faces: Path, tmp_path: Path) -> None:
    words = recipe(faces, tmp_path / "words", "dictionary")
    still = ["--rate", "0", "--start"]
    born = load(recipe(faces, tmp_path / "born", "restoration", *still, str(words)))[0]
    x = drawn(2, 3, 64, 64) / 3
    assert torch.equal(born.stage1(x)[0], x), "what only knows its codes starts as the input"
    first = recipe(faces, tmp_path / "first", "restoration", "--start", str(words))
    again = recipe(faces, tmp_path / "again", "restoration", *still, str(first))
    for name, value in load(first)[0].stage1.state_dict().items():
        assert torch.equal(load(again)[0].stage1.state_dict()[name], value), name


def test_the_recipe_names_what_is_wrong(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match="no phase discriminator; have dictionary, restoration"):
        recipe(faces, tmp_path, "discriminator")
    with pytest.raises(InputAccessError, match=r"no faces\.csv"):
        recipe(tmp_path, tmp_path, "dictionary")
    with pytest.raises(InputAccessError, match="MobileFaceNet"):
        recipe(faces, tmp_path, "faces", "--embedder", str(tmp_path / "none.safetensors"))
