"""Each method's samples against the exact law of images given a measurement."""

import math

import correlated
import pytest
import torch
from correlated import DATA, PIXELS, SCHEDULE, SHAPE
from scipy.stats import wasserstein_distance
from torch import Tensor

from ddim.edit import Blur, Linear, Mask, Resample, SuperResolution, methods, posterior
from ddim.edit.solve import conjugate_gradients
from ddim.errors import UserError
from ddim.level import Level
from ddim.noise import ImageNoise
from ddim.predict import from_x0
from ddim.samplers import DDIM, UniPC, trajectory
from ddim.timesteps import levels, timesteps

HALF = Mask(torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]]))
OPERATORS = {
    "mask": HALF,
    "super-resolution": SuperResolution(2),
    "blur": Blur(0.7),
    "linear": Linear(lambda x: x.flatten(1)[:, ::3], lambda y: _spread(y)),
}


def _spread(y: Tensor) -> Tensor:
    x = y.new_zeros(len(y), PIXELS)
    x[:, ::3] = y
    return x.reshape(len(y), *SHAPE)


def measure(operator, noise_std):
    generator = torch.Generator().manual_seed(1)
    draw = torch.linalg.cholesky(DATA.cov) @ torch.randn(PIXELS, generator=generator).double()
    y = operator.forward((DATA.mean + draw).reshape(1, *SHAPE))
    return y + noise_std * torch.randn(y.shape, generator=generator).double()


def errors(method, name, noise_std, sampler=None, **options):
    """The errors of mean and covariance, relative to how far the prior is off, and to the true covariance."""
    operator = OPERATORS[name]
    y = measure(operator, noise_std)
    exact = correlated.conditional(y, operator, noise_std)
    found = correlated.sampled(
        sampler or UniPC(), posterior(correlated.denoise, y, operator, noise_std, method, **options)
    )
    mean = (found.mean - exact.mean).norm() / (DATA.mean - exact.mean).norm()
    return float(mean), float((found.cov - exact.cov).norm() / exact.cov.norm())


@pytest.mark.parametrize(
    ("name", "noise_std"),  # a blur without noise leaves nothing open
    [(name, std) for name in OPERATORS for std in (0.0, 0.1) if (name, std) != ("blur", 0.0)],
)
def test_pigdm_has_the_mean_and_the_covariance_right(name, noise_std):
    mean, cov = errors("pigdm", name, noise_std, iterations=PIXELS)
    assert mean < 0.005
    assert cov < 0.02


def test_the_mean_of_pigdm_with_ancestral_steps_is_exact_at_any_number_of_them():
    """Each step keeps it, and only the covariance converges with the steps."""
    y = measure(HALF, 0.1)
    exact, guided = correlated.conditional(y, HALF, 0.1), posterior(correlated.denoise, y, HALF, 0.1, iterations=PIXELS)
    few, many = (correlated.sampled(DDIM(eta=1.0), guided, steps) for steps in (10, 40))
    for found in (few, many):
        torch.testing.assert_close(found.mean, exact.mean, rtol=0, atol=2e-3)
    assert (few.cov - exact.cov).norm() > 2 * (many.cov - exact.cov).norm()


@pytest.mark.parametrize(
    ("method", "name", "noise_std", "mean", "cov"),
    [
        ("ddnm", "mask", 0.0, (0.3, 0.5), (1.5, 2.5)),
        ("ddnm", "super-resolution", 0.0, (0.05, 0.2), (0.05, 0.3)),
        ("diffpir", "mask", 0.1, (0.25, 0.5), (1.0, 2.0)),
        ("diffpir", "super-resolution", 0.1, (0.05, 0.2), (0.1, 0.3)),
        ("diffpir", "blur", 0.1, (0.05, 0.2), (0.1, 0.5)),
    ],
)
def test_the_methods_without_gradients_are_biased(method, name, noise_std, mean, cov):
    """Mean and covariance are off by the measured shares: better than the prior, and not right."""
    found_mean, found_cov = errors(method, name, noise_std)
    assert mean[0] < found_mean < mean[1]
    assert cov[0] < found_cov < cov[1]


def test_resampling_brings_ddnm_nearer_to_the_truth():
    """RePaint's claim; each step is taken five times."""
    for off, nearer in zip(
        errors("ddnm", "mask", 0.0, DDIM(eta=1.0)), errors("ddnm", "mask", 0.0, Resample(DDIM(eta=1.0), 5)), strict=True
    ):
        assert nearer < off / 2


def test_independent_pixels_are_right_under_every_method(gaussian):
    """Without covariance between pixels a mask leaves the prior of the unknown ones; the known ones are y."""
    y = torch.tensor([[0.7, 0.0, -0.3, 0.0]], dtype=torch.float64).reshape(1, 1, 2, 2)
    mask = Mask(torch.tensor([[1, 0], [1, 0]]))
    walk = levels(SCHEDULE, timesteps(SCHEDULE, 200, "log-snr"))
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0]).double().reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    for method in methods:
        *_, end = trajectory(UniPC(), posterior(gaussian(0.2, 0.4), y, mask, 0.0, method), x, walk)
        torch.testing.assert_close(end[:, 0, :, 0], y[:, 0, :, 0].expand(4, 2), rtol=0, atol=1e-12)
        torch.testing.assert_close(end[:, 0, :, 1], 0.2 + 0.4 * x[:, 0, :, 1], rtol=0, atol=2e-3)


def test_sampled_means_lie_in_their_intervals():
    """2,000 images by ancestral steps; 16 pixels within four standard errors."""
    y = measure(HALF, 0.1)
    exact = correlated.conditional(y, HALF, 0.1)
    guided = posterior(correlated.denoise, y, HALF, 0.1, iterations=8)
    generator = torch.Generator().manual_seed(0)

    def noise(like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    walk = levels(SCHEDULE, timesteps(SCHEDULE, 25, "log-snr"))
    *_, end = trajectory(DDIM(eta=1.0), guided, noise(torch.zeros(2000, *SHAPE).double()), walk, noise)
    off = (end.flatten(1).mean(0) - exact.mean).abs() / (end.flatten(1).std(0) / math.sqrt(2000))
    assert float(off.max()) < 4


class Mixture:
    """Two pixels: N(m, 0.2^2 I) or N(-m, 0.2^2 I), each with probability 1/2, m = (0.5, 0.8)."""

    std = 0.2
    m = torch.tensor([0.5, 0.8], dtype=torch.float64)

    def denoise(self, x: Tensor, at: Level):
        pixels = x.flatten(1)
        variance = at.alpha**2 * self.std**2 + at.sigma**2
        sign = torch.tanh(at.alpha * (pixels @ self.m) / variance)[:, None]
        mean = sign * self.m
        return from_x0(x, at, (mean + at.alpha * self.std**2 / variance * (pixels - at.alpha * mean)).reshape(x.shape))

    def second_given_first(self, y: float, noise_std: float) -> Tensor:
        """Quantiles of the second pixel given y of the first: equally many of each Gaussian as it has probability."""
        share = float(torch.sigmoid(2 * y * self.m[0] / (self.std**2 + noise_std**2)))
        high = round(4000 * share)
        places = (torch.special.ndtri((torch.arange(n) + 0.5) / n).double() for n in (high, 4000 - high))
        return torch.cat([sign * self.m[1] + self.std * z for sign, z in zip((1, -1), places, strict=True)])


def test_a_mixture_given_one_of_its_pixels():
    """Wasserstein distance of the other pixel to exact draws: no method is exact on two modes, and PiGDM is nearest."""
    mixture, count, y, noise_std = Mixture(), 2000, 0.2, 0.3
    truth = mixture.second_given_first(y, noise_std)
    walk = levels(SCHEDULE, timesteps(SCHEDULE, 30, "log-snr"))
    measured = torch.tensor([y, 0.0]).double().reshape(1, 1, 1, 2)

    def distance(method):
        noise = ImageNoise(0, range(count))
        first = Mask(torch.tensor([[1, 0]]))
        denoise = posterior(mixture.denoise, measured, first, noise_std, method) if method else mixture.denoise
        *_, end = trajectory(DDIM(eta=1.0), denoise, noise(torch.zeros(count, 1, 1, 2).double()), walk, noise)
        return float(wasserstein_distance(end[:, 0, 0, 1].numpy(), truth.numpy()))

    found = {method: distance(method) for method in [None, *methods]}
    assert found["pigdm"] < 0.25
    assert 1.4 * found["pigdm"] < min(found["ddnm"], found["diffpir"])
    assert max(found["ddnm"], found["diffpir"]) < 0.9 * found[None]


@pytest.mark.parametrize("method", methods)
def test_a_noiseless_measurement_is_met_at_every_level(method):
    operator = SuperResolution(2)
    y = measure(operator, 0.0)
    guided = posterior(correlated.denoise, y, operator, 0.0, method)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    for t in (1.0, 300.0, 1000.0):
        prediction = guided(x, SCHEDULE(t))
        torch.testing.assert_close(operator.forward(prediction.x0), y.expand(3, -1, -1, -1), rtol=1e-9, atol=1e-9)
        both = SCHEDULE(t).alpha * prediction.x0 + SCHEDULE(t).sigma * prediction.eps
        torch.testing.assert_close(both, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
@pytest.mark.parametrize("method", methods)
def test_pure_noise_without_signal_tells_nothing_but_the_measurement(gaussian, method, noise_std):
    """At alpha = 0, where the Jacobian is 0, a noiseless mask is met, and nothing is NaN."""
    y = HALF.forward(torch.full((1, *SHAPE), 0.5).double())
    at = Level(*(torch.tensor(value, dtype=torch.float64) for value in (1000, 0, 1)))
    x0 = posterior(gaussian(0.2, 0.4), y, HALF, noise_std, method)(torch.ones(1, *SHAPE).double(), at).x0
    unknown = x0[:, ~HALF.mask]
    torch.testing.assert_close(unknown, torch.full_like(unknown, 0.2))
    known = x0[:, HALF.mask]
    assert torch.equal(known, torch.full_like(known, 0.5)) if not noise_std else known.isfinite().all()


@pytest.mark.parametrize("method", methods)
def test_a_level_for_each_image_gives_what_each_gets_alone(method):
    y = measure(HALF, 0.1)
    guided = posterior(correlated.denoise, y, HALF, 0.1, method)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    times = torch.tensor([3.0, 400.0, 900.0])
    together = guided(x, SCHEDULE(times))
    for i, t in enumerate(times.tolist()):
        torch.testing.assert_close(together.x0[i : i + 1], guided(x[i : i + 1], SCHEDULE(t)).x0)


def test_conjugate_gradients_solve_and_stop():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 6, 6, generator=generator).double()
    M = root @ root.mT + 0.1 * torch.eye(6)
    b = torch.randn(3, 6, generator=generator).double()
    b[1] = 0
    found = conjugate_gradients(lambda v: (M @ v[..., None])[..., 0], b, 30)
    torch.testing.assert_close(found, torch.linalg.solve(M, b), rtol=1e-8, atol=1e-8)
    right = conjugate_gradients(lambda v: (M @ v[..., None])[..., 0], b, 2, lambda r: torch.linalg.solve(M, r))
    torch.testing.assert_close(right, found, rtol=1e-8, atol=1e-8)
    negative = conjugate_gradients(lambda v: -v, b, 5)
    assert torch.equal(negative, torch.zeros_like(b))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "pigmd"}, "did you mean 'pigdm'"),
        ({"noise_std": -0.1}, "noise_std"),
        ({"operator": None}, "Operator"),
        ({"method": "ddnm", "iterations": 3}, "does not take iterations"),
        ({"iterations": 0}, "at least 1"),
        ({"method": "diffpir", "strength": 0.0}, "strength"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        posterior(**{"denoise": correlated.denoise, "y": torch.zeros(1, *SHAPE), "operator": HALF, **options})
