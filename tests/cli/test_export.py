"""`ddim export`."""

import os
from pathlib import Path

import pytest
import torch
from refusal import refused

import ddim
from ddim.cli import main

ONE_GROUP = {"width": 16, "groups": 1}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with classes whose network diffusers has, in the working folder."""
    monkeypatch.chdir(tmp_path)
    network = ddim.nets.build("unet", 1, "tiny", 3, **ONE_GROUP)
    model = ddim.Denoiser(network, ddim.schedule.linear(), shape=(1, 8, 8), classes=3)
    ddim.model_io.save(model, "runs/a")
    return model


def test_a_folder_of_diffusers_and_back_to_a_run(run, capsys):
    main(["export", "runs/a", "--to", "diffusers", "--label", "1"])
    assert capsys.readouterr().out == ('a-diffusers is written. Use it: DDIMPipeline.from_pretrained("a-diffusers")\n')
    remedy = "`ddim export a-diffusers --to ddim --out runs/a-diffusers` makes a run of it"
    assert remedy in refused(capsys, "sample", "a-diffusers")
    main(["export", "a-diffusers", "--to", "ddim", "--out", "runs/b"])
    again, x = ddim.load("runs/b"), torch.randn(2, 1, 8, 8)
    assert (again.classes, again.indexed) == (None, True)
    at = run.schedule(300)
    torch.testing.assert_close(again(x, at).x0, run.eval()(x, at, torch.tensor([1, 1])).x0, rtol=0, atol=1e-5)


def test_a_program(run, capsys):
    main(["export", "runs/a", "--to", "torch"])
    assert "torch.export.load" in capsys.readouterr().out
    assert sorted(os.listdir("a-torch")) == ["model.json", "network.pt2"]


def test_a_file_of_weights_becomes_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network = ddim.nets.build("lucidrains", 1, "tiny")
    noise = ddim.schedule.cosine(T=60)
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({**state, "betas": noise.betas[1:].float(), "loss_weight": torch.ones(60)}, "model-1.0.pt")
    main(["export", "model-1.0.pt", "--to", "ddim", "--image-size", "8"])
    assert capsys.readouterr().out == "model-1.0-ddim is written. Use it: ddim sample model-1.0-ddim\n"
    model = ddim.load("model-1.0-ddim")
    assert (model.predicts, model.schedule.config["name"], model.shape) == ("eps", "cosine", (1, 8, 8))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "torch", "--label", "1"], "--label is for --to diffusers; a folder for torch has all classes"),
        (["--to", "torch", "--out", "runs"], "runs is not empty; choose another --out"),
        (["--to", "diffusers"], "choose one class for the folder with a label (--label)"),
    ],
)
def test_what_is_refused(run, words, message, capsys):
    assert message in refused(capsys, "export", "runs/a", *words)
    assert sorted(path.name for path in Path().iterdir()) == ["runs"]
