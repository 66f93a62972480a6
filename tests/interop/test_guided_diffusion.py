"""Checkpoints of improved-diffusion and guided-diffusion: the same outputs and samples, and a sentence for the rest."""

import json

import pytest
import torch
from guided_model import UNetModel

import ddim
from ddim.errors import Notice, UserError
from ddim.noise import ImageNoise

FLAGS = {"image_size": 8, "num_heads": 2}


def written(folder, flags=FLAGS, **options):
    """Write a checkpoint with random weights and its flags; return its path and the network."""
    torch.manual_seed(0)
    network = UNetModel(**options).eval()
    torch.save(network.state_dict(), folder / "ema_0.9999.pt")
    if flags is not None:
        (folder / "ema_0.9999.json").write_text(json.dumps(flags))
    return folder / "ema_0.9999.pt", network


LAYOUTS = {
    "improved-diffusion": ({}, {}),
    "no scale, two blocks": ({"scale_shift": False, "blocks": 2, "at": (0, 1)}, {}),
    "guided-diffusion": (
        {"updown": True, "mult": (1, 2, 2), "at": (1, 2), "new_order": True},
        {"use_new_attention_order": True, "resblock_updown": True},
    ),
    "heads of 16 channels": ({"heads": 4}, {"num_head_channels": 16, "num_heads": 1}),
    "one stage": ({"mult": (1,), "at": ()}, {}),
    "variance": ({"outputs": 6}, {"learn_sigma": True}),
}


@pytest.mark.parametrize(("options", "flags"), LAYOUTS.values(), ids=LAYOUTS)
def test_outputs_of_a_unet_model(options, flags, tmp_path):
    path, peer = written(tmp_path, {**FLAGS, **flags}, **options)
    model, x, t = ddim.load(path), torch.randn(3, 3, 8, 8), torch.tensor([0.0, 7.0, 999.0])
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, t), peer(x, t)[:, :3], rtol=0, atol=1e-5)


def test_classes(tmp_path):
    path, peer = written(tmp_path, classes=4)
    model = ddim.load(path)
    assert (model.classes, model.null_class) == (4, False)
    x, t, label = torch.randn(3, 3, 8, 8), torch.tensor([0.0, 7.0, 999.0]), torch.tensor([0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, t, label), peer(x, t, label), rtol=0, atol=1e-5)


def test_fifty_steps_of_its_ddim(tmp_path):
    """ "ddim50" of 4,000 cosine steps whose times are rescaled to 1,000: indices 0, 80, ..., with clipped images."""
    flags = {"diffusion_steps": 4000, "noise_schedule": "cosine", "rescale_timesteps": True}
    path, peer = written(tmp_path, {**FLAGS, **flags})
    model = ddim.load(path)
    f = torch.cos((torch.arange(4001).double() / 4000 + 0.008) / 1.008 * torch.pi / 2) ** 2
    abar = (1 - (1 - f[1:] / f[:-1]).clamp(max=0.999)).cumprod(0).float()
    x = ImageNoise(5, range(2))(torch.empty(2, 3, 8, 8))
    with torch.no_grad():
        for i in reversed(range(0, 4000, 80)):
            before = abar[i - 80] if i else torch.ones(())
            eps = peer(x, torch.full((2,), i * 1000 / 4000))
            x0 = ((x - (1 - abar[i]).sqrt() * eps) / abar[i].sqrt()).clamp(-1, 1)
            eps = (x - abar[i].sqrt() * x0) / (1 - abar[i]).sqrt()
            x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    torch.testing.assert_close(model.sample(2, seed=5, progress=False), x, rtol=0, atol=1e-3)


def test_without_flags_the_defaults_are_said(tmp_path):
    path, _ = written(tmp_path, None, heads=4)
    with pytest.warns(
        Notice, match=r"no ema_0\.9999\.json .* num_heads = 4, diffusion_steps = 1000, noise_schedule = l"
    ):
        model = ddim.load(path, image_size=8)
    assert ddim.model_io.describe(model)["network"]["heads"] == 4
    assert model.schedule.config == ddim.schedule.linear().config


def test_it_is_a_model_of_ddim(tmp_path):
    """It is saved and loaded; diffusers cannot express it, by name."""
    path, _ = written(tmp_path, {**FLAGS, "rescale_timesteps": True, "diffusion_steps": 500})
    model = ddim.load(path)
    ddim.model_io.save(model, tmp_path / "run")
    again = ddim.load(tmp_path / "run")
    assert torch.equal(again.sample(1, steps=2, progress=False), model.sample(1, steps=2, progress=False))
    with pytest.raises(UserError, match=r"UNet2DModel has no time_scale = 2\.0"):
        ddim.interop.to_diffusers(again, tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"noise_schedule": "sqrt"}, "noise_schedule is 'sqrt', and ddim reads 'linear', 'cosine'"),
        ({"num_heads_upsample": 2}, "num_heads_upsample is 2, and ddim reads -1"),
        ({"timestep_respacing": "250"}, "timestep_respacing is '250'"),
        ({"num_heads": 0}, "num_heads must be a whole number of at least 1"),
        ({"num_heads": 7}, "num_heads is 7, which does not divide the 64 channels of an attention"),
        ({"classifier_depth": 2}, "does not know its flag classifier_depth = 2"),
        ({"image_size": None}, "the size of its images is not in the file; give image_size"),
    ],
)
def test_a_flag_that_ddim_does_not_have_is_refused_by_its_name(flags, message, tmp_path):
    path, _ = written(tmp_path, {**FLAGS, **flags})
    with pytest.raises(UserError, match=message):
        ddim.load(path)


def test_a_checkpoint_that_is_not_whole(tmp_path):
    path, network = written(tmp_path)
    with pytest.raises(UserError, match="leave out --raw"):
        ddim.load(path, raw=True)
    weights = network.state_dict()
    del weights["middle_block.1.qkv.weight"]
    torch.save(weights, path)
    with pytest.raises(UserError, match=r"it lacks mid_block\.attentions\.0\.to_k\.weight"):
        ddim.load(path)
    torch.save({name: value for name, value in weights.items() if not name.startswith("out.")}, path)
    with pytest.raises(UserError, match=r"lacks out\.2\.weight; give a whole state dict"):
        ddim.load(path)
    (tmp_path / "ema_0.9999.json").write_text("[")
    with pytest.raises(UserError, match="not a JSON table of flags"):
        ddim.load(path)
