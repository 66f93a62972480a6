"""Schedules whose time is the noise rate: EDM's (alpha = 1, sigma = t) and a flow's (alpha = 1 - t, sigma = t)."""

import copy
import math
import pickle

import pytest
import torch

import ddim
from ddim import samplers, schedule
from ddim.errors import UserError
from ddim.evaluate.bound import prior
from ddim.evaluate.flow import Hutchinson, log_density
from ddim.forward import start
from ddim.level import Level
from ddim.noise import ImageNoise
from ddim.predict import predictions, target
from ddim.timesteps import levels, names, timesteps
from ddim.train import loss as losses
from ddim.train.recipe import Plan, Recipe
from ddim.train.run import build, check_names
from ddim.verify.exact import Gaussian, error, law

EDM, FLOW = schedule.edm(), schedule.flow()
ON = pytest.mark.parametrize("on", [EDM, FLOW], ids=["edm", "flow"])
DATA = Gaussian((0.3, -0.2), (0.4, 0.1))


class Exact(torch.nn.Module):
    """The exact network of Gaussian images (B, 1, 1, 2), with any output."""

    def __init__(self, on, predicts):
        super().__init__()
        self.on, self.predicts = on, predicts

    def forward(self, x, t):
        at = self.on(t.double())
        x0, eps = DATA.denoise(x.double(), at)
        return target(self.predicts, x0, at, eps).to(x)


def model_of(on, predicts):
    return ddim.Denoiser(Exact(on, predicts), on, predicts, (1, 1, 2))


def test_edm_follows_its_formulas():
    """Time is sigma, and the training steps are Eq. 5 of arXiv 2206.00364 with 1,000 levels."""
    for t in (0.0, 0.002, 1.7, 80.0):
        assert tuple(map(float, EDM(t))) == (t, 1.0, t)
    assert (EDM.T, EDM.N) == (80.0, 1000)
    for i in (0, 1, 500, 998, 999):
        sigma = (80 ** (1 / 7) + i / 999 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        assert EDM.times[1000 - i].item() == pytest.approx(sigma, rel=1e-12)


def test_flow_is_a_straight_line():
    for t in (0.0, 0.25, 1.0):
        assert tuple(map(float, FLOW(t))) == (t, 1 - t, t)
    assert (FLOW.T, FLOW.N) == (1.0, 1000)
    torch.testing.assert_close(FLOW.times, torch.arange(1001).double() / 1000, rtol=0, atol=1e-12)


@ON
def test_log_snr_and_back(on):
    there = on(torch.cat([on.times, on.T * torch.rand(99, generator=torch.Generator().manual_seed(0))]))
    back = on.at_log_snr(2 * (there.alpha / there.sigma).log().flatten())
    for mine, expected in zip(back, there, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
    assert on.at_log_snr(on.log_snr[-1]).t == on.T
    assert on.at_log_snr(math.inf).t == 0


@ON
def test_the_tables_are_those_of_the_equal_log_snr(on):
    """x_t / sqrt(alpha^2 + sigma^2) is on the schedule that preserves variance, whose alpha-bar is alpha^2."""
    at = on(on.times)
    abar = (at.alpha**2 / (at.alpha**2 + at.sigma**2)).flatten()
    torch.testing.assert_close(on.alpha_bar, abar, rtol=1e-12, atol=0)
    torch.testing.assert_close((1 - on.betas).cumprod(0), abar, rtol=1e-9, atol=0)


@ON
def test_a_config_a_pickle_and_a_copy_make_it_again(on):
    for again in (schedule.get(**on.config), pickle.loads(pickle.dumps(on)), copy.deepcopy(on)):
        assert again.config == on.config
        assert torch.equal(again.times, on.times)


def test_other_ends_of_edm():
    other = schedule.edm(sigma_min=0.01, sigma_max=50)
    assert other.config == {"name": "edm", "sigma_min": 0.01, "sigma_max": 50}
    assert other.times[[1, -1]].tolist() == [0.01, 50]
    for ends in ((1, 1), (2, 1), (0, 80), (-1, 80), (0.1, math.inf), ("a", 80)):
        with pytest.raises(UserError, match="sigma_m"):
            schedule.edm(*ends)
    with pytest.raises(UserError, match=r"Time must lie in \[0, 50\]"):
        other(50.1)


@ON
def test_a_real_number_of_steps_is_a_time(on):
    assert on.time_at(0) == 0
    assert on.time_at(on.N) == on.T
    assert on.time_at(3.5).item() == pytest.approx((on.times[3] + on.times[4]).item() / 2, rel=1e-12)
    assert schedule.linear().time_at(412.7) == 412.7


@ON
@pytest.mark.parametrize("spacing", names())
def test_every_spacing_makes_exactly_so_many_steps(on, spacing):
    for S in (1, 2, 3, 18, 100, 1000):
        times = timesteps(on, S, spacing)
        assert times.shape == (S + 1,)
        assert times[0] <= on.T
        assert (times.diff() < 0).all()
        assert times[-1] == 0
        assert times[-2] >= on.times[1]
    with pytest.raises(UserError, match="from 1 to the 1000 training steps"):
        timesteps(on, 1001, spacing)


def test_karras_is_edm_s_spacing():
    """Eq. 5 with rho = 7, and t_N = 0; on any other schedule the same in sigma / alpha."""
    sigma = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert timesteps(EDM, 18, "karras").tolist() == pytest.approx([*sigma, 0], rel=1e-9)
    at = schedule.linear()(timesteps(schedule.linear(), 18, "karras")[:-1])
    steps = ((at.sigma / at.alpha) ** (1 / 7)).flatten().diff()
    torch.testing.assert_close(steps, steps.mean().expand(17), rtol=1e-6, atol=0)


def test_x_T():
    """Noise itself where variance is preserved, and sigma times it on EDM's and the flow's schedule."""
    noise = ImageNoise(0, range(2))(torch.empty(2, 1, 1, 2))
    assert torch.equal(start(schedule.linear()(1000), noise), noise)
    assert torch.equal(start(FLOW(1.0), noise), noise)
    assert torch.equal(start(EDM(80.0), noise), 80 * noise)
    assert torch.equal(start(EDM(7.5), noise), 7.5 * noise)


@ON
@pytest.mark.parametrize("spacing", names())
@pytest.mark.parametrize("name", samplers.names())
def test_every_solver_with_every_spacing(on, spacing, name):
    """The mean and the std of the samples of Gaussian images, computed exactly, are near those of the images."""
    visited = levels(on, timesteps(on, 40, spacing))
    reached = law(samplers.get(name), DATA, visited, on)
    assert error(reached, DATA.law(on(0.0))) < 0.06


@pytest.mark.parametrize(
    ("on", "predicts"), [(EDM, "x0"), (EDM, "eps"), (EDM, "flow"), (FLOW, "flow"), (FLOW, "x0"), (FLOW, "v")]
)
@pytest.mark.parametrize("name", [name for name in samplers.names() if not samplers.get(name).stochastic])
def test_samples_are_where_the_exact_flow_leads(on, predicts, name):
    model = model_of(on, predicts)
    noise = ImageNoise(0, range(3))(torch.empty(3, 1, 1, 2))
    top, steps = on(on.T), 400 if name == "ddim" else 60
    exact = DATA.flow(start(top, noise).double(), top, on(0.0)).float()
    spacing = "karras" if on is EDM else "trailing"
    samples = model.sample(3, steps=steps, sampler=name, spacing=spacing, clip=False, progress=False)
    torch.testing.assert_close(samples, exact, rtol=0, atol=0.01)


@ON
def test_encode_and_decode(on):
    """x_T of an image is its point on the exact flow, and leads back to the image."""
    model = model_of(on, "flow")
    x0 = torch.tensor([[0.1, -0.25], [0.6, -0.1]]).reshape(2, 1, 1, 2)
    options = {"sampler": "unipc", "steps": 100, "spacing": "karras"}
    xT = model.encode(x0, **options)
    torch.testing.assert_close(model.decode(xT, **options), x0, rtol=0, atol=2e-3)
    if on is EDM:
        torch.testing.assert_close(xT, DATA.flow(x0.double(), on(0.0), on(80.0)).float(), rtol=0, atol=0.5)
        code = model.encode(x0, exact=True, steps=20)
        torch.testing.assert_close(model.decode(code, exact=True, steps=20), x0.double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("at", [EDM(20.0), FLOW(0.3), FLOW(1.0), schedule.linear()(500)])
def test_every_output_gives_back_image_and_noise(predicts, at):
    rng = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=rng) for _ in range(2))
    x = at.alpha * x0 + at.sigma * eps
    if predicts == "eps" and at.alpha == 0:
        return  # x0 cannot be computed; the model refuses it
    found = predictions[predicts](x, at, target(predicts, x0, at, eps))
    torch.testing.assert_close(found.x0, x0, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.eps, eps, rtol=0, atol=1e-10)


def test_the_velocity_of_a_flow_is_its_derivative():
    """u = eps - x0 = dx/dt on the straight line, at both of its ends too."""
    x0, eps = torch.tensor([0.3, -1.0]).double(), torch.tensor([-0.7, 0.2]).double()
    x = [at.alpha * x0 + at.sigma * eps for at in map(FLOW, (0.0, 0.4, 1.0))]
    u = target("flow", x0, FLOW(0.4), eps)
    torch.testing.assert_close(x[2] - x[0], u)
    torch.testing.assert_close((x[1] - x[0]) / 0.4, u)


def test_eps_is_refused_where_a_flow_ends():
    with pytest.raises(UserError, match="'v', 'x0' or 'flow'"):
        model_of(FLOW, "eps")


def test_the_likelihood_of_gaussian_images_on_edm_s_schedule():
    """log p of y = x_1 / alpha_1 is that of N(mean, std^2 + sigma_1^2), but for x_T from N(0, sigma_T^2)."""
    y = torch.tensor([[0.5, -0.3], [0.2, -0.1]], dtype=torch.float64).reshape(2, 1, 1, 2)
    first, last = EDM(EDM.times[1]), EDM(80.0)
    found = log_density(DATA.denoise, y, EDM, 400, Hutchinson(torch.ones_like(y)))
    mean, std = DATA.law(first)
    exact = torch.distributions.Normal(mean, std).log_prob(y).flatten(1).sum(1)
    x_T, (mean_T, std_T) = DATA.flow(y, first, last), DATA.law(last)
    normal, drawn = torch.distributions.Normal(mean_T, std_T), torch.distributions.Normal(0.0, last.sigma)
    exact = exact + (drawn.log_prob(x_T) - normal.log_prob(x_T)).flatten(1).sum(1)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-4)


def test_the_prior_term_of_the_bound_is_relative_to_x_T():
    """KL(N(x0, 80^2) || N(0, 80^2)) = x0^2 / (2 80^2)."""
    x0 = torch.tensor([[[[0.5, -1.0]]]], dtype=torch.float64)
    assert prior(x0, EDM(80.0)).item() == pytest.approx(1.25 / (2 * 80**2), rel=1e-9)
    assert prior(x0, FLOW(1.0)).item() == 0


@pytest.mark.parametrize("on", [EDM, FLOW, schedule.linear()], ids=["edm", "flow", "linear"])
@pytest.mark.parametrize("predicts", ["eps", "x0", "flow"])
def test_min_snr_weights_the_same_error_whatever_is_predicted(on, predicts):
    """An error of the output becomes one of eps, whose square is weighted by min(SNR, 5) / SNR."""
    at = on(on.time_at(torch.tensor([100.0, 600.0])))
    x, output = torch.randn(2, 2, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = 0.1
    changed = predictions[predicts](x, at, output + error).eps - predictions[predicts](x, at, output).eps
    snr = (at.alpha / at.sigma).square()
    expected = (5 / snr).clamp(max=1) * changed.square()
    weight = losses.weight("min-snr", predicts, at).reshape(at.t.shape)
    torch.testing.assert_close(weight * error**2, expected, rtol=1e-9, atol=0)


def test_edm_s_weighting_is_the_plain_loss_of_the_raw_network():
    """lambda(sigma) c_out(sigma)^2 = 1 (arXiv 2206.00364, Eq. 8)."""
    sigma = torch.tensor([0.01, 0.5, 3.0, 80.0], dtype=torch.float64)
    c_out = sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    weight = losses.weight("edm", "x0", EDM(sigma))
    torch.testing.assert_close(weight * c_out**2, torch.ones(4, dtype=torch.float64))


def test_a_preconditioned_network_is_its_formula():
    """D = c_skip x + c_out F(c_in x; log(sigma) / 4), with the labels passed on."""
    seen = []

    class Raw(torch.nn.Module):
        def forward(self, x, t, label=None):
            seen.append((x, t, label))
            return 2 * x

    x, sigma, label = torch.ones(2, 1, 1, 1), torch.tensor([0.5, 4.0]), torch.tensor([1, -1])
    D = ddim.Preconditioned(Raw(), sigma_data=0.25)(x, sigma, label).flatten()
    for i, s in enumerate((0.5, 4.0)):
        total = s**2 + 0.0625
        assert seen[0][0][i].item() == pytest.approx(total**-0.5, rel=1e-6)
        assert seen[0][1][i].item() == pytest.approx(math.log(s) / 4, rel=1e-6)
        assert D[i].item() == pytest.approx(0.0625 / total + s * 0.25 / total**0.5 * 2 * total**-0.5, rel=1e-6)
    assert seen[0][2] is label


@pytest.mark.parametrize(("name", "predicts", "weighting"), [("edm", "x0", "edm"), ("flow", "flow", "simple")])
def test_a_model_on_it_trains_saves_and_loads(name, predicts, weighting, tmp_path):
    """A few updates lower the loss; the saved model draws the same images."""
    digits = ddim.open_images("digits")
    plan = Plan(steps=30, batch_size=16, weighting=weighting, precision="fp32", ema=(0.0,), warmup=1, seed=3)
    model = build(
        Recipe(data="digits", network="plain", size="tiny", schedule=name, predicts=predicts, plan=plan), digits
    )
    progress = list(ddim.train.fit(model, digits, plan))
    first, last = (sum(one.loss for one in part) / 8 for part in (progress[:8], progress[-8:]))
    assert last < first
    ddim.model_io.save(model, tmp_path)
    again = ddim.load(tmp_path, backend="torch")
    assert again.schedule.config == model.schedule.config
    images = [one.eval().sample(2, steps=5, progress=False) for one in (model, again)]
    assert images[0].isfinite().all()
    assert torch.equal(*images)


def test_edm_s_schedule_trains_what_predicts_x0():
    with pytest.raises(UserError, match="predicts x0; got 'eps'"):
        check_names(Recipe(schedule="edm"))


def test_a_level_of_another_path_needs_its_schedule():
    """The levels of EDM and of a flow determine their schedule; with alpha = 1 at other times they do not."""
    x = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    for name in ("deis", "pndm", "dpm-2", "dpm-3", "dpmpp-2s"):
        for on in (EDM, FLOW):
            visited = levels(on, timesteps(on, 8, "karras"))
            ends = [
                list(samplers.trajectory(samplers.get(name), DATA.denoise, x, visited, None, s))[-1] for s in (None, on)
            ]
            torch.testing.assert_close(*ends, rtol=0, atol=1e-9)
        other = [Level(at.t * 3, at.alpha, at.sigma) for at in levels(EDM, timesteps(EDM, 8))]
        with pytest.raises(UserError, match="needs their schedule"):
            list(samplers.trajectory(samplers.get(name), DATA.denoise, x, other))
