"""The Fréchet distance: closed forms, another way to compute it, and a peer."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ddim.evaluate.frechet import Gaussian, frechet, gaussian


def features(count, dim, seed, scale=1.0):
    """Correlated numbers, none of them below 0, as a network's last layer gives them."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, dim)) @ rng.standard_normal((dim, dim)) * scale + 1).clip(0)


def of(a, b):
    return frechet(gaussian(a), gaussian(b))


@pytest.mark.parametrize("dim", [1, 2, 16, 64])
def test_the_formula_by_a_matrix_root(dim):
    a, b = features(300, dim, 0), features(200, dim, 1, 1.2)
    A, B = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (a, b))
    by_root = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(A + B - 2 * sqrtm(A @ B).real)
    assert of(a, b) == pytest.approx(by_root, rel=1e-6)


def test_gaussians_whose_covariances_commute():
    """With one set of eigenvectors it is |mu_a - mu_b|^2 + the sum of (sqrt(a_i) - sqrt(b_i))^2."""
    rng = np.random.default_rng(0)
    vectors, _ = np.linalg.qr(rng.standard_normal((32, 32)))
    a, b = rng.uniform(0, 3, 32), rng.uniform(0, 3, 32)
    a[:4] = 0
    mu_a, mu_b = rng.standard_normal((2, 32))
    found = frechet(Gaussian(mu_a, vectors * a @ vectors.T), Gaussian(mu_b, vectors * b @ vectors.T))
    assert found == pytest.approx(np.square(mu_a - mu_b).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-9)


def test_features_that_never_vary_cost_no_digits():
    a = features(500, 24, 0)
    a[:, ::2] = 0
    assert abs(of(a, a)) < 1e-12 * np.trace(np.cov(a, rowvar=False))
    assert of(a, a + 0.25) == pytest.approx(24 / 16, rel=1e-12)


def test_neither_order_nor_side_matters():
    a, b = features(300, 16, 0), features(200, 16, 1)
    shuffled = np.random.default_rng(2).permutation(a)
    assert of(shuffled, b) == pytest.approx(of(a, b), rel=1e-10)
    assert of(b, a) == pytest.approx(of(a, b), rel=1e-10)


def test_counted_twice_is_there_twice():
    a, b = features(100, 8, 0), features(100, 8, 1)
    times = np.random.default_rng(0).integers(0, 3, 100)
    assert frechet(gaussian(a, times), gaussian(b)) == pytest.approx(of(a.repeat(times, 0), b), rel=1e-10)


def test_torchmetrics_agrees():
    image = pytest.importorskip("torchmetrics.image.fid")
    a, b = features(300, 24, 0), features(200, 24, 1)

    class Features(torch.nn.Identity):
        num_features = 24

    peer = image.FrechetInceptionDistance(feature=Features()).set_dtype(torch.float64)
    peer.update(torch.from_numpy(a), real=True)
    peer.update(torch.from_numpy(b), real=False)
    assert of(a, b) == pytest.approx(peer.compute().item(), rel=1e-6)
