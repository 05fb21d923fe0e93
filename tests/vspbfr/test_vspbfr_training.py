"""VSPBFR's training: batches, the judge, what each phase learns, and the recipe from a folder of faces to a file."""

from __future__ import annotations

import copy
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click
import cv2
import numpy as np
import pytest
import torch
from recipe import filled, normal
from safetensors.torch import save_file
from trainings import assert_a_power_cut_changes_nothing, picture, settings_kept

from vidrestore.errors import UsageError
from vidrestore.train.embedder import Embedder
from vidrestore.train.loop import Run
from vidrestore.train.portraits import Portraits
from vidrestore_plugins.restore.vspbfr.augment import augmented, coloured, cut, shifted
from vidrestore_plugins.restore.vspbfr.batches import Batch, Clips, Truths
from vidrestore_plugins.restore.vspbfr.discriminator import spread
from vidrestore_plugins.restore.vspbfr.files import load
from vidrestore_plugins.restore.vspbfr.layers import Fir
from vidrestore_plugins.restore.vspbfr.phases import (
    Codes,
    Healing,
    Judge,
    Prior,
    Restoring,
    System,
    styles,
    summed,
    unlikeness,
)
from vidrestore_plugins.restore.vspbfr.recipe import GAME, PHASES, _losses, main
from vidrestore_plugins.restore.vspbfr.sizes import OWN
from vidrestore_plugins.restore.vspbfr.style import ModulatedConv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


NANO = OWN["nano"]
SIDE = NANO.side
TASKS: dict[str, Callable[[System], Any]] = {
    "prior": Prior,
    "encoder": Codes,
    "diffuser": Healing,
    "restoration": Restoring,
    "adversarial": lambda system: Restoring(system, real=True),
}
PARTS = {
    "prior": {"generator", "judge"},
    "encoder": {"encoder", "generator"},
    "diffuser": {"diffuser"},
    "restoration": {"restoration"},
    "adversarial": {"restoration", "judge"},
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
    """Two clips of two frames each."""
    return Clips(portraits, 2, SIDE)(np.random.default_rng(3))


def begun(seed: int = 2) -> System:
    torch.manual_seed(seed)
    return System(NANO).eval().requires_grad_(False)


def given(name: str, batch: Batch) -> Any:
    """What the phase learns from."""
    return batch.truth if name == "prior" else batch


# -- batches -------------------------------------------------------------------------------------------------


def test_rows_come_in_pairs_of_one_face_on_any_number_of_threads(portraits: Portraits) -> None:
    alone = Clips(portraits, 3, SIDE)(np.random.default_rng(8))
    with ThreadPoolExecutor(2) as pool:
        together = Clips(portraits, 3, SIDE, pool=pool)(np.random.default_rng(8))
    assert torch.equal(alone.damaged, together.damaged) and torch.equal(alone.truth, together.truth)
    assert alone.damaged.shape == alone.truth.shape == (6, 3, SIDE, SIDE)
    assert torch.equal(alone.truth[::2], alone.truth[1::2])
    assert not torch.equal(alone.damaged[::2], alone.damaged[1::2])
    assert -1 <= alone.truth.min() < -0.2 < 0.2 < alone.truth.max() <= 1
    assert (alone.damaged - alone.truth).abs().mean() < 0.3, "damaged is the truth, damaged"


def test_truths_come_at_the_side_that_is_learnt(portraits: Portraits) -> None:
    large = Truths(portraits, 2, 256)(np.random.default_rng(4))
    small = Truths(portraits, 2, 64)(np.random.default_rng(4))
    assert large.shape[-1] == 256 and small.shape[-1] == 64
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 4), small, atol=1e-5, rtol=0)


# -- augmentation, the judge ---------------------------------------------------------------------------------


def test_augmentation_lets_gradients_through_and_repeats() -> None:
    x = normal("x", 4, 3, SIDE, SIDE).tanh().requires_grad_()
    torch.manual_seed(5)
    y = augmented(x)
    torch.manual_seed(5)
    assert torch.equal(augmented(x), y) and not torch.equal(augmented(x), y)
    (whole,) = torch.autograd.grad(y.square().sum(), x)
    assert whole.isfinite().all() and (whole != 0).all(), "by way of the mean that contrast is about"
    (part,) = torch.autograd.grad(cut(shifted(x)).sum(), x)
    assert set(part.unique().tolist()) == {0, 1}, "what is moved out or cut has none"


def test_each_augmentation_does_what_it_says() -> None:
    x = normal("x", 64, 3, SIDE, SIDE).tanh()
    brightness = coloured(x).mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert -0.5 <= brightness.min() < -0.3 and 0.3 < brightness.max() <= 0.5
    hidden = (cut(torch.ones_like(x)) == 0).float().mean((1, 2, 3))
    assert hidden.min() > 0.05 and hidden.max() <= 0.26, "a quarter, less what lies outside"
    still, moved = torch.zeros_like(x), SIDE // 8
    still[:, :, 16, 16] = 1
    at = shifted(still)[:, 0].flatten(1).argmax(1)
    rows, columns = at // SIDE - 16, at % SIDE - 16
    assert rows.abs().max() == moved and columns.abs().max() == moved and len(set(rows.tolist())) > moved


def test_the_last_layers_see_how_a_batch_differs() -> None:
    h = normal("h", 8, 5, 4, 4)
    groups = spread(h)[:, 0, 0, 0]
    assert torch.equal(groups[:2], groups[2:4]) and groups[0] != groups[1]
    expected = (h[0::2].var(0, correction=0) + 1e-8).sqrt().mean()
    torch.testing.assert_close(groups[0], expected)
    assert spread(h[:1].expand(6, -1, -1, -1)).max() < 2e-4
    assert spread(h[:5]).shape == (5, 1, 4, 4), "any count of pictures"


def test_the_penalty_goes_through_filters_and_modulated_layers() -> None:
    """Gradients of gradients, against finite differences."""
    torch.manual_seed(1)
    layers = [ModulatedConv(3, 2, 3, 4, step=step).double() for step in ("same", "up", "down")]
    x, style = normal("x", 1, 3, 6, 6).double().requires_grad_(), normal("s", 1, 4).double().requires_grad_()
    for layer in layers:
        assert torch.autograd.gradgradcheck(lambda a, s, layer=layer: layer(a, s), (x, style))
    assert torch.autograd.gradgradcheck(lambda a: Fir()(a, 2), (x,))


def test_maker_and_judge_each_move_their_own_weights() -> None:
    judge = Judge(NANO).train()
    made = normal("made", 4, 3, SIDE, SIDE).tanh().requires_grad_()
    judge.of_maker(made).backward()
    assert made.grad is not None and made.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.parameters())
    made.grad = None
    judge.of_judge(made, normal("real", 4, 3, SIDE, SIDE).tanh()).backward()
    assert made.grad is None
    assert all(p.grad is not None for p in judge.parameters())


def test_the_penalty_comes_every_sixteenth_time() -> None:
    torch.manual_seed(1)
    judge = Judge(NANO).train()
    made, real = (normal(name, 4, 3, SIDE, SIDE).tanh() for name in ("made", "real"))

    def loss() -> float:
        torch.manual_seed(3)
        return float(judge.of_judge(made, real).detach())

    found = [loss() for _ in range(18)]
    assert len(set(found[1:16])) == 1 and found[0] == found[16] > found[1] == found[17]
    judge.eval()
    assert int(judge.steps) == 18 and loss() == found[1] and int(judge.steps) == 18


# -- phases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_only_what_a_phase_trains_has_gradients(name: str, fixed: Batch) -> None:
    system = begun()
    filled(system, "g_ema", "all").requires_grad_(False)
    task = TASKS[name](system).train().requires_grad_(True)
    assert {key.partition(".")[0] for key in task.state_dict()} == PARTS[name]
    task.losses(given(name, fixed))["loss"].backward()
    mine = {id(p) for p in task.parameters()}
    assert not [key for key, p in system.named_parameters() if id(p) not in mine and p.grad is not None]
    idle = {".".join(key.split(".")[:2]) for key, p in task.named_parameters() if p.grad is None}
    assert idle == ({"generator.style"} if name == "encoder" else set()), "codes are read off faces there, not drawn"


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_gradients_are_finite_in_the_size_that_is_trained(name: str, portraits: Portraits) -> None:
    system = System(OWN["xs"]).eval().requires_grad_(False)
    task = TASKS[name](system).train().requires_grad_(True)
    batches: Any = Truths(portraits, 2, 256) if name == "prior" else Clips(portraits, 1, 256)
    terms = _losses(task, batches(np.random.default_rng(0)), PHASES[name])
    terms["loss"].backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in task.parameters())


def test_a_made_face_may_take_two_styles() -> None:
    system = begun()
    w = styles(system.generator, NANO, 64, system.net.latent_avg)
    assert w.shape == (64, NANO.codes, NANO.style_dim)
    changes = (w[:, 1:] != w[:, :-1]).any(2).sum(1)
    assert set(changes.tolist()) == {0, 1} and 16 < int(changes.sum()) < 48


def test_the_generator_becomes_the_bank_and_its_mean_style_the_mean_code() -> None:
    system = begun()
    system.take_bank()
    bank = system.net.bank.state_dict()
    assert bank and all(torch.equal(t, system.generator.state_dict()[key]) for key, t in bank.items())
    system.take_mean()
    drawn = [system.generator.style(normal(name, 4096, NANO.style_dim)) for name in "ab"]
    assert (system.net.latent_avg - drawn[0].mean(0)).abs().max() < 0.1 * drawn[1].std()


def overfitted(name: str, batch: Batch, steps: int = 60, rate: float = 5e-3) -> list[dict[str, float]]:
    """The terms at each step on one batch."""
    system = begun()
    task = TASKS[name](system).requires_grad_(True)
    run = Run(task, 0, weight_decay=0.0)
    found = []
    for step in range(steps):
        torch.manual_seed(step % 2)
        found.append(run.advance(lambda net: net.losses(given(name, batch)), rate))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name, term, share", [("encoder", "rec", 0.8), ("diffuser", "codes", 0.7)])
def test_sixty_steps_learn_a_batch_by_heart(name: str, term: str, share: float, fixed: Batch) -> None:
    found = [terms[term] for terms in overfitted(name, fixed)]
    assert min(found[-4:]) < share * found[0]


@pytest.mark.slow
def test_restoration_begins_with_what_came_in_and_learns_by_heart_what_is_missing(fixed: Batch) -> None:
    faded = Batch(0.5 * fixed.damaged - 0.2, fixed.truth)
    found = overfitted("restoration", faded)
    at_birth = summed(faded.damaged, faded.truth, None, {})
    assert found[0]["rec"] == pytest.approx(float(at_birth["rec"]), rel=1e-5)
    assert found[0]["steady"] == pytest.approx(0.6 * float((faded.damaged[::2] - faded.damaged[1::2]).abs().mean()))
    assert found[-1]["rec"] < 0.5 * found[0]["rec"]


@pytest.mark.slow
def test_sixty_steps_of_the_game_move_what_is_made_towards_faces(portraits: Portraits) -> None:
    """In brightness and colour, which a judge sees first."""
    system = begun()
    run = Run(Prior(system).requires_grad_(True), 0, weight_decay=0.0)
    for group in run.optimiser.param_groups:
        group["betas"] = GAME
    batches, rng = Truths(portraits, 8, SIDE), np.random.default_rng(0)
    faces = batches(np.random.default_rng(1)).mean((0, 2, 3))

    def away() -> float:
        with torch.no_grad():
            made = system.picture(styles(system.generator, NANO, 64, faces))
        return float((made.mean((0, 2, 3)) - faces).abs().mean())

    before = away()
    for _ in range(60):
        batch = batches(rng)
        run.advance(lambda net, batch=batch: net.losses(batch), 5e-3)  # type: ignore[misc]
    assert away() < 0.5 * before


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """Of random weights, with normalisation fitted to what it sees."""
    torch.manual_seed(5)
    net = Embedder().train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(4, 3, 112, 112))
    return net.eval().requires_grad_(False)


def test_who_it_is_counts_where_an_embedder_knows(fixed: Batch, embedder: Embedder) -> None:
    assert unlikeness(embedder, fixed.truth, fixed.truth) == pytest.approx(0, abs=1e-5)
    damaged, other = (unlikeness(embedder, x, fixed.truth) for x in (fixed.damaged, fixed.truth.flip(0)))
    assert 1e-5 < damaged < other
    for kind in (Codes, Healing, Restoring):
        task = kind(begun(), embedder).requires_grad_(True)
        assert {"identity"} == set(task.losses(fixed)) - set(kind(begun()).losses(fixed))
        assert "embedder" not in " ".join(task.state_dict())
    assert all(p.grad is None for p in embedder.parameters())


@pytest.mark.parametrize("name", TASKS)
def test_a_phase_cut_in_the_middle_goes_on_to_the_same_weights(name: str, portraits: Portraits, tmp_path: Path) -> None:
    batches: Any = Truths(portraits, 4, SIDE) if name == "prior" else Clips(portraits, 1, SIDE)

    def started() -> Run:
        return Run(TASKS[name](begun()).requires_grad_(True), seed=6)

    assert_a_power_cut_changes_nothing(started, batches, tmp_path / "run.pt")


def test_the_average_is_of_a_whole_system(fixed: Batch) -> None:
    """What is exported and shown: all that holds still, and the averaged part in its place."""
    system = begun()
    run = Run(Restoring(system).requires_grad_(True), 0, decay=0.5)
    before = copy.deepcopy(system.state_dict())
    run.advance(lambda net: net.losses(fixed), 1e-2)  # type: ignore[operator]
    average: Any = run.average
    assert average.system.net.restoration is average.restoration
    changed = {key.split(".")[1] for key, t in average.system.state_dict().items() if not torch.equal(t, before[key])}
    assert changed == {"restoration"}


# -- the recipe ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the recipe wants it: an index, and a shard of pictures."""
    folder = tmp_path_factory.mktemp("faces")
    rows = [f"face{i},{'val' if i > 3 else 'train'},free,photos" for i in range(6)]
    (folder / "faces.csv").write_text("\n".join(["stem,split,terms,source", *rows]) + "\n")
    with tarfile.open(folder / "faces256-free-0.tar", "w") as tar:
        for i in range(6):
            content = cv2.imencode(".jpg", picture(i), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            info = tarfile.TarInfo(f"face{i}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder


def recipe(faces: Path, folder: Path, phases: str, *more: str) -> Path:
    out = folder / "weights.safetensors"
    steps = ["--steps", "2", "--batch", "0.5", "--size", "nano", "--phases", phases]
    main(["--data", str(faces), "--out", str(out), "--work", str(folder / "work"), *steps, *more])
    return out


@pytest.mark.slow
def test_the_recipe_makes_weights_and_goes_on_where_it_was(
    faces: Path, embedder: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = ",".join(PHASES)
    save_file(embedder.state_dict(), tmp_path / "embedder.safetensors")
    teacher = ("--embedder", str(tmp_path / "embedder.safetensors"))
    whole = recipe(faces, tmp_path / "whole", every, *teacher)
    said = capsys.readouterr().out
    assert said.startswith("4 faces, 2 held out")
    assert said.count("held out, medium: PSNR") == len(PHASES) - 1
    assert load(whole).size == NANO
    work = {p.name for p in (tmp_path / "whole" / "work").iterdir()}
    assert work == {f"{name}.{kind}" for name in PHASES for kind in ("pt", "png")}

    recipe(faces, tmp_path / "parts", "prior,encoder", *teacher)
    assert not (tmp_path / "parts" / "weights.safetensors").exists(), "nothing restores yet"
    recipe(faces, tmp_path / "parts", "diffuser,restoration", *teacher)
    then = recipe(faces, tmp_path / "parts", "adversarial", *teacher)
    assert then.read_bytes() == whole.read_bytes()
    capsys.readouterr()
    recipe(faces, tmp_path / "parts", "adversarial", *teacher)
    assert "adversarial: going on at step 2" in capsys.readouterr().out


def test_the_recipe_names_what_is_wrong(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match="no phase judge; have prior, encoder"):
        recipe(faces, tmp_path, "judge")
    with pytest.raises(UsageError, match=r"phase prior: not trained: no .*prior\.pt; name it in --phases"):
        recipe(faces, tmp_path, "restoration")
