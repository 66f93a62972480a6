"""Weightings against what their papers print, for each thing that a network may predict."""

import pytest
import torch

from ddim import open_images, schedule
from ddim.errors import UserError
from ddim.train import Plan, Recipe, fit, loss
from ddim.train.loss import weight
from ddim.train.run import build

T = torch.tensor([1, 50, 300, 700, 1000])


@pytest.fixture
def at():
    return schedule.cosine()(T)


@pytest.fixture
def snr(at):
    return (at.alpha**2 / at.sigma**2).flatten()


def test_simple_leaves_every_loss_as_it_is(at):
    for predicts in ("eps", "x0", "v"):
        assert torch.equal(weight("simple", predicts, at), torch.ones(5, dtype=torch.float64))


def test_min_snr_is_that_of_its_paper(at, snr):
    """arXiv 2303.09556, section 3.4: min(SNR, 5) for x0, over SNR for eps, over SNR + 1 for v."""
    least = snr.clamp(max=5)
    for predicts, expected in (("x0", least), ("eps", least / snr), ("v", least / (snr + 1))):
        torch.testing.assert_close(weight("min-snr", predicts, at), expected)


def test_edm_is_that_of_its_paper(at, snr):
    """arXiv 2206.00364, Table 1: (s^2 + 0.25) / (0.5 s)^2 times ||x0 - x0_theta||^2, at the noise level s of x0."""
    s = (at.sigma / at.alpha).flatten()
    torch.testing.assert_close(weight("edm", "x0", at), (s**2 + 0.25) / (0.5 * s) ** 2)
    torch.testing.assert_close(weight("edm", "v", at), (snr + 4) / (snr + 1))


@pytest.mark.parametrize("weighting", ["min-snr", "soft-min-snr", "edm"])
def test_all_predictions_are_weighed_alike(at, weighting):
    """The same error in x0 costs the same whatever the network outputs: eps = alpha / sigma x0, v = x0 / sigma."""
    alpha, sigma = at.alpha.flatten(), at.sigma.flatten()
    in_x0 = weight(weighting, "x0", at)
    torch.testing.assert_close(weight(weighting, "eps", at) * (alpha / sigma) ** 2, in_x0)
    torch.testing.assert_close(weight(weighting, "v", at) / sigma**2, in_x0)


def test_clipped_weighs_the_error_of_x0_as_simple_does_up_to_five(at, snr):
    """||v - v_theta||^2 is (SNR + 1) ||x0 - x0_theta||^2, and ||eps - eps_theta||^2 is SNR times it."""
    for predicts, in_x0 in (("eps", snr), ("x0", torch.ones_like(snr)), ("v", snr + 1)):
        torch.testing.assert_close(weight("clipped", predicts, at) * in_x0, in_x0.clamp(max=5))
    assert torch.equal(weight("clipped", "eps", at), weight("min-snr", "eps", at))
    assert (snr + 1 > 5).any()
    assert (snr + 1 < 5).any()


def test_soft_min_snr_meets_min_snr_far_from_the_corner(at, snr):
    soft, hard = (weight(name, "eps", at) for name in ("soft-min-snr", "min-snr"))
    assert (soft < hard).all()
    assert (soft / hard)[(snr > 500) | (snr < 0.005)].min() > 0.98
    assert ((snr > 500) | (snr < 0.005)).any()


def test_the_end_of_a_schedule_without_signal_is_finite():
    betas = torch.linspace(0.01, 1, 10, dtype=torch.float64)
    end = schedule.from_betas(betas)(torch.tensor([10]))
    assert end.alpha.item() == 0
    for weighting in ("min-snr", "soft-min-snr"):
        assert weight(weighting, "v", end).item() == 0
        assert weight(weighting, "eps", end).item() == 1
    for predicts in ("x0", "v", "flow"):  # x0 has the weight SNR + 4 = 4, and each of these is then an error in x0
        assert weight("edm", predicts, end).item() == 4


def test_an_unknown_weighting(at):
    with pytest.raises(UserError, match="min-snr"):
        weight("best", "eps", at)


def test_a_weighting_of_a_users_file_is_used_by_its_name():
    @loss.register("double")
    def double(snr, predicts):
        return 2 * torch.ones_like(snr)

    images = open_images("digits")
    try:
        assert loss.names()[-1] == "double"
        first = [
            next(fit(build(Recipe(network="plain", size="tiny"), images), images, Plan(weighting=name))).loss
            for name in ("simple", "double")
        ]
    finally:
        del loss.weightings["double"]
    assert first[1] == pytest.approx(2 * first[0], rel=1e-6)
