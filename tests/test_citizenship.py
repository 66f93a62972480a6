"""A model is a torch module like any other: in any loop, context, process and thread."""

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import ddim
from ddim import model_io, schedule
from ddim.presets import digest


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, t):
        return self.layer(x) * (1 + t / 1000)[:, None, None, None]


@pytest.fixture
def own():
    torch.manual_seed(0)
    return ddim.Denoiser(Own(), schedule.cosine(), "v", (1, 4, 4))


def sample(model, seed=0):
    return model.sample(2, steps=3, sampler="ddpm", seed=seed, progress=False)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x0, noise = (torch.rand(3, 1, 4, 4, generator=generator) for _ in range(2))
    return x0, torch.tensor([1.0, 10.0, 300.0]), noise


def test_a_dtype_is_the_networks_and_images_stay_float32(own):
    images = sample(own)
    for dtype in (torch.float64, torch.bfloat16):
        moved = copy.deepcopy(own).to(dtype)
        assert moved.dtype == dtype
        assert sample(moved).dtype == torch.float32
        torch.testing.assert_close(sample(moved), images, rtol=0, atol=0.05)


@pytest.mark.parametrize("name", [*schedule.names(), "own"])
def test_copies_are_equal_and_independent(own, name):
    if name != "own":
        own = ddim.Denoiser(own.network, schedule.get(name), "v", own.shape)
    images, file = sample(own), io.BytesIO()
    torch.save(own, file)
    file.seek(0)
    copies = [copy.deepcopy(own), pickle.loads(pickle.dumps(own)), torch.load(file, weights_only=False)]
    for one in copies:
        assert torch.equal(sample(one), images)
        nn.init.zeros_(one.network.layer.weight)
    assert torch.equal(sample(own), images)


def test_a_state_dict_holds_the_weights_of_the_network_alone(own):
    state = own.state_dict()
    assert list(state) == ["network.layer.weight", "network.layer.bias"]
    other = ddim.Denoiser(Own(), own.schedule, "v", own.shape)
    assert not torch.equal(sample(other), sample(own))
    other.load_state_dict(state)
    assert torch.equal(sample(other), sample(own))


def test_inference_mode_changes_no_image(own):
    images = sample(own)
    with torch.inference_mode():
        assert torch.equal(sample(own), images)
        *_, last = own.trajectory(2, steps=3, sampler="ddpm")
        assert own.decode(own.encode(images, steps=2), steps=2).is_inference()
    assert torch.equal(last.x.clamp(-1, 1), images)


def test_autocast_reaches_the_network_alone(own, batch):
    images, seen = sample(own), []
    own.network.layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found, loss = sample(own), own.loss(*batch)
    assert set(seen) == {torch.bfloat16}
    torch.testing.assert_close(found, images, rtol=0, atol=0.05)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    torch.testing.assert_close(loss, own.loss(*batch), rtol=0.05, atol=0)


def test_threads_draw_at_once_what_they_draw_alone(own):
    alone = [sample(own, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda seed: sample(own, seed), range(8)))
    for one, other in zip(at_once, alone, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow  # the compiler's own import
@pytest.mark.parametrize("compiled", ["network", "loss", "model"])
def test_torch_compile_takes_the_network_the_loss_and_the_model(own, batch, compiled, tmp_path):
    """The compiler "eager" traces the code and runs it as it is."""
    images, loss, own_digest = sample(own), own.loss(*batch), digest(own.network)
    if compiled == "loss":
        traced = torch.compile(own.loss, backend="eager")(*batch)
        assert torch.equal(traced, loss)
    elif compiled == "model":
        assert torch.equal(sample(torch.compile(own, backend="eager")), images)
    else:
        own.network = torch.compile(own.network, backend="eager")
        assert torch.equal(sample(own), images)
        assert digest(own.network) == own_digest  # so that its presets are still its own
        model_io.save(own, tmp_path)
        assert torch.equal(sample(model_io.load(tmp_path, Own())), images)


def test_functional_calls_give_a_gradient_for_each_image(own, batch):
    def loss(weights, x0, t, noise):
        at = own.schedule(t)
        x = at.alpha.float() * x0 + at.sigma.float() * noise
        return torch.func.functional_call(own, weights, (x[None], own.schedule(500))).eps.square().mean()

    weights = dict(own.named_parameters())
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, None, 0))(weights, batch[0], 10.0, batch[2])
    alone = torch.func.grad(loss)(weights, batch[0][1], 10.0, batch[2][1])
    for name in weights:
        torch.testing.assert_close(each[name][1], alone[name])


@pytest.mark.slow  # Lightning's own import
def test_a_lightning_loop_trains_it(own, batch):
    lightning = pytest.importorskip("lightning")

    class Loop(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self):
            super().__init__()
            self.model = own

        def training_step(self, batch):
            return self.model.loss(*batch).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    before = own.loss(*batch).mean().item()
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=3, accelerator="cpu", enable_model_summary=False, **silent)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch), batch_size=3)
    trainer.fit(Loop(), data)
    assert trainer.global_step == 3
    assert own.loss(*batch).mean().item() < before


def test_an_accelerate_loop_trains_it(own, batch):
    """What is prepared is the network: `loss` calls it, and so its autocast and its averages over processes."""
    accelerate = pytest.importorskip("accelerate")
    before = own.loss(*batch).mean().item()
    try:
        accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
        optimizer = torch.optim.SGD(own.parameters(), 0.1)
        own.network, optimizer = accelerator.prepare(own.network, optimizer)
        for _ in range(3):
            loss = own.loss(*batch).mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        own.network = accelerator.unwrap_model(own.network, keep_fp32_wrapper=False)
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    assert own.loss(*batch).mean().item() < before
    assert copy.deepcopy(own).sample(1, steps=2, progress=False).isfinite().all()
