"""Augmentation: exact transforms, a network that is told of them, and samples that show none of them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ddim import nets, open_images, schedule
from ddim.data.augmentations import LARGEST, Strength
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.nets.blocks import Conditioning
from ddim.train import Plan, Recipe, augment, checkpoints, fit
from ddim.train.batches import draw_batch
from ddim.train.run import build
from ddim.train.state import State

SIDE = (6, 8)


@pytest.fixture
def x0():
    return torch.rand(5, 3, *SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def one(name, *value, rows=5):
    """Parameters that do one thing to all images, at a strength of 1."""
    table = {name: Strength(1.0)}
    column = torch.tensor(value, dtype=torch.float64)
    return {name: column.expand(rows, -1) if len(value) > 1 else column.expand(rows)}, table


def drawn(table, count=4000, probability=0.3):
    draws = torch.from_numpy(augment.draw(np.random.default_rng(0), count))
    return augment.parameters(draws, table, probability, SIDE)


# Transforms


def test_an_image_without_parameters_keeps_its_bits(x0):
    table = {name: Strength(most) for name, most in LARGEST.items()}
    found = drawn(table, 5, probability=0.0)
    assert torch.equal(augment.transform(x0, found, table), x0)
    assert not augment.condition(found, table, SIDE, 5).any()
    only = {name: value.clone() for name, value in found.items()}
    only["scale"][2], only["hue"][4] = 1.0, 30.0
    changed = (augment.transform(x0, only, table) != x0).flatten(1).any(1)
    assert changed.tolist() == [False, False, True, False, True]


def test_mirrors_and_shifts_are_exact(x0):
    assert torch.equal(augment.transform(x0, *one("mirror", 1.0)), x0.flip(-1))
    assert torch.equal(augment.transform(x0, *one("flip", 1.0)), x0.flip(-2))
    right, down = augment.transform(x0, *one("shift", 2.0, 0.0)), augment.transform(x0, *one("shift", 0.0, 1.0))
    assert torch.equal(right[..., 2:], x0[..., :-2])
    assert torch.equal(right[..., :2], x0[..., :2].flip(-1))  # outside is the reflection
    assert torch.equal(down[..., 1:, :], x0[..., :-1, :])
    assert torch.equal(augment.transform(x0, *one("shift", -16.0, 12.0)), x0)  # twice the side: the reflection repeats


def test_a_quarter_turn_is_one(x0):
    square = x0[..., :6]
    turned = augment.transform(square, *one("rotate", 90.0))
    torch.testing.assert_close(turned, square.rot90(-1, (-2, -1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("direction", [0.0, 0.7])
def test_shapes_grow_as_the_parameters_say(direction):
    """Second moments of a smooth blob: scaling multiplies both, stretching multiplies one and divides the other."""
    v, u = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="ij")
    blob = 2 * torch.exp(-(u**2 + v**2) / 2 / 9)[None, None] - 1

    def moment(x, angle):
        mass = x[0, 0] + 1
        along = u * math.cos(angle) + v * math.sin(angle)
        return float((mass * along**2).sum() / mass.sum())

    large = augment.transform(blob, *one("scale", 0.3, rows=1))
    assert moment(large, 0.0) == pytest.approx(9 * 2**0.6, rel=0.02)
    long = augment.transform(blob, *one("stretch", 0.3, direction, rows=1))
    assert moment(long, direction) == pytest.approx(9 * 2**0.6, rel=0.02)
    assert moment(long, direction + math.pi / 2) == pytest.approx(9 * 2**-0.6, rel=0.02)


def test_colours_keep_what_they_should(x0):
    x0 = x0 / 2  # nothing is clipped
    for name, value in (("hue", 77.0), ("saturation", -0.6)):
        changed = augment.transform(x0, *one(name, value))
        torch.testing.assert_close(changed.mean(1), x0.mean(1))
        colour = (changed - changed.mean(1, keepdim=True)).norm(dim=1) / (x0 - x0.mean(1, keepdim=True)).norm(dim=1)
        torch.testing.assert_close(colour, torch.full_like(colour, 2**-0.6 if name == "saturation" else 1.0))
    torch.testing.assert_close(augment.transform(x0, *one("hue", 120.0)), x0.roll(1, 1))
    torch.testing.assert_close(augment.transform(x0, *one("brightness", 0.25)), x0 + 0.25)
    torch.testing.assert_close(augment.transform(x0, *one("contrast", -1.0)), x0 / 2)
    assert augment.transform(x0, *one("brightness", 9.0)).eq(1).all()


def test_each_has_its_own_probability_and_strength():
    table = {"scale": Strength(0.2), "rotate": Strength(10.0, 0.5), "shift": Strength(0.125), "flip": Strength(1.0)}
    found = drawn(table)
    applied = {name: float((value.flatten(1) if value.ndim > 1 else value[:, None]).any(1).double().mean())
               for name, value in found.items()}  # fmt: skip
    assert applied["scale"] == pytest.approx(0.3, abs=0.03)
    assert applied["rotate"] == pytest.approx(0.15, abs=0.03)
    assert applied["flip"] == pytest.approx(0.15, abs=0.03)  # half of those that may be
    assert found["rotate"].abs().max() <= 10
    assert torch.equal(found["shift"], found["shift"].round())
    told = augment.condition(found, table, SIDE, 4000)
    assert told.shape == (4000, augment.CONDITION)
    nothing = torch.stack([(v.flatten(1) if v.ndim > 1 else v[:, None]).any(1) for v in found.values()]).any(0)
    assert torch.equal(told.any(1), nothing)  # zero exactly where nothing is done
    assert 0.5 < told[told != 0].std() < 2


# Batches and training


def test_a_batch_with_augmentation_has_the_noise_of_one_without():
    digits = open_images("digits")
    plan = Plan(batch_size=40)
    one, other = (draw_batch(replace(plan, augment=p), digits, 1000, 7, range(40)) for p in (0.2, 0.0))
    for name in ("label", "t", "noise"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    alone = ~one.augmentation.any(1)
    assert 5 < alone.sum() < 35
    assert torch.equal(one.x0[alone], other.x0[alone])
    assert (one.x0[~alone] != other.x0[~alone]).flatten(1).any(1).float().mean() > 0.9
    assert other.augmentation.shape == (40, 0)


def test_an_augmented_batch_does_not_depend_on_how_it_is_shared():
    digits, plan = open_images("digits"), Plan(batch_size=36, augment=0.5)
    whole = draw_batch(plan, digits, 1000, 3, range(36))
    parts = [draw_batch(plan, digits, 1000, 3, part) for part in (range(5), range(5, 20), range(20, 36))]
    for one, others in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(others))


def model_of(digits, plan, network="unet"):
    return build(Recipe(network=network, size="tiny", plan=plan), digits)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("network", ["unet", "plain"])
def test_zeros_say_that_an_image_is_as_it_is(network):
    """A network that is not told of an augmentation computes what it does for zeros, and for other numbers not."""
    network = nets.build(network, 1, "tiny", classes=3, augmentation=augment.CONDITION).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, t, label = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 500.0]), torch.tensor([0, 2])
    zeros = torch.zeros(2, augment.CONDITION)
    assert torch.equal(network(x, t, label), network(x, t, label, augmentation=zeros))
    assert not torch.allclose(network(x, t, label), network(x, t, label, augmentation=zeros + 1))
    assert torch.equal(network.train()(x, t, label), network.eval()(x, t, label))
    traced = torch.jit.trace(network, (x, t, label))  # as backends do: for any size of the batch
    torch.testing.assert_close(traced(x[:1], t[:1], label[:1]), network(x[:1], t[:1], label[:1]))


def test_only_training_tells_of_an_augmentation():
    digits, plan, told = open_images("digits"), Plan(steps=2, batch_size=8, augment=0.9, precision="fp32"), []
    model = model_of(digits, plan)
    model.network.condition.register_forward_pre_hook(lambda _, given: told.append(given[2]))
    list(fit(model, digits, plan))
    assert [tuple(one.shape) for one in told] == [(8, augment.CONDITION)] * 2
    assert all(one.any() for one in told)
    told.clear()
    model.sample(2, steps=2, progress=False)
    model.loss(digits.batch(torch.arange(3))[0], torch.full((3,), 5), torch.zeros(3, 1, 8, 8))
    assert told == [None] * 3


@pytest.mark.parametrize("network", ["unet", "plain"])
def test_without_augmentation_a_network_has_no_layer_for_it(network):
    digits = open_images("digits")
    plain, told = (model_of(digits, Plan(augment=p), network).network.state_dict() for p in (0.0, 0.1))
    assert told.keys() - plain.keys() == {"condition.augmentation.weight"}


def test_an_augmented_training_that_goes_on_is_the_uninterrupted_one(tmp_path):
    digits, plan = open_images("digits"), Plan(steps=6, batch_size=12, augment=0.5, accumulate=2, precision="fp32")
    states = []
    for stops in ([], [2, 3]):
        for stop in [*stops, None]:
            model = model_of(digits, plan)
            state = State(model.network, plan)
            if stops:
                checkpoints.resume(state, tmp_path)
            for now in fit(model, digits, plan, state=state):
                if now.step == stop:
                    checkpoints.save(state, tmp_path)
                    break
        states.append(state.tensors())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


class Deaf(nn.Module):
    """A network of the user's own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x, t):
        return self.layer(x)


def test_a_network_that_cannot_be_told_is_refused():
    digits = open_images("digits")
    for network in (nets.build("unet", 1, "tiny"), Deaf()):
        model = Denoiser(network, schedule.linear(), shape=(1, 8, 8))
        with pytest.raises(UserError, match="cannot be told how its images were augmented"):
            next(fit(model, digits, Plan(steps=1, augment=0.1)))
    with pytest.raises(UserError, match="grey, for which hue has no meaning"):
        next(fit(model_of(digits, Plan()), digits, Plan(steps=1, augmentations="hue=20")))


# Leaks


class Layers(nn.Module):
    """Three linear layers, told of an augmentation or not."""

    def __init__(self, told):
        super().__init__()
        self.condition = Conditioning(64, None, augment.CONDITION if told else 0)
        self.layers = nn.Sequential(nn.Linear(320, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 64))

    def forward(self, x, t, augmentation=None):
        return self.layers(torch.cat([x.flatten(1), self.condition(t, None, augmentation)], 1)).view_as(x)


@pytest.mark.slow  # two trainings of a dozen seconds
def test_samples_are_upright_like_the_images_unless_the_network_is_not_told():
    """Upright bars, in training rotated by any angle with probability 0.8: measured 0.94 and 0.36."""
    pixels = torch.zeros(7, 1, 8, 8, dtype=torch.uint8)
    for i in range(7):
        pixels[i, :, :, i : i + 2] = 255
    images = Images(pixels, torch.zeros(7, dtype=torch.long), ("bar",), "bars")
    optimisation: dict[str, Any] = {"steps": 1500, "learning_rate": 2e-3, "cooldown": 0.5, "times": "stratified"}
    plan = Plan(**optimisation, augment=0.8, augmentations="rotate=180,scale=0,stretch=0,shift=0", precision="fp32")
    upright = {}
    for told in (True, False):
        torch.manual_seed(0)
        *_, last = fit(Denoiser(Layers(told), schedule.cosine(), "v", (1, 8, 8)), images, plan)
        x = last.average.sample(256, steps=20, progress=False)
        columns, rows = x.mean(2).var(-1), x.mean(3).var(-1)
        upright[told] = float((columns > 10 * rows).float().mean())
    assert upright[True] > 0.85
    assert upright[False] < 0.5
