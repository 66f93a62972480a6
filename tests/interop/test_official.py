"""Checkpoints of the official DDPM and DDIM code, against that code's network written again."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from official_model import Model
from torch import nn

import ddim
from ddim.errors import UserError
from ddim.sampling import Sampling

CONFIG: dict[str, dict[str, Any]] = {
    "data": {"dataset": "CIFAR10", "image_size": 8, "channels": 3, "rescaled": True, "logit_transform": False},
    "model": {"type": "simple", "dropout": 0.1, "resamp_with_conv": True, "attn_resolutions": [4]},
    "diffusion": {"beta_schedule": "linear", "beta_start": 0.0002, "beta_end": 0.03, "num_diffusion_timesteps": 500},
}


def checkpoint(folder, model=None, config=CONFIG):
    model = model or Model()
    torch.save(model.state_dict(), folder / "ckpt.pth")
    if config is not None:
        (folder / "config.yml").write_text(yaml.dump(config))
    return model.eval(), folder / "ckpt.pth"


@pytest.mark.parametrize(
    "shape", [{}, {"num_res_blocks": 2, "attn": (0, 2)}, {"ch_mult": (1, 1), "attn": (), "channels": 1}]
)
def test_outputs_of_the_official_network(shape, tmp_path):
    reference, path = checkpoint(tmp_path, Model(**shape))
    model = ddim.load(path)
    assert (model.indexed, model.predicts, model.schedule.T) == (True, "eps", 500)
    assert {layer.p for layer in model.network.modules() if isinstance(layer, nn.Dropout)} == {0.1}
    x, t = torch.randn(3, *model.shape), torch.tensor([0.0, 7.0, 499.0])
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, t), reference(x, t), rtol=0, atol=1e-5)


def test_fifty_official_steps_from_the_same_noise(tmp_path):
    """`generalized_steps` of the official code with eta = 0, which does not clip, and its `skip_type` uniform."""
    reference, path = checkpoint(tmp_path)
    model = ddim.load(path)
    ours = model.sample(2, clip=False, progress=False)  # 50 steps of DDIM
    betas = torch.linspace(0.0002, 0.03, 500, dtype=torch.float64).float()
    abar = torch.cat([torch.ones(1), (1 - betas).cumprod(0)])  # abar[index + 1]
    x = ddim.noise.ImageNoise(0, range(2))(torch.empty(2, 3, 8, 8))
    times = list(range(0, 500, 10))
    with torch.no_grad():
        for i, j in zip(reversed(times), [*reversed(times[:-1]), -1], strict=True):
            eps = reference(x, torch.full((2,), i))
            x0 = (x - eps * (1 - abar[i + 1]).sqrt()) / abar[i + 1].sqrt()
            x = abar[j + 1].sqrt() * x0 + (1 - abar[j + 1]).sqrt() * eps
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-3 * x.abs().max().item())


def test_a_checkpoint_of_a_training_holds_averaged_and_latest_weights(tmp_path):
    """The official runner saves a list; its `DataParallel` puts "module." before the names, its averages have none."""
    latest, averaged = Model(), Model()
    for parameter in averaged.parameters():
        parameter.data.mul_(0.5)
    optimizer = torch.optim.Adam(latest.parameters())
    latest(torch.randn(1, 3, 8, 8), torch.ones(1)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": value for name, value in latest.state_dict().items()}
    states: list[Any] = [state, optimizer.state_dict(), 3, 1200, dict(averaged.named_parameters())]
    torch.save([*states[:4], {name: value.data for name, value in states[4].items()}], tmp_path / "ckpt.pth")
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 900.0])
    for raw, reference in ((False, averaged), (True, latest)):
        model = ddim.load(tmp_path / "ckpt.pth", raw=raw, image_size=8)
        torch.testing.assert_close(model.network(x, t), reference(x, t), rtol=0, atol=1e-5)
    torch.save(states[:4], tmp_path / "ckpt.pth")  # without averages
    model = ddim.load(tmp_path / "ckpt.pth", image_size=(8, 12))
    torch.testing.assert_close(model.network(x, t), latest(x, t), rtol=0, atol=1e-5)
    assert model.shape == (3, 8, 12)


def test_without_a_config_the_attention_tells_the_size(tmp_path):
    _, path = checkpoint(tmp_path, config=None)
    model = ddim.load(path)
    assert model.shape == (3, 32, 32)  # attention at level 1
    assert model.schedule.config == {"name": "linear", "T": 1000, "beta_start": 1e-4, "beta_end": 0.02}
    assert model.sampling == Sampling(50, "ddim", 0.0, "leading")
    _, path = checkpoint(tmp_path, Model(attn=()), config=None)
    with pytest.raises(UserError, match="size of its images is not in the file; give image_size"):
        ddim.load(path)


def test_the_config_that_the_official_code_writes(tmp_path):
    """It dumps nested `argparse.Namespace` objects; no other object is made."""
    config = Namespace(**{name: Namespace(**section) for name, section in CONFIG.items()})
    _, path = checkpoint(tmp_path, config=config)
    assert ddim.load(path).shape == (3, 8, 8)
    (tmp_path / "config.yml").write_text("!!python/object/apply:os.mkdir [was-run]")
    with pytest.raises(UserError, match=r"is not a config of the official code .could not determine a constructor"):
        ddim.load(path)
    assert not Path("was-run").exists()
    (tmp_path / "other.yml").write_text("")
    with pytest.raises(UserError, match=r"holds 2 configs; name that of ckpt\.pth ckpt\.yml"):
        ddim.load(path)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("model", "type", "other", "model.type is 'other', and ddim reads 'simple', 'bayesian'"),
        ("model", "resamp_with_conv", False, "model.resamp_with_conv is False"),
        ("data", "rescaled", False, "data.rescaled is False"),
        ("data", "logit_transform", True, "data.logit_transform is True"),
        ("diffusion", "beta_schedule", "jsd", "diffusion.beta_schedule is 'jsd'"),
        ("diffusion", "beta_end", "much", "beta_end must be a finite number"),
    ],
)
def test_a_config_that_cannot_be_expressed_is_refused_by_its_field(section, key, value, message, tmp_path):
    _, path = checkpoint(tmp_path, config={**CONFIG, section: {**CONFIG[section], key: value}})
    with pytest.raises(UserError, match=f"config.yml cannot be used: {message}"):
        ddim.load(path)


class Runs:
    """A pickle of it runs a command."""

    def __reduce__(self):
        import os

        return os.mkdir, ("was-run",)


def test_what_is_no_such_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, path = checkpoint(tmp_path)
    state = model.state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith("mid.")}, path)
    with pytest.raises(UserError, match=r"it lacks mid\.attn_1\.k\.bias, .* and \d+ more"):
        ddim.load(path)
    torch.save({name: value for name, value in state.items() if name != "conv_out.weight"}, path)
    with pytest.raises(UserError, match=r"lacks conv_out\.weight; give a whole checkpoint"):
        ddim.load(path)
    torch.save({**state, "conv_out.weight": torch.zeros(6, 32, 3, 3)}, path)
    with pytest.raises(UserError, match="takes 3 channels and returns 6"):
        ddim.load(path)
    torch.save({"layer.weight": torch.ones(1), "layer.bias": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"none of the layouts that ddim reads: it holds layer\.weight, layer\.bias;"):
        ddim.load(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(UserError, match="none of the layouts that ddim reads: it holds list"):
        ddim.load(path)
    torch.save({"temb.dense.0.weight": Runs()}, path)
    with pytest.raises(UserError, match=r"refused, and nothing in it was run: it names (posix|nt)\.mkdir"):
        ddim.load(path)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"ckpt\.pth is no file of weights that PyTorch or safetensors wrote"):
        ddim.load(path)
    with pytest.raises(UserError, match="leave out the network and --checkpoint"):
        ddim.load(path, checkpoint=3)
    with pytest.raises(UserError, match=r"`ddim export .*ckpt\.pth --to ddim --out runs/ckpt` makes a run"):
        ddim.loading.find(path)
    assert not Path("was-run").exists()


def test_it_goes_on_to_diffusers(tmp_path):
    reference, path = checkpoint(tmp_path)
    ddim.interop.to_diffusers(ddim.load(path), tmp_path / "out")
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 400.0])
    peer = pytest.importorskip("diffusers").UNet2DModel.from_pretrained(tmp_path / "out/unet")
    torch.testing.assert_close(peer(x, t).sample, reference(x, t), rtol=0, atol=1e-5)
