"""LD-BFR's parts against the equations written out: loops, brute force, closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from nano import UNET, drawn, own, published, stirred, vq_size
from torch import Tensor

from vidrestore_plugins.restore.ldbfr.attention import AttentionBlock, self_attention
from vidrestore_plugins.restore.ldbfr.colour import low_band, recoloured
from vidrestore_plugins.restore.ldbfr.dca import ChannelScale, DualCrossAttention
from vidrestore_plugins.restore.ldbfr.f4 import VQF4
from vidrestore_plugins.restore.ldbfr.injection import AdaptiveCrossAttention, ConvSelfAttention, Injection
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.quantise import Codebook
from vidrestore_plugins.restore.ldbfr.sizes import SIZES, Size
from vidrestore_plugins.restore.ldbfr.taming import Attention
from vidrestore_plugins.restore.ldbfr.unet import UNet, time_embedding
from vidrestore_plugins.restore.ldbfr.vq import VQStage1

C, HEADS = 8, 2


def attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention of [c, p] tables, position by position and head by head."""
    d = len(query) // heads
    out = torch.zeros_like(query)
    for head in range(heads):
        rows = slice(head * d, (head + 1) * d)
        for p in range(query.shape[1]):
            weights = torch.softmax(key[rows].T @ query[rows, p] / math.sqrt(d), 0)
            out[rows, p] = value[rows] @ weights
    return out


def table(layer: torch.nn.Conv2d | torch.nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of one position on [c, p]."""
    return layer.weight.flatten(1) @ x + layer.bias[:, None]


@pytest.mark.parametrize("scale", ["none", "cos"])
def test_dual_cross_attention(scale: ChannelScale) -> None:
    dca = stirred(DualCrossAttention(C, HEADS, scale))
    q, h = drawn(1, C, 3, 4), drawn(1, C, 3, 4, seed=1)
    Q, H = q[0].flatten(1), h[0].flatten(1)
    if scale == "none":
        M = torch.stack([torch.softmax(torch.stack([row @ other for other in H]), 0) for row in H])
    else:
        unit = [row / row.norm() for row in H]
        M = torch.stack([torch.softmax(dca.tau * torch.stack([row @ other for other in unit]), 0) for row in unit])
    Q1 = Q + M @ Q
    expected = Q + table(dca.proj_out, attended(table(dca.q, H), table(dca.k, Q1), table(dca.v, Q1), HEADS))
    torch.testing.assert_close(dca(q, h)[0].flatten(1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("unit", [True, False])
def test_nearest_codes_are_those_of_a_search_by_brute_force(unit: bool) -> None:
    book = Codebook(50, 6, unit=unit)
    h = book.compared(drawn(2, 6, 3, 5))
    found = book.nearest(h)
    for n in range(2):
        for p, x in enumerate(h[n].flatten(1).T):
            gaps = [float(((x - e) ** 2).sum()) for e in book.embedding.weight.detach()]
            assert found[n, p] == gaps.index(min(gaps))
    q, codes = book(h)
    torch.testing.assert_close(q, book.embedding.weight[codes].transpose(1, 2).reshape(h.shape))


def test_of_equally_near_codes_the_first_is_taken() -> None:
    book = Codebook(6, 2, unit=False)
    codes = torch.tensor([[5.0, 5], [1, 0], [0, 1], [1, 0], [-1, 0], [0, -1]])
    book.embedding.weight.data.copy_(codes)
    h = torch.tensor([[0.0, 0], [1, 0], [0.5, 0.5]]).T.reshape(1, 2, 1, 3)
    assert book.nearest(h).tolist() == [[1, 1, 1]]


def test_latents_are_decoded_from_their_nearest_codes_one_face_or_many() -> None:
    ae = stirred(VQF4(published().ae))
    z = drawn(3, 3, 4, 4)
    q = ae.nearest(z)
    gaps = (z.flatten(2)[:, :, :, None] - ae.quantize.embedding.weight.T[None, :, None]).square().sum(1)
    torch.testing.assert_close(q.flatten(2), ae.quantize.embedding.weight[gaps.argmin(2)].transpose(1, 2))
    torch.testing.assert_close(ae.nearest(q), q)
    torch.testing.assert_close(ae.decode(z), ae.decode(q))


def test_the_plain_latents_are_standardised_and_back() -> None:
    ae = own().ae
    y = drawn(2, 3, 16, 16)
    raw = ae.encode(y)
    before = ae.decode(raw)
    ae.latent_mean.copy_(torch.tensor([1.0, -2, 3]))
    ae.latent_std.copy_(torch.tensor([2.0, 0.5, 1]))
    z = ae.encode(y)
    torch.testing.assert_close(z[:, 1], (raw[:, 1] + 2) / 0.5)
    torch.testing.assert_close(ae.decode(z), before)


@pytest.mark.parametrize("heads", [1, 4])
def test_the_auto_encoders_attention(heads: int) -> None:
    layer = stirred(Attention(C, heads, queried=False))
    x = drawn(1, C, 3, 4)
    n = layer.norm(x)[0].flatten(1)
    out = attended(table(layer.q, n), table(layer.k, n), table(layer.v, n), heads)
    torch.testing.assert_close(layer(x)[0].flatten(1), x[0].flatten(1) + table(layer.proj_out, out))


def test_attention_asked_by_another_feature() -> None:
    layer = stirred(Attention(C, HEADS, queried=True))
    x, y = drawn(1, C, 3, 4), drawn(1, C, 3, 4, seed=1)
    n, asked = layer.norm1(x)[0].flatten(1), layer.norm2(y)[0].flatten(1)
    out = attended(table(layer.q, asked), table(layer.k, n), table(layer.v, n), HEADS)
    torch.testing.assert_close(layer(x, y)[0].flatten(1), x[0].flatten(1) + table(layer.proj_out, out))


@pytest.mark.parametrize("kind, used", [("vq_dca", 0), ("restoreformer", 2), ("restoreformer++", 3)])
def test_the_decoder_asks_with_the_encoders_features(kind: str, used: int) -> None:
    stage1 = stirred(VQStage1(vq_size(kind)))
    x = drawn(1, 3, 64, 64)
    h, queries = stage1.encode(x)
    assert len(queries) == used
    g = stage1.look_up(stage1.book.nearest(h), h)
    y = stage1.decode(g, x, queries)
    torch.testing.assert_close(stage1(x)[0], y, atol=1e-4, rtol=1e-4)
    for i in range(used):
        other = [*queries[:i], queries[i].flip(3), *queries[i + 1 :]]
        assert (stage1.decode(g, x, other) - y).abs().max() > 1e-4


def test_orders_of_query_key_and_value_differ_by_a_permutation_of_channels() -> None:
    qkv = drawn(2, 5, 3 * C)
    new = qkv.reshape(2, 5, HEADS, 3, C // HEADS).transpose(2, 3).flatten(2)
    torch.testing.assert_close(self_attention(qkv, HEADS, "legacy"), self_attention(new, HEADS, "new"))
    q, k, v = new[0].T.split(C)
    torch.testing.assert_close(self_attention(new, HEADS, "new")[0].T, attended(q, k, v, HEADS))


def test_time_embedding_begins_with_the_cosine() -> None:
    emb = time_embedding(torch.tensor([0, 7]), 4)
    torch.testing.assert_close(emb[0], torch.tensor([1.0, 1, 0, 0]))
    w = [1.0, 0.01]
    torch.testing.assert_close(emb[1], torch.tensor([math.cos(7 * a) for a in w] + [math.sin(7 * a) for a in w]))


KINDS = {"convsa": ConvSelfAttention, "adaca": AdaptiveCrossAttention}


def injection(kind: str, zoom: Fraction) -> tuple[Injection, Tensor, Tensor]:
    """An injection of 16 channels on 8 x 8 positions, its input, and g of 16 channels."""
    x, g = drawn(2, 16, 8, 8), drawn(2, 16, int(8 / zoom), int(8 / zoom), seed=1)
    return KINDS[kind](16, int(16 / zoom**2), 2, "legacy", zoom), x, g


def plainly(layer: Injection, x: Tensor, g: Tensor) -> Tensor:
    """The injection as published: u and c concatenated, nothing prepared."""
    n, ch, side, _ = x.shape
    u = AttentionBlock.forward(layer, x)
    c = F.pixel_shuffle(g, side // g.shape[2]) if side >= g.shape[2] else F.pixel_unshuffle(g, g.shape[2] // side)
    if isinstance(layer, ConvSelfAttention):
        f = layer.cross_conv_2(layer.cross_norm_1(layer.cross_conv_1(torch.cat([u, c], 1))))
        q, k, v = layer.cross_qkv(layer.cross_norm(f).flatten(2)).chunk(3, 1)
        a = torch.stack([attended(q[i], k[i], v[i], layer.heads) for i in range(n)])
        return u + layer.cross_proj_out(a).view_as(u)
    assert isinstance(layer, AdaptiveCrossAttention)
    T, K = u.flatten(2).transpose(1, 2), c.flatten(2).transpose(1, 2)
    scale, shift = layer.cross_adaLN_modulation(torch.cat([T, K], 2)).chunk(2, 2)
    asked = layer.cross_norm2(layer.cross_norm1(T) * (1 + scale) + shift)
    attn = layer.cross_attn
    q, k, v = (m.transpose(1, 2) for m in (attn.to_q(asked), attn.to_k(K), attn.to_v(K)))
    a = torch.stack([attended(q[i], k[i], v[i], layer.heads) for i in range(n)])
    o = attn.to_out[0](a.transpose(1, 2)) + T
    return u + layer.cross_proj_out(o.transpose(1, 2).reshape(n, ch, side, side))


@pytest.mark.parametrize("zoom", [Fraction(2), Fraction(1), Fraction(1, 2)])
@pytest.mark.parametrize("kind", ["convsa", "adaca"])
def test_injection_equals_the_published_formula(kind: str, zoom: Fraction) -> None:
    layer, x, g = injection(kind, zoom)
    stirred(layer)
    out = layer(x, layer.prepare(g))
    torch.testing.assert_close(out, plainly(layer, x, g), atol=1e-4, rtol=1e-4)
    assert (out - layer(x, layer.prepare(g.flip(2)))).abs().max() > 1e-3  # g reaches the output


@pytest.mark.parametrize("zoom", [Fraction(2), Fraction(1), Fraction(1, 2)])
@pytest.mark.parametrize("kind", ["convsa", "adaca"])
def test_injection_is_the_attention_alone_at_birth(kind: str, zoom: Fraction) -> None:
    layer, x, g = injection(kind, zoom)
    torch.nn.init.normal_(layer.proj_out.weight)
    assert torch.equal(layer(x, layer.prepare(g)), AttentionBlock.forward(layer, x))


@pytest.mark.parametrize("enc", ["convsa", "adaca", "none"])
@pytest.mark.parametrize("dec", ["convsa", "adaca", "none"])
def test_unet_at_birth_of_its_injections_is_the_plain_unet(enc: str, dec: str) -> None:
    def unet(**kinds: str) -> UNet:
        return UNet(UNET.model_copy(update=kinds), 16, Fraction(2)).eval()

    plain, injected = stirred(unet(inject_enc="none", inject_dec="none")), unet(inject_enc=enc, inject_dec=dec)
    lacking, unknown = injected.load_state_dict(plain.state_dict(), strict=False)
    assert not unknown and all("cross_" in name for name in lacking)
    assert len(lacking) == len(injected.injected())
    z, t, g = drawn(2, 3, 16, 16), torch.tensor([3, 700]), drawn(2, 16, 8, 8)
    assert torch.equal(injected(z, t, injected.prepare(g)), plain(z, t, []))


def test_only_the_injections_learn_beside_a_frozen_prior() -> None:
    unet = stirred(UNet(UNET, 16, Fraction(2))).requires_grad_(False)
    for p in unet.injected():
        p.requires_grad_(True)
    out = unet(drawn(2, 3, 16, 16), torch.tensor([3, 700]), unet.prepare(drawn(2, 16, 8, 8)))
    out.square().mean().backward()
    for name, p in unet.named_parameters():
        assert (p.grad is not None and bool(p.grad.abs().sum() > 0)) == ("cross_" in name), name


def test_colour_comes_from_one_picture_and_detail_from_the_other() -> None:
    y, y1 = drawn(1, 3, 64, 64), drawn(1, 3, 64, 64, seed=1)
    torch.testing.assert_close(recoloured(y, y), y)
    tint = torch.tensor([0.3, -0.2, 0.1])[:, None, None]
    torch.testing.assert_close(recoloured(y + tint, y), y)  # a cast goes
    torch.testing.assert_close(recoloured(y, y1), low_band(y1) + y - low_band(y), atol=1e-5, rtol=0)
    checks = ((torch.arange(80)[:, None] + torch.arange(80)) % 2 * 2.0 - 1).expand(1, 3, 80, 80)
    inner = (..., slice(32, -32), slice(32, -32))  # where no repeated edge reaches
    torch.testing.assert_close(recoloured(checks, torch.zeros(1, 3, 80, 80))[inner], checks[inner])
    assert low_band(y).std() < 0.06 * y.std()


def test_the_low_band_is_the_product_of_its_kernels() -> None:
    spike = torch.zeros(1, 1, 129, 129)
    spike[..., 64, 64] = 1
    line = torch.ones(1)
    for d in (1, 2, 4, 8, 16):
        step = torch.zeros(2 * d + 1)
        step[0], step[d], step[-1] = 0.25, 0.5, 0.25
        line = F.conv1d(F.pad(line[None, None], (2 * d, 2 * d)), step[None, None])[0, 0]
    assert len(line) == 63
    torch.testing.assert_close(low_band(spike)[0, 0, 33:96, 33:96], line[:, None] * line)


@pytest.mark.parametrize("size", [SIZES["nano"], published()], ids=["own", "published"])
def test_a_batch_gives_what_its_faces_give_alone(size: Size) -> None:
    model = stirred(LDBFR(size))
    x, z, t = drawn(3, 3, 64, 64), drawn(3, 3, 16, 16), torch.tensor([1, 40, 90])

    def run(rows: slice) -> tuple[Tensor, ...]:
        h, features = model.stage1.encode(x[rows])
        g = model.stage1.look_up(model.stage1.book.nearest(h), h)
        y1 = model.stage1.decode(g, x[rows], features)
        out = model.unet(z[rows], t[rows], model.unet.prepare(g))
        return y1, out, model.ae.encode(x[rows]), model.ae.decode(z[rows])

    with torch.inference_mode():
        singles = [run(slice(i, i + 1)) for i in range(3)]
        for whole, parts in zip(run(slice(0, 3)), zip(*singles, strict=True), strict=True):
            torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [SIZES["nano"], published()], ids=["own", "published"])
def test_half_precision_weights_give_nearly_the_same(size: Size) -> None:
    model = stirred(LDBFR(size))
    half = LDBFR(size).eval()
    half.load_state_dict(model.state_dict())
    half.to(torch.bfloat16)
    x, z, t, g = drawn(1, 3, 64, 64) / 3, drawn(1, 3, 16, 16), torch.tensor([7]), drawn(1, 16, 8, 8)
    with torch.inference_mode():
        latent = half.ae.encode(x.bfloat16())
        assert latent.dtype == torch.float32
        torch.testing.assert_close(latent, model.ae.encode(x), atol=0.05, rtol=0.05)
        y = half.ae.decode(latent)
        assert y.dtype == torch.bfloat16 and y.isfinite().all()
        h, features = half.stage1.encode(x.bfloat16())
        assert h.dtype == torch.float32
        mine = half.stage1.look_up(half.stage1.book.nearest(h), h)
        assert half.stage1.decode(mine, x.bfloat16(), features).dtype == torch.bfloat16
        out = half.unet(z.bfloat16(), t, half.unet.prepare(g.bfloat16()))
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), model.unet(z, t, model.unet.prepare(g)), atol=0.05, rtol=0.05)
