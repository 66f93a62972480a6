"""Guided candidates make their number of evaluations; and when one takes the place of a method without guidance."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddim import nets, schedule
from ddim.data import open_images
from ddim.denoiser import Denoiser
from ddim.evaluate.frechet import gaussian
from ddim.presets import Method
from ddim.timesteps import compared
from ddim.tune import accept, image_calls, search, tune
from ddim.tune.candidates import plain
from ddim.tune.guided import FIRST, WEIGHTS, best_of_each_weight, guided

S = schedule.linear()
COUNT = 300  # made-up samples of each method


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 8, 15, 20])
def test_guided_candidates_make_exactly_so_many_evaluations(calls):
    found = list(guided(S, calls, plain(S, calls)))
    for method in found:
        assert method.guidance == FIRST
        assert method.evaluations(S) == calls
        assert len(method.times) < calls
    everywhere = {method.found for method in found if method.guidance_interval is None and method.sampler == "ddim"}
    assert len(everywhere) == (0 if calls % 2 else len(compared()))


def test_each_weight_has_its_best_method():
    ways = [Method(sampler="ddim", times=(t,), guidance=FIRST) for t in (900.0, 800.0, 700.0)]
    best = {1.1: 800.0, 1.3: 900.0, 1.5: 900.0}

    def distance(method):
        return 0.5 if method.times[0] == best[method.guidance] else 1000 - method.times[0] + 1

    found = best_of_each_weight(ways, distance)
    assert [(method.guidance, method.times[0]) for method in found] == [(w, best[w]) for w in WEIGHTS]
    assert best_of_each_weight([], distance) == []


class Known(accept.Judge):
    """A judge of made-up features: those of the real images with a shift, and of which so many are correct."""

    def __init__(self, **known):
        random = np.random.default_rng(0)
        self.real, self.seed, self.count = random.normal(size=(1000, 3)), 0, COUNT
        self.extractor = SimpleNamespace(name="made-up")
        self._gaussian = gaussian(self.real)
        near = random.normal(size=(COUNT, 3))
        self.known = {
            name: accept._Drawn(near + shift, None if right is None else np.arange(COUNT) < right)
            for name, (shift, right) in known.items()
        }

        self._known = []

    def _drawn(self, method, part=0):
        known = self.known[method.found]
        if part and known.correct is not None:  # all further samples are right
            return known._replace(correct=np.ones(COUNT, bool))
        return known


def method(name, **options):
    return Method(sampler="ddim", times=(1000.0, 500.0), found=name, **options)


@pytest.mark.parametrize(
    ("shift", "right", "accepted"),
    [
        (0.5, 290, True),  # as near, and 10 more are right
        (0.5, 284, False),  # 4 more are right, which happens by chance once in 16 times
        (0.5, 285, True),  # 5 more, once in 32
        (0.5, 280, False),  # nothing is better
        (0.5, 100, False),
        (0.0, 280, True),  # nearer
        (0.0, 100, True),  # nearer, whatever its classes: the distance decides
        (0.55, 300, False),  # a little farther, though all are right
        (2.0, 300, False),
    ],
)
def test_a_guided_method_is_accepted_if_it_is_nearer_or_as_near_and_more_accurate(shift, right, accepted):
    judge = Known(plain=(0.5, 280), guided=(shift, right))
    weighted = method("guided", guidance=1.3)
    verdict = accept.decide(judge, 4, [method("plain")], [], "0" * 64, "", [weighted])
    assert (verdict.preset.guidance == 1.3) == accepted == verdict.accepted
    assert verdict.guided == weighted
    assert verdict.guided_distance == judge.distance(weighted)
    assert verdict.accuracies == (280 / COUNT, (right if accepted else 280) / COUNT)


def test_without_a_classifier_the_distance_alone_decides():
    for shift, accepted in ((0.0, True), (0.5, False), (2.0, False)):
        judge = Known(plain=(0.5, None), guided=(shift, None))
        weighted = method("guided", guidance=1.3)
        verdict = accept.decide(judge, 4, [method("plain")], [], "0" * 64, "", [weighted])
        assert verdict.accepted == accepted
        assert verdict.accuracies is None


def test_a_guided_method_replaces_the_winner_and_not_the_best_plain_solver():
    judge = Known(plain=(0.5, 280), tuned=(0.0, 280), guided=(0.5, 300))
    weighted = [method("guided", guidance=1.3)]
    verdict = accept.decide(judge, 4, [method("plain")], [method("tuned")], "0" * 64, "", weighted)
    assert verdict.preset.found == "tuned"
    judge = Known(plain=(0.5, 280), tuned=(0.5, 280), first=(0.5, 281), second=(0.5, 300))
    weighted = [method("first", guidance=1.1), method("second", guidance=1.5)]
    verdict = accept.decide(judge, 4, [method("plain")], [method("tuned")], "0" * 64, "", weighted)
    assert verdict.preset.found == "second"  # the first in the order of distances that is measurably better


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", 10, widths=(8, 16))
    return Denoiser(network, schedule.linear(T=20), shape=(1, 8, 8), classes=10).eval()


@pytest.mark.slow
def test_a_model_with_classes_is_tuned_with_guidance(model):
    digits, counted = open_images("digits", split="test"), []
    (verdict,) = search(model, [4], images=digits, count=70, tick=counted.append)
    assert verdict.guided is not None
    assert verdict.guided.guidance in WEIGHTS
    assert verdict.preset.evaluations(model.schedule) == 4
    assert verdict.accuracies is not None
    assert sum(counted) == pytest.approx(image_calls(model, [4], digits, 70), rel=0.3)
    assert tune(model, [4], images=digits, count=70, progress=False) == [verdict.preset]


@pytest.mark.slow
def test_no_guided_method_is_tried_without_a_null_class_or_where_guidance_is_off(model):
    (verdict,) = search(model, [2], guidance=False, count=70)
    assert verdict.guided is None
    model.null_class = False
    (verdict,) = search(model, [2], count=70)
    model.null_class = True
    assert verdict.guided is None
