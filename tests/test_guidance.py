import math
import re
from typing import Any

import pytest
import torch

from ddim import nets, schedule
from ddim.denoiser import NULL, Denoiser
from ddim.errors import Notice, UserError
from ddim.guidance import EVERYWHERE, autoguidance, classifier_free, classifier_free_in_one_call, clip_x0
from ddim.level import Level
from ddim.noise import ImageNoise
from ddim.predict import from_eps
from ddim.samplers import DDIM, trajectory
from ddim.timesteps import levels, timesteps

AT = schedule.linear()(700)
X = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


def model(k):
    return lambda x, at: from_eps(x, at, torch.tanh(k * x))


def counted(denoise, calls):
    """The same function, which notes each call's number of images."""

    def noted(x, at, *label):
        calls.append(len(x))
        return denoise(x, at, *label)

    return noted


def level(ratio):
    """A level with this sigma / alpha, exactly."""
    return Level(*(torch.tensor(number, dtype=torch.float64) for number in (1.0, 1.0, ratio)))


def consistent(prediction):
    torch.testing.assert_close(AT.alpha * prediction.x0 + AT.sigma * prediction.eps, X, rtol=0, atol=1e-12)


def test_clipping_keeps_image_and_noise_consistent():
    free, clipped = model(0.2)(X, AT), clip_x0(model(0.2))(X, AT)
    assert free.x0.abs().max() > 1.5  # there is something to clip
    assert torch.equal(clipped.x0, free.x0.clamp(-1, 1))
    consistent(clipped)
    assert not torch.equal(clipped.eps, free.eps)


def test_guidance_is_linear_in_its_weight():
    conditional, unconditional = model(1.0), model(0.5)
    for weight in (0.0, 1.0, 3.5):
        prediction = classifier_free(conditional, unconditional, weight)(X, AT)
        c, u = conditional(X, AT), unconditional(X, AT)
        torch.testing.assert_close(prediction.eps, (1 - weight) * u.eps + weight * c.eps, rtol=0, atol=1e-12)
        consistent(prediction)


@pytest.mark.parametrize("labels", [torch.tensor([2, 0, 1, NULL]), None])
@pytest.mark.parametrize("at", [AT, schedule.linear()(torch.tensor([900.0, 500.0, 20.0, 1.0]))])
def test_one_call_of_twice_the_batch_is_the_two_calls(labels, at):
    batches = []

    def predict(x, at, label):
        batches.append(len(x))
        scale = (label + 2).to(x.dtype).view(-1, 1, 1, 1)
        assert at.alpha.ndim == 0 or len(at.alpha) == len(x)
        return from_eps(x, at, torch.tanh(scale * x))

    any_class = torch.full((4,), NULL)
    given = any_class if labels is None else labels
    two = classifier_free(lambda x, at: predict(x, at, given), lambda x, at: predict(x, at, any_class), 2.5)(X, at)
    batches.clear()
    one = classifier_free_in_one_call(predict, labels, NULL, 2.5)(X, at)
    assert batches == [8]
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("guide", [classifier_free, autoguidance])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 1.75, 4.0])
def test_the_guided_score_of_two_gaussians_is_that_of_the_product_of_their_densities(gaussian, guide, weight):
    """p^w q^(1 - w) is a Gaussian, with the mean and the variance of the product; eps = -sigma times its score."""
    (m, s), (n, r) = (0.4, 0.3), (-0.1, 0.9)
    for t in (1.0, 60.0, 400.0, 1000.0):
        at = schedule.linear()(t)
        p, q = (at.alpha**2 * std**2 + at.sigma**2 for std in (s, r))  # the variances of x_t
        precision = weight / p + (1 - weight) / q
        mean = at.alpha * (weight * m / p + (1 - weight) * n / q) / precision
        eps = guide(gaussian(m, s), gaussian(n, r), weight)(X, at).eps
        torch.testing.assert_close(eps, at.sigma * precision * (X - mean), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("guide", [classifier_free, autoguidance])
def test_an_interval_has_its_upper_end_but_not_its_lower(guide):
    main, other = model(1.0), model(0.5)
    everywhere = guide(main, other, 3.0)
    for ratio, interval, inside in (
        (2.0, (2.0, 3.0), False),
        (2.0, (1.0, 2.0), True),
        (2.0, (0.0, 1.99), False),
        (2.0, (0.0, math.inf), True),
        (math.inf, (2.0, math.inf), True),  # alpha = 0
        (math.inf, (2.0, 1e308), False),
    ):
        at = level(ratio) if math.isfinite(ratio) else Level(level(1.0).t, 0 * level(1.0).alpha, level(1.0).sigma)
        calls: list[int] = []
        prediction = guide(main, counted(other, calls), 3.0, interval=interval)(X, at)
        assert torch.equal(prediction.eps, (everywhere if inside else main)(X, at).eps)
        assert calls == [4] * inside


def by_label(x, at, label):
    """A prediction that depends on the labels; None is the null class."""
    label = torch.full((len(x),), NULL) if label is None else label
    return from_eps(x, at, torch.tanh((label + 2).to(x.dtype).view(-1, 1, 1, 1) * x / 3))


def ends(label, **options):
    """The end of a trajectory of 6 guided steps, in one call each, and the number of images in each call."""
    calls: list[int] = []
    guided = classifier_free_in_one_call(counted(by_label, calls), label, NULL, 2.5, **options)
    s = schedule.linear()
    *_, end = trajectory(DDIM(), guided, X, levels(s, timesteps(s, 6)), schedule=s)
    return end, calls


@pytest.mark.parametrize("labels", [torch.tensor([2, 0, 1, NULL]), None])
def test_an_interval_of_everything_is_plain_guidance_and_of_nothing_is_the_conditional_model(labels):
    s = schedule.linear()
    *_, conditional = trajectory(
        DDIM(), lambda x, at: by_label(x, at, labels), X, levels(s, timesteps(s, 6)), schedule=s
    )
    plain, rows = ends(labels)
    assert rows == [8] * 6
    everywhere, rows = ends(labels, interval=EVERYWHERE)
    assert torch.equal(everywhere, plain)
    assert rows == [8] * 6
    nowhere, rows = ends(labels, interval=(1e-6, 1e-5))
    assert torch.equal(nowhere, conditional)
    assert rows == [4] * 6
    some, rows = ends(labels, interval=(0.5, 20.0))
    ratios = [at.sigma / at.alpha for at in levels(s, timesteps(s, 6))[:-1]]
    assert rows == [8 if 0.5 < ratio <= 20 else 4 for ratio in ratios]
    assert sorted(set(rows)) == [4, 8]
    assert labels is None or not (torch.equal(some, plain) or torch.equal(some, conditional))


@pytest.mark.parametrize("in_one_call", [False, True])
def test_with_one_level_for_each_image_each_is_guided_by_its_own(in_one_call):
    at = schedule.linear()(torch.tensor([900.0, 500.0, 20.0, 1.0]))
    ratios = (at.sigma / at.alpha).flatten().tolist()
    interval = (ratios[2], ratios[1])  # the second image alone
    labels = torch.tensor([2, 0, 1, 1])

    def main(x, at):
        return by_label(x, at, labels)

    def other(x, at):
        return by_label(x, at, None)

    guided = classifier_free(main, other, 3.0)(X, at)
    if in_one_call:
        some = classifier_free_in_one_call(by_label, labels, NULL, 3.0, interval)(X, at)
    else:
        some = classifier_free(main, other, 3.0, interval)(X, at)
    for mine, whole, plain in zip(some, guided, main(X, at), strict=True):
        assert torch.equal(mine[1], whole[1])
        assert torch.equal(mine[[0, 2, 3]], plain[[0, 2, 3]])


def test_a_weight_of_1_is_the_main_model_and_the_other_is_not_called():
    calls: list[int] = []
    main, other = model(1.0), counted(model(0.5), calls)
    for guide in (autoguidance, classifier_free):
        assert torch.equal(guide(main, other, 1.0)(X, AT).eps, main(X, AT).eps)
    assert calls == []
    labels = torch.tensor([2, 0, 1, NULL])
    once = classifier_free_in_one_call(counted(by_label, calls), labels, NULL, 1.0)(X, AT)
    assert torch.equal(once.x0, by_label(X, AT, labels).x0)
    assert calls == [4]


@pytest.mark.parametrize(
    "interval", [(2.0, 2.0), (3.0, 2.0), (-1.0, 2.0), (math.nan, 2.0), (0.0, math.nan), (math.inf, math.inf), (1.0,)]
)
def test_an_interval_that_is_none_is_refused_before_a_call(interval):
    for guide in (autoguidance, classifier_free):
        with pytest.raises(UserError, match=r"0 <= low < high, e.g. 0.3 and 5; got " + re.escape(repr(interval))):
            guide(model(1.0), model(0.5), 2.0, interval=interval)
    with pytest.raises(UserError, match="0 <= low < high"):
        classifier_free_in_one_call(by_label, None, NULL, 2.0, interval)


class Counting(torch.nn.Module):
    """A network that notes its calls."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, x, t, label):
        self.calls.append((len(x), label.tolist()))
        return torch.tanh(x * (label + 2).to(x.dtype).view(-1, 1, 1, 1) / 3)


def test_a_guided_step_calls_the_network_once():
    calls = []
    model = Denoiser(Counting(calls), schedule.linear(), shape=(1, 4, 4), classes=3)
    model.sample(2, steps=4, sampler="ddim", labels=[2, 1], guidance=3.0, progress=False)
    assert calls == [(4, [2, 1, NULL, NULL])] * 4
    calls.clear()
    model.sample(2, steps=4, sampler="ddim", labels=[2, 1], progress=False)
    assert calls == [(2, [2, 1])] * 4
    calls.clear()
    options: dict[str, Any] = {"steps": 4, "sampler": "ddim", "labels": [2, 1], "progress": False}
    ratios = [float(at.sigma / at.alpha) for at in levels(model.schedule, timesteps(model.schedule, 4))]
    model.sample(2, **options, guidance=3.0, guidance_interval=(ratios[3], ratios[1]))
    assert calls == [(2, [2, 1]), *[(4, [2, 1, NULL, NULL])] * 2, (2, [2, 1])]


def test_a_model_with_an_interval():
    calls = []
    model = Denoiser(Counting(calls), schedule.linear(), shape=(1, 4, 4), classes=3)
    options: dict[str, Any] = {"steps": 4, "sampler": "ddim", "labels": [2, 1], "progress": False}
    plain, guided = model.sample(2, **options), model.sample(2, **options, guidance=3.0)
    assert not torch.equal(plain, guided)
    assert torch.equal(model.sample(2, **options, guidance=3.0, guidance_interval=(0, math.inf)), guided)
    calls.clear()
    said = r"No step starts in the guidance interval from 1e-06 to 1e-05, .* the 4 steps falls from 157 to 0.953"
    with pytest.warns(Notice, match=said):
        nowhere = model.sample(2, **options, guidance=3.0, guidance_interval=(1e-6, 1e-5))
    assert torch.equal(nowhere, plain)
    assert sum(rows for rows, _ in calls) == 2 * 4
    with pytest.raises(UserError, match=r"from 200 to 300 lies above .* sigma / alpha is at most 157\.\d; lower it"):
        model.sample(2, **options, guidance=3.0, guidance_interval=(200, 300))
    with pytest.raises(UserError, match="0 <= low < high"):
        model.sample(2, **options, guidance=3.0, guidance_interval=(5, 0.3))


def tiny(seed, classes=None, shape=(1, 8, 8), noise=None):
    torch.manual_seed(seed)
    network = nets.build("plain", shape[0], "tiny", classes, widths=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Denoiser(network, noise or schedule.linear(), "v", shape, classes)


@pytest.mark.parametrize("classes", [None, 3])
def test_a_weak_model_guides_by_the_wrapper(classes):
    strong, weak = tiny(0, classes), tiny(1, classes)
    options: dict[str, Any] = {"steps": 3, "sampler": "ddim", "clip": False, "progress": False}
    guided = strong.sample(5, **options, guidance=2.0, weak=weak, batch_size=2)
    assert not torch.allclose(guided, strong.sample(5, **options), atol=1e-2)
    assert torch.equal(strong.sample(5, **options, guidance=1.0, weak=weak), strong.sample(5, **options))
    labels = None if classes is None else [0, 1, 2, 0, 1]
    by_hand = autoguidance(strong.denoise(labels, clip=False), weak.denoise(labels, clip=False), 2.0)
    xT, s = ImageNoise(0, range(5))(torch.empty(5, 1, 8, 8)), strong.schedule
    with torch.no_grad():
        *_, end = trajectory(DDIM(), by_hand, xT, levels(s, timesteps(s, 3)), schedule=s)
    torch.testing.assert_close(guided, end, rtol=0, atol=1e-4)


class Asked:
    """A server that notes what it is asked for, and lets the network compute."""

    def __init__(self):
        self.asked = []

    def network(self, model, batch, calls):
        self.asked.append((batch, calls))
        return model.network


def test_each_network_is_served_for_its_own_batches_and_calls():
    strong, weak = tiny(0, 3), tiny(1, 3)
    strong.server, weak.server = Asked(), Asked()
    ratios = [float(at.sigma / at.alpha) for at in levels(strong.schedule, timesteps(strong.schedule, 4))]
    half: dict[str, Any] = {"guidance_interval": (ratios[3], ratios[1])}  # two of four steps
    for options, ours, theirs in (
        ({}, (2, 12), None),  # 5 images in batches of 2: three batches of four calls
        ({"guidance": 2.0}, (4, 12), None),
        ({"guidance": 2.0, **half}, (4, 9), None),  # 6 calls of four images, and 6 of two
        ({"guidance": 2.0, "weak": weak}, (2, 12), (2, 12)),
        ({"guidance": 2.0, "weak": weak, **half}, (2, 12), (2, 6)),
        ({"guidance": 1.0, "weak": weak}, (2, 12), None),
    ):
        strong.server.asked.clear(), weak.server.asked.clear()
        strong.sample(5, steps=4, sampler="ddim", batch_size=2, progress=False, **options)
        assert strong.server.asked == [ours]
        assert weak.server.asked == ([] if theirs is None else [theirs])


def test_a_weak_model_that_does_not_fit_is_refused():
    strong = tiny(0, 3)
    for weak, said in (
        (tiny(1, 3, (3, 8, 8)), r"another shape than the model, \(3, 8, 8\) and not \(1, 8, 8\)"),
        (tiny(1, 4), "another number of classes than the model, 4 and not 3"),
        (tiny(1), "another number of classes than the model, None and not 3"),
        (tiny(1, 3, noise=schedule.cosine()), "another schedule than the model;"),
        (tiny(1, 3).to("meta"), "on meta, and the model on cpu"),
        ("run", "must be a ddim.Denoiser"),
    ):
        with pytest.raises(UserError, match=said):
            strong.sample(1, steps=1, guidance=2.0, weak=weak, progress=False)


def test_guidance_of_a_model_without_classes_needs_a_weak_model():
    with pytest.raises(UserError, match="must be 1 for a model without classes, unless a weak model guides it"):
        tiny(0).sample(1, steps=1, guidance=2.0, progress=False)
