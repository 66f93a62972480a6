"""The optimizers of a training: AdamW for all weights, or Muon for the hidden convolutions and AdamW for the rest."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Muon's polynomial p(s) = a s + b s^3 + c s^5
ITERATIONS = 5  # after them, every singular value from 0.003 to 1 lies between 0.68 and 1.21
MOMENTUM = 0.95
RMS = 0.2  # of a step of AdamW, in units of the learning rate (arXiv 2502.16982, section 2.2)
LEAST = 16  # channels in and out of a hidden layer; the first and the last layer have fewer, those of an image
ADAMW, MUON = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)  # what each keeps for a weight, by PyTorch's own names


def build(network: nn.Module, name: str, learning_rate: float) -> torch.optim.Optimizer:
    """Return the optimizer that a plan names, "adamw" or "muon", for the weights of a network."""
    hidden = hidden_weights(network) if name == "muon" else []
    muons = set(hidden)
    rest = [parameter for parameter in network.parameters() if parameter not in muons]
    adamw = torch.optim.AdamW(rest, lr=learning_rate, weight_decay=0.0, fused=True) if rest else None
    return Muon(hidden, adamw, learning_rate) if hidden or adamw is None else adamw


def hidden_weights(network: nn.Module) -> list[Tensor]:
    """Return the weights of the hidden convolutions: those of at least `LEAST` channels in and out."""
    layers = (layer for layer in network.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    weights = (layer.weight for layer in layers if min(layer.weight.shape[:2]) >= LEAST)
    return list(dict.fromkeys(weights))  # a weight that layers share is one


def moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> tuple[str, ...]:
    """Return the names of the tensors that an optimizer keeps for a parameter."""
    return MUON if isinstance(optimizer, Muon) and parameter in optimizer.hidden else ADAMW


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonal: all its singular values are close to 1 (arXiv 2502.16982, section 2.1).

    The gradient of a convolution's filters, as a matrix of (output channels, input channels x kernel), has few large
    singular values. A step along U V^T of its singular value decomposition U S V^T has the same length in all
    directions. It is scaled by 0.2 sqrt(max(rows, columns)), so that its rms is that of a step of AdamW and both take
    the same learning rate. PyTorch's own Muon is for matrices alone.

    Args:
        hidden: the weights to train, of two dimensions or more.
        adamw: the optimizer of the other weights, whose groups and state become part of this one's, or None.
        learning_rate: the learning rate of the hidden weights.
    """

    def __init__(self, hidden: Sequence[Tensor], adamw: torch.optim.AdamW | None, learning_rate: float) -> None:
        super().__init__(hidden, {"lr": learning_rate})
        self.hidden, self.adamw = set(hidden), adamw
        if adamw is not None:
            self.param_groups += adamw.param_groups
            self.state = adamw.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make a step of both optimizers along the gradients; `closure` is not called."""
        if self.adamw is not None:
            self.adamw.step()
        group = self.param_groups[0]
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights]
        momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        steps = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
        for weight, step in zip(weights, orthogonal([step.flatten(1) for step in steps]), strict=True):
            weight.add_(step.view_as(weight), alpha=-group["lr"] * RMS * math.sqrt(max(step.shape)))


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return matrices with the singular vectors of these and singular values close to 1, by Newton and Schulz.

    The iteration is X <- a X + b X X^T X + c (X X^T)^2 X, from X = G / |G|. As X_k = Q_k G with a polynomial Q_k of
    the Gram matrix A = X X^T, only Q and A, with the smaller side of G, are iterated: P = a + b A + c A^2, Q <- P Q,
    A <- P A P. This takes a quarter of the arithmetic for the filters of a 3 x 3 convolution.
    """
    a, b, c = COEFFICIENTS
    wide = [matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T for matrix in matrices]
    wide = [matrix.to(torch.promote_types(matrix.dtype, torch.float32)) for matrix in wide]
    wide = [matrix / matrix.norm().clamp(min=1e-7) for matrix in wide]
    by_side = defaultdict(list)
    for position, matrix in enumerate(wide):
        by_side[matrix.shape[0]].append(position)
    found = list(matrices)
    for positions in by_side.values():
        gram = torch.stack([wide[i] @ wide[i].T for i in positions])
        factors = torch.eye(len(gram[0]), dtype=gram.dtype, device=gram.device).expand_as(gram)
        for _ in range(ITERATIONS):
            polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            polynomial.diagonal(dim1=1, dim2=2).add_(a)
            factors = polynomial @ factors
            gram = polynomial @ gram @ polynomial
        for i, factor in zip(positions, factors, strict=True):
            result = factor @ wide[i]
            found[i] = (result if wide[i].shape == matrices[i].shape else result.T).to(matrices[i].dtype)
    return found
