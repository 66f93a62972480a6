"""KID: its definition, pair by pair, and a peer."""

import numpy as np
import pytest
import torch

from ddim.evaluate import kid as module
from ddim.evaluate.kid import between, kernel, kid, within


def sets(n=40, m=30, dim=5):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, dim)), rng.standard_normal((m, dim)) + 0.3


def by_pairs(x, y):
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    def own(z):
        return np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])

    return own(x) + own(y) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_pair_by_pair():
    x, y = sets()
    assert kid(x, y) == pytest.approx(by_pairs(x, y), rel=1e-12)


def test_in_parts(monkeypatch):
    x, y = sets()
    whole = kid(x, y)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert kid(x, y) == pytest.approx(whole, rel=1e-12)


def test_no_order_and_no_side_matters():
    x, y = sets()
    assert kid(np.random.default_rng(1).permutation(x), y) == pytest.approx(kid(x, y), rel=1e-12)
    assert kid(y, x) == pytest.approx(kid(x, y), rel=1e-12)


def test_no_bias():
    """Of two sets that are drawn alike the mean is 0, however small they are."""
    rng = np.random.default_rng(0)
    found = [kid(rng.standard_normal((8, 3)), rng.standard_normal((6, 3))) for _ in range(4000)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_counted_twice_is_there_twice():
    """Two images that are the same one resampled make no pair."""
    x, y = sets()
    rng = np.random.default_rng(2)
    tx, ty = rng.integers(0, 3, (40, 2)), rng.integers(0, 3, (30, 2))
    for column in range(2):
        a, b = x.repeat(tx[:, column], 0), y.repeat(ty[:, column], 0)
        found = between(x, y, tx.astype(float), ty.astype(float))
        assert found[column] == pytest.approx(kernel(a, b).mean(), rel=1e-12)
        where = np.arange(40).repeat(tx[:, column])
        pairs = kernel(a, a)[where[:, None] != where]
        assert within(x, tx.astype(float))[column] == pytest.approx(pairs.mean(), rel=1e-12)


def test_torchmetrics_agrees():
    image = pytest.importorskip("torchmetrics.image.kid")
    x, y = sets(50, 50, 24)

    class Features(torch.nn.Identity):
        num_features = 24

    peer = image.KernelInceptionDistance(feature=Features(), subsets=1, subset_size=50).set_dtype(torch.float64)
    peer.update(torch.from_numpy(x), real=True)
    peer.update(torch.from_numpy(y), real=False)
    assert kid(x, y) == pytest.approx(peer.compute()[0].item(), rel=1e-6)
