"""The tab Compare measures samples of each side against held-out images, and says why if it cannot."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ddim
from ddim import nets, schedule
from ddim.denoiser import Denoiser
from ddim.model_io import save

pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.studio.compare import qualities
from ddim.studio.quality import measure, standard
from ddim.studio.sample import Request, Solver

FEW = Solver(2, "ddim", 0.0)
BOTH = FEW, Solver(2, "ddim", 1.0)


@pytest.fixture
def run(tmp_path):
    """Save an untrained model with classes as a run of a data set, and return its folder."""

    def stored(data, shape=(1, 8, 8), **about):
        network = nets.build("unet", shape[0], "tiny", width=16, classes=10)
        save(Denoiser(network, schedule.linear(), shape=shape, classes=10), tmp_path / "run")
        path = tmp_path / "run/config.json"
        known = {"recipe": {"data": str(data)}, "data": {"classes": list("0123456789"), **about}}
        path.write_text(json.dumps(json.loads(path.read_text()) | known))
        return str(tmp_path / "run")

    return stored


def held_out_digits(count, labels, **_):
    """Held-out digits of the classes that are asked for, in turn, in place of samples."""
    images = ddim.open_images("digits", split="test")
    rows = [int((images.labels == label).nonzero()[i // 10]) for i, label in enumerate(labels.tolist())]
    return images.batch(torch.tensor(rows))[0]


def test_real_digits_are_at_no_distance_and_are_read_as_their_class(run):
    folder = run("digits")
    model = ddim.load(folder, backend="torch")
    by = standard(folder, model)
    ideal: Any = SimpleNamespace(classes=10, sample=held_out_digits)
    real = measure(ideal, FEW, 0, 100, by)
    untrained = measure(model, FEW, 0, 100, by)
    assert real.kid is not None
    assert untrained.kid is not None
    assert abs(real.kid.value) < 3 * real.kid.error
    assert untrained.kid.value > 3 * untrained.kid.error
    assert (real.accuracy or 0) > 0.9
    assert (untrained.accuracy or 1) < 0.3
    assert real.describe().startswith(f"KID {real.kid.value:.3g} [")
    assert f"{real.accuracy:.0%}" in real.describe()


def test_both_sides_are_measured_with_the_noise_of_the_request(run):
    folder = run("digits")
    model = ddim.load(folder, backend="torch")
    a, b, about = qualities(model, Request(folder), (FEW, FEW), 20)
    assert a == b
    assert a != qualities(model, Request(folder, seed=1), BOTH, 20)[0]
    assert a != qualities(model, Request(folder), BOTH, 20)[1]
    assert "KID, about 0 for real images" in about
    assert "accuracy, the share that a classifier" in about
    assert qualities(model, Request(folder), BOTH, 0) == ("", "", "")


def test_without_the_data_the_accuracy_remains_and_a_sentence_says_why(run, monkeypatch, tmp_path):
    (tmp_path / "mnist").mkdir()  # is not the data set
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDIM_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ddim.data.download.urlopen", None)  # a download would fail in another way
    folder = run("mnist", (1, 28, 28))
    a, _, about = qualities(ddim.load(folder, backend="torch"), Request(folder), BOTH, 10)
    assert a.startswith("Accuracy ")
    assert "KID" not in a
    assert about.endswith("The held-out images of mnist are not on this machine, so no KID is measured.")


def test_without_enough_images_or_a_recipe_a_sentence_says_why(run, run_folder, tmp_path):
    from PIL import Image

    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 50 * i).save(folder / f"{i}.png")
    few = run(folder, place=str(folder))
    model = ddim.load(few, backend="torch")
    assert qualities(model, Request(few), BOTH, 10)[2].endswith("held-out images, too few for a KID.")
    folder.rename(tmp_path / "moved")
    assert "which is missing; so no KID is measured." in qualities(model, Request(few), BOTH, 10)[2]
    unknown = qualities(ddim.load(run_folder, backend="torch"), Request(str(run_folder)), BOTH, 10)
    assert unknown[:2] == ("", "")
    assert unknown[2]
