"""How FLIPNET learns: what each phase moves, resuming to the bit, the faces it damages, the recipe."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from flipnets import NANO, born, latents, noise, stirred, tokens
from trainings import picture, settings_kept

from vidrestore.errors import UsageError
from vidrestore.train.loop import Run
from vidrestore.train.portraits import Portraits
from vidrestore_plugins.restore.flipnet import lora, phases
from vidrestore_plugins.restore.flipnet.batches import Faces, usable
from vidrestore_plugins.restore.flipnet.files import PARTS, load
from vidrestore_plugins.restore.flipnet.made import damaged_pairs, merged
from vidrestore_plugins.restore.flipnet.phases import Batch
from vidrestore_plugins.restore.flipnet.recipe import PHASES, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vidrestore_plugins.restore.flipnet.model import FlipNet

TASKS: dict[str, Callable[[FlipNet], phases.Task]] = {
    "latents": phases.Latents,
    "reading": phases.Reading,
    "association": phases.Associating,
    "prior": phases.Imagining,
    "degrade": lambda net: phases.prepared(net, restoring=False),
    "restore": lambda net: phases.prepared(net, restoring=True),
}
MOVED = {
    "latents": {"vae"},
    "reading": {"encoders"},
    "association": {"encoders"},
    "prior": {"unet", "projector"},
    "degrade": {"hubs", "projector", "tags", "unet"},
    "restore": {"hubs", "projector", "tags", "unet"},
}


@pytest.fixture(autouse=True)
def settings_that_the_recipe_changes() -> Iterator[None]:
    with settings_kept():
        yield


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    return Portraits([picture(i) for i in range(4)], np.full(4, 0.25))


@pytest.fixture(scope="module")
def fixed(portraits: Portraits) -> Batch:
    return Faces(portraits, 4, NANO.image_size)(np.random.default_rng(3))


def made(phase: str) -> tuple[FlipNet, phases.Task]:
    net = born().requires_grad_(False)
    task = TASKS[phase](net)
    return net, task if phase in ("degrade", "restore") else task.requires_grad_(True)


@pytest.mark.parametrize("phase", list(TASKS))
def test_a_phase_learns_and_moves_its_own_parts_alone(phase: str, fixed: Batch) -> None:
    net, task = made(phase)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run, found = Run(task, 0, weight_decay=0.0), []
    for step in range(12):
        torch.manual_seed(5 if step in (0, 11) else 50 + step)
        found.append(run.advance(lambda t: t.losses(fixed), 3e-3)["loss"])
    assert found[-1] < found[0], found
    moved = {name.partition(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == MOVED[phase]


def test_only_the_encoder_of_damaged_faces_is_associated(fixed: Batch) -> None:
    net, task = made("association")
    before = {name: value.clone() for name, value in net.encoders.state_dict().items()}
    Run(task, 0).advance(lambda t: t.losses(fixed), 1e-3)
    moved = {name[:2] for name, value in net.encoders.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"lq"}


def test_a_prior_that_is_given_stays_as_it_is(fixed: Batch) -> None:
    net = born().requires_grad_(False)
    net.size = NANO.model_copy(update={"own_prior": False})
    task = phases.prepared(net, restoring=True)
    before = {name: value.clone() for name, value in lora.bare(net.unet).items()}
    run = Run(task, 0, weight_decay=0.1)
    for _ in range(3):
        run.advance(lambda t: t.losses(fixed), 1e-2)
    assert all(torch.equal(value, before[name]) for name, value in lora.bare(net.unet).items())
    assert any(value.abs().max() > 0 for name, value in lora.taken(net.unet).items() if name.endswith(".B"))


def test_an_own_prior_is_trained_on_a_tenth_as_fast(fixed: Batch) -> None:
    net, task = made("restore")
    before = {name: value.clone() for name, value in net.unet.state_dict().items()}
    Run(task, 0, weight_decay=0.0, pace=task.pace).advance(lambda t: t.losses(fixed), 1e-3)
    moved = {name: float((value - before[name]).abs().max()) for name, value in net.unet.state_dict().items()}
    low_rank = max(gap for name, gap in moved.items() if ".lora_B." in name)
    assert low_rank == pytest.approx(1e-3, rel=0.05)
    assert max(gap for name, gap in moved.items() if ".lora_" not in name) == pytest.approx(1e-4, rel=0.05)


@pytest.mark.parametrize("phase", ["reading", "restore"])
def test_a_run_resumes_to_the_bit(phase: str, portraits: Portraits, tmp_path: Path) -> None:
    batches = Faces(portraits, 2, NANO.image_size)

    def steps(run: Run, count: int) -> Run:
        for _ in range(count):
            batch = batches(run.rng)
            run.advance(lambda t, batch=batch: t.losses(batch), 1e-3)  # type: ignore[misc]
        return run

    def begun() -> Run:
        torch.manual_seed(2)
        return Run(made(phase)[1], 6)

    whole = steps(begun(), 4)
    steps(begun(), 2).save(tmp_path / "run.pt")
    again = begun()
    again.load(tmp_path / "run.pt")
    again = steps(again, 2)
    for a, b in ((whole.net, again.net), (whole.average, again.average)):
        assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_times_of_little_noise_weigh_less() -> None:
    """Signal to noise is 0.0047, 0.38 and 8.4 at these times: of the last, 5 / 8.4 counts."""
    w = phases.weight(torch.tensor([999, 500, 100, 5]), torch.zeros(1))
    assert w[:2].tolist() == [1, 1]
    assert float(w[2]) == pytest.approx(5 / 8.4, rel=0.02)
    assert 0 < float(w[3]) < 0.05


def test_the_scale_gives_latents_unit_variance(fixed: Batch) -> None:
    net = born()
    net.resize(phases.measured(net, fixed.truth))
    assert float(net.encode(fixed.truth).std().detach()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(net.decode(net.encode(fixed.truth)), net.vae(fixed.truth).sample, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="scale"):
        net.resize(NANO.model_copy(update={"rank": 5}))


def test_damage_that_is_none_or_too_much_is_not_learnt_from() -> None:
    truth = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    rows = [truth, truth + 0.08 * noise(1, 3, 64, 64), truth + 0.4 * noise(1, 3, 64, 64), truth + 0.15]
    assert usable(torch.cat(rows), truth.expand(4, -1, -1, -1)).tolist() == [False, True, False, False]


def test_faces_that_the_network_damaged_come_into_the_batches(portraits: Portraits) -> None:
    truth, seen = np.full((3, 64, 64, 3), 255, np.uint8), np.zeros((3, 64, 64, 3), np.uint8)
    batch = Faces(portraits, 32, 64, made=[(truth, seen)])(np.random.default_rng(0))
    ours = (batch.truth == 1).flatten(1).all(1) & (batch.damaged == -1).flatten(1).all(1)
    assert 8 <= int(ours.sum()) <= 24


def test_damaged_pairs_follow_from_their_number(portraits: Portraits) -> None:
    net = stirred(born())
    first, again, other = (damaged_pairs(net, portraits, n, 2, 2, torch.device("cpu")) for n in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape == first[1].shape and len(first[0]) <= 2
    assert not (len(first[0]) == len(other[0]) and np.array_equal(first[0], other[0]) and len(first[0]))


def test_a_merged_copy_says_the_same(fixed: Batch) -> None:
    net, task = made("restore")
    run = Run(task, 0)
    for _ in range(3):
        run.advance(lambda t: t.losses(fixed), 3e-3)
    net.eval()
    z, c, mode = latents(2, 1), tokens(2, 2), torch.tensor([0, 1])
    whole = merged(net)
    with torch.inference_mode():
        a, b = (n.noise(z, 300, c, n.written(latents(2, 3), c, mode), mode) for n in (net, whole))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert not lora.taken(whole.unet)


# -- the recipe ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    rows = [f"face{i},{'val' if i > 3 else 'train'},free,photos" for i in range(6)]
    (folder / "faces.csv").write_text("\n".join(["stem,split,terms,source", *rows]) + "\n")
    with tarfile.open(folder / "faces256-free-0.tar", "w") as tar:
        for i in range(6):
            content = cv2.imencode(".jpg", picture(i))[1].tobytes()
            info = tarfile.TarInfo(f"face{i}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder


def recipe(folder: Path, place: Path, *more: str) -> Path:
    out = place / "weights.safetensors"
    asked: list[Any] = ["--data", folder, "--out", out, "--work", place / "work", "--size", "nano", "--batch", "0.25"]
    main([str(word) for word in (*asked, "--steps", "1", *more)])
    return out


@pytest.mark.slow
def test_the_recipe_makes_weights_and_goes_on_where_it_was(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recipe(folder, tmp_path / "whole")
    assert capsys.readouterr().out.startswith("4 faces, 2 held out")
    net, parts = load(whole)
    assert parts == set(PARTS) and net.size.vae.scale != 1, "latents were measured"
    recipe(folder, tmp_path / "parts", "--phases", "latents,reading,association,prior")
    assert not (tmp_path / "parts" / "weights.safetensors").exists(), "nothing restores yet"
    then = recipe(folder, tmp_path / "parts", "--phases", "degrade,offline,restore")
    assert then.read_bytes() == whole.read_bytes()


def test_a_phase_that_was_never_trained_is_missed_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"phase latents: not trained.*--phases") as caught:
        recipe(folder, tmp_path, "--phases", "reading")
    assert "\n" not in str(caught.value)


def test_every_phase_is_known() -> None:
    assert set(TASKS) | {"offline"} == set(PHASES)
