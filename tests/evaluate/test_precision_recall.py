"""Precision, recall, density and coverage: their definitions, their known limits, and their errors."""

import numpy as np
import pytest

from ddim.evaluate import kid
from ddim.evaluate.precision_recall import Balls, precision_recall


def definitions(x, y):
    """As the papers write them, image by image."""

    def ball(points, i, k):
        return sorted(np.linalg.norm(points[i] - one) for j, one in enumerate(points) if j != i)[k - 1]

    def within(point, points, k):
        return [np.linalg.norm(point - one) <= ball(points, i, k) for i, one in enumerate(points)]

    return {
        "precision": np.mean([any(within(one, y, 3)) for one in x]),
        "recall": np.mean([any(within(one, x, 3)) for one in y]),
        "density": np.mean([sum(within(one, y, 5)) / 5 for one in x]),
        "coverage": np.mean(
            [any(np.linalg.norm(one - sample) <= ball(y, i, 5) for sample in x) for i, one in enumerate(y)]
        ),
    }


def values(x, y):
    return {name: one.value for name, one in precision_recall(x, Balls(y))._asdict().items()}


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_the_definitions(shift, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)) + shift, rng.standard_normal((30, 3))
    expected = definitions(x, y)
    assert values(x, y) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(kid, "CHUNK", 100)
    assert values(x, y) == pytest.approx(expected, rel=1e-12)
    if shift == 1:
        assert all(0 < one < 1 for one in expected.values())


def test_a_set_against_itself():
    y = np.random.default_rng(0).standard_normal((60, 8))
    found = values(y, y)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
    assert found["density"] == pytest.approx(6 / 5)  # its own ball, and as many others as there are balls: k each


def test_sets_that_do_not_touch():
    rng = np.random.default_rng(0)
    assert set(values(rng.standard_normal((60, 8)) + 100, rng.standard_normal((60, 8))).values()) == {0}


def test_images_that_are_there_many_times():
    """Balls of no size hold what is the same, in spite of rounding."""
    y = np.random.default_rng(0).uniform(0, 50, (5, 64)).repeat(10, 0)
    assert values(y, y[::-1])["precision"] == 1
    assert values(y, y[::-1])["coverage"] == 1


def test_a_class_that_is_left_out_costs_coverage_and_recall_alone():
    rng = np.random.default_rng(0)

    def draw(classes):
        return np.concatenate([rng.standard_normal((400 // len(classes), 4)) + 20 * one for one in classes])

    real, whole, half = draw([0, 1, 2, 3]), draw([0, 1, 2, 3]), draw([0, 1])
    full, found = values(whole, real), values(half, real)
    assert found["precision"] > full["precision"] - 0.05
    assert found["density"] > full["density"] - 0.1
    assert found["recall"] == pytest.approx(full["recall"] / 2, abs=0.05)
    assert found["coverage"] == pytest.approx(full["coverage"] / 2, abs=0.05)


def test_coverage_of_what_is_drawn_alike():
    """Its expectation is 1 - (M - 1)...(M - k) / ((M + N - 1)...(M + N - k)): arXiv 2002.09797, Lemma 2."""
    rng = np.random.default_rng(0)
    n, m = 60, 80
    expected = 1 - np.prod([(m - i) / (m + n - i) for i in range(1, 6)])
    found = [values(rng.standard_normal((n, 2)), rng.standard_normal((m, 2)))["coverage"] for _ in range(200)]
    assert np.mean(found) == pytest.approx(expected, abs=3 * np.std(found) / np.sqrt(200))


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_standard_errors_are_those_of_new_draws(shift):
    """Nearly, where the sets differ; up to 1.8 times as wide where they do not, but never much too narrow."""
    rng = np.random.default_rng(0)
    drawn = [
        precision_recall(rng.standard_normal((150, 6)) + shift, Balls(rng.standard_normal((150, 6))))
        for _ in range(200)
    ]
    for name in drawn[0]._fields:
        real = np.std([getattr(one, name).value for one in drawn])
        said = np.mean([getattr(one, name).error for one in drawn])
        assert 0.8 < said / real < (1.25 if shift else 1.8), (name, said, real)
