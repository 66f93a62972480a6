import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import nn

import ddim
from ddim import model_io, nets, schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import read_tensors
from ddim.loading import SHIPPED
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
    """Without this entry the recipe says so; without a recipe the null class counts as learnt."""
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": {"name": "linear", "T": 10**9}}, "schedule.T is 1000000000: Expected `int` <= 100000"),
        ({"schedule": {"name": "betas", "betas": [1e-4] * 100_001}}, "schedule.betas is .*of length <= 100000"),
        ({"shape": [1, 1025, 8]}, r"shape\[1\] is 1025: Expected `int` <= 1024"),
        ({"shape": [65, 8, 8]}, r"shape\[0\] is 65: Expected `int` <= 64"),
        ({"shape": [3, 8, 8]}, "its network takes 1 channels, and its images have 3"),
        ({"classes": 10**30}, "classes is 10{30}: Expected `int` <= 1000000"),
        ({"classes": True}, "classes is True: Expected `int | null`"),
        ({"sampling": {"steps": 20, "sampler": None, "eta": None, "spacing": "trailing"}}, "sampling.sampler is None"),
        ({"sampling": {"steps": 10**9, "sampler": "ddim", "eta": None, "spacing": "trailing"}}, "steps is 1000000000"),
        ({"indexed": "no"}, "indexed is 'no'"),
        ({"classes": "\ud800"}, "does not describe a model"),
        ({"schedule": {"T": 10}}, "missing required field `name`"),
    ],
)
def test_a_config_beyond_the_limits_names_the_entry_and_the_limit(run_folder, changes, said):
    """Every reader refuses it, before anything of that size is made."""
    edit(run_folder, **changes)
    for read in (ddim.load, model_io.read_config):
        with pytest.raises(UserError, match=said) as refusal:
            read(run_folder)
        assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 8192}, r"more than [\d,]+ parameters, and .*model\.safetensors holds [\d,]+; load"),
        ({"classes": 1_000_000}, "parameters, and"),
        ({"width": 10**9}, "1 to 16,384 channels"),
        ({"width": 17}, "the first an even number; got|the first an even number"),
        ({"width": -2}, "1 to 16,384 channels"),
        ({"blocks": 10**9}, "and 1000000000 blocks"),
        ({"blocks": 0}, "and 0 blocks"),
        ({"multipliers": []}, "1 to 16 stages"),
        ({"multipliers": [1] * 1000}, "1 to 16 stages"),
    ],
)
def test_a_network_that_is_no_network_of_these_weights_is_never_made(run_folder, changes, said):
    config = json.loads((run_folder / "config.json").read_text())
    edit(run_folder, network={**config["network"], **changes})
    with pytest.raises(UserError, match=rf"config\.json cannot be used: .*{said}"):
        ddim.load(run_folder)


def test_the_limit_of_parameters_is_of_this_model_alone(run_folder, tmp_path):
    """Networks that are made afterwards may be larger."""
    ddim.load(run_folder)
    assert sum(p.numel() for p in nets.build("plain", 1, "tiny", widths=(64, 256)).parameters()) > 1_500_000


@pytest.mark.parametrize("folder", sorted(SHIPPED.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_configs_of_the_package_are_read_as_they_are(folder):
    assert model_io.read_config(folder.parent) == json.loads(folder.read_text())


def test_entries_that_are_unknown_are_kept(run_folder):
    edit(run_folder, note={"by": ["me"]}, recipe={"data": "caf\udce9", "new": 1, "plan": {"new": 0.1}})
    config = model_io.read_config(run_folder)
    assert config["note"] == {"by": ["me"]}
    assert config["recipe"] == {"data": "caf\udce9", "new": 1, "plan": {"new": 0.1}}
    assert ddim.load(run_folder).shape == (1, 8, 8)


@pytest.mark.parametrize("text", ["[" * 33 + "]" * 33, '{"a":' * 500 + "1" + "}" * 500])
def test_a_config_nested_too_deep(run_folder, text):
    edit(run_folder, note=json.loads(text))
    with pytest.raises(UserError, match="nested more than 32 deep"):
        ddim.load(run_folder)


def test_a_config_that_is_too_large(run_folder):
    os.truncate(run_folder / "config.json", 2**34)
    with pytest.raises(UserError, match="larger than 16 MiB"):
        ddim.load(run_folder)


def test_what_could_not_be_loaded_is_not_saved(tmp_path, model):
    for wrong in (
        Denoiser(model.network, schedule.from_betas([1e-5] * 100_001), "v", shape=(1, 8, 8)),
        Denoiser(model.network, schedule.linear(), shape=(1, 8, 2000)),
    ):
        with pytest.raises(UserError, match="does not describe a model"):
            model_io.save(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


NAME = "head.2.weight"


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = read_tensors(path)
    weights[NAME] = change(weights[NAME])
    path.write_bytes(to_bytes(weights))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "complex64", "float8_e5m2"])
def test_weights_of_a_foreign_dtype_are_refused(run_folder, dtype):
    change_weights(run_folder, lambda weight: weight.to(getattr(torch, dtype)))
    with pytest.raises(UserError, match=rf"{NAME} as {dtype}, .*takes float32, float16, bfloat16, float64"):
        ddim.load(run_folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_keep_their_values(run_folder, dtype):
    change_weights(run_folder, lambda weight: weight.to(dtype))
    saved = read_tensors(run_folder / "model.safetensors")[NAME]
    loaded = ddim.load(run_folder).network.state_dict()[NAME]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, saved.float())


def test_weights_that_are_nan_are_loaded_and_sampling_says_so(run_folder):
    change_weights(run_folder, lambda weight: weight * torch.nan)
    with pytest.raises(UserError, match="its weights are broken"):
        ddim.load(run_folder).sample(1, steps=1, progress=False)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(run_folder, name):
    (run_folder / name).unlink()
    (run_folder / name).mkdir()
    readers = [ddim.load, model_io.fingerprint if name == "model.safetensors" else model_io.read_config]
    for read in readers:
        with pytest.raises(UserError, match=rf"Could not read .*{name}: Is a directory; allow"):
            read(run_folder)


def test_a_file_longer_than_its_header_says_is_refused_unread(run_folder):
    os.truncate(run_folder / "model.safetensors", 2**40)
    with pytest.raises(UserError, match=r"is broken \(it has 1,099,511,627,776 bytes, and its header announces"):
        ddim.load(run_folder)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow names of UTF-8 only")
def test_a_folder_whose_name_is_not_utf8(run_folder, model):
    folder = Path(os.fsdecode(os.fsencode(run_folder.parent) + b"/caf\xe9"))
    try:
        shutil.copytree(run_folder, folder)
    except OSError:
        pytest.skip("this file system refuses the name")
    assert torch.equal(ddim.load(folder).sample(1, steps=1), model.sample(1, steps=1))
    assert model_io.fingerprint(folder) == model_io.fingerprint(run_folder)
