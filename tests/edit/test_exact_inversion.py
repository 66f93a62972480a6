"""Inversion without the error of DDIM's reversed step: O-BELM and the implicit step."""

from itertools import pairwise

import pytest
import torch

import known
from ddim import schedule
from ddim.edit import OBELM, Implicit, decode_exactly, encode_exactly, invert
from ddim.errors import UserError
from ddim.samplers import DDIM, DDPM, UniPC, trajectory
from ddim.timesteps import levels, timesteps
from ddim.verify.exact import GAUSSIAN, MIXTURE

LINEAR = schedule.linear()


def images(width=4):
    return 0.3 * torch.randn(5, 1, 1, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def walk(S, spacing="trailing", table=LINEAR):
    return levels(table, timesteps(table, S, spacing))


def back(denoise, x0, visited):
    (code,) = encode_exactly(DDIM(), denoise, x0, visited)
    *_, end = decode_exactly(DDIM(), denoise, code, visited)
    return code, (end - x0).abs().max().item()


@pytest.mark.parametrize("spacing", ["trailing", "linear", "quadratic", "log-snr"])
@pytest.mark.parametrize("S", [1, 2, 3, 10, 50, 1000])
@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE], ids=["Gaussian", "mixture"])
def test_the_code_is_turned_back_at_any_number_of_steps(data, S, spacing):
    code, error = back(data.denoise, images(), walk(S, spacing))
    assert code.shape == (5, 2, 1, 1, 4)
    assert error < 1e-10


def test_a_long_walk_ends_near_the_probability_flow():
    """Weakly stable: 1,000 steps towards noise, and the first of the two states is where the flow leads, not noise."""
    visited = walk(1000)
    code, _ = back(GAUSSIAN.denoise, images(), visited)
    exact = GAUSSIAN.flow(images(), visited[-1], visited[0])
    assert (code[:, 0] - exact).abs().max() < 0.05
    assert code.isfinite().all()


def test_it_is_of_second_order():
    """The error of decoding from the flow's own x_T falls as S^-2."""
    xT = torch.randn(5, 1, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table = schedule.vp_sde()
    errors = []
    for S in (100, 200, 400):
        visited = walk(S, "log-snr", table)
        *_, end = trajectory(OBELM(), GAUSSIAN.denoise, xT, visited)
        errors.append((end - GAUSSIAN.flow(xT, visited[0], visited[-1])).abs().max().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_the_coefficients_are_the_papers():
    """x_(i-1) from x_(i+1), x_i and eps, with h_i as the paper writes it."""
    visited = [LINEAR(t) for t in (900.0, 500.0, 200.0)]
    a, s = [float(one.alpha) for one in visited[::-1]], [float(one.sigma) for one in visited[::-1]]
    h = [s[i] / a[i] - s[i - 1] / a[i - 1] for i in (1, 2)]
    x2, x1 = images(), images() + 0.4
    eps = GAUSSIAN.denoise(x1, visited[1]).eps
    expected = (
        (h[0] ** 2 / h[1] ** 2) * (a[0] / a[2]) * x2
        + ((h[1] ** 2 - h[0] ** 2) / h[1] ** 2) * (a[0] / a[1]) * x1
        - h[0] * (h[0] + h[1]) / h[1] * a[0] * eps
    )
    found, _ = OBELM().step(GAUSSIAN.denoise, x1, visited[1], visited[2], (x2, visited[0]), None)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_model_turns_its_code_back(model):
    x0 = images(64).reshape(5, 1, 8, 8).clamp(-1, 1)
    code = model.encode(x0, steps=7, exact=True)
    assert code.shape == (5, 2, 1, 8, 8)
    assert code.dtype == torch.float64
    assert (model.decode(code, steps=7, exact=True) - x0).abs().max() < 1e-4
    model.double()
    code = model.encode(x0, steps=7, exact=True)
    assert (model.decode(code, steps=7, exact=True) - x0).abs().max() < 1e-10
    plain = model.decode(model.encode(x0, steps=7), steps=7)
    assert (plain - x0).abs().max() > 1e-3


@pytest.mark.parametrize("S", [20, 50])
def test_each_iteration_of_the_implicit_step_reduces_the_error(S):
    x0, errors = images(), []
    visited = walk(S, "quadratic")
    for sampler in (DDIM(), *map(Implicit, (1, 3, 10, 200))):
        *_, xT = invert(sampler, GAUSSIAN.denoise, x0, visited)
        *_, end = trajectory(DDIM(), GAUSSIAN.denoise, xT, visited)
        errors.append((end - x0).abs().max().item())
    assert all(after < before for before, after in pairwise(errors))
    assert errors[-1] < 1e-10


def test_a_model_refines():
    model, x0 = known.model(GAUSSIAN.denoise, LINEAR, (1, 1, 4)), images().float()
    errors = [
        (model.decode(model.encode(x0, steps=20, refine=refine), steps=20) - x0).abs().max() for refine in (0, 2, 20)
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_the_number_of_calls_is_known(gaussian):
    calls = []

    def denoise(x, at):
        calls.append(at.t.item())
        return gaussian(0.0, 0.3)(x, at)

    visited = walk(5)
    *_, _ = invert(Implicit(2), denoise, images(), visited)
    assert len(calls) == Implicit(2).calls(visited) == 15
    calls.clear()
    list(encode_exactly(DDIM(), denoise, images(), visited))
    assert len(calls) == OBELM().calls(visited) == 5
    assert min(calls) > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exact": True, "refine": 2}, "give one"),
        ({"exact": True, "sampler": "unipc"}, "no other sampler"),
        ({"exact": True, "eta": 0.5}, "no other sampler"),
        ({"refine": 2, "sampler": "heun"}, "refined inversion is DDIM's"),
        ({"refine": 1, "eta": 1.0}, "refined inversion is DDIM's"),
        ({"refine": -1}, "refine"),
    ],
)
def test_what_cannot_be_is_refused(model, options, said):
    with pytest.raises(UserError, match=said):
        model.encode(torch.zeros(1, 1, 8, 8) - 0.5, steps=3, **options)


def test_a_plain_noise_is_no_code(model):
    with pytest.raises(UserError, match=r"The code must be a float tensor \(B, 2, 1, 8, 8\)"):
        model.decode(torch.zeros(1, 1, 8, 8), steps=3, exact=True)


@pytest.mark.parametrize("sampler", [DDPM(), UniPC()])
def test_another_sampler_is_refused(sampler):
    with pytest.raises(UserError, match="no other sampler"):
        list(encode_exactly(sampler, GAUSSIAN.denoise, images(), walk(3)))


def test_a_schedule_that_ends_in_pure_noise_is_refused():
    table = schedule.from_betas([0.1] * 9 + [1.0])
    with pytest.raises(UserError, match="alpha = 0 at t = 10"):
        list(encode_exactly(DDIM(), GAUSSIAN.denoise, images(), walk(5, table=table)))
