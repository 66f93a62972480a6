"""A network, its model, the images and their labels are compared before anything is computed."""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from ddim import nets, schedule
from ddim.contract import check_data
from ddim.data import Images, open_images
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError, number
from ddim.sampling import Sampling
from known import images

LINEAR = schedule.linear()


class Returns(nn.Module):
    """A network that returns what `make` makes of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x, t, label=None):
        return self.make(x)


@dataclass
class Output:
    """What some libraries return in place of a tensor."""

    sample: Any


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: torch.cat([x, x], 1), r"returned \(4, 2, 8, 8\) for images \(4, 1, 8, 8\)"),
        (lambda x: x[:, 0], r"returned \(4, 8, 8\) for images \(4, 1, 8, 8\)"),
        (lambda x: x.mean((1, 2, 3), keepdim=True), r"returned \(4, 1, 1, 1\) for"),
        (lambda x: x.long(), r"returned \(4, 1, 8, 8\) of torch.int64 for"),
        (Output, "type Output, not a tensor.*its attribute sample"),
        (lambda x: (x,), "type tuple, not a tensor.*the prediction alone"),
        (lambda x: None, "type NoneType, not a tensor"),
    ],
)
def test_a_network_returns_one_float_per_number_of_the_images(make, said):
    model = Denoiser(Returns(make), LINEAR, shape=(1, 8, 8))
    x = torch.zeros(4, 1, 8, 8)
    for use in (
        lambda: model.sample(4, steps=1, progress=False),
        lambda: model.loss(x, torch.full((4,), 7), x),
        lambda: model.encode(x - 0.5, steps=2),
        lambda: model(x, LINEAR(500)),
    ):
        with pytest.raises(UserError, match=said):
            use()


def test_the_comparison_costs_no_graph_break(model):
    at, x = model.schedule(500), torch.ones(2, 1, 8, 8)
    compiled = torch.compile(model.forward, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x, at).x0, model(x, at).x0)


@pytest.mark.parametrize(("of_network", "of_model"), [(None, 10), (10, None), (5, 10)])
def test_a_network_has_the_classes_of_its_model(of_network, of_model):
    network = nets.build("plain", 1, "tiny", classes=of_network)
    with pytest.raises(UserError, match=f"classes = {of_network}, and the model has classes = {of_model}"):
        Denoiser(network, LINEAR, shape=(1, 8, 8), classes=of_model)


def test_a_network_has_the_channels_of_its_model():
    with pytest.raises(UserError, match="channels = 1, and the model has channels = 3"):
        Denoiser(nets.build("plain", 1, "tiny"), LINEAR, shape=(3, 8, 8))


def test_a_config_that_is_not_of_a_registered_network_says_nothing():
    network = Returns(torch.zeros_like)
    network.config = {"name": "theirs", "channels": 64, "classes": 7}  # type: ignore[assignment]
    assert Denoiser(network, LINEAR, shape=(1, 8, 8)).classes is None


def test_a_network_takes_the_arguments_that_its_model_gives():
    class NoTime(nn.Module):
        def forward(self, x):
            return x

    class NoLabel(nn.Module):
        def forward(self, x, t):
            return x

    with pytest.raises(UserError, match=r"calls network\(x, t\), but forward of NoTime takes \(x\)"):
        Denoiser(NoTime(), LINEAR)
    with pytest.raises(UserError, match=r"10 classes calls network\(x, t, label\), but .* NoLabel takes \(x, t\)"):
        Denoiser(NoLabel(), LINEAR, classes=10)
    assert Denoiser(NoLabel(), LINEAR).classes is None


@pytest.mark.parametrize("network", [lambda x, t: x, nets.UNet, None])
def test_a_network_is_a_module(network):
    with pytest.raises(UserError, match=r"must be a torch\.nn\.Module; got"):
        Denoiser(network, LINEAR)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "linear"}, "takes a ddim.schedule.Schedule; got 'linear'"),
        ({"sampling": "ddim"}, "takes a ddim.sampling.Sampling; got 'ddim'"),
        ({"shape": 28}, "three whole numbers"),
        ({"shape": (28, 28)}, "three whole numbers"),
        ({"shape": (1, 0, 28)}, "at least 1; got 0"),
        ({"shape": (1, 2.5, 28)}, "got 2.5"),
        ({"classes": 0}, "number of classes .* got 0"),
        ({"classes": True}, "got True"),
    ],
)
def test_a_model_of_impossible_parts_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        Denoiser(**{"network": Returns(torch.zeros_like), "schedule": LINEAR, **options})


def test_numbers_of_numpy_are_numbers():
    size: dict[str, Any] = {"shape": np.array([1, 4, 4]), "classes": np.int64(3)}
    model = Denoiser(Returns(torch.zeros_like), LINEAR, **size)
    assert model.shape == (1, 4, 4)
    assert all(type(side) is int for side in (*model.shape, model.classes))
    defaults: dict[str, Any] = {"steps": np.int64(3), "sampler": "ddim", "eta": np.float32(0.5)}
    sampling = Sampling(**defaults)
    assert (type(sampling.steps), type(sampling.eta)) == (int, float)
    plain = model.sample(2, steps=3, eta=0.5, seed=4, first=1, labels=[0, 2], guidance=2.0, progress=False)
    of_numpy: dict[str, Any] = {"steps": np.int32(3), "eta": np.float32(0.5), "seed": np.uint64(4)}
    of_numpy |= {"first": torch.tensor(1), "labels": np.array([0, 2], np.uint8), "guidance": np.float32(2)}
    of_numpy |= {"count": np.int64(2), "batch_size": np.int64(1)}
    numpy = model.sample(**of_numpy, progress=False)
    assert torch.equal(plain, numpy)
    assert schedule.get("vp-sde", T=np.int64(7)).T == 7


@pytest.mark.parametrize("value", [True, "3", None, 2.5, float("nan"), float("inf"), [3], 0, 11])
def test_what_is_no_whole_number_in_the_range_is_refused(value):
    with pytest.raises(UserError, match="count must be a whole number of at least 1 and at most 10; got "):
        number("count", value, int, 1, 10)


@pytest.mark.parametrize(
    "labels", [(2, 0), [2.0, 0.0], range(2, -1, -2), np.array([2, 0], np.int16), torch.tensor([2, 0])]
)
def test_labels_of_any_whole_numbers(labels):
    class Labelled(nn.Module):
        def forward(self, x, t, label):
            assert label.dtype == torch.int64
            assert label.tolist() == [2, 0]
            return x

    Denoiser(Labelled(), LINEAR, shape=(1, 2, 2), classes=3).sample(2, steps=1, labels=labels, progress=False)


@pytest.mark.parametrize(
    "labels", [[1.5, 0], [True, False], ["0", "1"], [0], [0, 3], [0, -2], 1, [[0], [1]], [0, 10**30]]
)
def test_labels_that_are_not_classes_are_refused(labels):
    model = Denoiser(Returns(torch.zeros_like), LINEAR, shape=(1, 2, 2), classes=3)
    with pytest.raises(UserError, match="2 labels, one per image, classes from 0 to 2, or -1 for any class; got "):
        model.sample(2, steps=1, labels=labels, progress=False)


def test_images_have_the_shape_and_the_classes_of_the_model():
    two = images(torch.zeros(4, 1, 8, 8), classes=2)
    check_data(two, (1, 8, 8), 2)
    check_data(two, (1, 8, 8), None)  # labels do not matter
    with pytest.raises(UserError, match=r"shape \(1, 28, 28\), but those of squares are \(1, 8, 8\)"):
        check_data(two, (1, 28, 28), None)
    with pytest.raises(UserError, match="knows 10 classes, but squares has 2"):
        check_data(two, (1, 8, 8), 10)
    with pytest.raises(UserError, match=r"must be a ddim.data.Images.*got list"):
        check_data(cast(Any, [two]), (1, 8, 8), None)


def test_part_of_the_classes_is_not_judged_by_a_model_of_all():
    """Their labels count from 0, so the model would treat the class 8 as the class 1."""
    few = open_images("digits").select("3,8")
    assert isinstance(few, Images)
    with pytest.raises(UserError, match="knows 10 classes, but digits has 2"):
        check_data(replace(few, split="test"), few.shape, 10)


@pytest.mark.parametrize(
    ("x0", "said"),
    [
        (torch.zeros(2, 1, 16, 16), r"\(B, 1, 8, 8\).*got \(2, 1, 16, 16\)"),
        (torch.zeros(1, 8, 8), r"got \(1, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8), r"got \(0, 1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), r"torch.uint8: bring pixels to \[-1, 1\] by x / 127.5 - 1"),
        (np.zeros((2, 1, 8, 8)), "type ndarray"),
        (torch.full((2, 1, 8, 8), torch.nan), "finite"),
    ],
)
def test_encode_and_decode_take_batches_of_the_model(model, x0, said):
    for use in (model.encode, model.decode):
        with pytest.raises(UserError, match=said):
            use(x0, steps=2)


def test_encode_takes_images_from_black_to_white(model):
    levels = torch.linspace(0, 255, 64).view(1, 1, 8, 8)
    with pytest.raises(UserError, match=r"Pixels from 0 to 255 are not in \[-1, 1\].*127\.5"):
        model.encode(levels, steps=2)
    with pytest.warns(Notice, match=r"if these images are in \[0, 1\]"):
        model.encode(levels / 255, steps=2)
    assert model.encode((levels / 127.5 - 1) * 1.003, steps=2).isfinite().all()  # rounding
    assert model.decode(3 * torch.randn(1, 1, 8, 8), steps=2).isfinite().all()  # noise has no range


def test_the_loss_takes_images_of_the_model(model):
    x0, t = torch.zeros(2, 1, 8, 8), torch.ones(2)
    for images_, noise in ((torch.zeros(2, 1, 9, 9),) * 2, (x0, x0[:, :, :1, :1]), (x0, x0[:1])):
        with pytest.raises(UserError, match=r"shape \(1, 8, 8\); got images"):
            model.loss(images_, t, noise)


def test_the_loss_takes_floats_and_one_time_per_image(model):
    x0 = torch.zeros(2, 1, 8, 8)
    with pytest.raises(UserError, match=r"not torch\.uint8; bring pixels by x / 127\.5 - 1"):
        model.loss(x0.to(torch.uint8), torch.ones(2), x0)
    with pytest.raises(UserError, match="got 3 times for 2 images"):
        model.loss(x0, torch.ones(3), x0)


def test_a_message_shows_a_large_value_on_one_short_line():
    with pytest.raises(UserError, match="The number of classes must be") as refused:
        number("The number of classes", torch.zeros(100, 100), int)
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)
