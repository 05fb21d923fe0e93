"""Public checkpoints, imitated in small: what loads, what is refused, and by which name."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import torch
from nano import drawn, published, stirred
from safetensors.torch import load_file, save_file

from vidrestore.errors import ResourceError
from vidrestore_plugins.restore.ldbfr.checkpoints import LAYOUTS, Name, folded, load, renamed
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.schedule import Schedule
from vidrestore_plugins.restore.ldbfr.sizes import SIZES, DiffusionSize, Size, VQSize
from vidrestore_plugins.restore.ldbfr.unet import UNet
from vidrestore_plugins.restore.ldbfr.vq import VQStage1

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

State = dict[str, "Tensor"]
KIND = {"restoreformer": "restoreformer"}  # of stage 1 that a layout fills, where it is not LD-BFR's


def part(state: State, ours: str, theirs: str) -> State:
    return {theirs + key.removeprefix(ours): t for key, t in state.items() if key.startswith(ours)}


def schedule_tensors() -> State:
    schedule = Schedule(DiffusionSize())
    derived = ("sqrt_alphas_cumprod", "log_one_minus_alphas_cumprod", "posterior_variance", "posterior_mean_coef1")
    return {"betas": schedule.betas, "alphas_cumprod": schedule.abar} | {key: torch.zeros(1000) for key in derived}


def ldm(state: State, *, means: bool) -> State:
    unet = {key: t for key, t in part(state, "unet.", "").items() if "cross_" not in key}
    out = {f"model.diffusion_model.{key}": t for key, t in unet.items()}
    if means:
        out |= {f"model_ema.diffusion_model{key.replace('.', '')}": t + 1 for key, t in unet.items()}
        out |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    return out | part(state, "ae.", "first_stage_model.") | schedule_tensors() | {"logvar": torch.zeros(1000)}


def ld_bfr(state: State) -> State:
    out = part(state, "unet.", "model.diffusion_model.") | part(state, "stage1.", "first_stage_model.")
    at = "model.diffusion_model."
    dead = (f"{at}absolute_pos_embed", f"{at}input_blocks.3.1.cross_resize.weight")
    dead += (f"{at}input_blocks.3.1.cross_norm_2.bias", f"{at}output_blocks.0.1.cross_ff.net.0.proj.weight")
    return out | part(state, "ae.", "first_stage_model_gt.") | {key: torch.zeros(1) for key in dead}


def restoreformer(state: State) -> State:
    return part(state, "stage1.", "vqvae.") | {"loss.discriminator.weight": torch.zeros(1)}


def checkpoint(name: Name) -> State:
    """A checkpoint of that layout from a model of the published architecture with weights of its own."""
    kind = "restoreformer" if name in ("restoreformer", "hq-dictionary") else "vq_dca"
    state = stirred(LDBFR(published(kind))).state_dict()
    if name == "ldm":
        return ldm(state, means=False)
    if name == "vq-f4":
        return part(state, "ae.", "") | {"loss.logvar": torch.zeros(1)}
    return ld_bfr(state) if name == "ld-bfr" else restoreformer(state)


def target(name: Name) -> LDBFR:
    return LDBFR(published(KIND.get(name, "vq_dca")))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_checkpoint_fills_what_it_describes_and_nothing_else(name: Name) -> None:
    state, model = checkpoint(name), target(name)
    before = {key: t.clone() for key, t in model.state_dict().items()}
    load(model, state, name)
    come = renamed(state, name)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, come.get(key, before[key])), key
    new = {"ldm": "cross_", "hq-dictionary": "mid_Cross"}.get(name, "-")
    parts = {"ldm": ("unet", "ae"), "vq-f4": ("ae",), "ld-bfr": ("unet", "ae", "stage1")}.get(name, ("stage1",))
    assert set(come) == {key for key in before if key.startswith(parts) and new not in key}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named(name: Name) -> None:
    state, model = checkpoint(name), target(name)
    key = next(key for key in state if key.endswith("decoder.conv_in.weight"))
    with pytest.raises(ResourceError, match=r"no tensor for '.*decoder\.conv_in\.weight'"):
        load(model, {k: t for k, t in state.items() if k != key}, name)
    with pytest.raises(ResourceError, match=r"'.*decoder\.conv_in\.weight' is \[1, 2\] instead of"):
        load(model, state | {key: torch.zeros(1, 2)}, name)
    strange = key.replace("conv_in", "conv_inn")
    with pytest.raises(ResourceError, match=r"unknown tensor '.*decoder\.conv_inn\.weight'"):
        load(model, state | {strange: torch.zeros(1)}, name)
    with pytest.raises(ResourceError, match=r"unknown tensor 'head\.weight'"):
        load(model, state | {"head.weight": torch.zeros(1)}, name)


def test_a_refused_checkpoint_leaves_the_model_as_it_was() -> None:
    model = target("ldm")
    before = {key: t.clone() for key, t in model.state_dict().items()}
    with pytest.raises(ResourceError):
        load(model, checkpoint("ldm") | {"head.weight": torch.zeros(1)}, "ldm")
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())


def test_the_averaged_unet_is_preferred() -> None:
    source = stirred(LDBFR(published()))
    state, model = ldm(source.state_dict(), means=True), target("ldm")
    load(model, state, "ldm")
    for key, tensor in model.unet.state_dict().items():
        if "cross_" not in key:
            torch.testing.assert_close(tensor, source.unet.state_dict()[key] + 1)
    lacking = "model_ema.diffusion_modelinput_blocks00weight"
    with pytest.raises(ResourceError, match=lacking):
        load(model, {key: t for key, t in state.items() if key != lacking}, "ldm")


def test_names_without_dots_stay_unique() -> None:
    plain = SIZES["full"].unet.model_copy(update={"inject_enc": "none", "inject_dec": "none"})
    with torch.device("meta"):
        names = [f"unet.{key}" for key in UNet(plain, 256, Fraction(4)).state_dict()]
    assert len(names) == len({folded(name) for name in names}) == 368
    assert folded("unet.input_blocks.4.1.qkv.weight") == "model_ema.diffusion_modelinput_blocks41qkvweight"


def test_another_noise_schedule_is_refused() -> None:
    state = checkpoint("ldm")
    linear = torch.linspace(0.0001, 0.02, 1000)
    with pytest.raises(ResourceError, match="'betas' belongs to another"):
        load(target("ldm"), state | {"betas": linear}, "ldm")
    with pytest.raises(ResourceError, match="'alphas_cumprod' belongs to another"):
        load(target("ldm"), state | {"alphas_cumprod": (1 - linear).cumprod(0)}, "ldm")


def test_a_scale_of_latents_is_kept() -> None:
    state, plain, scaled = checkpoint("ldm"), target("ldm"), target("ldm")
    load(plain, state, "ldm")
    load(scaled, state | {"scale_factor": torch.tensor(0.25)}, "ldm")
    with torch.inference_mode():
        y = drawn(1, 3, 32, 32)
        z = plain.ae.encode(y)
        torch.testing.assert_close(scaled.ae.encode(y), 0.25 * z)
        torch.testing.assert_close(scaled.ae.decode(0.25 * z), plain.ae.decode(z), atol=1e-4, rtol=1e-4)


def test_the_dictionary_of_restoreformer_gives_ld_bfr_the_same_feature() -> None:
    model, theirs = target("hq-dictionary"), stirred(LDBFR(published("restoreformer")))
    load(model, restoreformer(theirs.state_dict()), "hq-dictionary")
    x = drawn(1, 3, 64, 64)
    with torch.inference_mode():
        h, _ = theirs.stage1.encode(x)
        torch.testing.assert_close(model.stage1.encode(x)[0], h)
        q = theirs.stage1.look_up(theirs.stage1.book.nearest(h), h)
        torch.testing.assert_close(model.stage1.decode(q, x, []), theirs.stage1.decode(q, x, []))


def test_the_published_dictionary_has_391_of_399_tensors() -> None:
    with torch.device("meta"):
        theirs = restoreformer(
            {f"stage1.{k}": t for k, t in VQStage1(VQSize(kind="restoreformer")).state_dict().items()}
        )
        ours = {f"stage1.{key}": t.shape for key, t in VQStage1(VQSize()).state_dict().items()}
    assert sum(key.startswith("vqvae.") for key in theirs) == 405
    come = {key: t.shape for key, t in renamed(theirs, "hq-dictionary").items()}
    assert len(come) == 391
    assert {key for key in ours if key not in come} == {key for key in ours if "mid_Cross" in key}
    assert come.items() <= ours.items()


@pytest.mark.parametrize("size", [SIZES["nano"], published()], ids=["own", "published"])
def test_weights_survive_a_file(size: Size, tmp_path: Path) -> None:
    model = LDBFR(size)
    save_file(model.state_dict(), tmp_path / "ldbfr.safetensors")
    with torch.device("meta"):
        again = LDBFR(size)
    again.load_state_dict(load_file(tmp_path / "ldbfr.safetensors"), assign=True)
    read = again.state_dict()
    assert all(torch.equal(t, read[key]) for key, t in model.state_dict().items())
    assert torch.equal(again.schedule.abar, model.schedule.abar)


@pytest.mark.parametrize("size", [SIZES["nano"], published()], ids=["own", "published"])
def test_no_tensor_is_dead(size: Size) -> None:
    model = stirred(LDBFR(size))
    x, z, t = drawn(1, 3, 64, 64), drawn(1, 3, 16, 16), torch.tensor([3])
    y1, h, codes = model.stage1(x)
    out = model.unet(z, t, model.unet.prepare(model.stage1.look_up(codes, h)))
    latent = model.ae.encode(x)
    loss = sum(part.square().mean() for part in (y1, out, latent, model.ae.decode(latent)))
    loss.backward()
    unread = {name for name, p in model.named_parameters() if p.grad is None}
    assert not {name for name in unread if "embedding" not in name}  # of codes, which distances alone read
