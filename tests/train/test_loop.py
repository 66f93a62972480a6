import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from ddim import nets, schedule
from ddim.data import open_images
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.noise import DROPOUT, stream
from ddim.train import Plan, fit
from ddim.train.batches import draw_batch, image_indices
from ddim.train.distributed import Distributed
from ddim.train.loss import losses_by_level
from ddim.train.state import Average, gamma


@pytest.fixture
def digits():
    return open_images("digits")


def small(seed=0, **options):
    torch.manual_seed(seed)
    network = nets.build("plain", 1, "tiny", **options)
    return Denoiser(network, schedule.linear(), shape=(1, 8, 8), classes=options.get("classes"))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def mean_loss(model, images, **options):
    """The mean loss over all times, at the same times and with the same noise at every call."""
    parts = losses_by_level(model, images, **options)
    return sum(parts) / len(parts)


def test_images_that_the_model_is_not_made_for_are_refused(digits):
    """Images of another shape or number of classes are refused; without classes, a model ignores the labels."""
    five = nets.build("plain", 1, "tiny", classes=5)
    for model, said in (
        (Denoiser(small().network, schedule.linear()), r"shape \(1, 28, 28\), but those of digits are \(1, 8, 8\)"),
        (Denoiser(five, schedule.linear(), shape=(1, 8, 8), classes=5), "knows 5 classes, but digits has 10"),
    ):
        before = weights(model)
        with pytest.raises(UserError, match=said):
            next(fit(model, digits, Plan(steps=1)))
        assert torch.equal(weights(model), before)
    with pytest.raises(UserError, match=r"takes a ddim\.train\.Plan; got None"):
        next(fit(small(), digits, cast(Any, None)))
    with pytest.raises(UserError, match="got generator"):
        next(fit(small(), (image for image in digits), Plan(steps=1)))
    assert next(fit(small(), digits, Plan(steps=1))).step == 1


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_model_remembers_whether_it_learnt_the_null_class(digits, dropout):
    model = small(classes=10)
    *_, last = fit(model, digits, Plan(steps=1, label_dropout=dropout))
    assert model.null_class == last.average.null_class == (dropout > 0)


@pytest.mark.slow
def test_it_learns(digits):
    model = small()
    held_out = open_images("digits", split="test")
    before = mean_loss(model, held_out)
    assert before == pytest.approx(1, abs=0.05)  # a network that predicts 0 misses all of the noise
    *_, last = fit(model, digits, Plan(steps=150, learning_rate=2e-3, warmup=20))
    assert mean_loss(last.average, held_out) < 0.35
    assert last.fraction == 1
    assert last.step == 150


def test_the_same_seed_gives_the_same_weights(digits):
    """Dropout included, and whatever the caller does with PyTorch's global generator, which stays the caller's."""

    def dropping_out():
        torch.manual_seed(0)
        return Denoiser(nets.build("unet", 1, "tiny", width=16, dropout=0.5), schedule.linear(), shape=(1, 8, 8))

    first, second, other = dropping_out(), dropping_out(), dropping_out()
    for number, (model, seed) in enumerate(((first, 0), (second, 0), (other, 1))):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        list(fit(model, digits, Plan(steps=5, seed=seed)))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_updates_are_those_of_a_plain_loop(digits):
    """The loop as a textbook writes it, in PyTorch alone: train mode, fresh gradients, clipping, AdamW, warm-up."""
    plan = Plan(steps=4, learning_rate=1e-3, warmup=3, clip=0.05, batch_size=8, precision="fp32")
    model = small()
    nn.init.normal_(model.network.head.weight, std=0.3)
    model.network.head = nn.Sequential(nn.Dropout(0.5), model.network.head)  # train mode matters
    twin = copy.deepcopy(model)
    list(fit(model.eval(), digits, plan))

    optimizer = torch.optim.AdamW(twin.network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    for step in range(1, 5):
        x0, _, t, noise, *_ = draw_batch(plan, digits, 1000, step, range(8))
        at = twin.schedule(t).like(x0)
        torch.manual_seed(int(stream(0, (step - 1) * 8, DROPOUT).integers(2**63)))
        eps = twin.network.train()(at.alpha * x0 + at.sigma * noise, t.float())
        loss = ((noise - eps) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        assert torch.nn.utils.clip_grad_norm_(twin.network.parameters(), 0.05) > 0.05  # it does cut
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, step / 3)
        optimizer.step()
    torch.testing.assert_close(weights(model), weights(twin), rtol=0, atol=1e-7)


def test_a_gradient_of_before_is_forgotten(digits):
    model, twin = small(), small()
    twin.loss(torch.zeros(2, 1, 8, 8), torch.tensor([5, 900]), torch.ones(2, 1, 8, 8)).sum().backward()
    for one in (model, twin):
        list(fit(one, digits, Plan(steps=1)))
    assert torch.equal(weights(model), weights(twin))


def test_training_that_breaks_down_is_said_and_the_average_stays_whole(digits):
    model, last = small(), None
    with pytest.raises(UserError, match=r"broke down at step \d+.*below 1e\+30"):
        for last in fit(model, digits, Plan(steps=50, learning_rate=1e30, warmup=0)):
            assert all(p.isfinite().all() for p in last.average.network.parameters())
    assert last is not None


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_labels_are_told_and_dropped(digits, dropout):
    """Every label reaches the network, except the share that teaches the null class."""
    told = []

    class Spy(Denoiser):
        def loss(self, x0, t, noise, label=None):
            told.append(label)
            return super().loss(x0, t, noise, label)

    network = nets.build("plain", 1, "tiny", classes=10)
    model = Spy(network, schedule.linear(), shape=(1, 8, 8), classes=10)
    table = network.get_parameter("condition.label.weight")
    before = table.clone()
    plan = Plan(steps=8, label_dropout=dropout)
    list(fit(model, digits, plan))
    true = torch.cat([digits.labels[image_indices(plan, len(digits), step, range(64))] for step in range(1, 9)])
    labels = torch.cat(told)
    dropped = labels == -1
    assert torch.equal(labels[~dropped], true[~dropped])
    assert abs(dropped.float().mean() - dropout) < 0.1
    moved = (table - before).abs().sum(dim=1) > 0
    assert moved[1:].all()
    assert moved[0] == (dropout > 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_any_dtype_can_be_trained(digits, dtype):
    *_, last = fit(small().to(dtype), digits, Plan(steps=2))
    assert mean_loss(last.average, digits, max_images=64) > 0


def test_training_goes_where_the_model_is_whatever_was_trained_before(digits):
    """Accelerate keeps one state for the process: a run on another device before must not matter."""
    Accelerator(cpu=True)
    AcceleratorState().device = torch.device("meta")
    try:
        *_, last = fit(small(), digits, Plan(steps=2))
        assert last.average.device.type == "cpu"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_average_is_the_true_one_in_any_precision(digits, dtype):
    """Against the same average in float64, whose steps are smaller than the resolution of half precision."""

    def flat(network):
        return torch.cat([weight.detach().double().flatten() for weight in network.parameters()])

    model, true = small().to(dtype), torch.zeros(())
    nn.init.normal_(model.network.head.weight, std=0.3)
    for now in fit(model, digits, Plan(steps=40, batch_size=4, learning_rate=2e-3, warmup=1)):
        true = true + (1 - (1 - 1 / now.step) ** (gamma(0.1) + 1)) * (flat(model.network) - true)
    assert now.average.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert {weight.dtype for weight in model.network.parameters()} == {dtype}
    off = (flat(now.average.network) - true).norm() / (flat(model.network) - true).norm()
    assert off < 1e-4


def test_a_breakdown_in_low_precision_names_fp32(digits):
    plan = Plan(steps=50, learning_rate=1e30, warmup=0)
    for chosen, remedy in (
        (replace(plan, precision="bf16"), "with --precision fp32 instead of bf16"),
        (replace(plan, precision="fp32"), "with a learning rate below"),
    ):
        with pytest.raises(UserError, match=remedy):
            list(fit(small(), digits, chosen))


def test_warm_up_starts_small(digits):
    model = small()
    before = weights(model)
    list(fit(model, digits, Plan(steps=1, learning_rate=1e-3, warmup=100)))
    assert (weights(model) - before).abs().max() <= 1e-5 * 1.001


@pytest.mark.parametrize(("images", "batch_size"), [(10, 3), (10, 10), (7, 20), (640, 64)])
def test_an_epoch_shows_every_image_once(images, batch_size):
    plan = Plan(batch_size=batch_size)
    steps = range(1, images + 1)  # batch_size whole epochs
    seen = torch.cat([image_indices(plan, images, step, range(batch_size)) for step in steps])
    for epoch in seen.split(images):
        assert sorted(epoch.tolist()) == list(range(images))
    assert len({tuple(epoch.tolist()) for epoch in seen.split(images)}) > 1 or batch_size == 1


def test_minutes_end_training(digits):
    steps = list(fit(small(), digits, Plan(minutes=0.02)))
    assert steps[-1].fraction == 1
    assert 1.2 <= steps[-1].seconds < 10
    assert all(a.fraction < 1 for a in steps[:-1])


@pytest.mark.parametrize(("allowed", "asked"), [(True, True), (True, False), (False, True)])
def test_mirroring_only_where_it_is_allowed_and_asked(allowed, asked):
    """A set of one image, black on the left: what the loss is shown tells whether it was mirrored."""
    pixels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    pixels[..., 2:] = 255
    images = Images(pixels, torch.zeros(1, dtype=torch.long), ("one",), "one", mirror=allowed)
    shown = []

    class Spy(Denoiser):
        def loss(self, x0, t, noise, label=None):
            shown.append(x0[..., 0, 0].flatten())
            return super().loss(x0, t, noise, label)

    list(fit(Spy(small().network, schedule.linear(), shape=(1, 4, 4)), images, Plan(steps=4, mirror=asked)))
    share = (torch.cat(shown) > 0).float().mean()
    assert (0.3 < share < 0.7) if allowed and asked else share == 0


def test_times_are_uniform_from_1_to_T(digits):
    times = []

    class Spy(Denoiser):
        def loss(self, x0, t, noise, label=None):
            times.append(t)
            return super().loss(x0, t, noise, label)

    model = Spy(small().network, schedule.linear(T=4), shape=(1, 8, 8))
    list(fit(model, digits, Plan(steps=20)))
    counts = torch.bincount(torch.cat(times).long(), minlength=6)
    assert counts[0] == counts[5] == 0
    assert (counts[1:5] > 250).all()  # of 1280, each a quarter


def test_the_average_of_half_precision_is_kept_in_fp32():
    network = nn.BatchNorm2d(2, dtype=torch.float16)
    average = Average(network, 0.1)
    with torch.no_grad():
        network.weight.fill_(3)
    average.update()
    assert average.network.get_parameter("weight").dtype == torch.float32
    assert average.network.get_buffer("running_mean").dtype == torch.float32
    assert average.network.get_buffer("num_batches_tracked").dtype == torch.int64
    assert average.network.get_parameter("weight").tolist() == [3, 3]
    assert network.weight.dtype == network.running_mean.dtype == torch.float16


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_average_weighs_each_step_by_a_power_of_it(width):
    """Against its definition: the mean of theta(tau) with weight tau^gamma, of the width that was asked for."""
    steps = torch.arange(1, 3001, dtype=torch.float64)
    values = torch.randn(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + steps / 1000
    network = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    average = Average(network, width)
    for value in values:
        with torch.no_grad():
            network.weight.fill_(value)
        average.update()
    density = steps ** gamma(width)
    density /= density.sum()
    averaged = average.network.get_parameter("weight").item()
    assert averaged == pytest.approx((density * values).sum().item(), rel=2e-3)
    mean = (density * steps).sum()
    spread = (density * (steps - mean) ** 2).sum().sqrt() / 3000
    assert spread.item() == pytest.approx(width, rel=2e-3)


def test_an_average_of_width_0_is_the_latest_weights(digits):
    model = small()
    *_, last = fit(model, digits, Plan(steps=3, ema=(0.0, 0.1)))
    assert torch.equal(weights(last.average), weights(model))
    assert not torch.equal(weights(model.with_network(last.state.averages[1].network)), weights(model))


def test_average_copies_buffers():
    network = nn.BatchNorm2d(2)
    average = Average(network, 0.1)
    network(torch.randn(4, 2, 3, 3) + 5)
    average.update()
    assert torch.equal(average.network.get_buffer("running_mean"), network.get_buffer("running_mean"))


def test_average_copies_buffers_that_are_replaced():
    class Counting(nn.Linear):
        seen: torch.Tensor

        def __init__(self):
            super().__init__(1, 1)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen = self.seen + 1
            return super().forward(x)

    network = Counting()
    average = Average(network, 0.1)
    network(torch.zeros(1, 1))
    average.update()
    assert average.network.seen == 1


def test_the_held_out_losses_are_the_same_at_every_call(digits):
    model = small()
    nn.init.normal_(model.network.head.weight, std=0.1)
    twin = copy.deepcopy(model)
    values = [mean_loss(m, digits, max_images=200) for m in (model, model, twin)]
    assert all(a == b for a, b in pairwise(values))


def test_the_loss_by_level_sees_each_level_alone(digits):
    """A network that is right about the noisier half of the times, and says nothing about the others."""

    class Half(Denoiser):
        def loss(self, x0, t, noise, label=None):
            return torch.where(t > 500, 0.0, noise.square().mean(dim=(1, 2, 3)))

    parts = losses_by_level(Half(small().network, schedule.linear(), shape=(1, 8, 8)), digits)
    assert len(parts) == 10
    assert all(part > 0.8 for part in parts[:5])
    assert parts[5:] == [0.0] * 5


def test_a_batch_does_not_depend_on_how_it_is_shared(digits):
    """Position by position the same images, labels, times and noise, whatever part of a batch is asked for."""
    for times in ("uniform", "stratified"):
        plan = Plan(batch_size=12, times=times)
        whole = draw_batch(plan, digits, 1000, 7, range(12))
        parts = [draw_batch(plan, digits, 1000, 7, part) for part in (range(5), range(5, 6), range(6, 12))]
        for one, others in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(one, torch.cat(others))


def test_stratified_times_fill_each_part_once(digits):
    plan = Plan(batch_size=50, times="stratified")
    batches = [draw_batch(plan, digits, 1000, step, range(50)).t for step in range(1, 40)]
    for t in batches:
        assert torch.equal(((t - 1) // 20).sort().values, torch.arange(50))
    assert len({tuple(t.tolist()) for t in batches}) == len(batches)
    assert abs(torch.cat(batches).double().mean() - 500.5) < 2


@pytest.mark.parametrize("parts", [2, 3, 64])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(digits, parts):
    whole, split = small().double(), small().double()
    losses = [
        [now.loss for now in fit(m, digits, Plan(steps=3, accumulate=n))] for m, n in ((whole, 1), (split, parts))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)
    torch.testing.assert_close(weights(split), weights(whole), rtol=0, atol=1e-12)


def test_too_little_memory_halves_the_parts_until_they_fit(digits):
    """The batch and what is learnt from it stay as they are; a single image that does not fit is said."""
    sizes = []

    class Greedy(Denoiser):
        room: int

        def loss(self, x0, t, noise, label=None):
            sizes.append(len(x0))
            if len(x0) > self.room:
                raise torch.OutOfMemoryError("no room")
            return super().loss(x0, t, noise, label)

    model, twin = Greedy(small().network, schedule.linear(), shape=(1, 8, 8)), small()
    model.room = 20
    *_, last = fit(model, digits, Plan(steps=2, precision="fp32"))
    list(fit(twin, digits, Plan(steps=2, accumulate=4, precision="fp32")))
    assert sizes == [64, 32] + [16] * 8
    assert last.state.parts == 4
    assert torch.equal(weights(model), weights(twin))
    model.room = 0
    with pytest.raises(UserError, match="Not even one image"):
        list(fit(model, digits, Plan(steps=2)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_like_full(digits, precision):
    full, half = small(), small()
    plan = Plan(steps=60, batch_size=16, learning_rate=2e-3, warmup=10, precision="fp32")
    *_, a = fit(full, digits, plan)
    *_, b = fit(half, digits, replace(plan, precision=precision))
    losses = [mean_loss(one.average, digits) for one in (a, b)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert weights(half).dtype == torch.float32
    assert not torch.equal(weights(full), weights(half))  # it was used


def test_an_interrupt_ends_after_the_update_under_way(digits):
    steps = [now.step for now in fit(small(), digits, Plan(steps=9), interrupted=iter([False, False, True]).__next__)]
    assert steps == [1, 2, 3]


def test_the_old_name_of_distributed_is_deprecated(digits):
    with pytest.warns(DeprecationWarning, match=r"fit\(distributed=\)"):
        *_, last = fit(small(), digits, Plan(steps=1), engine=Distributed("cpu"))
    assert last.step == 1


def test_a_loss_without_gradients_is_one_sentence(digits):
    with torch.no_grad(), pytest.raises(UserError, match=r"call fit outside torch\.no_grad"):
        next(fit(small(), digits, Plan(steps=1, batch_size=2)))
    detached = small()
    detached.network.register_forward_hook(lambda module, args, output: output.detach())
    with pytest.raises(UserError, match="no gradient in the network's weights"):
        next(fit(detached, digits, Plan(steps=1, batch_size=2, precision="fp32")))
