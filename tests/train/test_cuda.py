"""Training and sampling on a GPU: what the CPU does, to rounding, and again to the last bit after a stop."""

import os
from dataclasses import replace

import pytest
import torch

from ddim import nets, open_images, schedule
from ddim.denoiser import Denoiser
from ddim.train import Plan, checkpoints, fit
from ddim.train.state import State

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

PLAN = Plan(steps=10, batch_size=16, times="stratified", warmup=2, learning_rate=1e-3, precision="fp32")


@pytest.fixture
def exactly():
    """Kernels that add in the same order each time, and no TF32."""
    before = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True
    torch.use_deterministic_algorithms(False)
    if before is None:
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]


def fresh(device, dtype=torch.float32, dropout=0.0):
    torch.manual_seed(0)
    network = nets.build("unet", 1, "tiny", classes=10, dropout=dropout).to(device, dtype)
    return Denoiser(network, schedule.linear(), shape=(1, 8, 8), classes=10)


def trained(device, plan, dtype=torch.float32, **options):
    model = fresh(device, dtype)
    losses = [now.loss for now in fit(model, open_images("digits"), plan, **options)]
    return model, losses


def test_cpu_and_gpu_make_the_same_updates(exactly):
    (cpu, losses), (gpu, there) = (trained(device, PLAN, torch.float64) for device in ("cpu", "cuda"))
    assert there == pytest.approx(losses, rel=1e-7)  # the sines of the times are float32 on both
    for name, weight in cpu.network.state_dict().items():  # ten updates move them by up to 1e-2
        assert torch.allclose(weight, gpu.network.state_dict()[name].cpu(), rtol=0, atol=1e-4), name


@pytest.mark.parametrize(("dtype", "far"), [(torch.float64, 5e-6), (torch.float32, 1e-3)])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_cpu_and_gpu_draw_the_same_images(exactly, dtype, far, eta):
    model, _ = trained("cpu", PLAN, dtype)
    here = model.sample(8, steps=20, eta=eta, progress=False)
    there = model.to("cuda").sample(8, steps=20, eta=eta, progress=False)
    assert (here - there).abs().max() < far


def test_bf16_learns_what_fp32_learns():
    losses = {p: trained("cuda", replace(PLAN, steps=200, precision=p))[1] for p in ("fp32", "bf16", "fp16")}
    ends = {p: sum(some[-50:]) / 50 for p, some in losses.items()}
    assert ends["fp32"] < 0.5 * losses["fp32"][0]
    assert ends["bf16"] == pytest.approx(ends["fp32"], rel=0.05)
    assert ends["fp16"] == pytest.approx(ends["fp32"], rel=0.05)


@pytest.mark.parametrize("changes", [{}, {"channels_last": True}, {"precision": "bf16"}, {"accumulate": 3}])
def test_a_training_that_goes_on_is_the_uninterrupted_one(exactly, tmp_path, changes):
    plan, images = replace(PLAN, **changes), open_images("digits")

    def go(state, model, steps):
        for _ in fit(model, images, replace(plan, steps=steps), state=state):
            pass
        return state.tensors()

    models = [fresh("cuda", dropout=0.3) for _ in range(3)]
    states = [State(model.network, plan) for model in models]
    whole = go(states[0], models[0], 10)
    go(states[1], models[1], 4)
    checkpoints.save(states[1], tmp_path)
    checkpoints.resume(states[2], tmp_path)
    for name, tensor in go(states[2], models[2], 10).items():
        assert torch.equal(tensor, whole[name]), name


def test_compiled_and_channels_last_learn_the_same():
    """In other kernels, so to rounding."""
    _, plain = trained("cuda", PLAN)
    _, other = trained("cuda", replace(PLAN, compile=True, channels_last=True))
    assert other == pytest.approx(plain, rel=1e-2)
