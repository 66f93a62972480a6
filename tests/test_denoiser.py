import copy
import math
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from ddim import nets, schedule
from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError
from ddim.forward import q_sample
from ddim.noise import ImageNoise
from ddim.samplers import DDIM, get, names, trajectory
from ddim.sampling import Sampling


class OwnNetwork(nn.Module):
    """A user's module: it knows nothing of ddim."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, t):
        return self.layer(x) * (t / 1000)[:, None, None, None]


class OwnLabelled(nn.Module):
    """The same with labels."""

    def forward(self, x, t, label):
        return x * label[:, None, None, None] / 10


@pytest.mark.slow
def test_samples_do_not_depend_on_the_batch(model):
    whole = model.sample(10, steps=6, eta=1.0, seed=3, batch_size=10, progress=False)
    for batch_size in (1, 4, 7):
        parts = model.sample(10, steps=6, eta=1.0, seed=3, batch_size=batch_size, progress=False)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    later = model.sample(3, steps=6, eta=1.0, seed=3, first=7, progress=False)
    torch.testing.assert_close(later, whole[7:], rtol=0, atol=1e-5)
    assert not torch.allclose(model.sample(10, steps=6, seed=4, progress=False), whole, atol=0.1)


def test_samples_are_images_on_the_cpu(model):
    images = model.double().sample(5, steps=3, progress=False)
    assert images.shape == (5, 1, 8, 8)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert torch.equal(model.sample(5, steps=3, progress=False, pixels=True), to_uint8(images))


MEMORY = """
import resource, sys, torch, ddim

class Grey(torch.nn.Module):
    def forward(self, x, t):
        return torch.zeros_like(x)

model = ddim.Denoiser(Grey(), ddim.schedule.linear(), "x0", (3, 64, 64))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
model.sample(64, steps=1, progress=False)
before = peak()
images = model.sample(1500, steps=1, pixels=sys.argv[1] == "uint8", progress=False)
print((peak() - before) / images.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count the memory in other units")
@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_sampling_takes_about_the_memory_of_its_images(kind):
    done = subprocess.run([sys.executable, "-c", MEMORY, kind], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3


def test_unclipped_samples_are_what_the_sampler_ends_with(model):
    nn.init.constant_(model.network.head[-1].bias, 3.0)
    free = model.sample(2, steps=3, clip=False, progress=False)
    method, levels = model.sampling.resolve(model.schedule, 3)
    noise = ImageNoise(0, range(2))
    with torch.no_grad():
        start = noise(torch.empty(2, 1, 8, 8))
        *_, end = trajectory(method, model.denoise(clip=False), start, levels, noise, model.schedule)
    assert torch.equal(free, end)
    assert free.abs().max() > 1.5


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3, 7, 10, 29, 30, 50, 999, 1000])
def test_any_number_of_steps_makes_that_many_calls(model, steps):
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    images = model.sample(1, steps=steps, progress=False)
    assert len(calls) == steps
    assert images.isfinite().all()


@pytest.mark.parametrize("S", [10, 50])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_same_images_as_a_diffusers_loop(model, S, eta):
    """Our model, our noise, their scheduler: clipping, ladder and step together, in float64."""
    model = model.double()
    peer = DDIMScheduler(timestep_spacing="leading", beta_start=1e-4, beta_end=0.02, clip_sample=True)
    peer.set_timesteps(S)
    noise = ImageNoise(5, range(4))
    x = noise(torch.empty(4, 1, 8, 8, dtype=torch.float64))
    with torch.no_grad():
        for t in peer.timesteps:
            eps = model.network(x, torch.full((4,), t.item() + 1.0))
            drawn = noise(x) if eta else None
            x = peer.step(eps, t, x, eta=eta, use_clipped_model_output=True, variance_noise=drawn).prev_sample
    ours = model.sample(4, steps=S, eta=eta, spacing="leading", seed=5, progress=False)
    torch.testing.assert_close(ours.double(), x, rtol=0, atol=1e-5)


def test_loss_is_the_papers(model):
    x0, noise = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 500, 1000])
    eps = model.network(q_sample(x0, model.schedule(t).like(x0), noise), t.float())
    expected = ((noise - eps) ** 2).flatten(1).mean(dim=1)
    torch.testing.assert_close(model.loss(x0, t, noise), expected)


def test_the_network_is_told_the_time_and_the_label_exactly(model):
    """In the loss and in forward, in half precision too, where a time above 256 has no bfloat16 of its own."""
    told = []

    class Listener(nn.Module):
        def forward(self, x, t, label):
            told.append((t.tolist(), label.tolist()))
            return x

    t, labels = torch.tensor([257.0, 999.0]), torch.tensor([1, -1])
    x = torch.randn(2, 1, 4, 4, dtype=torch.bfloat16)
    for indexed in (False, True):
        listener = Denoiser(Listener(), schedule.linear(), "v", (1, 4, 4), classes=2, indexed=indexed)
        listener.loss(x, t, x, labels)
        listener(x, listener.schedule(t), labels)
        assert told[-1] == told[-2] == ((t - int(indexed)).tolist(), [1, -1])


def test_sampling_is_in_eval_mode_and_leaves_the_mode_as_it_was(model):
    seen = []
    model.network.register_forward_hook(lambda network, *_: seen.append(network.training))
    for training in (True, False):
        model.train(training)
        model.sample(1, steps=2, progress=False)
        model.decode(model.encode(-torch.ones(1, 1, 8, 8), steps=2), steps=2)
        assert model.training == training
    assert not any(seen)


def test_each_module_is_in_its_own_mode_after_sampling(model):
    """A frozen part of a network in train mode stays frozen, and averaged weights stay in eval mode."""
    model.train()
    model.network.middle.eval()
    before = [module.training for module in model.modules()]
    model.sample(1, steps=2, progress=False)
    assert [module.training for module in model.modules()] == before
    averaged = model.with_network(copy.deepcopy(model.network).eval())
    averaged.sample(1, steps=2, progress=False)
    assert not any(module.training for module in averaged.network.modules())


def test_threads_that_share_a_network_leave_its_mode_and_never_drop_out():
    """The last thread to finish restores train mode, so the network is in eval mode at every call of each thread."""
    turn = threading.Barrier(2)
    seen: list[bool] = []

    class Slow(nn.Module):
        def forward(self, x, t):
            seen.append(self.training)
            return x

    network = Slow()
    models = [Denoiser(network, schedule.linear(), shape=(1, 2, 2)).train() for _ in range(2)]

    def sample(number):
        def hook(*_):  # thread 1 is in its second step, after thread 0 has left
            if number == 0:
                turn.wait(5)
            elif len(calls) == 0:
                turn.wait(5)
                done.wait(5)
            calls.append(1)

        calls: list[int] = []
        models[number].register_forward_pre_hook(hook)
        models[number].sample(1, steps=1 + number, sampler="ddim", progress=False)
        if number == 0:
            done.set()

    done = threading.Event()
    threads = [threading.Thread(target=sample, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [False] * 3
    assert network.training


def test_a_model_in_half_precision_steps_in_float32():
    """With an output that is exact in bfloat16, its images are those of the same model in float32, to rounding."""

    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.tensor(0.25))

        def forward(self, x, t):
            assert x.dtype == self.level.dtype
            return self.level.expand_as(x)

    for dtype in (torch.bfloat16, torch.float16):
        for sampler in ("unipc", "ddpm"):
            for predicts in ("x0", "v"):
                model = Denoiser(Grey(), schedule.linear(), predicts, (1, 4, 4))
                options: dict[str, Any] = {"steps": 50, "sampler": sampler, "clip": False, "progress": False}
                full = model.sample(3, **options)
                half = model.to(dtype).sample(3, **options)
                torch.testing.assert_close(half, full, rtol=0, atol=1e-6)
                assert model.encode(-torch.ones(1, 1, 4, 4), steps=2).dtype == torch.float32
                assert model.double().encode(-torch.ones(1, 1, 4, 4), steps=2).dtype == torch.float64


def test_a_bf16_model_samples_nearly_the_images_of_its_float32_copy(model):
    full = Denoiser(model.network, model.schedule, "v", model.shape)
    half = copy.deepcopy(full).to(torch.bfloat16)
    one, other = (one.sample(4, steps=100, sampler="ddim", progress=False) for one in (full, half))
    assert (one - other).square().mean().sqrt() < 0.004  # 0.0017; with the steps in bf16, too, it would be 0.016


def test_weights_that_are_not_numbers_are_said(model):
    nn.init.constant_(next(model.network.parameters()), math.nan)
    with pytest.raises(UserError, match="is NaN"):
        model.sample(1, steps=2, progress=False)


def test_guidance_is_clipped_after_it_is_combined():
    """Guided x0 leaves [-1, 1] though neither prediction does: the clip is the outermost wrapper."""

    class TwoGreys(nn.Module):
        def forward(self, x, t, label):
            return torch.where(label >= 0, 0.9, -0.9)[:, None, None, None].expand_as(x)

    model = Denoiser(TwoGreys(), schedule.linear(), "x0", (1, 2, 2), classes=1)
    at = model.schedule(500)
    x = torch.zeros(1, 1, 2, 2)
    label = torch.zeros(1, dtype=torch.long)
    assert model.denoise(label, guidance=3.0, clip=False)(x, at).x0.max() > 4
    assert model.denoise(label, guidance=3.0, clip=True)(x, at).x0.max() == 1


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_a_network_that_is_right_has_no_loss(predicts):
    """The target of the loss and the reading of the output agree."""
    s = schedule.cosine()
    x0, noise = torch.randn(2, 4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 10, 500, 900])
    at = s(t)
    right = {"eps": noise, "x0": x0, "v": at.alpha * noise - at.sigma * x0}[predicts]

    class Oracle(nn.Module):
        def forward(self, x, t):
            return right

    model = Denoiser(Oracle(), s, predicts, (1, 4, 4))
    assert model.loss(x0, t, noise).max() < 1e-20
    said = model(q_sample(x0, at, noise), at)
    torch.testing.assert_close(said.x0, x0, rtol=0, atol=1e-8)


def test_any_module_can_be_sampled_and_trained():
    model = Denoiser(OwnNetwork(), schedule.cosine(), "x0", (3, 5, 6))
    assert model.sample(2, steps=4, progress=False).shape == (2, 3, 5, 6)
    model.loss(torch.zeros(2, 3, 5, 6), torch.tensor([1.0, 7.5]), torch.zeros(2, 3, 5, 6)).sum().backward()
    assert model.network.layer.weight.grad is not None


def test_a_network_trained_on_indices_sees_t_minus_1():
    seen = []

    class Listener(nn.Module):
        def forward(self, x, t):
            seen.append(t[0].item())
            return x

    Denoiser(Listener(), schedule.linear(), shape=(1, 2, 2), indexed=True).sample(1, steps=4, eta=0, progress=False)
    assert seen == [999, 749, 499, 249]


@pytest.mark.slow
def test_labels_and_guidance():
    torch.manual_seed(0)
    network = nets.build("unet", 1, "tiny", classes=3, width=16)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    model = Denoiser(network, schedule.linear(), shape=(1, 8, 8), classes=3)

    def sample(**options):
        return model.sample(3, steps=4, progress=False, **options)

    torch.testing.assert_close(sample(), sample(labels=[0, 1, 2]))  # all classes in turn
    torch.testing.assert_close(sample(first=1)[:2], sample()[1:], rtol=0, atol=1e-5)
    assert not torch.allclose(sample(labels=[2, 1, 0]), sample(), atol=1e-3)
    torch.testing.assert_close(sample(guidance=0.0), sample(labels=[-1, -1, -1]), rtol=0, atol=1e-4)
    assert not torch.allclose(sample(guidance=4.0), sample(), atol=1e-3)
    for labels in ([0, 1], [0, 1, 3], [0, 1, -2]):
        with pytest.raises(UserError, match="classes from 0 to 2"):
            sample(labels=labels)


def test_encode_then_decode_returns_the_image():
    """On the exact eps of images N(0, 0.3^2): the error of the round trip falls with S (DDIM, Table 2)."""
    s = schedule.linear()

    class Exact(nn.Module):
        def forward(self, x, t):
            at = s(t).like(x)
            return at.sigma / (at.alpha**2 * 0.3**2 + at.sigma**2) * x

    model = Denoiser(Exact(), s, shape=(1, 8, 8))
    x0 = 0.5 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    assert x0.abs().max() == 1
    assert model.decode(9 * torch.ones(1, 1, 8, 8), steps=10).max() > 1.5  # no clip
    error = {S: (model.decode(model.encode(x0, steps=S), steps=S) - x0).abs().mean() for S in (10, 100)}
    assert error[100] < 0.03
    assert error[100] < 0.3 * error[10]


def test_one_image_has_one_noise_without_labels_and_another_with():
    """Without labels each image is told "any class", whatever its place in the batch."""

    class ByLabel(nn.Module):
        def forward(self, x, t, label):
            return x * (1 + label / 4)[:, None, None, None]

    model = Denoiser(ByLabel(), schedule.linear(), "v", (1, 4, 4), classes=3)
    x0 = torch.linspace(-1, 1, 16).view(1, 1, 4, 4).expand(4, -1, -1, -1)
    for run in (model.encode, model.decode):
        free = run(x0, steps=4)
        assert torch.equal(free, free[:1].expand_as(free))
        assert torch.equal(free, run(x0, steps=4, labels=[-1] * 4))
        assert not torch.allclose(free, run(x0, steps=4, labels=[0, 1, 2, 0]), atol=1e-2)


def test_guidance_and_any_class_need_the_null_class():
    model = Denoiser(OwnLabelled(), schedule.linear(), "v", (1, 4, 4), classes=3)
    x0 = -torch.ones(2, 1, 4, 4)
    needing: list[Callable[[], object]] = [
        lambda: model.sample(3, steps=1, guidance=2, batch_size=1, progress=False),
        lambda: model.sample(2, steps=1, labels=[0, -1], progress=False),
        lambda: model.encode(x0, steps=2),
        lambda: model.decode(x0, steps=2),
        lambda: model.denoise(),
        lambda: model.denoise([0, 1], guidance=0.0),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for use in needing:
            use()
        model.null_class = False
        model.sample(3, steps=1, progress=False)
        model.encode(x0, steps=2, labels=[0, 2])
    for use in needing:
        with pytest.warns(Notice, match=r"never saw the null class .*label_dropout = 0") as caught:
            use()
        assert len(caught) == 1
    assert not model.with_network(model.network).null_class


def test_defaults_are_the_models_own(model):
    model.sampling = Sampling(steps=3, sampler="ddim", eta=1.0, spacing="quadratic")
    same = model.sample(2, steps=3, eta=1.0, spacing="quadratic", progress=False)
    assert torch.equal(model.sample(2, progress=False), same)
    assert torch.equal(model.sample(2, sampler="ddim", progress=False), same)
    model.decode(model.encode(same))  # DDIM with eta = 0, whatever the default
    made = model.sample(2, steps=3, sampler=DDIM(1.0), spacing="quadratic", progress=False)
    assert torch.equal(made, same)
    listed = model.sample(2, spacing=[1000, 20.5, 0], progress=False)
    assert listed.isfinite().all()


def test_eps_on_a_schedule_without_signal_at_T_is_refused():
    betas = torch.linspace(1e-4, 0.02, 1000)
    betas[-1] = 1
    with pytest.raises(UserError, match="alpha_T = 0"):
        Denoiser(OwnNetwork(), schedule.from_betas(betas), "eps", (3, 4, 4))
    images = Denoiser(OwnNetwork(), schedule.from_betas(betas), "v", (3, 4, 4)).sample(1, steps=5, progress=False)
    assert images.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {"count": 0},
        {"count": True},
        {"count": 2.5},
        {"count": 10**13},
        {"seed": 1.5},
        {"seed": 2**64},
        {"guidance": "1"},
        {"guidance": [1.0]},
        {"spacing": []},
        {"steps": 0},
        {"steps": 1001},
        {"eta": -0.1},
        {"eta": math.nan},
        {"labels": [1]},
        {"guidance": 2.0},
        {"guidance": math.nan},
        {"first": -1},
        {"first": 2**64},
        {"sampler": "euler"},
        {"spacing": "sqrt"},
        {"sampler": DDIM(), "eta": 1.0},
        {"seed": -1},
        {"batch_size": 0},
    ],
)
def test_impossible_requests(model, options):
    with pytest.raises(UserError):
        model.sample(**{"count": 1, "progress": False, **options})


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (torch.zeros(2, 1, 8, 8), "got an object of type Tensor. The images at the first level are x_T"),
        (lambda x: torch.zeros(3), r"like its argument, \(2, 1, 8, 8\); got \(3,\)"),
        (lambda x: 0.0, "got an object of type float"),
    ],
)
def test_noise_is_a_function_that_draws_like_its_argument(model, noise, said):
    with pytest.raises(UserError, match=said):
        model.sample(2, steps=2, noise=noise, progress=False)


def test_unknown_parameterisation():
    with pytest.raises(UserError, match="choose one of eps, x0, v"):
        Denoiser(OwnNetwork(), schedule.linear(), "score")


@pytest.mark.parametrize("name", names())
def test_every_solver_samples(model, name):
    """By name: as many calls as it promises, images that do not depend on the batch, and encode and decode."""
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    images = model.sample(3, steps=6, sampler=name, batch_size=3, progress=False)
    sampler, walk = model.sampling.resolve(model.schedule, 6, name)
    assert len(calls) == sampler.calls(walk)
    parts = model.sample(3, steps=6, sampler=name, batch_size=2, progress=False)
    torch.testing.assert_close(parts, images, rtol=0, atol=1e-4)
    if get(name).stochastic:
        with pytest.raises(UserError, match="deterministic"):
            model.encode(images, steps=6, sampler=name)
    else:
        back = model.decode(model.encode(images, steps=6, sampler=name), steps=6, sampler=name)
        assert back.isfinite().all()


def test_another_network_leaves_the_class_and_its_loss(model):
    class Absolute(Denoiser):
        def loss(self, x0, t, noise, label=None):
            return super().loss(x0, t, noise, label).sqrt()

    own = Absolute(model.network, model.schedule, shape=model.shape)
    assert type(own.with_network(model.network)) is Absolute
