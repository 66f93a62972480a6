"""A vector for each image: learned, told to the sampler, left out, and refused where it does not fit."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from ddim import Denoiser, model_io, nets, open_images, schedule
from ddim.distill import Distillation
from ddim.edit import Mask, restore, vary
from ddim.errors import UserError
from ddim.train import Plan, fit
from ddim.train.batches import draw_batch

PLAN = Plan(steps=2, batch_size=8, precision="fp32")


class Shifted(nn.Module):
    """Predicts as x0 the mean that the vector and the class name; 0 for the null ones."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, t, label=None, condition=None):
        mean = torch.zeros(len(x), device=x.device)
        if condition is not None:
            mean = mean + condition.sum(dim=1).nan_to_num(0)
        if label is not None:
            mean = mean + 0.1 * (label + 1)
        return self.scale * mean[:, None, None, None].expand_as(x)


def shifted(classes=None, conditions=2):
    return Denoiser(Shifted(), schedule.linear(), "x0", (1, 2, 2), classes, conditions=conditions)


def means(model, count=3, **options):
    drawn = model.sample(count, steps=2, sampler="ddim", progress=False, **options)
    return pytest.approx(drawn.mean(dim=(1, 2, 3)).tolist(), abs=1e-5)


def test_samples_follow_their_vectors_at_any_batch_size():
    vectors = [[0.1, 0.2], [np.nan, np.nan], [-0.5, 0.0]]
    for batch_size in (1, 2, 64):
        assert means(shifted(), conditions=vectors, batch_size=batch_size) == [0.3, 0, -0.5]
    assert means(shifted(), conditions=np.array([0.1, 0.2])) == [0.3] * 3
    assert means(shifted()) == [0] * 3


def test_guidance_leads_away_from_the_null_vector_and_the_null_class():
    assert means(shifted(), conditions=[0.1, 0.2], guidance=2.0) == [0.6] * 3
    model = shifted(classes=4)
    assert means(model, conditions=[0.1, 0.1], labels=[0, 1, 2]) == [0.3, 0.4, 0.5]
    assert means(model, conditions=[0.1, 0.1], labels=[0, 1, 2], guidance=1.5) == [0.45, 0.6, 0.75]


def test_a_registered_network_learns_them_and_its_null_vector_is_no_vector():
    torch.manual_seed(0)
    for name in ("plain", "unet"):
        network = nets.build(name, 1, "tiny", conditions=3)
        for weight in network.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
        x, t, vectors = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 500.0]), torch.randn(2, 3)
        plain, null = network(x, t), network(x, t, condition=torch.full((2, 3), torch.nan))
        assert torch.equal(plain, null)
        mixed = network(x, t, condition=torch.stack([vectors[0], torch.full((3,), torch.nan)]))
        assert not torch.allclose(mixed[0], plain[0], atol=1e-3)
        torch.testing.assert_close(mixed[1], plain[1])


def test_training_drops_vectors_as_often_as_labels():
    images = open_images(TensorDataset(torch.rand(40, 1, 4, 4), torch.arange(40) % 2, torch.rand(40, 3)))
    assert images.conditions is not None
    assert images.conditions.shape == (40, 3)
    batch = draw_batch(Plan(batch_size=400, label_dropout=0.25), images, 1000, 1, range(400))
    null = batch.condition.isnan()
    assert torch.equal(null.all(1), null.any(1))
    assert torch.equal(null.all(1), batch.label == -1)
    assert 60 < null.all(1).sum() < 140


def test_a_trained_model_keeps_its_conditions(tmp_path):
    images = open_images(TensorDataset(torch.rand(16, 1, 4, 4), torch.rand(16, 3)))
    model = Denoiser(nets.build("plain", 1, "tiny", conditions=3), schedule.linear(), shape=(1, 4, 4), conditions=3)
    weight = model.network.get_parameter("condition.vector.weight")
    before = weight.clone()
    *_, last = fit(model, images, PLAN)
    assert not torch.equal(weight, before)
    model_io.save(last.average, tmp_path / "run")
    loaded = model_io.load(tmp_path / "run")
    assert loaded.conditions == 3
    vectors = torch.rand(2, 3)
    drawn = [one.sample(2, steps=1, progress=False, conditions=vectors) for one in (last.average, loaded)]
    assert torch.equal(*drawn)


def test_an_archive_holds_them_in_both_splits_and_with_selected_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    vectors = np.random.default_rng(0).normal(size=(60, 5))
    given = np.random.default_rng(1).normal(size=(60, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", images=given, conditions=vectors, labels=np.arange(60) % 3)
    known = {image.tobytes(): vector for image, vector in zip(given, vectors.astype(np.float32), strict=True)}
    for split, classes in (("train", None), ("test", None), ("train", "2,0")):
        images = open_images(tmp_path / "x.npz", split=split, classes=classes)
        assert images.conditions is not None
        for image, vector in zip(images.pixels, images.conditions, strict=True):
            assert np.array_equal(known[image.numpy().tobytes()], vector.numpy())


def test_the_command_line_trains_on_them(tmp_path, monkeypatch):
    from ddim.cli import main

    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("x.npz", images=rng.random((24, 1, 8, 8), np.float32), conditions=rng.random((24, 2)))
    main(
        ["train", "x.npz", "--conditional", "--network", "plain", "--size", "tiny", "--steps", "1", "--batch-size", "2"]
    )
    model = model_io.load(tmp_path / "runs" / "x")
    assert (model.conditions, model.classes) == (2, None)


def test_the_command_line_samples_for_a_vector_and_replays_it(tmp_path, monkeypatch, capsys):
    from ddim.cli import main

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", conditions=2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    model_io.save(Denoiser(network, schedule.linear(), "v", (1, 8, 8), conditions=2), tmp_path / "run")
    flags = ["sample", "./run", "--count", "2", "--steps", "2", "--sampler", "ddim", "--backend", "torch"]
    for name, vector in (("a", "0.5,-1"), ("b", "0.5,1")):
        main([*flags, "--conditions", vector, "--out", f"{name}.png"])
        main(["replay", f"{name}.png", "--model", "./run", "--out", f"{name}-again.png"])
        assert read_pixels(f"{name}-again.png") == read_pixels(f"{name}.png")
    assert read_pixels("a.png") != read_pixels("b.png")
    with pytest.raises(SystemExit, match="2"):
        main([*flags, "--conditions", "0.5"])
    assert "Conditions are a vector of 2 finite numbers" in capsys.readouterr().err


def read_pixels(path):
    with Image.open(path) as picture:
        return picture.tobytes()


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([[0.0, 1.0]], r"2 finite numbers for each image, or one for all, .* got an array of shape \(1, 2\)"),
        ([0.0, 1.0, 2.0], r"shape \(3,\)"),
        (0.5, r"shape \(\)"),
        ([np.inf, 0.0], "with infinite numbers"),
        ("red", "Conditions are an array of numbers; got 'red'"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(conditions, reason):
    with pytest.raises(UserError, match=reason):
        shifted().sample(3, conditions=conditions)


def test_a_model_and_images_must_agree_on_conditions():
    with pytest.raises(UserError, match="made without conditions: leave the conditions out"):
        shifted(conditions=None).sample(1, conditions=[1.0, 2.0])
    with pytest.raises(UserError, match="takes conditions of 2 numbers, but Tensor has none"):
        next(fit(shifted(), torch.rand(4, 1, 2, 2), PLAN))
    items = TensorDataset(torch.rand(4, 1, 2, 2), torch.rand(4, 3))
    with pytest.raises(UserError, match="takes conditions of 2 numbers, but TensorDataset has vectors of 3"):
        next(fit(shifted(), items, PLAN))
    with pytest.raises(UserError, match="Item 1 of list has another condition than item 0"):
        open_images([(torch.zeros(1, 2, 2), torch.zeros(2)), (torch.ones(1, 2, 2), torch.zeros(3))])


def test_images_are_edited_with_their_vectors():
    """The network predicts the sum of the vector as x0, and 0 without a vector: so is all that it edits."""
    model, vectors = shifted(), [[0.1, 0.2], [-0.5, 0.0]]
    x0 = torch.tensor([0.3, -0.5]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    code = model.encode(x0, steps=4, conditions=vectors)
    torch.testing.assert_close(model.decode(code, steps=4, conditions=vectors), x0, atol=1e-3, rtol=0)
    assert (model.decode(code, steps=4) - x0).abs().min() > 0.1
    varied = vary(model, x0, 1.0, conditions=vectors, count=2, steps=4)
    torch.testing.assert_close(varied, x0[:, None].expand(2, 2, 1, 2, 2))
    left = Mask(torch.tensor([[True, False], [True, False]]))
    known = left.forward(torch.full((2, 1, 2, 2), -0.6))
    found = restore(model, known, left, conditions=vectors, method="ddnm", steps=4, progress=False)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([[-0.6, 0.3], [-0.6, -0.5]]))
    one = restore(model, known, left, conditions=[0.1, 0.2], method="ddnm", steps=4, progress=False)
    torch.testing.assert_close(one[:, 0, 0, 0], torch.tensor([[-0.6, 0.3], [-0.6, 0.3]]))
    for refused in (lambda **more: model.encode(x0, **more), lambda **more: vary(model, x0, 0.5, **more)):
        with pytest.raises(UserError, match="a vector of 2 finite numbers"):
            refused(conditions=[1.0, 2.0, 3.0])


def test_a_model_with_vectors_is_not_distilled():
    with pytest.raises(UserError, match="conditioned on vectors"):
        Distillation(shifted())
