"""The variational bound: every term against another way to say it, the whole against an entropy."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddim.errors import UserError
from ddim.evaluate import bound
from ddim.evaluate.bound import all_times, probabilities, sampled_times
from ddim.evaluate.dequantise import decoder_nll, decoder_std
from ddim.noise import stream
from ddim.schedule import cosine, from_betas, linear
from known import discretised, images, model

LINEAR = linear()
SHORT = linear(T=50, beta_start=0.002, beta_end=0.4)
MEAN, STD = 0.1, 0.25


@pytest.fixture
def known(gaussian):
    """The exact model of pixels that are N(MEAN, STD^2), on a short schedule."""
    return model(gaussian(MEAN, STD), SHORT, (1, 4, 4))


def drawn(count, seed=0):
    """Images of such pixels, in 17 grey levels."""
    p = discretised(MEAN, STD, 17)
    generator = torch.Generator().manual_seed(seed)
    return images(torch.multinomial(p, count * 16, True, generator=generator).view(count, 1, 4, 4))


def test_the_terms_are_the_divergences_of_ddpm_s_gaussians():
    """KL(q(x_(t-1) | x_t, x0) || p(x_(t-1) | x_t)) with the means and variances of DDPM's Eq. 7."""
    x0, predicted, x = torch.rand(3, 5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (2, 3, 500, 1000):
        beta, abar, before = LINEAR.betas[t], LINEAR.alpha_bar[t], LINEAR.alpha_bar[t - 1]

        def posterior(clean, beta=beta, abar=abar, before=before):
            mean = before.sqrt() * beta * clean + (1 - beta).sqrt() * (1 - before) * x
            return Normal(mean / (1 - abar), ((1 - before) / (1 - abar) * beta).sqrt())

        expected = kl_divergence(posterior(x0), posterior(predicted)).flatten(1).sum(1)
        found = bound.divergence(x0, predicted, torch.full((5,), t), LINEAR)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [LINEAR, SHORT, cosine()])
def test_the_last_term_is_a_divergence_from_the_standard_normal(schedule):
    x0 = torch.rand(5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    last = schedule(schedule.T)
    expected = kl_divergence(Normal(last.alpha * x0, last.sigma), Normal(0, 1)).flatten(1).sum(1)
    torch.testing.assert_close(bound.prior(x0, last), expected, rtol=1e-9, atol=1e-12)


def expected_terms(level):
    """The mean of L_0 ... L_T for a pixel at that grey level, in bits.

    x0_theta - x0 = (g alpha - 1) (x0 - m) + g sigma eps, g the gain of the exact denoiser: a formula for all but
    L_0, which is averaged over eps by Gauss and Hermite.
    """
    x0, snr = level / 16 * 2 - 1, SHORT.log_snr.exp()
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(60))
    terms = []
    for t in range(1, SHORT.N + 1):
        at = SHORT(t)
        gain = at.alpha * STD**2 / (at.alpha**2 * STD**2 + at.sigma**2)
        if t == 1:
            predicted = (x0 + (gain * at.alpha - 1) * (x0 - MEAN) + gain * at.sigma * nodes).view(-1, 1, 1, 1)
            nats = decoder_nll(torch.full_like(predicted, x0), predicted, decoder_std(SHORT), 17)
            terms.append((weights * nats).sum() / weights.sum())
        else:
            square = (gain * at.alpha - 1) ** 2 * (x0 - MEAN) ** 2 + gain**2 * at.sigma**2
            terms.append((snr[t - 1] - snr[t]) / 2 * square)
    last = bound.prior(torch.full((1, 1), x0, dtype=torch.float64), SHORT(SHORT.T))
    return torch.stack([*terms, last[0]]) / math.log(2)


def test_the_mean_bound_of_a_gaussian_is_a_formula(known):
    expected = expected_terms(11)
    many = images(torch.full((400, 1, 4, 4), 11))
    found = bound.measure(known, many, times=None, batch_size=400, progress=False)
    assert found.bits.mean == pytest.approx(float(expected.sum()), abs=2 * found.bits.margin)
    torch.testing.assert_close(found.terms, expected, rtol=0.1, atol=1e-5)  # 6400 pixels, each term by itself
    part = bound.measure(known, many, times=10, batch_size=400, progress=False)
    assert part.bits.mean == pytest.approx(float(expected.sum()), abs=2 * part.bits.margin)
    assert part.bits.margin < 4 * found.bits.margin


def test_with_all_times_the_terms_are_the_bound(known):
    found = bound.measure(known, drawn(6), times=None, progress=False)
    assert found.calls == 50
    assert len(found.terms) == 51
    assert found.bits.images == 6
    assert float(found.terms.sum()) == pytest.approx(found.bits.mean, rel=1e-12)


def test_the_bound_lies_above_the_entropy(known):
    """No code for grey levels is shorter, though this is one of the right law."""
    some, p = drawn(300), discretised(MEAN, STD, 17)
    found = bound.measure(known, some, times=None, batch_size=300, progress=False).bits
    assert found.mean - found.margin > float(-(p * p.log2()).sum())


def test_terms_that_nobody_was_asked_for_are_not_numbers(known):
    few = bound.measure(known, drawn(1), times=3, progress=False)
    asked = few.terms.isfinite()
    assert few.calls == 4
    assert bool(asked[0])
    assert bool(asked[-1])
    assert int(asked.sum()) <= 2 + 3
    assert math.isinf(few.bits.margin)


@pytest.mark.parametrize("schedule", [LINEAR, SHORT, from_betas([0.1, 0.3, 0.6, 1.0])])
def test_the_weights_are_exact(schedule):
    """Terms of the expected size are summed without error; any others without bias."""
    p, streams = probabilities(schedule), [stream(0, i) for i in range(4000)]
    assert len(p) == schedule.T - 1
    assert bool((p > 0).all())
    first, *rest = sampled_times(schedule, 8, streams)
    assert torch.equal(first[0], torch.ones(4000, dtype=torch.int64))
    assert torch.equal(first[1], torch.ones(4000, dtype=torch.float64))
    t, weight = (torch.stack(part) for part in zip(*rest, strict=True))
    assert t.shape == (8, 4000)
    assert int(t.min()) >= 2
    assert int(t.max()) <= schedule.T
    assert bool((t.diff(dim=0) >= 0).all())  # one in each part
    torch.testing.assert_close((weight * p[t - 2]).sum(0), torch.ones(4000, dtype=torch.float64))
    sizes = torch.rand(schedule.T - 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * p
    sums = (weight * sizes[t - 2]).sum(0)
    assert float(sums.mean()) == pytest.approx(float(sizes.sum()), abs=4 * float(sums.std()) / 4000**0.5 + 1e-12)


def test_every_time_once():
    t, weight = (torch.stack(part) for part in zip(*all_times(SHORT, 3), strict=True))
    assert torch.equal(t, torch.arange(1, 51)[:, None].expand(50, 3))
    assert bool((weight == 1).all())


def test_an_image_draws_the_same_in_any_batch(model):
    some = images(torch.randint(0, 17, (7, 1, 8, 8), generator=torch.Generator().manual_seed(0)))
    whole = bound.measure(model, some, times=4, progress=False)
    assert bound.measure(model, some, times=4, batch_size=3, progress=False).bits.mean == pytest.approx(
        whole.bits.mean, rel=1e-5
    )
    assert bound.measure(model, some, times=4, seed=1, progress=False).bits.mean != whole.bits.mean


def test_the_label_is_told(gaussian):
    known = model(gaussian(0.0, 0.5), SHORT, (1, 4, 4), classes=2)
    bound.measure(known, drawn(3), times=2, progress=False)
    assert known.network.told == [[0, 1, 0]] * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"times": 0}, "at least 1 of the times"),
        ({"count": 0}, "ask for 1 to all"),
        ({"count": 7}, "6 images"),
        ({"batch_size": 0}, "at least 1 image"),
    ],
)
def test_what_cannot_be(known, options, said):
    with pytest.raises(UserError, match=said):
        bound.measure(known, drawn(6), progress=False, **options)


def test_images_of_another_kind(known, gaussian):
    with pytest.raises(UserError, match="shape"):
        bound.measure(known, images(torch.zeros(2, 1, 8, 8)), progress=False)
    with pytest.raises(UserError, match="knows 2 classes"):
        bound.measure(model(gaussian(0, 1), SHORT, (1, 4, 4), classes=2), images(torch.zeros(3, 1, 4, 4), classes=3))
    with pytest.raises(UserError, match="at least 2"):
        bound.measure(model(gaussian(0, 1), linear(T=1), (1, 4, 4)), drawn(2), progress=False)
