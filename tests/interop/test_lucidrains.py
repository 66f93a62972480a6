"""Models of denoising-diffusion-pytorch, against that library where it is installed."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

import ddim
from ddim import interop, nets, schedule
from ddim.errors import UserError
from ddim.sampling import Sampling


@pytest.fixture(scope="module")
def library():
    """The library, and the few parts of torchvision that it imports, which are removed again."""
    if find_spec("denoising_diffusion_pytorch") is None:
        pytest.skip("denoising-diffusion-pytorch is not installed; `make bench` installs it")
    before = set(sys.modules)
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        from peers import torchvision_pieces

        torchvision_pieces.install()
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from denoising_diffusion_pytorch import denoising_diffusion_pytorch as module
        from ema_pytorch import EMA
    finally:
        sys.path.pop(0)
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "torchvision":
                del sys.modules[name]
    module.tqdm = lambda items, **_: items
    return SimpleNamespace(GaussianDiffusion=GaussianDiffusion, Unet=Unet, EMA=EMA)


def milestone(library, folder, network=None, **options):
    """Write what `Trainer.save` writes, with averages that differ from the latest weights."""
    torch.manual_seed(0)
    diffusion = library.GaussianDiffusion(network or library.Unet(16, dim_mults=(1, 2)), image_size=8, **options)
    average = library.EMA(diffusion, beta=0.995, update_every=10)
    for parameter in average.ema_model.parameters():
        parameter.data.mul_(0.9)
    optimizer = torch.optim.Adam(diffusion.parameters())
    data = {"step": 7, "model": diffusion.state_dict(), "opt": optimizer.state_dict(), "ema": average.state_dict()}
    torch.save({**data, "scaler": None, "version": "2.3.4"}, folder / "model-1.pt")
    return diffusion, average.ema_model.eval()


UNETS = {
    "defaults": {"dim": 16, "dim_mults": (1, 2)},
    "three stages": {"dim": 8, "dim_mults": (1, 2, 4), "init_dim": 12, "channels": 1, "dropout": 0.1},
    "attention": {"dim": 16, "dim_mults": (1, 2), "full_attn": (True, False), "attn_heads": (2, 3), "attn_dim_head": 8},
}


@pytest.mark.parametrize("options", UNETS.values(), ids=UNETS)
def test_outputs_of_its_unet(library, options, tmp_path):
    _, peer = milestone(library, tmp_path, library.Unet(**options))
    model = ddim.load(tmp_path / "model-1.pt", image_size=8)
    assert model.indexed
    x, t = torch.randn(3, *model.shape), torch.tensor([0, 7, 999])
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, t.float()), peer.model(x, t), rtol=0, atol=1e-5)


DIFFUSIONS = {
    "defaults": ({}, ("v", "betas")),
    "noise": ({"objective": "pred_noise", "beta_schedule": "linear"}, ("eps", "linear")),
    "x0, few": ({"objective": "pred_x0", "beta_schedule": "cosine", "timesteps": 200}, ("x0", "cosine")),
    "min-SNR, v": ({"min_snr_loss_weight": True}, ("v", "betas")),
    "min-SNR, noise": ({"min_snr_loss_weight": True, "objective": "pred_noise"}, ("eps", "betas")),
    "min-SNR, x0": ({"min_snr_loss_weight": True, "objective": "pred_x0", "min_snr_gamma": 2}, ("x0", "betas")),
    "own": ({"beta_schedule": "cosine", "schedule_fn_kwargs": {"s": 0.02}}, ("v", "betas")),
}


@pytest.mark.parametrize(("options", "expected"), DIFFUSIONS.values(), ids=DIFFUSIONS)
def test_fifty_steps_from_the_same_noise(library, options, expected, tmp_path):
    """Its `ddim_sample`, and with it the schedule and the objective, which only buffers tell."""
    _, peer = milestone(library, tmp_path, sampling_timesteps=50, **options)
    model = ddim.load(tmp_path / "model-1.pt", image_size=8)
    assert (model.predicts, model.schedule.config["name"]) == expected
    assert model.sampling == Sampling(50, "ddim", 0.0, "trailing")
    noise = ddim.noise.ImageNoise(3, range(2))(torch.empty(2, 3, 8, 8))
    with mock.patch.object(torch, "randn", return_value=noise):
        theirs = 2 * peer.ddim_sample((2, 3, 8, 8)) - 1
    ours = model.sample(2, seed=3, progress=False)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    assert ours.std() > 0.1


def test_averaged_and_latest_weights_and_states_alone(library, tmp_path):
    latest, averaged = milestone(library, tmp_path)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 900])

    def check(path, peer, **options):
        model = ddim.load(path, image_size=8, **options)
        torch.testing.assert_close(model.network(x, t.float()), peer.model(x, t), rtol=0, atol=1e-5)

    check(tmp_path / "model-1.pt", averaged)
    check(tmp_path / "model-1.pt", latest, raw=True)
    torch.save(latest.state_dict(), tmp_path / "diffusion.pt")
    check(tmp_path / "diffusion.pt", latest)
    data = torch.load(tmp_path / "model-1.pt", weights_only=True)
    torch.save(data["ema"], tmp_path / "ema.pt")
    check(tmp_path / "ema.pt", averaged)
    check(tmp_path / "ema.pt", latest, raw=True)
    torch.save(latest.model.state_dict(), tmp_path / "unet.pt")
    with pytest.raises(UserError, match="is a Unet alone, which tells neither its schedule nor what it predicts"):
        ddim.load(tmp_path / "unet.pt", image_size=8)
    model = interop.from_lucidrains(
        tmp_path / "unet.pt", image_size=(8, 16), noise=schedule.cosine(T=100), predicts="x0"
    )
    assert (model.shape, model.predicts, model.schedule.T) == ((3, 8, 16), "x0", 100)
    torch.testing.assert_close(model.network(x, t.float()), latest.model(x, t), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"self_condition": True}, "has self_condition"),
        ({"learned_variance": True}, "has learned_variance"),
        ({"learned_sinusoidal_cond": True}, "has learned_sinusoidal_cond or random_fourier_features"),
    ],
)
def test_what_ddim_does_not_have_is_refused_by_its_name(library, options, message, tmp_path):
    torch.save(library.Unet(16, dim_mults=(1, 2), **options).state_dict(), tmp_path / "unet.pt")
    with pytest.raises(UserError, match=message):
        interop.from_lucidrains(tmp_path / "unet.pt", image_size=8, noise=schedule.linear(), predicts="v")


@pytest.fixture
def state():
    """The state of a GaussianDiffusion without the library: ddim's own network, and buffers by their formulas."""
    network = nets.build("lucidrains", 1, "tiny")
    noise = schedule.sigmoid(T=60)
    snr = noise.log_snr[1:].exp()
    weights = {f"model.{name}": value for name, value in network.state_dict().items()}
    return {**weights, "betas": noise.betas[1:].float(), "loss_weight": (snr / (snr + 1)).float()}


def test_without_the_library(state, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(state, path)
    model = ddim.load(path, image_size=8)
    assert (model.predicts, model.schedule.config["name"], model.shape) == ("v", "betas", (1, 8, 8))
    assert torch.equal(model.network.state_dict()["mid_attn.mem_kv"], state["model.mid_attn.mem_kv"])
    with pytest.raises(UserError, match="size of its images is not in the file; give image_size"):
        ddim.load(path)
    torch.save({**state, "loss_weight": state["betas"]}, path)
    with pytest.raises(UserError, match="is that of no objective on its betas"):
        ddim.load(path, image_size=8)
    torch.save({name: value for name, value in state.items() if not name.startswith("model.ups.")}, path)
    with pytest.raises(UserError, match=r"it lacks ups\.0\.0\.block1\.norm\.g, .* and \d+ more"):
        ddim.load(path, image_size=8)
    torch.save({name: value for name, value in state.items() if "downs.0.2.mem_kv" not in name}, path)
    with pytest.raises(UserError, match=r"lacks downs\.0\.2\.mem_kv; ddim reads the Unet of"):
        ddim.load(path, image_size=8)
    torch.save({"layer": torch.ones(1)}, path)
    with pytest.raises(UserError, match="is not a model of denoising-diffusion-pytorch"):
        interop.from_lucidrains(path)
