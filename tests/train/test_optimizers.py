"""Muon: its directions against a singular value decomposition, its steps against PyTorch's, and what it trains."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from ddim import nets
from ddim.train import optimizers
from ddim.train.optimizers import Muon, orthogonal


def spread(rows, columns, least=0.02, dtype=torch.float32):
    """A matrix whose singular values fall from 1 to `least`."""
    generator = torch.Generator().manual_seed(rows * 1000 + columns)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=generator, dtype=dtype), full_matrices=False)
    return u @ torch.logspace(0, math.log10(least), len(v), dtype=dtype).diag() @ v


def newton_schulz(matrix):
    """The iteration as Muon's paper states it, in double precision."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * (x @ x.T @ x) + 2.0315 * (x @ x.T @ x @ x.T @ x)
    return x


SHAPES = [(16, 16), (16, 144), (144, 16), (64, 576), (128, 576), (32, 16), (64, 128)]


def test_directions_have_the_singular_vectors_of_the_gradients_and_values_close_to_one():
    given = [7 * spread(*shape) for shape in SHAPES]
    for gradient, direction in zip(given, orthogonal(given), strict=True):
        assert direction.shape == gradient.shape
        assert direction.dtype == torch.float32
        values = torch.linalg.svdvals(direction)
        assert 0.68 < values.min() < values.max() < 1.21
        u, _, v = torch.linalg.svd(gradient, full_matrices=False)
        in_basis = u.T @ direction @ v.T
        assert (in_basis - in_basis.diagonal().diag()).abs().max() < 2e-3


@pytest.mark.parametrize("least", [1.0, 1e-2, 1e-4])
def test_directions_are_those_of_the_iteration(least):
    given = [spread(*shape, least) for shape in SHAPES]
    for gradient, direction in zip(given, orthogonal(given), strict=True):
        expected = newton_schulz(gradient)
        assert (direction - expected).norm() < 1e-3 * expected.norm()


def test_a_direction_does_not_depend_on_the_others():
    given = [spread(*shape) for shape in SHAPES]
    for gradient, direction in zip(given, orthogonal(given), strict=True):
        assert torch.allclose(orthogonal([gradient])[0], direction, atol=1e-4)


def test_a_gradient_of_zero_gives_a_direction_of_zero():
    (direction,) = orthogonal([torch.zeros(16, 32)])
    assert torch.equal(direction, torch.zeros(16, 32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_directions_keep_the_dtype(dtype):
    (direction,) = orthogonal([spread(16, 32).to(dtype)])
    expected = newton_schulz(spread(16, 32).to(dtype))
    assert direction.dtype == dtype
    assert (direction - expected).norm() < {torch.float64: 1e-9}.get(dtype, 1e-2) * expected.norm()


def test_steps_are_those_of_pytorch_on_matrices():
    """PyTorch's Muon takes matrices only, and iterates in bf16, so a step differs by about 3%."""
    weights = [nn.Parameter(spread(*shape)) for shape in ((32, 64), (64, 32))]
    twins = copy.deepcopy(weights)
    ours = Muon(weights, None, 0.01)
    theirs = torch.optim.Muon(twins, lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for weight, twin in zip(weights, twins, strict=True):
            weight.grad = torch.randn_like(weight)
            twin.grad = weight.grad.clone()
            weight.data.copy_(twin.data)
        before = [weight.detach().clone() for weight in weights]
        ours.step()
        theirs.step()
        for weight, twin, start in zip(weights, twins, before, strict=True):
            assert (weight - twin).norm() < 0.06 * (twin - start).norm()


def test_a_step_on_filters_is_that_on_the_matrix_of_output_channels():
    weight = nn.Parameter(torch.randn(32, 16, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(weight.detach().flatten(1).clone())
    weight.grad = torch.randn(32, 16, 3, 3)
    matrix.grad = weight.grad.flatten(1)
    for parameter in (weight, matrix):
        Muon([parameter], None, 0.01).step()
    assert torch.equal(weight.detach().flatten(1), matrix.detach())


def test_hidden_convolutions_are_trained_by_muon_and_the_rest_by_adamw():
    network = nets.build("unet", 1, "folded", 10)
    optimizer: Any = optimizers.build(network, "muon", 1e-3)
    trained = {name for name, weight in network.named_parameters() if weight in optimizer.hidden}
    convolutions = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    assert trained == convolutions - {"stem.weight", "head.2.weight"}
    groups = [set(map(id, group["params"])) for group in optimizer.param_groups]
    assert len(groups) == 2
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == set(map(id, network.parameters()))


def test_both_kinds_of_weights_move_as_each_optimizer_alone_moves_them():
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 1, 3))
    twin: Any = copy.deepcopy(network)
    both = optimizers.build(network, "muon", 1e-3)
    hidden = twin[1].weight
    alone = [
        Muon([hidden], None, 1e-3),
        torch.optim.AdamW([p for p in twin.parameters() if p is not hidden], lr=1e-3, weight_decay=0.0, fused=True),
    ]
    for _ in range(3):
        for net, each in ((network, [both]), (twin, alone)):
            net.zero_grad()
            net(torch.ones(2, 1, 9, 9)).square().mean().backward()
            for optimizer in each:
                for group in optimizer.param_groups:
                    group["lr"] = 2e-3
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    ("network", "kind"),
    [(nn.Conv2d(1, 1, 3), torch.optim.AdamW), (nn.Conv2d(16, 16, 3, bias=False), Muon)],
    ids=["no hidden convolution", "nothing else"],
)
def test_one_kind_of_weights_alone_is_trained(network: Any, kind):
    optimizer = optimizers.build(network, "muon", 1e-3)
    before = network.weight.detach().clone()
    network(torch.ones(1, network.in_channels, 4, 4)).square().sum().backward()
    optimizer.step()
    assert type(optimizer) is kind
    assert not torch.equal(network.weight, before)


def test_weights_without_a_gradient_stay():
    network: Any = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3))
    network[1].requires_grad_(False)
    before = network[1].weight.clone()
    optimizer = optimizers.build(network, "muon", 1e-3)
    network(torch.ones(1, 16, 9, 9)).square().sum().backward()
    optimizer.step()
    assert torch.equal(network[1].weight, before)
    assert network[1].weight not in optimizer.state
