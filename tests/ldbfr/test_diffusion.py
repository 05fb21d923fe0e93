"""Noise levels, conversions, steps and the sampler, against closed forms and diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from nano import drawn, own, published, stirred
from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.sampler import sample, start
from vidrestore_plugins.restore.ldbfr.schedule import Schedule
from vidrestore_plugins.restore.ldbfr.sizes import SIZES, DiffusionSize, Size

if TYPE_CHECKING:
    from collections.abc import Generator

EPS, V = Schedule(DiffusionSize(objective="eps")), Schedule(DiffusionSize(objective="v"))
SCHEDULES = pytest.mark.parametrize("schedule", [EPS, V], ids=["eps", "v"])


class Oracle(nn.Module):
    """Knows the true x0: answers as a perfect network would."""

    def __init__(self, schedule: Schedule, z0: Tensor) -> None:
        super().__init__()
        self.schedule, self.z0, self.weight = schedule, z0, nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, t: Tensor, prepared: list[tuple[Tensor, ...]]) -> Tensor:
        a = self.schedule.abar[t][:, None, None, None]
        eps = (z - a.sqrt() * self.z0) / (1 - a).sqrt()
        return self.schedule.target(self.z0, t, eps)


def driven(run: Generator[Tensor, Tensor, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What the sampler returns, and what it showed on the way."""
    shown: list[Tensor] = []
    try:
        x0 = next(run)
        while True:
            shown.append(x0)
            x0 = run.send(x0)
    except StopIteration as end:
        return end.value, shown


def test_noise_levels_are_the_published_ones() -> None:
    table = {0: 0.99850, 50: 0.91669, 100: 0.82312, 200: 0.61459, 250: 0.50842, 300: 0.40716, 400: 0.23445}
    table |= {500: 0.11492, 600: 0.04697, 800: 0.00418, 999: 0.000142}
    assert {t: float(EPS.abar[t]) for t in table} == pytest.approx(table, abs=1e-5)
    exact = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64).square()
    torch.testing.assert_close(EPS.abar.double(), (1 - exact).cumprod(0), atol=1e-6, rtol=0)


def test_steps() -> None:
    assert EPS.steps(50) == list(range(981, 0, -20))
    assert EPS.steps(8) == [876, 751, 626, 501, 376, 251, 126, 1]
    assert EPS.steps(1) == [1]
    assert EPS.steps(3) == [667, 334, 1]
    assert len(EPS.steps(50, 250)) == 13 and len(EPS.steps(20, 250)) == 5
    assert EPS.steps(8, 400) == [376, 251, 126, 1]
    for count in (0, 501):
        with pytest.raises(ValueError, match=r"have 1\.\.500"):
            EPS.steps(count)
    with pytest.raises(ValueError, match="at or below 0"):
        EPS.steps(8, 0)


@SCHEDULES
def test_noising_and_reading_back_are_inverse(schedule: Schedule) -> None:
    z0, eps, t = drawn(3, 3, 4, 4), drawn(3, 3, 4, 4, seed=1), torch.tensor([0, 400, 900])
    z = schedule.q_sample(z0, t, eps)
    x0, found = schedule.x0_eps(z, schedule.target(z0, t, eps), t)
    torch.testing.assert_close(x0, z0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, eps, atol=1e-4, rtol=1e-4)
    for i, one in enumerate(t.tolist()):
        torch.testing.assert_close(schedule.q_sample(z0[i], one, eps[i]), z[i])
    assert schedule.q_sample(z0.bfloat16(), t, eps.bfloat16()).dtype == torch.float32


@SCHEDULES
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_step_is_that_of_diffusers(schedule: Schedule, eta: float) -> None:
    size = schedule.size
    kind = "epsilon" if size.objective == "eps" else "v_prediction"
    theirs = DDIMScheduler(
        size.T, size.beta_start, size.beta_end, "scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=kind,
    )  # fmt: skip
    theirs.set_timesteps(50)
    steps = schedule.steps(50)
    assert steps == theirs.timesteps.tolist()
    z, out, noise = (drawn(2, 3, 4, 4, seed=i) for i in range(3))
    for t, t1 in [(981, 961), (501, 481), (21, 1), (1, 0)]:
        expected = theirs.step(out, t, z, eta=eta, variance_noise=noise if eta else None)
        x0, eps = schedule.x0_eps(z, out, t)
        torch.testing.assert_close(x0, expected.pred_original_sample, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            schedule.step(x0, eps, t, t1, eta, noise), expected.prev_sample, atol=1e-4, rtol=1e-4
        )


def test_a_step_that_needs_noise_asks_for_it() -> None:
    with pytest.raises(ValueError, match="from 501"):
        EPS.step(drawn(1, 3, 4, 4), drawn(1, 3, 4, 4), 501, 481, eta=1.0)


@SCHEDULES
@pytest.mark.parametrize("count", [1, 4, 10, 50])
def test_a_perfect_network_brings_back_the_true_latent(schedule: Schedule, count: int) -> None:
    z0, eps = drawn(2, 3, 8, 8), drawn(2, 3, 8, 8, seed=1)
    steps = schedule.steps(count)
    z = start(schedule, steps, eps, z0)
    x0, _ = driven(sample(Oracle(schedule, z0), [], z, schedule, steps))
    torch.testing.assert_close(x0, z0, atol=1e-4, rtol=1e-4)


@SCHEDULES
def test_from_another_pictures_latent_a_perfect_network_comes_to_the_true_one(schedule: Schedule) -> None:
    z0, near = drawn(2, 3, 8, 8), drawn(2, 3, 8, 8) + 0.1
    steps = schedule.steps(20, 400)
    z = start(schedule, steps, drawn(2, 3, 8, 8, seed=1), near)
    x0, _ = driven(sample(Oracle(schedule, z0), [], z, schedule, steps))
    torch.testing.assert_close(x0, z0, atol=1e-4, rtol=1e-4)


def test_starts() -> None:
    eps, z0, steps = drawn(2, 3, 8, 8), drawn(2, 3, 8, 8, seed=1), EPS.steps(8, 400)
    assert torch.equal(start(EPS, EPS.steps(8), eps), eps)
    abar = EPS.abar[376]
    torch.testing.assert_close(start(EPS, steps, eps, z0), abar.sqrt() * z0 + (1 - abar).sqrt() * eps)


@pytest.mark.parametrize("count", [1, 4, 10])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sampling_depends_on_what_is_handed_in_alone(count: int, eta: float) -> None:
    model = own()
    steps = model.schedule.steps(count)
    g, z = drawn(2, 16, 8, 8), drawn(2, 3, 16, 16, seed=1)
    noises = [drawn(2, 3, 16, 16, seed=10 + i) for i in steps[1:]]

    def run(seed: int, given: list[Tensor]) -> Tensor:
        torch.manual_seed(seed)
        with torch.inference_mode():
            prepared = model.unet.prepare(g)
            return driven(sample(model.unet, prepared, z, model.schedule, steps, eta=eta, noises=given))[0]

    first = run(0, noises)
    assert first.dtype == torch.float32 and bool(first.isfinite().all())
    assert torch.equal(run(1, noises), first)
    if eta and count > 1:
        assert not torch.equal(run(0, [-n for n in noises]), first)


def test_shown_latents_come_at_the_chosen_times_and_what_is_sent_back_is_used() -> None:
    model = own()
    steps = model.schedule.steps(5)
    g, z = drawn(1, 16, 8, 8), drawn(1, 3, 16, 16, seed=1)

    def run(show: list[int]) -> Generator[Tensor, Tensor, Tensor]:
        return sample(model.unet, model.unet.prepare(g), z, model.schedule, steps, show=show)

    with torch.inference_mode():
        plain, nothing = driven(run([]))
        watched, shown = driven(run([steps[2], steps[-1]]))
        assert not nothing and len(shown) == 2
        assert torch.equal(watched, plain) and torch.equal(shown[-1], plain)

        last = run([steps[-1]])
        with pytest.raises(StopIteration) as end:
            last.send(next(last) * 0 + 5)
        assert torch.equal(end.value.value, torch.full_like(plain, 5))

        middle = run([steps[2]])
        with pytest.raises(StopIteration) as end:
            middle.send(next(middle) + 1)
        assert not torch.allclose(end.value.value, plain)


def test_a_batch_of_faces_is_sampled_as_each_alone() -> None:
    model = own()
    steps = model.schedule.steps(4)
    g, z = drawn(3, 16, 8, 8), drawn(3, 3, 16, 16, seed=1)
    with torch.inference_mode():

        def run(rows: slice) -> Tensor:
            return driven(sample(model.unet, model.unet.prepare(g[rows]), z[rows], model.schedule, steps))[0]

        alone = torch.cat([run(slice(i, i + 1)) for i in range(3)])
        torch.testing.assert_close(run(slice(0, 3)), alone, atol=1e-5, rtol=1e-4)


def test_half_precision_networks_are_stepped_in_full() -> None:
    model = own().to(torch.bfloat16)
    steps = model.schedule.steps(4)
    with torch.inference_mode():
        prepared = model.unet.prepare(drawn(1, 16, 8, 8).bfloat16())
        x0, shown = driven(sample(model.unet, prepared, drawn(1, 3, 16, 16), model.schedule, steps, show=steps))
    assert [x.dtype for x in (x0, *shown)] == [torch.float32] * 5


@pytest.mark.parametrize("size", [SIZES["nano"], published()], ids=["own", "published"])
def test_distances_and_channel_attention_stay_in_full_precision_under_autocast(size: Size) -> None:
    model = stirred(LDBFR(size))
    x = drawn(1, 3, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        h, _ = model.stage1.encode(x)
        assert model.stage1.book.distances(h).dtype == torch.float32
        dca = model.stage1.dca if size is SIZES["nano"] else model.stage1.mid_Cross
        between = dca._between_channels(h)
        assert between.dtype == torch.float32
        z = model.ae.encode(x)
        assert z.dtype == torch.float32
    torch.testing.assert_close(between.sum(2), torch.ones_like(between.sum(2)))


def test_thirty_steps_of_training_lower_the_loss_by_a_fifth() -> None:
    torch.manual_seed(0)
    model = LDBFR(SIZES["nano"])
    unet, schedule = model.unet, model.schedule
    z0, g, eps = drawn(4, 3, 16, 16), drawn(4, 16, 8, 8), drawn(4, 3, 16, 16, seed=1)
    t = torch.tensor([10, 30, 60, 90])
    optimiser = torch.optim.AdamW(unet.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        out = unet(schedule.q_sample(z0, t, eps), t, unet.prepare(g))
        loss = (out - schedule.target(z0, t, eps)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name, p in unet.named_parameters():
        assert p.grad is not None and bool(p.grad.abs().sum() > 0), name
