from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ddim
from ddim import model_io, nets
from ddim.errors import UserError
from ddim.nets.blocks import Attention, ResidualBlock, attention, sinusoidal
from ddim.nets.registry import networks

KINDS = [*((name, size) for name in nets.names() for size in ("tiny", "small"))]
KINDS += [("unet", size) for size in ("micro", "folded", "mini")]


def alive(network):
    """Give zero-initialised layers weights, so that the output depends on every part."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize(("name", "size"), [("unet", "base"), ("unet2d", "cifar10")])
def test_base_is_ddpms_network(name, size):
    """The parameter count of the released CIFAR-10 model (35.7M, arXiv 2006.11239, appendix B)."""
    assert sum(p.numel() for p in nets.build(name, 3, size).parameters()) == 35_746_307


@pytest.mark.parametrize(("name", "size"), KINDS)
@pytest.mark.parametrize("hw", [(8, 8), (28, 28), (7, 13), (1, 1)])
def test_any_image_size(name, size, hw):
    network = alive(nets.build(name, 3, size))
    x = torch.randn(2, 3, *hw)
    assert network(x, torch.tensor([1.0, 1000.0])).shape == x.shape


@pytest.mark.parametrize("name", nets.names())
def test_starts_by_predicting_nothing(name):
    network = nets.build(name, 1, "tiny")
    assert not network(torch.randn(2, 1, 8, 8), torch.ones(2)).any()


@pytest.mark.parametrize(("name", "size"), KINDS)
def test_every_parameter_is_used(name, size):
    network = alive(nets.build(name, 1, size, classes=3))
    output = network(torch.randn(2, 1, 8, 8), torch.tensor([3.0, 800.0]), torch.tensor([0, 2]))
    output.square().mean().backward()
    unused = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("name", nets.names())
def test_images_of_a_batch_do_not_see_each_other(name):
    network = alive(nets.build(name, 1, "tiny", classes=4)).double()
    x, t = torch.randn(3, 1, 9, 9, dtype=torch.float64), torch.tensor([1.0, 500.0, 900.0])
    label = torch.tensor([3, -1, 0])
    whole = network(x, t, label)
    for i in range(3):
        alone = network(x[i : i + 1], t[i : i + 1], label[i : i + 1])
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", nets.names())
def test_time_and_label_matter_and_no_label_is_the_null_class(name):
    network = alive(nets.build(name, 1, "tiny", classes=4))
    x, t = torch.randn(1, 1, 8, 8).expand(6, -1, -1, -1), torch.tensor([1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    outputs = network(x, t, torch.tensor([-1, -1, 0, 1, 2, 3]))
    distances = torch.cdist(outputs.flatten(1), outputs.flatten(1))
    assert (distances + torch.eye(6) > 1e-4).all()
    torch.testing.assert_close(network(x[:1], t[:1]), outputs[:1])


def test_config_rebuilds_the_network():
    for name in nets.names():
        network: Any = nets.build(name, 3, "small", classes=10)
        twin = nets.from_config(network.config)
        twin.load_state_dict(network.state_dict())
        assert twin.config == network.config


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_residual_block_against_its_formula(scale_shift):
    block = alive(ResidualBlock(8, 16, 5, 0.0, groups=2, scale_shift=scale_shift)).double()
    x, embedding = torch.randn(2, 8, 3, 4, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    y = block.embed(embedding).reshape(2, -1, 1, 1)
    h = block.conv1(F.silu(F.group_norm(x, 2, block.norm1.weight, block.norm1.bias)))
    if scale_shift:
        h = (1 + y[:, :16]) * F.group_norm(h, 2, block.norm2.weight, block.norm2.bias) + y[:, 16:]
    else:
        h = F.group_norm(h + y, 2, block.norm2.weight, block.norm2.bias)
    expected = block.shortcut(x) + block.conv2(F.silu(h))
    torch.testing.assert_close(block(x, embedding), expected, rtol=0, atol=1e-12)


def test_attention_against_its_formula():
    torch.manual_seed(0)
    layer = alive(Attention(8)).double()
    x = torch.randn(1, 8, 2, 3, dtype=torch.float64)
    q, k, v = layer.qkv(layer.norm(x)).reshape(3, 8, 6)
    weights = torch.softmax(q.T @ k / 8**0.5, dim=1)
    expected = x + layer.out((v @ weights.T).reshape(1, 8, 2, 3))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_attention_in_bf16_has_the_output_and_the_gradients_of_double_precision():
    """bf16 rounds to 0.4% of the value; a sum of eight such steps stays within 2%."""
    torch.manual_seed(0)
    given = [torch.randn(2, 1, 49, 32, dtype=torch.bfloat16, requires_grad=True) for _ in range(4)]
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    outcomes = []
    for q, k, v, cotangent in (given, exact):
        output = attention(q, k, v)
        outcomes.append([output, *torch.autograd.grad(output, (q, k, v), cotangent)])
    for found, expected in zip(*outcomes, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found - expected).norm() < 0.02 * expected.norm()


def test_sinusoidal_embedding():
    e = sinusoidal(torch.tensor([0.0, 3.0]), 8)
    assert e[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    torch.testing.assert_close(e[1, 0], torch.tensor(3.0).sin())
    torch.testing.assert_close(e[1, 7], torch.tensor(3e-4).cos())


@pytest.mark.parametrize("width", [2, 18, 130])
def test_any_width(width):
    network = alive(nets.build("unet", 1, "tiny", width=width))
    assert network(torch.randn(1, 1, 8, 8), torch.ones(1)).isfinite().all()


@pytest.mark.parametrize("fold", [2, 3])
def test_a_folded_network_is_the_network_of_the_folded_pixels(fold):
    folded = alive(nets.build("unet", 2, "tiny", fold=fold)).double()
    network = nets.build("unet", 2 * fold**2, "tiny").double().eval()
    network.load_state_dict(folded.state_dict())
    x, t = torch.randn(2, 2, 6, 12, dtype=torch.float64), torch.tensor([3.0, 900.0])
    expected = F.pixel_shuffle(network(F.pixel_unshuffle(x, fold), t), fold)
    torch.testing.assert_close(folded(x, t), expected, rtol=0, atol=0)


def test_sides_that_the_fold_does_not_divide_are_padded_with_grey():
    network = alive(nets.build("unet", 1, "tiny", fold=4)).double()
    x, t = torch.randn(2, 1, 7, 13, dtype=torch.float64), torch.tensor([3.0, 900.0])
    padded = torch.zeros(2, 1, 8, 16, dtype=torch.float64)
    padded[..., :7, :13] = x
    torch.testing.assert_close(network(x, t), network(padded, t)[..., :7, :13], rtol=0, atol=0)


def test_one_group_computes_channels_last_and_to_the_same_values():
    network: Any = alive(nets.build("unet", 1, "folded", classes=3)).double()
    orders = []
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm):
            assert layer.num_groups == 1
            layer.register_forward_hook(
                lambda _, inputs, output: orders.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    x, t, label = torch.randn(2, 1, 28, 28, dtype=torch.float64), torch.tensor([3.0, 900.0]), torch.tensor([-1, 2])
    output = network(x, t, label)
    assert orders
    assert all(orders)
    network.channels_last = False
    torch.testing.assert_close(output, network(x, t, label), rtol=0, atol=1e-12)


def test_a_config_from_before_there_were_folds_means_none():
    network: Any = nets.build("unet", 1, "micro", classes=10)
    before = {name: value for name, value in network.config.items() if name not in ("fold", "groups")}
    twin = nets.from_config(before)
    twin.load_state_dict(network.state_dict())
    assert twin.config == network.config
    assert (network.config["fold"], network.config["groups"]) == (1, 32)
    assert {layer.num_groups for layer in network.modules() if isinstance(layer, nn.GroupNorm)} == {6, 12, 24, 18, 32}


@pytest.mark.parametrize("options", [{"fold": 0}, {"fold": 1.5}, {"fold": 10**9}, {"groups": 0}, {"groups": "all"}])
def test_options_that_there_cannot_be(options):
    (name,) = options
    with pytest.raises(UserError, match=f"The {name} of a U-Net must be a whole number from 1 to"):
        nets.build("unet", 1, "tiny", **options)


def test_a_small_training_reduces_the_loss():
    images = ddim.open_images("digits")
    torch.manual_seed(0)
    network = nets.build("unet", 1, "folded", width=16)
    model = ddim.Denoiser(network, ddim.schedule.linear(), "v", images.shape)
    plan = ddim.train.Plan(steps=60, batch_size=32, learning_rate=3e-3, warmup=10, precision="fp32")
    losses = [progress.loss for progress in ddim.train.fit(model, images, plan)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_unknown_network_and_size():
    with pytest.raises(UserError, match=f"choose one of {', '.join(nets.names())}"):
        nets.build("resnet", 1)
    with pytest.raises(UserError, match="choose one of tiny, micro, folded, mini, small, base"):
        nets.build("unet", 1, "huge")


OWN = """
import torch
import ddim

@ddim.nets.register("own")
class Own(torch.nn.Module):
    sizes = {"small": {"width": 4}, "wide": {"width": 8, "kernels": (5, 3)}}

    def __init__(self, channels, *, classes=None, width, kernels=(3, 3), **options):
        super().__init__()
        first, second = kernels
        self.first = torch.nn.Conv2d(channels, width, first, padding=first // 2)
        self.second = torch.nn.Conv2d(width, channels, second, padding=second // 2)
        self.scale = options.get("scale", 1.0)

    def forward(self, x, t, label=None):
        return self.scale * self.second(self.first(x).relu())
"""


@pytest.fixture
def own(monkeypatch):
    """A network class in a user's file, whose import is what this fixture returns."""
    before = dict(networks)

    def load():
        exec(OWN, {})

    yield load
    networks.clear()
    networks.update(before)


def test_a_network_of_a_users_file_is_built_saved_and_loaded_by_its_name(own, tmp_path):
    own()
    assert nets.names()[-1] == "own"
    network = nets.build("own", 1, "wide", scale=0.5)
    config = {"name": "own", "channels": 1, "classes": None, "width": 8, "kernels": [5, 3], "scale": 0.5}
    assert network.config == config
    model = ddim.Denoiser(network, ddim.schedule.linear(), shape=(1, 8, 8))
    model_io.save(model, tmp_path)
    loaded = ddim.load(tmp_path)
    assert loaded.network.config == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(UserError, match="There is no size of own called 'base'; choose one of small, wide"):
        nets.build("own", 1, "base")
    del networks["own"]  # as in another process, where the file is not imported
    known = ", ".join(nets.names())
    with pytest.raises(UserError, match=rf"'own' is not registered \(only {known}\).*import.*--plugin FILE"):
        ddim.load(tmp_path)
    own()
    assert ddim.load(tmp_path).network.config == config


def test_a_network_without_sizes_has_one(own):
    @nets.register("bare")
    class Bare(nn.Conv2d):
        def __init__(self, channels, *, classes=None):
            super().__init__(channels, channels, 1)

    assert nets.build("bare", 2).config == {"name": "bare", "channels": 2, "classes": None}
    with pytest.raises(UserError, match="choose one of small"):
        nets.build("bare", 2, "tiny")


def test_a_subclass_that_is_not_registered_has_no_config():
    class Wider(nets.PlainUNet):
        pass

    assert not hasattr(Wider(1, widths=(8, 16)), "config")
    network: Any = nets.PlainUNet(1, widths=(8, 16))
    assert network.config["widths"] == [8, 16]


def test_only_classes_are_registered():
    def function(channels, classes=None):
        return nn.Conv2d(channels, channels, 1)

    decorate: Any = nets.register("function")
    with pytest.raises(UserError, match="must be a class"):
        decorate(function)
