"""State dicts of EDM's networks: the same denoiser and samples, and a sentence for what ddim does not have."""

from itertools import pairwise

import pytest
import torch
from dhariwal_model import EDMPrecond
from safetensors.torch import save_file

import ddim
from ddim.errors import UserError
from ddim.noise import ImageNoise


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EDMPrecond().eval()


def saved(network, path):
    torch.save(network.state_dict(), path)
    return path


def test_the_denoiser(network, tmp_path):
    """With its preconditioning or without, by PyTorch or safetensors."""
    x, sigma = torch.randn(3, 3, 8, 8), torch.tensor([0.002, 0.7, 80.0])
    save_file(network.model.state_dict(), tmp_path / "raw.safetensors")
    for path in (saved(network, tmp_path / "edm.pt"), tmp_path / "raw.safetensors"):
        model = ddim.load(path)
        with torch.no_grad():
            expected = network(x, sigma)
            torch.testing.assert_close(model.network(x, sigma), expected, rtol=0, atol=1e-5 * 80)
            raw = model.network.get_submodule("network")(x, sigma.log() / 4)
            torch.testing.assert_close(raw, network.model(x, sigma.log() / 4), rtol=0, atol=1e-5)
    assert (model.shape, model.schedule.config["name"], model.predicts) == ((3, 8, 8), "edm", "x0")


def test_classes(tmp_path):
    torch.manual_seed(0)
    network = EDMPrecond(classes=4, at=()).eval()
    model, x = ddim.load(saved(network, tmp_path / "edm.pt")), torch.randn(2, 3, 8, 8)
    assert (model.classes, model.null_class) == (4, False)
    sigma, label = torch.tensor([0.5, 2.0]), torch.tensor([3, 1])
    with torch.no_grad():
        expected = network(x, sigma, torch.nn.functional.one_hot(label, 4).float())
        torch.testing.assert_close(model.network(x, sigma, label), expected, rtol=0, atol=1e-5)


@pytest.mark.slow  # 71 calls of a network of 128 channels, the fewest that have 32 groups in all norms
def test_edm_s_sampler(network, tmp_path):
    """Algorithm 1 of arXiv 2206.00364 in 18 steps from the same noise, which is the model's default."""
    model = ddim.load(saved(network, tmp_path / "edm.pt"))
    i = torch.arange(18, dtype=torch.float64)
    sigma = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    sigma = torch.cat([sigma, torch.zeros(1)])
    x = 80 * ImageNoise(5, range(2))(torch.empty(2, 3, 8, 8)).double()
    with torch.no_grad():
        for t, s in pairwise(sigma):
            d = (x - network(x.float(), t.float().expand(2)).double()) / t
            end = x + (s - t) * d
            if s > 0:
                d = (d + (end - network(end.float(), s.float().expand(2)).double()) / s) / 2
                end = x + (s - t) * d
            x = end
    torch.testing.assert_close(model.sample(2, seed=5, progress=False), x.float(), rtol=1e-3, atol=1e-3)
    ddim.model_io.save(model, tmp_path / "run")
    again = ddim.load(tmp_path / "run")
    assert torch.equal(again.sample(1, steps=2, progress=False), model.sample(1, steps=2, progress=False))


def test_what_is_refused(network, tmp_path):
    path, weights = tmp_path / "edm.pt", network.state_dict()
    saved(network, path)
    with pytest.raises(UserError, match="leave out raw and image_size"):
        ddim.load(path, image_size=8)
    song = {"model.dec.8x8_aux_norm.weight": torch.ones(128)}
    torch.save({name: value for name, value in weights.items() if "out_norm" not in name} | song, path)
    with pytest.raises(UserError, match=r"a SongUNet .* scaled by sqrt\(1 / 2\)"):
        ddim.load(path)
    torch.save({name: value for name, value in weights.items() if "dec.8x8_up.affine" not in name}, path)
    with pytest.raises(UserError, match=r"it lacks up_blocks\.0\.upsamplers\.0\.time_emb_proj\.bias"):
        ddim.load(path)
    torch.save(weights | {"model.enc.8x8_block0.norm0.weight": torch.ones(64)}, path)
    with pytest.raises(UserError, match=r"have \[16, 32\] groups"):
        ddim.load(path)
