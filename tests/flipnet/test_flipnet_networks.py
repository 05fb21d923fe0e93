"""FLIPNET's networks: what they are at birth, what learns, both modes, the condition written once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from flipnets import NANO, at, born, latents, noise, stirred, tokens
from torch import Tensor, nn

from vidrestore_plugins.restore.flipnet import lora
from vidrestore_plugins.restore.flipnet.model import DEGRADE, RESTORE, FlipNet
from vidrestore_plugins.restore.flipnet.patched import PatchedAutoencoder
from vidrestore_plugins.restore.flipnet.prior import sites, vae_of
from vidrestore_plugins.restore.flipnet.schedule import denoised, diffused, noise_between
from vidrestore_plugins.restore.flipnet.sizes import SIZES, Name, VAESize
from vidrestore_plugins.restore.flipnet.tokens import Association, FaceDecoder, FaceEncoder

R, D = at(RESTORE, RESTORE), at(DEGRADE, DEGRADE)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "unet", "vae", "hubs", "updates", "encoder", "decoder"),
    [
        ("nano", 1_055_044, 261_079, 77_824, 21_504, 135_056, 146_723),
        ("mini", 8_936_064, 2_749_907, 606_208, 129_024, 794_336, 920_016),
        ("tiny", 44_553_352, 15_509_163, 3_342_336, 684_032, 1_829_472, 2_056_323),
        ("small", 224_170_568, 47_121_099, 17_842_176, 3_878_912, 10_593_856, 11_502_211),
        ("full", 865_910_724, 83_653_863, 49_561_600, 13_279_232, 29_745_472, 34_061_955),
    ],
)
def test_sizes(name: Name, unet: int, vae: int, hubs: int, updates: int, encoder: int, decoder: int) -> None:
    with torch.device("meta"):
        net, thrown_away = FlipNet(SIZES[name]), FaceDecoder(SIZES[name])
    assert (count(net.unet), count(net.vae), count(net.hubs)) == (unet, vae, hubs)
    assert count(net.encoders["lq"]) + count(net.projector) == encoder
    assert count(thrown_away) == decoder
    shapes = [net.unet.get_submodule(matrix).weight.shape for matrix in lora.matrices(net.unet)]
    assert sum(SIZES[name].rank * sum(shape) for shape in shapes) == updates
    assert count(net.tags) == 16 * SIZES[name].unet.widths[0]


def test_mini_is_small_enough_to_be_bundled() -> None:
    with torch.device("meta"):
        assert count(FlipNet(SIZES["mini"])) < 15_000_000


def test_full_has_the_names_of_stable_diffusion() -> None:
    with torch.device("meta"):
        net = FlipNet(SIZES["full"])
    unet, vae = net.unet.state_dict(), net.vae.state_dict()
    assert (len(unet), len(vae), len(sites(net.unet))) == (686, 248, 16)
    block = "up_blocks.3.attentions.2.transformer_blocks.0"
    known = {
        "time_embedding.linear_1.weight": (1280, 320),
        "down_blocks.0.attentions.0.proj_in.weight": (320, 320),
        f"{block}.attn1.to_q.weight": (320, 320),
        f"{block}.attn2.to_k.weight": (320, 1024),
        f"{block}.ff.net.0.proj.weight": (2560, 320),
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight": (1280, 1024),
    }
    assert {name: tuple(unet[name].shape) for name in known} == known
    assert tuple(vae["encoder.mid_block.attentions.0.to_out.0.weight"].shape) == (512, 512)
    assert net.unet.get_submodule(f"{block}.attn1").heads == 5, "heads of 64 channels"


@pytest.mark.parametrize("phi", [0.0, 1.0, 2.0])
def test_at_birth_it_is_the_prior(phi: float) -> None:
    net = born()
    z, c, t = latents(2, 1), tokens(2, 2), at(999, 10)
    with torch.inference_mode():
        bare = net.prior(z, t, c)
        lora.attach(net.unet, NANO.rank)
        eps, _ = net(z, latents(2, 3), t, at(0, 400), tokens(2, 4), c, R, phi)
    assert (eps - bare).abs().max() < 1e-5


def test_without_its_weight_a_hub_is_silent_whatever_it_learnt() -> None:
    net = born()
    z, c, t = latents(2, 1), tokens(2, 2), at(999, 10)
    with torch.inference_mode():
        bare = net.prior(z, t, c)
        for hub in net.hubs.parameters():
            hub.add_(noise(*hub.shape) / 5)
        eps = [net(z, latents(2, 3), t, at(0, 0), c, c, R, phi)[0] for phi in (0.0, 0.5, 1.0, 2.0)]
    assert (eps[0] - bare).abs().max() < 1e-5
    moved = [float((e - eps[0]).norm()) for e in eps]
    assert moved == sorted(moved) and moved[1] > 0.01, "the more weight, the further from the prior"


def test_gradients_go_where_they_belong() -> None:
    net = born().train()
    net.requires_grad_(False)
    lora.attach(net.unet, NANO.rank)
    for part in (net.hubs, net.projector, net.tags):
        part.requires_grad_(True)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    faces = noise(2, 3, 64, 64).tanh()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        c = net.tokens(faces, RESTORE)
        eps, _ = net(latents(2, 1), latents(2, 2), at(500, 20), at(0, 0), c, c, R)
        (eps - latents(2, 3)).square().mean().backward()

    def moved(kind: str) -> set[bool]:
        chosen = {
            "z": [p for name, p in net.hubs.named_parameters() if name.endswith("z.weight")],
            "qkv": [p for name, p in net.hubs.named_parameters() if not name.endswith("z.weight")],
            "A": [p for name, p in net.unet.named_parameters() if "lora_A" in name],
            "B": [p for name, p in net.unet.named_parameters() if "lora_B" in name],
        }[kind]
        assert len(chosen) == {"z": 7, "qkv": 21, "A": 56, "B": 56}[kind]
        return {p.grad is not None and bool(p.grad.abs().sum() > 0) for p in chosen}

    step()
    assert (moved("z"), moved("qkv"), moved("B"), moved("A")) == ({True}, {False}, {True}, {False})
    optimiser.step()
    step()
    last = {"up_blocks_1_attentions_1_transformer_blocks_0"}  # what y says after it is heard by nobody
    assert (moved("z"), moved("qkv"), moved("A")) == ({True}, {True}, {True}), last
    frozen = [net.vae, net.encoders]
    assert all(p.grad is None for part in frozen for p in part.parameters())
    assert all(p.grad is None for name, p in net.unet.named_parameters() if "lora_" not in name)
    assert all(p.grad is not None for part in (net.projector, net.tags) for p in part.parameters())


def test_one_object_has_both_modes() -> None:
    net = stirred(born())
    a, b, s, t = latents(2, 1), latents(2, 2), at(300, 40), at(0, 700)
    c, d = tokens(2, 3), tokens(2, 4)
    with torch.inference_mode():
        restored = net(a, b, s, t, c, d, R)
        degraded = net(a, b, s, t, c, d, D)
        mixed = net(a, b, s, t, c, d, at(RESTORE, DEGRADE))
        assert (restored[0] - degraded[0]).abs().max() > 1e-2
        for i, whole in enumerate(mixed):
            torch.testing.assert_close(whole[0], restored[i][0], atol=1e-5, rtol=0)
            torch.testing.assert_close(whole[1], degraded[i][1], atol=1e-5, rtol=0)
        net.tags.mode_emb.zero_()
        once, twice = net(a, b, s, t, c, d, R), net(b, a, t, s, d, c, D)
        for x, y in zip(once, twice, strict=True):
            assert torch.equal(x, y), "flipped twice, it reads the same"


@pytest.mark.parametrize("t", [999, 500, 1])
@pytest.mark.parametrize("phi", [0.5, 1.0, 2.0])
def test_what_the_condition_wrote_once_serves_every_step(t: int, phi: float) -> None:
    net = stirred(born())
    z_y, c = latents(2, 2), tokens(2, 3)
    with torch.inference_mode():
        cache = net.written(z_y, c, R)
        z_x = latents(2, t)
        read = net.noise(z_x, t, c, cache, R, phi)
        stacked, _ = net(z_x, z_y, at(t, t), at(0, 0), c, c, R, phi)
        both, _ = net(z_x, z_y, at(t, t), at(0, 0), c, c, R, phi, both=True)
    assert (read - stacked).abs().max() < 1e-4
    assert (read - both).abs().max() > 1e-3, "a condition that reads the image cannot be written once"


def test_faces_do_not_see_one_another() -> None:
    net = stirred(born())
    z_x, z_y, c, mode = latents(3, 1), latents(3, 2), tokens(3, 3), at(0, 1, 0)
    with torch.inference_mode():
        together = net.noise(z_x, 300, c, net.written(z_y, c, mode), mode)
        for i in range(3):
            row = slice(i, i + 1)
            alone = net.noise(z_x[row], 300, c[row], net.written(z_y[row], c[row], mode[row]), mode[row])
            torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=0)


def test_merged_updates_are_the_attached_ones() -> None:
    attached, merged = born(), born()
    lora.attach(attached.unet, NANO.rank)
    with torch.no_grad():
        for name, p in attached.unet.named_parameters():
            if "lora_B" in name:
                p.copy_(noise(*p.shape) / 10)
    updates = lora.taken(attached.unet)
    before = {name: value.clone() for name, value in merged.unet.state_dict().items()}
    z, c, t = latents(2, 1), tokens(2, 2), at(999, 10)
    with torch.inference_mode():
        bare = merged.prior(z, t, c)
        lora.merge(merged.unet, updates)
        want, got = attached.prior(z, t, c), merged.prior(z, t, c)
        lora.merge(merged.unet, updates, sign=-1)
    assert (want - bare).abs().max() > 1e-2
    assert (got - want).abs().max() < 1e-5
    assert max((before[name] - value).abs().max().item() for name, value in merged.unet.state_dict().items()) < 1e-6


def drawn_faces(n: int, seed: int) -> Tensor:
    """Two eyes and a mouth on a disc, of any colour and place: [n, 3, 64, 64] in -1..1."""
    gen = torch.Generator().manual_seed(seed)
    ticks = (torch.arange(64) + 0.5) / 64
    y, x = ticks[:, None], ticks[None]
    pictures = []
    for _ in range(n):
        u = torch.rand(24, generator=gen)
        picture = u[:3, None, None] * torch.ones(3, 64, 64)
        places = ((0.5, 0.5, 0.3 + 0.1 * u[3]), (0.35, 0.4, 0.06), (0.65, 0.4, 0.06), (0.5, 0.7, 0.1))
        for i, (cx, cy, radius) in enumerate(places):
            dx, dy = 0.1 * (u[4 + 2 * i] - 0.5), 0.1 * (u[5 + 2 * i] - 0.5)
            inside = ((x - cx - dx) ** 2 + (y - cy - dy) ** 2 < radius**2).float()
            colour = u[12 + 3 * i : 15 + 3 * i, None, None]
            picture = picture * (1 - inside) + colour * inside
        pictures.append(picture)
    return 2 * torch.stack(pictures) - 1


def pooled(faces: Tensor, seed: int) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    rows = []
    for face in faces:
        k = (2, 4, 8)[int(torch.randint(3, (1,), generator=gen))]
        small = F.avg_pool2d(face[None], k)
        rows.append(F.interpolate(small + 0.05 * torch.randn(small.shape, generator=gen), scale_factor=k)[0])
    return torch.stack(rows)


@torch.inference_mode()
def retrieved(hq: FaceEncoder, lq: FaceEncoder, faces: Tensor, damaged: Tensor) -> float:
    """Share of the damaged faces whose tokens, place by place, are most like their own face's."""
    q, k = (F.normalize(net(x).flatten(2), dim=1).flatten(1) for net, x in ((hq, faces), (lq, damaged)))
    return float(((k @ q.T).argmax(1) == torch.arange(len(faces))).float().mean())


def rows_of(step: int) -> Tensor:
    return torch.randperm(64, generator=torch.Generator().manual_seed(step))[:8]


def learnt_by_heart(faces: Tensor, seed: int) -> FaceEncoder:
    """An encoder whose tokens a decoder can make faces from: the first stage of training."""
    torch.manual_seed(seed)
    encoder, decoder = FaceEncoder(NANO), FaceDecoder(NANO)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 2e-3)
    for step in range(60):
        optimiser.zero_grad()
        x = faces[rows_of(step)]
        (decoder(encoder(x)) - x).abs().mean().backward()
        optimiser.step()
    return encoder


def test_association_lets_damaged_faces_find_themselves() -> None:
    faces, held = drawn_faces(64, 0), drawn_faces(32, 1)
    damaged, held_damaged = pooled(faces, 2), pooled(held, 3)
    hq, lq = learnt_by_heart(faces, 0).eval().requires_grad_(False), learnt_by_heart(damaged, 1)
    still = [p.clone() for p in hq.parameters()]
    assert retrieved(hq, lq, held, held_damaged) <= 0.3
    loss = Association()
    optimiser = torch.optim.Adam([*lq.parameters(), *loss.parameters()], 2e-3)
    for step in range(50):
        optimiser.zero_grad()
        x = rows_of(step)
        loss(hq(faces[x]), lq(damaged[x])).backward()
        optimiser.step()
    assert retrieved(hq, lq, held, held_damaged) >= 0.6
    assert all(torch.equal(a, b) for a, b in zip(still, hq.parameters(), strict=True))


def test_association_draws_from_other_faces_when_there_are_many() -> None:
    """With identical tokens everywhere, all are equally likely: the face's own and the drawn ones."""
    grid = torch.ones(4, 8, 4, 4)
    few, all_ = Association(negatives=10), Association()
    torch.manual_seed(0)
    assert all_(grid, grid).item() == pytest.approx(torch.tensor(64.0).log().item(), abs=1e-4)
    assert 16 < few(grid, grid).exp().item() < 16 + 10


def test_a_patched_autoencoder_begins_as_the_principal_components_of_its_cells() -> None:
    size = VAESize(patch=2, widths=(16, 16), layers=1, groups=8, channels=7)
    vae = vae_of(size)
    assert isinstance(vae, PatchedAutoencoder)
    faces = F.interpolate(torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(3)), (32, 32)).tanh()
    vae.anchor(faces)
    with torch.inference_mode():
        z = vae.encode(faces).latent_dist.mean
        y = vae.decode(z).sample
    cells = F.unfold(faces, 4, stride=4).transpose(1, 2).flatten(0, 1)
    back = F.unfold(y, 4, stride=4).transpose(1, 2).flatten(0, 1)
    variances = torch.linalg.eigvalsh(torch.cov(cells.T, correction=0)).flip(0)
    assert z.shape == (6, 7, 8, 8)
    torch.testing.assert_close(z.var((0, 2, 3), correction=0), variances[:7].sqrt(), rtol=1e-3, atol=1e-3)
    lost = (back - cells).var(0, correction=0).sum()
    torch.testing.assert_close(lost, variances[7:].sum(), rtol=1e-3, atol=1e-3)


def test_restoring_by_difference_loses_nothing_where_nothing_changes() -> None:
    size = NANO.model_copy(update={"by_difference": True})
    net = FlipNet(size).eval()
    faces = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        z = net.encode(faces)
        torch.testing.assert_close(net.restored(z, z, faces), faces)
        assert not torch.allclose(net.restored(z + 1, z, faces), faces, atol=1e-3)


def test_where_it_was_learnt_one_pass_over_the_damaged_latent_restores() -> None:
    net = FlipNet(NANO.model_copy(update={"at_once": 100, "start": 300})).eval()
    z_y, eps = latents(2, 0), latents(2, 1)
    z, asked = net.beginning(z_y, eps, RESTORE)
    assert torch.equal(z, z_y) and asked == [100]
    z_hq = latents(2, 2)
    lacking = noise_between(z_hq, 100, z_y)
    torch.testing.assert_close(denoised(z_y, 100, lacking), z_hq)
    torch.testing.assert_close(diffused(z_hq, 100, lacking), z_y)

    z, asked = net.beginning(z_y, eps, RESTORE, steps=4)
    assert asked[0] == 300 and len(asked) == 4
    torch.testing.assert_close(z, diffused(z_y, 300, eps))
    assert net.beginning(z_y, eps, DEGRADE)[1][0] == 300, "damage has many faces: it is always drawn"
    assert net.beginning(z_y, eps, RESTORE, start=500)[1][0] == 500
    plain = FlipNet(NANO).eval()
    assert len(plain.beginning(z_y, eps, RESTORE)[1]) == 20 and plain.beginning(z_y, eps, RESTORE)[1][0] == 999
