"""What sampling costs beside the network: counts, which hold on a busy machine too.

That the network is called as often as the sampler says is tested with each sampler, in `samplers/test_properties.py`
and in `test_denoiser.py`.
"""

from collections import Counter
from weakref import finalize

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddim import nets, schedule
from ddim.denoiser import Denoiser
from ddim.samplers import DDIM, names, trajectory

SHAPE = (1, 64, 64)
IMAGE = 4 * 64 * 64  # bytes


class Light(nn.Module):
    """A network that costs little and looks at its time and its label."""

    def __init__(self):
        super().__init__()
        self.convolution, self.classes = nn.Conv2d(1, 1, 1), nn.Embedding(11, 1)

    def forward(self, x, t, label):
        return (
            self.convolution(x) + (self.classes(label + 1) * torch.sin(t / 200).to(x.dtype)[:, None])[:, :, None, None]
        )


class Watch(TorchDispatchMode):
    """Count what happens to tensors.

    Attributes:
        operations: how many there were on the device "meta" and to it, by name.
        live, peak: bytes of the tensors of at least one image that are alive together: now, and at most.
    """

    def __init__(self):
        super().__init__()
        self.operations, self.live, self.peak, self._known = Counter(), 0, 0, set()

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        tensors = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        if any(tensor.is_meta for tensor in tensors):
            self.operations[str(operation.overloadpacket)] += 1
        for tensor in tensors:
            self._add(tensor.untyped_storage())
        return result

    def _add(self, storage):
        size, key = storage.nbytes(), id(storage)
        if size >= IMAGE and key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            finalize(storage, self._remove, key, size)

    def _remove(self, key, size):
        self._known.remove(key)
        self.live -= size


def light(device="cpu", dtype=torch.float32):
    torch.manual_seed(0)
    return Denoiser(Light().to(device, dtype), schedule.linear(), "v", SHAPE, classes=10).eval()


@torch.no_grad()
def without_values(model, sampler, steps=6):
    """Run a trajectory on the device "meta", whose tensors have no values; return the operations and the calls.

    Reading a value there, by `.item()`, `bool(...)` or a copy to the CPU, is an error. On a GPU it would stop the loop
    until the GPU has finished.
    """
    method, levels = model.sampling.resolve(model.schedule, steps, sampler)
    denoise = model.denoise([0, 1])
    xT = torch.empty(2, *model.shape, device="meta")
    with Watch() as watch:
        for x in trajectory(method, denoise, xT, levels, torch.randn_like, model.schedule):
            assert x.device.type == "meta"
    return watch.operations, method.calls(levels)


@pytest.mark.parametrize("sampler", names())
def test_no_value_is_read_and_nothing_is_copied_to_the_device(sampler):
    operations, calls = without_values(light("meta"), sampler)
    assert operations["aten.convolution"] == calls
    assert operations["aten._to_copy"] == operations["aten.copy_"] == 0


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "unipc"])
def test_a_network_in_half_precision_costs_two_conversions_a_call(sampler):
    """Of its input and of its output, whatever the sampler; Light itself converts its time."""
    operations, calls = without_values(light("meta", torch.bfloat16), sampler)
    assert operations["aten._to_copy"] == 3 * calls


@pytest.mark.parametrize("network", nets.names())
def test_a_network_reads_no_value(network):
    model = Denoiser(nets.build(network, 1, "tiny").to("meta"), schedule.linear(), shape=(1, 8, 8))
    model.denoise()(torch.empty(2, 1, 8, 8, device="meta"), model.schedule(500))


class Reads(DDIM):
    def step(self, denoise, x, *rest):
        return super().step(denoise, x * float(x.abs().mean() < 9), *rest)


def test_a_sampler_that_reads_a_value_is_found():
    with pytest.raises(RuntimeError, match="meta"):
        without_values(light("meta"), Reads())


def peaks(sampler):
    """Return the most bytes that are alive together in few and in many steps."""
    found = []
    for steps in (8, 40):
        with Watch() as watch:
            light().sample(2, steps=steps, sampler=sampler, progress=False)
        found.append(watch.peak)
    return found


@pytest.mark.parametrize("sampler", names())
def test_memory_does_not_grow_with_the_steps(sampler):
    few, many = peaks(sampler)
    assert few == many


class Keeps(DDIM):
    def init(self, levels, schedule=None):
        return []

    def step(self, denoise, x, at, to, state, noise):
        return super().step(denoise, x, at, to, None, noise)[0], [*state, x]


def test_a_sampler_that_keeps_its_images_is_found():
    few, many = peaks(Keeps())
    assert many - few == (40 - 8) * 2 * IMAGE
