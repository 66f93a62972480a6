"""A precision is for processors that compute in it correctly."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddim import nets, schedule
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import Notice
from ddim.train import Plan, fit, precision
from ddim.train.distributed import Distributed
from ddim.train.precision import training_precision, wrong_convolution


def model(size, widths=(8, 16), kind="plain", **options):
    torch.manual_seed(0)
    return Denoiser(nets.build(kind, 1, "tiny", widths=widths, **options), schedule.linear(), shape=(1, size, size))


@pytest.fixture
def faulty(monkeypatch):
    """A processor with bf16 arithmetic, whose weights' gradient is wrong for strides on images of one pixel."""
    correct = F.conv2d

    def conv2d(x, weight, bias=None, stride=1, *rest):
        y = correct(x, weight, bias, stride, *rest)
        if torch.is_autocast_enabled("cpu") and stride == (2, 2) and x.shape[-1] == 1:
            y = y + 1e3 * (weight.sum() - weight.sum().detach())
        return y

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(F, "conv2d", conv2d)
    for function in (precision._is_right, precision._notice):
        function.cache_clear()
    yield
    for function in (precision._is_right, precision._notice):
        function.cache_clear()


def test_auto_is_fp32_where_the_processor_computes_the_network_wrongly(faulty):
    with pytest.warns(Notice, match=r"in bf16 \(Conv2d.*3 × 3.*2 × 2.*1 × 1 pixels\); training uses fp32"):
        assert training_precision(model(1), "auto", Distributed("cpu")) == "fp32"


def test_a_precision_that_is_asked_for_is_kept_and_the_remedy_named(faulty):
    with pytest.warns(Notice, match="use --precision fp32") as said:
        chosen = [training_precision(model(1), "bf16", Distributed("cpu")) for _ in range(2)]
    assert chosen == ["bf16", "bf16"]
    assert len(said) == 1
    with pytest.warns(Notice, match=r"train model\.float\(\)"):
        assert training_precision(model(1).bfloat16(), "auto", Distributed("cpu")) == "fp32"


def test_what_the_processor_computes_correctly_is_trained_in_bf16(faulty):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert training_precision(model(8), "auto", Distributed("cpu")) == "bf16"
        assert training_precision(model(1), "fp32", Distributed("cpu")) == "fp32"
        assert training_precision(model(1).double(), "auto", Distributed("cpu")) == "fp32"


def test_one_process_that_computes_wrongly_decides_for_all(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    distributed = Distributed("cpu")
    monkeypatch.setattr(distributed, "sum", lambda *numbers: [1 + number for number in numbers])
    assert training_precision(model(8), "auto", distributed) == "fp32"


def test_the_test_leaves_nothing_behind():
    class Counting(nn.Module):
        calls: torch.Tensor

        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x, t):
            self.calls = self.calls + 1
            return self.norm(self.layer(x)) + torch.rand(())

    one = Denoiser(Counting(), schedule.linear(), shape=(1, 5, 5))
    before, state = copy.deepcopy(one), torch.get_rng_state()
    precision._is_right.cache_clear()
    wrong_convolution(one, "bf16")
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in before.state_dict().items():
        assert torch.equal(one.state_dict()[name], tensor)
    assert one.training
    assert all(parameter.grad is None for parameter in one.parameters())
    assert all(not module._forward_hooks for module in one.modules())


def test_every_kind_of_convolution_is_tested():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding="same"), nn.Conv2d(4, 8, 3, 2, 1, groups=4), nn.Conv2d(8, 8, 3, dilation=2)
            )
            self.grow = nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1)
            self.line = nn.Conv1d(1, 1, 1)

        def forward(self, x, t):
            y = self.grow(self.layers(x), output_size=[4, 2])
            return x + y.mean() + self.line(x.flatten(2)).mean()

    assert wrong_convolution(Denoiser(Mixed(), schedule.linear(), shape=(1, 11, 9)), "bf16") is None


@pytest.mark.parametrize("size", [1, 2, 3])
def test_by_default_small_images_train_like_in_fp32(size):
    """The test runs on this processor. The network halves the images to one pixel, and once more."""
    pixels = torch.randint(0, 256, (20, 1, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images = Images(pixels, torch.zeros(20).long(), ("one",), "small")
    losses = []
    for name in ("auto", "fp32"):
        trained = model(size, widths=(8, 16, 32, 32))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            losses.append([now.loss for now in fit(trained, images, Plan(steps=20, batch_size=8, precision=name))])
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
