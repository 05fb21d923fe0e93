"""LD-BFR's networks as they are published, counted without memory; the own sizes' figures."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vidrestore_plugins.restore.ldbfr.attention import AttentionBlock
from vidrestore_plugins.restore.ldbfr.f4 import VQF4
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.sizes import SIZES, LiteVQSize, Size, VQF4Size, VQSize
from vidrestore_plugins.restore.ldbfr.taming import Attention
from vidrestore_plugins.restore.ldbfr.unet import UNet
from vidrestore_plugins.restore.ldbfr.vq import VQStage1

FULL = SIZES["full"]


def counts(module: nn.Module) -> tuple[int, int]:
    """Parameters, tensors of the state."""
    return sum(p.numel() for p in module.parameters()), len(module.state_dict())


def on_meta(make: type, *args: object) -> nn.Module:
    with torch.device("meta"):
        module: nn.Module = make(*args)
    return module


def test_published_stage_1() -> None:
    stage1 = on_meta(VQStage1, VQSize())
    assert counts(stage1) == (72_936_003, 399)
    assert counts(stage1.encoder) == (29_416_000, 164)
    assert counts(stage1.decoder) == (42_863_107, 222)
    assert counts(stage1.mid_Cross) == (263_168, 8)


@pytest.mark.parametrize(
    "kind, heads, expected",
    [("restoreformer", 8, (72_680_003, 405)), ("restoreformer++", 4, (73_472_579, 441))],
)
def test_restoreformer(kind: str, heads: int, expected: tuple[int, int]) -> None:
    size = VQSize(kind=kind)
    assert size.attn_heads == heads
    assert counts(on_meta(VQStage1, size)) == expected


def test_published_auto_encoder_of_latents() -> None:
    ae = on_meta(VQF4, VQF4Size())
    assert counts(ae) == (55_322_782, 205)
    assert counts(ae.encoder) == (22_337_411, 88)
    assert counts(ae.decoder) == (32_960_771, 112)


def test_published_unet() -> None:
    plain = FULL.unet.model_copy(update={"inject_enc": "none", "inject_dec": "none"})
    assert counts(on_meta(UNet, plain, 256, Fraction(4))) == (274_056_163, 368)
    unet = on_meta(UNet, FULL.unet, 256, Fraction(4))
    assert counts(unet)[0] == 345_713_315
    assert sum(p.numel() for p in unet.injected()) == 71_657_152


def test_what_counts_of_parameters_do_not_tell() -> None:
    """Groups of norms and heads: with other ones the same weights mean something else."""
    unet = on_meta(UNet, FULL.unet, 256, Fraction(4))
    groups = {(m.num_groups, m.eps) for m in unet.modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {(32, 1e-5)}
    heads = {m.proj_out.out_channels: m.heads for m in unet.modules() if isinstance(m, AttentionBlock)}
    assert heads == {448: 14, 672: 21, 896: 28}
    auto_encoders = on_meta(VQF4, VQF4Size()), on_meta(VQStage1, VQSize())
    for module in auto_encoders:
        assert {(m.num_groups, m.eps) for m in module.modules() if isinstance(m, nn.GroupNorm)} == {(32, 1e-6)}
        assert {m.heads for m in module.modules() if isinstance(m, Attention)} == {1}


def test_cost_of_a_published_call() -> None:
    """1e9 operations at 64 x 64 positions: 202.4 without injection, 280.7 with it, of them 7.0 once a face."""
    z, t, g = (torch.empty(shape, device="meta") for shape in ((1, 3, 64, 64), (1,), (1, 256, 16, 16)))
    plain = FULL.unet.model_copy(update={"inject_enc": "none", "inject_dec": "none"})
    for size, once, each in ((plain, 0, 202.4), (FULL.unet, 7.05, 273.69)):
        unet = on_meta(UNet, size, 256, Fraction(4))
        with FlopCounterMode(display=False) as before:
            prepared = unet.prepare(g)
        with FlopCounterMode(display=False) as call:
            unet(z, t, prepared)
        cost = before.get_total_flops() / 1e9, call.get_total_flops() / 1e9
        assert cost == pytest.approx((once, each), abs=0.01)


def test_published_whole() -> None:
    assert counts(on_meta(LDBFR, FULL))[0] == 473_972_100


def test_widths_of_some_published_tensors() -> None:
    shapes = {name: tuple(t.shape) for name, t in on_meta(LDBFR, FULL).state_dict().items()}
    known = {
        "unet.time_embed.0.weight": (896, 224),
        "unet.input_blocks.0.0.weight": (224, 3, 3, 3),
        "unet.input_blocks.3.0.op.weight": (224, 224, 3, 3),
        "unet.input_blocks.4.0.skip_connection.weight": (448, 224, 1, 1),
        "unet.input_blocks.4.1.cross_conv_1.weight": (896, 448 + 64, 3, 3),
        "unet.input_blocks.7.1.cross_conv_1.weight": (1344, 672 + 256, 3, 3),
        "unet.input_blocks.11.1.qkv.weight": (2688, 896, 1),
        "unet.middle_block.1.proj_out.weight": (896, 896, 1),
        "unet.output_blocks.2.0.in_layers.2.weight": (896, 1568, 3, 3),
        "unet.output_blocks.2.2.conv.weight": (896, 896, 3, 3),
        "unet.output_blocks.3.1.cross_adaLN_modulation.1.weight": (1344, 672 + 256),
        "unet.output_blocks.6.1.cross_attn.to_k.weight": (448, 64),
        "unet.output_blocks.8.1.cross_proj_out.weight": (448, 448, 1, 1),
        "unet.output_blocks.9.0.emb_layers.1.weight": (224, 896),
        "unet.out.2.weight": (3, 224, 3, 3),
        "stage1.encoder.down.5.attn.1.norm.weight": (512,),
        "stage1.decoder.up.4.block.0.nin_shortcut.weight": (256, 512, 1, 1),
        "stage1.quantize.embedding.weight": (1024, 256),
        "stage1.mid_Cross.proj_out.weight": (256, 256, 1, 1),
        "ae.encoder.conv_out.weight": (3, 512, 3, 3),
        "ae.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "ae.quantize.embedding.weight": (8192, 3),
    }
    assert {name: shapes[name] for name in known} == known


@pytest.mark.parametrize(
    "name, stage1, ae, unet",
    [
        ("nano", 52_724, 22_471, 65_179),
        ("tiny", 1_903_244, 186_423, 3_272_291),
        ("small", 13_051_916, 2_621_135, 32_991_427),
    ],
)
def test_own_sizes(name: str, stage1: int, ae: int, unet: int) -> None:
    model = on_meta(LDBFR, SIZES[name])
    assert counts(model.stage1)[0] == pytest.approx(stage1, rel=0.02)
    assert counts(model.ae)[0] == ae
    assert counts(model.unet)[0] == unet


@pytest.mark.parametrize("name, ratio", [("nano", 2), ("tiny", 2), ("small", 2), ("full", 4)])
def test_side_of_the_latent_over_side_of_the_codes(name: str, ratio: int) -> None:
    assert SIZES[name].ratio == ratio


@pytest.mark.parametrize("side", [64, 128, 256])
def test_own_sizes_take_any_side(side: int) -> None:
    model = LDBFR(SIZES["nano"]).eval()
    x = torch.zeros(2, 3, side, side)
    with torch.inference_mode():
        h, features = model.stage1.encode(x)
        assert h.shape == (2, 16, side // 8, side // 8)
        g = model.stage1.look_up(model.stage1.book.nearest(h), h)
        assert model.stage1.decode(g, x, features).shape == x.shape
        z = model.ae.encode(x)
        assert z.shape == (2, 3, side // 4, side // 4)
        assert model.ae.decode(z).shape == x.shape
        assert model.unet(z, torch.zeros(2), model.unet.prepare(g)).shape == z.shape


def test_published_stage_1_sees_512_px_and_gives_the_side_it_was_given() -> None:
    stage1 = on_meta(VQStage1, VQSize())
    for side in (256, 512):
        x = torch.empty(1, 3, side, side, device="meta")
        h, queries = stage1.encode(x)
        assert h.shape == (1, 256, 16, 16) and not queries
        assert stage1.decode(h, x, queries).shape == x.shape


def test_a_size_survives_its_text_and_refuses_what_it_does_not_know() -> None:
    for size in SIZES.values():
        assert Size.model_validate_json(size.model_dump_json()) == size
    with pytest.raises(ValidationError, match="widhts"):
        LiteVQSize(widhts=(8,), widths=(8,), blocks=(1,), embed_dim=8, n_embed=8, dca_heads=1)
    with pytest.raises(ValidationError, match="stage2"):
        Size.model_validate(FULL.model_dump() | {"stage2": {}})
