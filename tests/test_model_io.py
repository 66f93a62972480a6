import json

import pytest
import torch
from torch import nn

import ddim
from ddim import model_io, nets, schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.sampling import Sampling


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_save_and_load_gives_identical_samples(model, run_folder):
    assert torch.equal(
        ddim.load(run_folder).sample(3, steps=5, eta=0.5, progress=False),
        model.sample(3, steps=5, eta=0.5, progress=False),
    )


@pytest.mark.parametrize("name", ["linear", "scaled-linear", "cosine", "sigmoid"])
def test_everything_about_the_model_comes_back(tmp_path, name):
    network = nets.build("plain", 3, "tiny", classes=4)
    sampling = Sampling(steps=7, sampler="ddim", eta="hat", spacing="quadratic")
    before = Denoiser(network, schedule.get(name, T=50), "v", (3, 9, 8), 4, indexed=True, sampling=sampling)
    model_io.save(before, tmp_path, recipe={"data": "mnist"})
    after = ddim.load(tmp_path)
    assert model_io.describe(after) == model_io.describe(before)
    assert torch.equal(after.schedule.alpha_bar, before.schedule.alpha_bar)
    assert not after.training
    assert model_io.read_config(tmp_path)["recipe"] == {"data": "mnist"}


@pytest.mark.parametrize("learnt", [True, False])
def test_whether_the_null_class_was_learnt_comes_back(tmp_path, learnt):
    """Also from a config without this entry, in which the recipe tells it, and from one without a recipe."""
    before = Denoiser(nets.build("plain", 1, "tiny", classes=2), schedule.linear(), shape=(1, 8, 8), classes=2)
    before.null_class = learnt
    model_io.save(before, tmp_path)
    assert ddim.load(tmp_path).null_class == learnt
    config = json.loads((tmp_path / "config.json").read_text())
    del config["null_class"]
    assert model_io.restore(config).null_class
    assert model_io.restore({**config, "recipe": {"plan": {"label_dropout": 0.1 * learnt}}}).null_class == learnt
    assert model_io.restore({**config, "recipe": None}).null_class


def test_a_model_that_cannot_be_described_leaves_no_file(tmp_path, model):
    before = Denoiser(model.network, schedule.linear(T=10), shape=(1, 8, 8))
    before.schedule.config = {"name": "mine", "formula": abs}
    with pytest.raises(UserError, match=r"must be plain data .*builtin_function"):
        model_io.save(before, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_schedule_of_the_users_own_comes_back(tmp_path, model):
    before = Denoiser(model.network, schedule.from_betas([0.1, 0.2, 0.3]), shape=(1, 8, 8))
    model_io.save(before, tmp_path)
    assert torch.equal(ddim.load(tmp_path).schedule.alpha_bar, before.schedule.alpha_bar)


def test_a_network_of_the_users_own(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, t):
            return self.layer(x)

    before = Denoiser(Own(), schedule.linear(), shape=(1, 4, 4))
    model_io.save(before, tmp_path)
    with pytest.raises(UserError, match="network=YourModule"):
        ddim.load(tmp_path)
    after = ddim.load(tmp_path, network=Own())
    assert torch.equal(*(m.network.get_parameter("layer.weight") for m in (after, before)))


def test_no_such_run(tmp_path):
    with pytest.raises(UserError, match="no run at"):
        ddim.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no config\.json"):
        ddim.load(tmp_path)


def test_newer_format(run_folder):
    edit(run_folder, format=model_io.FORMAT + 1)
    with pytest.raises(UserError, match="upgrade ddim"):
        ddim.load(run_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "new"}', "\x00", '{"format": 1e999}', "[" * 100_000])
def test_broken_config(run_folder, text):
    (run_folder / "config.json").write_text(text)
    with pytest.raises(UserError, match="not a config that ddim wrote"):
        ddim.load(run_folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"name": "unet", "depth": 3}},
        {"network": {"name": "resnet"}},
        {"network": None},
        {"schedule": {"name": "linear", "T": -5}},
        {"schedule": {"name": "linear", "beta_end": 2}},
        {"shape": [1, 8]},
        {"shape": ["a", 8, 8]},
        {"shape": [1, -8, 8]},
        {"classes": 0},
        {"classes": "x"},
        {"predicts": "score"},
        {"sampling": {"steps": "abc"}},
        {"sampling": {"sampler": "euler"}},
        {"sampling": {"spacing": None}},
        {"sampling": {"eta": -1}},
    ],
)
def test_config_that_describes_no_model(run_folder, changes):
    edit(run_folder, **changes)
    with pytest.raises(UserError, match=r"config\.json (cannot be used|does not describe a model)"):
        ddim.load(run_folder)


def test_weights_of_another_shape(run_folder):
    config = json.loads((run_folder / "config.json").read_text())
    edit(run_folder, network={**config["network"], "width": 32})
    with pytest.raises(UserError, match="weights of another network"):
        ddim.load(run_folder)
    edit(run_folder, network={**config["network"], "blocks": 2})
    with pytest.raises(UserError, match="absent"):
        ddim.load(run_folder)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_weights(run_folder, keep):
    path = run_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is broken"):
        ddim.load(run_folder)


def test_tied_weights(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 1, 3, padding=1)
            self.second = self.first

        def forward(self, x, t):
            return self.second(self.first(x))

    model_io.save(Denoiser(Tied(), schedule.linear(), shape=(1, 4, 4)), tmp_path)
    assert ddim.load(tmp_path, network=Tied()).sample(1, steps=2, progress=False).isfinite().all()


def test_missing_weights(run_folder):
    (run_folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        ddim.load(run_folder)
