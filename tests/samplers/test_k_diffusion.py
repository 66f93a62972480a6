"""The same trajectories as k-diffusion's, from its sampling.py alone: the package itself imports torchvision.

It is not one of this project's test dependencies, because pip would install torchvision and more along with it:

    pip download --no-deps --no-binary :all: k-diffusion    # then put the unpacked folder on PYTHONPATH
"""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from closed import FINE, START, flow_mixture, mixture, smooth

from ddim.level import Level
from ddim.predict import from_x0
from ddim.samplers import DPM2, DPM3, DPMpp2M, DPMpp2S, DPMpp3M, Heun, trajectory


@pytest.fixture(scope="module")
def peer():
    """k-diffusion's sampling module, with stand-ins for what its file imports and these samplers never use."""
    spec = importlib.util.find_spec("k_diffusion")  # does not run the package
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("k-diffusion is not importable; see the top of this file")
    file = Path(next(iter(spec.submodule_search_locations))) / "sampling.py"
    package, utils = ModuleType("k_diffusion_alone"), ModuleType("k_diffusion_alone.utils")
    package.__path__ = []
    vars(utils)["append_dims"] = lambda x, ndim: x.reshape(*x.shape, *[1] * (ndim - x.ndim))
    vars(package)["utils"] = utils
    stubs = {"k_diffusion_alone": package, "k_diffusion_alone.utils": utils}
    for name, used in (("torchsde", None), ("torchdiffeq", "odeint")):
        if importlib.util.find_spec(name) is None:
            stubs[name] = ModuleType(name)
            setattr(stubs[name], used or "nothing", None)
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
        found = importlib.util.spec_from_file_location("k_diffusion_alone.sampling", file)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        yield module


def flat(levels):
    """EDM's levels: alpha = 1."""
    return [Level(at.t, torch.ones_like(at.alpha), at.sigma / at.alpha) for at in levels]


def scaled(x, at):
    """A network that sees x / alpha and rho, and so is the same at alpha = 1 and at alpha^2 + sigma^2 = 1."""
    rho = at.sigma / at.alpha
    return from_x0(x, at, mixture(x / at.alpha, Level(at.t, torch.ones_like(rho), rho)).x0)


def x0_of(x, sigma):
    return scaled(x, Level(sigma[0], torch.ones((), dtype=torch.float64), sigma[0])).x0


LEVELS = {"to 0": [*smooth(20), FINE(0.0)], "above 0": smooth(16), "few": [*smooth(6), FINE(0.0)]}


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize(
    ("sampler", "name", "options"),
    [
        (Heun(), "sample_heun", {}),
        (DPM2(), "sample_dpm_2", {}),
        (DPMpp2S(), "sample_dpmpp_2s_ancestral", {"eta": 0.0}),
        (DPMpp2M(), "sample_dpmpp_2m", {}),
        (DPMpp2M(), "sample_dpmpp_2m_sde", {"eta": 0.0, "noise_sampler": lambda *_: 0.0}),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_deterministic(peer, sampler, name, options, levels):
    levels = flat(levels)
    theirs = getattr(peer, name)(x0_of, START, torch.stack([at.sigma for at in levels]), disable=True, **options)
    *_, x = trajectory(sampler, scaled, START, levels, None, FINE)
    torch.testing.assert_close(x, theirs, rtol=0, atol=1e-10)


def test_dpm_solver_3(peer):
    levels, solver, theirs = flat(smooth(8)), peer.DPMSolver(x0_of), START
    for at, to in pairwise(levels):
        theirs, _ = solver.dpm_solver_3_step(theirs, -at.sigma.log(), -to.sigma.log())
    *_, x = trajectory(DPM3(), scaled, START, levels, None, FINE)
    torch.testing.assert_close(x, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_dpmpp_2m_sde(peer, eta):
    levels = flat(LEVELS["to 0"])
    z = torch.randn(len(levels), *START.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = iter(z), iter(z)
    theirs = peer.sample_dpmpp_2m_sde(
        x0_of,
        START,
        torch.stack([at.sigma for at in levels]),
        eta=eta,
        noise_sampler=lambda *_: next(first),
        disable=True,
    )
    *_, x = trajectory(DPMpp2M(eta), scaled, START, levels, lambda x: next(second))
    torch.testing.assert_close(x, theirs, rtol=0, atol=1e-10)


def test_churn(peer):
    """Levels within the schedule, whose last bounds ours and not theirs."""
    levels = flat(LEVELS["to 0"])
    options = {"s_churn": 5.0, "s_tmin": 0.05, "s_tmax": 2.0, "s_noise": 1.003}
    torch.manual_seed(0)
    theirs = peer.sample_heun(x0_of, START, torch.stack([at.sigma for at in levels]), disable=True, **options)
    torch.manual_seed(0)
    sampler = Heun(churn=5.0, churn_from=2.0, churn_to=0.05, churn_std=1.003)
    *_, x = trajectory(sampler, scaled, START, levels, torch.randn_like, FINE)
    torch.testing.assert_close(x, theirs, rtol=0, atol=1e-10)


def test_3m_is_of_second_order_there_and_of_third_here(peer):
    """Its 3M (eta = 0) has half the third-order term of the expansion, and a first step of first order.

    Either alone leaves it at second order: test_3m_as_published in test_order.py has the coefficient alone.
    """

    def errors(S):
        levels = smooth(S)
        exact = flow_mixture(START, levels[0], levels[-1]) / levels[-1].alpha
        sigmas, x = torch.stack([at.sigma for at in flat(levels)]), START / levels[0].alpha
        theirs = peer.sample_dpmpp_3m_sde(x0_of, x, sigmas, eta=0.0, noise_sampler=lambda *_: 0.0, disable=True)
        *_, ours = trajectory(DPMpp3M(), scaled, x, flat(levels))
        return (theirs - exact).abs().max(), (ours - exact).abs().max()

    (theirs, ours), (theirs_finer, ours_finer) = errors(80), errors(160)
    assert torch.log2(theirs / theirs_finer) < 2.3
    assert torch.log2(ours / ours_finer) > 2.8
    assert ours_finer < theirs_finer / 10
