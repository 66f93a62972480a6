"""Exported programs compute the network at any batch size, and `sample.py` draws the images of `model.sample`."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import ddim
from ddim import interop, nets, schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.interop import sample_onnx
from ddim.sampling import Sampling
from ddim.values import Values


@pytest.fixture(scope="module")
def by_class():
    """A tiny network with classes, whose output depends on all of its input."""
    torch.manual_seed(0)
    network = nets.build("unet", 1, "tiny", 3, width=16)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return Denoiser(network, schedule.cosine(), "v", (1, 8, 8), 3).eval()


@pytest.fixture(scope="module")
def onnx_folder(by_class, tmp_path_factory):
    """The exporter takes seconds, so the tests that use it are slow."""
    return interop.to_onnx(by_class, tmp_path_factory.mktemp("exported") / "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"guidance": 2.0}, {"labels": [2, -1, 0], "first": 4, "clip": False}])
def test_the_sampler_beside_the_network_draws_the_same_images(by_class, onnx_folder, options):
    ours = by_class.sample(3, steps=50, sampler="ddim", seed=7, progress=False, **options)
    theirs = sample_onnx.sample(3, steps=50, seed=7, batch_size=2, folder=onnx_folder, **options)
    np.testing.assert_allclose(theirs, ours.numpy(), rtol=0, atol=1e-4)
    assert ours.std() > 0.1


@pytest.mark.slow
def test_a_trained_model(tmp_path):
    model = ddim.load("mnist", backend="torch")
    ours = model.sample(3, steps=50, sampler="ddim", seed=7, progress=False)
    theirs = sample_onnx.sample(3, steps=50, seed=7, folder=interop.to_onnx(model, tmp_path))
    np.testing.assert_allclose(theirs, ours.numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_it_runs_without_ddim_and_without_torch(by_class, onnx_folder, tmp_path):
    assert {path.name for path in onnx_folder.iterdir()} == {"network.onnx", "model.json", "sample.py"}
    script = str(onnx_folder / "sample.py")
    blocked = "import runpy, sys; sys.modules.update(ddim=None, torch=None)"
    code = f"{blocked}; runpy.run_path({script!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, "--count", "2", "--labels", "1,2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("images.npy holds 2 images, float32 from")
    ours = by_class.sample(2, labels=[1, 2], sampler="ddim", progress=False)  # the default steps
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), ours.numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1001}, "from 1 to 1000; got 1001"),
        ({"labels": [3, 0]}, "Give 2 labels, .* to 2"),
        ({"labels": [0]}, "Give 2 labels"),
    ],
)
def test_what_the_sampler_refuses(onnx_folder, options, message):
    with pytest.raises(SystemExit, match=message):
        sample_onnx.sample(2, folder=onnx_folder, **options)


@pytest.mark.parametrize(
    ("predicts", "on"),
    [
        ("eps", schedule.linear()),
        ("x0", schedule.linear()),
        ("x0", schedule.edm()),
        ("flow", schedule.flow()),
        ("flow", schedule.edm()),
    ],
)
def test_levels_and_predictions(predicts, on, tmp_path, monkeypatch):
    """With a network that is a formula in place of onnxruntime: the model's own levels, indices, and predictions."""

    class Network(nn.Module):
        def forward(self, x, t):
            return x / 2 + t[:, None, None, None] / 2000

    class Session:
        def __init__(self, *args, **options):
            pass

        def run(self, _, given):
            return [Network()(torch.from_numpy(given["x"]), torch.from_numpy(given["t"])).numpy()]

    counted = on.T == on.N
    sampling = Sampling(20, "ddim", 0.0, "log-snr", clip=counted)
    model = Denoiser(Network(), on, predicts, (2, 4, 6), indexed=counted, sampling=sampling)
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    folder = interop.to_torch(model, tmp_path)
    (folder / "network.onnx").touch()
    ours = model.sample(3, seed=2**40, first=9, progress=False)
    theirs = sample_onnx.sample(3, seed=2**40, first=9, folder=folder)
    np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-5, atol=1e-5)
    ours = model.sample(1, steps=7, sampler="ddim", spacing="trailing", progress=False)
    np.testing.assert_allclose(sample_onnx.sample(1, steps=7, folder=folder), ours.numpy(), rtol=1e-5, atol=1e-5)
    with pytest.raises(SystemExit, match="has no classes"):
        sample_onnx.sample(1, labels=[0], folder=folder)


@pytest.mark.slow
def test_the_levels_of_a_student(by_class, tmp_path):
    """It is asked at the times that it was trained at, and makes no other number of steps."""
    sampling = Sampling(2, "ddim", None, "trailing", times=((900.0,), (800.0, 250.5)))
    network = nets.build("plain", 1, "tiny", widths=(4,))
    model = Denoiser(network, schedule.linear(), "v", (1, 4, 4), sampling=sampling).eval()
    about = json.loads((interop.to_torch(model, tmp_path) / "model.json").read_text())
    assert [level[0] for level in sample_onnx.levels(about)] == [800, 250.5, 0]
    assert [level[0] for level in sample_onnx.levels(about, 1)] == [900, 0]
    with pytest.raises(SystemExit, match="distilled for 1, 2 steps; got 4"):
        sample_onnx.levels(about, 4)
    with pytest.raises(UserError, match="a student with times of its own"):
        interop.to_diffusers(model, tmp_path / "folder")


@pytest.mark.slow
def test_a_program_of_torch_export(by_class, tmp_path):
    folder = interop.to_torch(by_class, tmp_path / "a" / "b")
    program = torch.export.load(folder / "network.pt2").module()
    for batch in (1, 2, 7):
        x, t, label = torch.randn(batch, 1, 8, 8), torch.linspace(1, 999, batch), torch.arange(batch) % 3
        torch.testing.assert_close(program(x, t, label), by_class.network(x, t, label), rtol=0, atol=1e-5)
    assert json.loads((folder / "model.json").read_text())["shape"] == [1, 8, 8]


class Branches(nn.Module):
    """Its output depends on a value that a trace does not see."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, x, t):
        return self.layer(x) * (2.0 if x.mean().item() > 0 else 1.0)


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(tmp_path):
    model = Denoiser(Branches(), schedule.linear(), shape=(1, 4, 4))
    with pytest.raises(UserError, match=r"cannot be exported to torch .*may not read values of tensors"):
        interop.to_torch(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_to_onnx_without_the_exporter(by_class, tmp_path, monkeypatch):
    monkeypatch.setattr("ddim.backends.onnx.ONNX.missing", classmethod(lambda cls: ["onnxscript"]))
    with pytest.raises(UserError, match=r'needs onnxscript, which is not installed; pip install "ddim\[fast\]"'):
        interop.to_onnx(by_class, tmp_path)


@pytest.mark.parametrize("to", [interop.to_onnx, interop.to_torch, interop.to_diffusers])
@pytest.mark.parametrize("what", ["conditions = 2", "arrays from -3 to 3"])
def test_what_a_program_cannot_express_is_refused_by_name(tmp_path, to, what):
    conditions = 2 if what.startswith("cond") else None
    network = nets.build("unet", 1, "tiny", **({"conditions": conditions} if conditions else {}))
    model = Denoiser(network, schedule.cosine(), "v", (1, 8, 8), conditions=conditions)
    model.values = None if conditions else Values((-3, 3))
    with pytest.raises(UserError, match=what):
        to(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
