"""The precision of a training: the one that the hardware supports, if it computes this network correctly.

PyTorch 2.13 reads uninitialised memory in the gradient of some convolutions in bf16, on CPUs with AVX-512 BF16 or
AMX: of those with a stride, on images one pixel wide. The test here does not rely on that description. It compares
each kind of convolution of the network, in the precision of the training, with the same in float32.
"""

import copy
import warnings
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddim.denoiser import Denoiser
from ddim.device import PRECISIONS, choose_precision
from ddim.errors import Notice
from ddim.text import dimensions
from ddim.train.distributed import Distributed

KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CHANNELS = 32  # at most: with more of them, spoiling the memory that the gradient reads succeeds less often
TRIALS = 4  # of each convolution, because it depends on chance what uninitialised memory holds
TOLERANCE = 0.1  # of the relative error, which is below 0.01 in bf16 where the processor computes correctly


class Convolution(NamedTuple):
    """What a processor chooses the algorithm of a convolution by."""

    kind: type[nn.Module]
    options: tuple[Any, ...]  # input channels, output channels, kernel size, stride and padding
    dilation: tuple[int, ...]
    groups: int
    size: tuple[int, ...]  # of the input, e.g. (H, W)
    output: tuple[int, ...]  # size of the output

    def __str__(self) -> str:
        kernel, stride, size = map(dimensions, (*self.options[2:4], self.size))
        return f"{self.kind.__name__} with a kernel of {kernel} and a stride of {stride}, on {size} pixels"


def training_precision(model: Denoiser, asked: str, distributed: Distributed) -> str:
    """Return the precision for autocast: "fp32", "bf16" or "fp16". Every process must call this function.

    A model whose weights are not float32 computes in their dtype, so its precision is "fp32": no autocast. If the
    processor computes a convolution of the network wrongly, "auto" is "fp32", with a `Notice`; any other choice is
    kept, with a `Notice` that recommends fp32.

    Args:
        model: the model to train, on the device where it is trained.
        asked: the precision of the plan.
        distributed: the processes that train together; all of them get the same answer.
    """
    own = next((name for name, dtype in PRECISIONS.items() if dtype == model.dtype), None)
    if own is None and model.dtype != torch.float32:
        return "fp32"
    precision = low = own or choose_precision(asked, model.device)
    wrong = wrong_convolution(model, low) if low != "fp32" and model.device.type == "cpu" else None
    free = own is None and asked == "auto"
    if free and any(distributed.sum(float(low == "fp32" or wrong is not None))):
        precision = "fp32"
    if wrong is not None and distributed.main:
        remedy = "training uses fp32" if free else "use --precision fp32" if own is None else "train model.float()"
        _notice(f"This processor computes the gradient of a layer of the network wrongly in {low} ({wrong}); {remedy}.")
    return "fp32" if own else precision


def wrong_convolution(model: Denoiser, precision: str) -> Convolution | None:
    """Return the first convolution of a network that this processor computes wrongly, or None.

    A copy of the network is called once, on one image, so the model and the random states stay as they are.
    """
    found: dict[Convolution, None] = {}

    def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kind = next((kind for kind in KINDS if isinstance(layer, kind)), None)
        if kind is not None:
            most = CHANNELS if layer.groups == 1 else layer.in_channels + layer.out_channels
            options = min(layer.in_channels, most), min(layer.out_channels, most), layer.kernel_size, layer.stride
            sizes = tuple(inputs[0].shape[2:]), tuple(output.shape[2:])
            found[Convolution(kind, (*options, layer.padding), layer.dilation, layer.groups, *sizes)] = None

    network = copy.deepcopy(model.network).eval()
    for layer in network.modules():
        layer.register_forward_hook(note)
    label = [torch.zeros(1, dtype=torch.long)] if model.classes is not None else []
    with torch.random.fork_rng(devices=[]):
        with torch.no_grad():
            network(torch.zeros(1, *model.shape, dtype=model.dtype), torch.ones(1), *label)
        return next((convolution for convolution in found if not _is_right(convolution, precision)), None)


@cache
def _notice(sentence: str) -> None:
    """Warn once: `train` and `fit` both ask for the precision."""
    warnings.warn(sentence, Notice, stacklevel=3)


@cache
def _is_right(convolution: Convolution, precision: str) -> bool:
    """Return whether output and gradients of a convolution in `precision` are those in float32, up to rounding."""
    kind, options, dilation, groups, size, output = convolution
    layer: Any = kind(*options, dilation=dilation, groups=groups, bias=False)
    x = torch.randn(2, options[0], *size, requires_grad=True)
    shape = [output] if layer.transposed else []
    y = layer(x, *shape)
    cotangent = torch.randn_like(y)
    expected = [y, *torch.autograd.grad(y, (x, layer.weight), cotangent)]
    for _ in range(TRIALS):
        _spoil_free_memory()
        with torch.autocast("cpu", PRECISIONS[precision]):
            y = layer(x, *shape)
        _spoil_free_memory()
        computed = [y, *torch.autograd.grad(y, (x, layer.weight), cotangent.to(y.dtype))]
        if not all((a - b).norm() <= TOLERANCE * b.norm() for a, b in zip(computed, expected, strict=True)):
            return False  # also if it is NaN
    return True


def _spoil_free_memory() -> None:
    """Fill small pieces of memory of many sizes with a pattern that is NaN in 16 and in 32 bits, and free them."""
    for bits in range(5, 17):
        _ = [torch.full((2**bits,), 0x7FC0, dtype=torch.int16) for _ in range(4)]
