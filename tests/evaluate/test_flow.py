"""The likelihood of the probability flow, against densities that are formulas."""

import itertools
import math

import pytest
import torch

from ddim import schedule
from ddim.errors import UserError
from ddim.evaluate import bound, flow
from ddim.evaluate.flow import Hutchinson
from ddim.level import Level, Prediction
from ddim.predict import from_x0
from ddim.verify.exact import GAUSSIAN, MIXTURE, Gaussian, Smooth
from ddim.verify.orders import slope
from known import discretised, images, model, uniform

SMOOTH = Smooth()
FIRST, LAST = SMOOTH(1.0), SMOOTH(1000.0)


def exact(f, x):
    """The exact trace, sum_i df_i / dx_i, by one backward pass for each dimension."""
    total = torch.zeros(len(x), dtype=f.dtype)
    for i, output in enumerate(f.flatten(1).unbind(1)):
        (gradient,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
        total = total + gradient.flatten(1)[:, i]
    return total


def standard(x):
    """log N(x; 0, I) of each image."""
    return (-(x**2) / 2 - math.log(2 * math.pi) / 2).flatten(1).sum(1)


def places(count, width):
    return torch.randn(count, 1, 1, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def density_of_gaussian(y):
    """By the change of variables from x_1 to x_T, which is linear: (x_T - m_T) / std_T = (x_1 - m_1) / std_1."""
    (_, std_1), (_, std_T) = GAUSSIAN.law(FIRST), GAUSSIAN.law(LAST)
    xT = GAUSSIAN.flow(FIRST.alpha * y, FIRST, LAST)
    return standard(xT) + (std_T / std_1).log().sum() + y[0].numel() * FIRST.alpha.log()


def density_of_mixture(x, at):
    """log p(x_t), pixels independent."""
    variance = at.alpha**2 * MIXTURE.std**2 + at.sigma**2
    bumps = [
        math.log(share) - (x - at.alpha * mean) ** 2 / (2 * variance) - (2 * math.pi * variance).log() / 2
        for share, mean in ((1 - MIXTURE.share, MIXTURE.low), (MIXTURE.share, MIXTURE.high))
    ]
    return torch.logaddexp(*bumps).flatten(1).sum(1)


def test_the_density_of_a_gaussian_is_exact_and_of_fourth_order():
    y = 0.4 * places(6, 4)
    expected = density_of_gaussian(y)
    steps = (20, 40, 80, 160)
    errors = [float((flow.log_density(GAUSSIAN.denoise, y, SMOOTH, S, exact) - expected).abs().max()) for S in steps]
    assert errors[0] < 1e-2
    assert errors[-1] < 1e-6
    assert slope(steps, tuple(errors)) > 3.8


def test_the_density_of_a_mixture_is_exact():
    """The flow takes p_1 to p_T, so log p(x_1) = log N(x_T) + log p_1(x_1) - log p_T(x_T), in the model's law."""
    y = 0.7 * places(8, 2)
    x = FIRST.alpha * y
    xT = MIXTURE.flow(x, FIRST, LAST)
    expected = standard(xT) + density_of_mixture(x, FIRST) - density_of_mixture(xT, LAST) + 2 * FIRST.alpha.log()
    found = flow.log_density(MIXTURE.denoise, y, SMOOTH, 160, exact)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    data = density_of_mixture(y, Level(FIRST.t, torch.ones(()).double(), FIRST.sigma / FIRST.alpha))
    torch.testing.assert_close(found, data, rtol=0, atol=0.05)  # alpha_T is small: x_T is nearly N(0, I)


def test_standard_normal_pixels_need_no_step_to_be_small():
    """Nothing moves: v = 0, whatever the schedule, so the density is that of x_1 at any number of steps."""
    y = places(3, 4)
    for table in (SMOOTH, schedule.linear(), schedule.cosine()):
        at = table(1.0)
        found = flow.log_density(lambda x, at: from_x0(x, at, at.alpha * x), y, table, 1, exact)
        torch.testing.assert_close(found, standard(at.alpha * y) + 4 * at.alpha.log(), rtol=1e-9, atol=0)


MATRIX = torch.tensor([[1.0, 0.5, -0.3], [0.1, -0.7, 0.2], [0.9, 0.4, 0.25]], dtype=torch.float64)


def coupled(x):
    """A field whose pixels depend on each other; its Jacobian is diag(1 - tanh^2) MATRIX."""
    return (x @ MATRIX.T).tanh()


def jacobian(x):
    return (1 - coupled(x) ** 2)[..., None] * MATRIX


def test_the_trace_is_that_of_the_jacobian():
    x = places(5, 3).requires_grad_()
    expected = jacobian(x.detach()).diagonal(dim1=-2, dim2=-1).sum(-1).flatten()
    torch.testing.assert_close(exact(coupled(x), x), expected)


def test_one_probe_is_right_on_average():
    """Over all 8 sign patterns: exactly. One alone is not, where pixels depend on each other."""
    x = places(5, 3).requires_grad_()
    expected = exact(coupled(x), x)
    found = []
    for signs in itertools.product((-1.0, 1.0), repeat=3):
        probe = torch.tensor(signs, dtype=torch.float64).expand_as(x)
        found.append(Hutchinson(probe)(coupled(x), x))
    torch.testing.assert_close(torch.stack(found).mean(0), expected)
    assert not torch.allclose(found[0], expected, atol=1e-3)


def test_one_probe_is_exact_for_independent_pixels():
    y = 0.4 * places(3, 4)
    probe = places(3, 4).sign()
    one = flow.log_density(GAUSSIAN.denoise, y, SMOOTH, 10, Hutchinson(probe))
    torch.testing.assert_close(one, flow.log_density(GAUSSIAN.denoise, y, SMOOTH, 10, exact))


def test_a_model_of_uniform_pixels_needs_log2_of_the_levels():
    """Dequantised pixels fill [-1 - 1/16, 1 + 1/16]; away from its ends the noise at t = 1 does not matter."""
    pixels = torch.randint(2, 15, (5, 1, 3, 3), generator=torch.Generator().manual_seed(0))
    table = schedule.linear()
    found = flow.measure(model(uniform(17 / 16), table, (1, 3, 3)), images(pixels), steps=80, progress=False)
    assert found.bits.mean == pytest.approx(math.log2(17), abs=2e-3)
    assert found.calls == 4 * (80 + 40)


def test_the_bits_of_a_grey_level_are_those_of_its_probability(gaussian):
    """-log2 P(v), but for what dequantisation costs. The model's pixels lie around 1.5: a clipped x0 would show."""
    data, table = Gaussian((1.5,), (1.0,)), schedule.linear()
    (m_1, std_1), (m_T, std_T) = data.law(table(1)), data.law(table(1000))
    std = std_1 / std_T / table(1).alpha  # of y, where x_T is N(0, 1)
    mean = m_1 / table(1).alpha - std * m_T
    pixels = torch.randint(1, 16, (100, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    known = model(gaussian(1.5, 1.0), table, (1, 4, 4))
    found = flow.measure(known, images(pixels), steps=40, batch_size=100, progress=False)
    own = -discretised(float(mean), float(std), 17).log2()[pixels].mean()
    assert found.bits.mean == pytest.approx(float(own), abs=0.005)
    assert abs(found.bits.mean - found.halved.mean) < 1e-3


def test_with_the_bound_s_decoder_it_lies_between_the_entropy_and_the_bound(gaussian):
    """The exact likelihood of x_1 in the place of a bound on it: for the exact network there is no more to win."""
    mean, std = 0.1, 0.4
    p = discretised(mean, std, 256)
    pixels = torch.multinomial(p, 200 * 16, True, generator=torch.Generator().manual_seed(0)).view(200, 1, 4, 4)
    known = model(gaussian(mean, std), schedule.linear(T=100, beta_start=1e-4, beta_end=0.2), (1, 4, 4))
    some = images(pixels, 256)
    found = flow.measure(known, some, steps=40, dequantisation="noise", batch_size=200, progress=False)
    above = bound.measure(known, some, times=None, batch_size=200, progress=False)
    assert float(-(p[p > 0] * p[p > 0].log2()).sum()) < found.bits.mean + found.bits.margin
    assert found.bits.mean < above.bits.mean - 0.1


@pytest.mark.parametrize("dequantisation", ["uniform", "noise"])
def test_an_image_draws_the_same_in_any_batch(model, dequantisation):
    some = images(torch.randint(0, 17, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)))
    options = {"steps": 2, "dequantisation": dequantisation, "progress": False}
    whole = flow.measure(model, some, **options)
    parts = flow.measure(model, some, batch_size=2, **options)
    assert parts.bits.mean == pytest.approx(whole.bits.mean, rel=1e-5)
    assert parts.halved.mean == pytest.approx(whole.halved.mean, rel=1e-5)
    assert flow.measure(model, some, seed=1, **options).bits.mean != whole.bits.mean
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_network_is_asked_from_1_to_T_and_told_the_label(gaussian):
    known = model(gaussian(0.0, 0.5), schedule.linear(), (1, 4, 4), classes=2)
    asked = []
    known.network.register_forward_pre_hook(lambda _, inputs: asked.append(float(inputs[1][0])))
    found = flow.measure(known, images(torch.full((3, 1, 4, 4), 8)), steps=4, progress=False)
    assert known.network.told == [[0, 1, 0]] * found.calls
    assert min(asked) == pytest.approx(1, abs=1e-4)
    assert max(asked) == pytest.approx(1000, abs=1e-3)
    assert asked[:16] == sorted(asked[:16])


def test_the_prior_is_the_sampler_s_whatever_alpha_T_is():
    """x_T is N(0, I) though the data's own x_T is not: the network is believed, and the density is a density."""
    table = schedule.linear(T=10, beta_start=0.001, beta_end=0.1)  # alpha_T = 0.77
    at, last = table(1.0), table(10)
    y = torch.linspace(-8, 8, 4001, dtype=torch.float64).view(-1, 1, 1, 1)
    log_p = flow.log_density(lambda x, at: Prediction(0 * x, x / at.sigma), y, table, 40, exact)
    # x0 = 0: x keeps to sigma, x_T = (sigma_T / sigma_1) x_1, and y has the deviation sigma_1 / (alpha_1 sigma_T).
    std = at.sigma / (at.alpha * last.sigma)
    expected = -((y.flatten() / std) ** 2) / 2 - (std * math.sqrt(2 * math.pi)).log()
    inside = y.flatten().abs() < 5 * std
    torch.testing.assert_close(log_p[inside], expected[inside], rtol=0, atol=1e-4)
    assert float(log_p.exp().sum() * 16 / 4000) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_steps_that_cannot_be_halved(gaussian, steps):
    known = model(gaussian(0.0, 0.5), schedule.linear(), (1, 4, 4))
    with pytest.raises(UserError, match="even"):
        flow.measure(known, images(torch.zeros(1, 1, 4, 4)), steps=steps, progress=False)


def test_a_schedule_without_an_end(gaussian):
    known = model(gaussian(0.0, 0.5), schedule.from_betas([0.1, 0.5, 1.0]), (1, 4, 4))
    with pytest.raises(UserError, match="alpha_T = 0"):
        flow.measure(known, images(torch.zeros(1, 1, 4, 4)), progress=False)
