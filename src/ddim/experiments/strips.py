"""From noise to image, frame by frame: x_t and the x0 that the network believes in at that moment."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor
from tqdm import tqdm

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.experiments.cost import affordable, batch_seconds, cut, reachable
from ddim.experiments.piece import Setup
from ddim.files import write_bytes
from ddim.level import Denoise, Level, Prediction
from ddim.noise import ImageNoise
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.sampling import DEFAULT_SPACING

COUNT = 6  # images
FILES = ("strips",)  # in samples/
FRAMES = 41  # from x_T to x_0, both included
STEPS = (200, 100, 50, 20, 10)
ETAS = (0.0, 1.0)
SEED = 0


class Frame(NamedTuple):
    """Where a trajectory stands: the images at time t, and what the network takes them for."""

    t: float
    x: Tensor
    x0: Tensor


def calls(model: Denoiser) -> float:
    """Network calls on a single image that the strips take."""
    return float(COUNT * len(ETAS) * min(STEPS[0], model.schedule.T))


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Draw `samples/strips.safetensors`: for eta = 0 and eta = 1 from the same noise, at about 41 times.

    The file holds `times` (F,) float64 and, as (F, N, C, H, W) uint8, `eta0.x`, `eta0.x0`, `eta1.x`, `eta1.x0`.

    Args:
        setup: whose model is sampled.
        seconds: about how long it may take; it cuts the steps.

    Returns:
        The steps, etas, number of images and seed; under "cut" what the limit took away.
    """
    model = setup.model
    choices = reachable(STEPS, model.schedule.T)
    call = batch_seconds(model, COUNT, seconds)
    steps = affordable(choices, lambda S: len(ETAS) * S * call, seconds)
    kept = set(torch.linspace(0, steps, min(FRAMES, steps + 1)).round().int().tolist())
    tensors: dict[str, Tensor] = {}
    with tqdm(total=len(ETAS) * steps, desc="denoising strips", unit="step", disable=None) as bar:
        for eta in ETAS:
            shots = []
            for i, frame in enumerate(frames(model, DDIM(eta), steps)):
                bar.update(i > 0)
                if i in kept:
                    shots.append(Frame(frame.t, to_uint8(frame.x.cpu()), to_uint8(frame.x0.cpu())))
            times, x, x0 = zip(*shots, strict=True)
            tensors |= {f"eta{eta:.0f}.x": torch.stack(x), f"eta{eta:.0f}.x0": torch.stack(x0)}
    tensors["times"] = torch.tensor(times, dtype=torch.float64)
    write_bytes(setup.folder / "samples" / "strips.safetensors", to_bytes(tensors))
    return {
        "steps": steps,
        "etas": ETAS,
        "count": COUNT,
        "spacing": DEFAULT_SPACING,
        "seed": SEED,
        "cut": cut(seconds, [f"from {choices[0]} to {steps} steps"] if steps != choices[0] else []),
    }


@torch.no_grad()
def frames(model: Denoiser, sampler: Sampler, steps: int, count: int = COUNT, seed: int = SEED) -> Iterator[Frame]:
    """All S + 1 frames of the images that `model.sample` draws with the same arguments.

    Args:
        model: to sample.
        sampler: how; it calls the network once in a step.
        steps: S.
        count: images.
        seed: of the noise.
    """
    model.eval()
    _, walk = model.sampling.resolve(model.schedule, steps, sampler)
    noise = ImageNoise(seed, range(count))
    x = noise(torch.empty(count, *model.shape, device=model.device, dtype=model.dtype))
    labels = None if model.classes is None else torch.arange(count) % model.classes
    denoise = Listener(model.denoise(labels))
    after = trajectory(sampler, denoise, x, walk, noise, model.schedule)
    for at, following in zip(walk[:-1], after, strict=True):
        yield Frame(float(at.t), x, denoise.heard.x0)
        x = following
    yield Frame(float(walk[-1].t), x, x)


class Listener:
    """A `Denoise` that remembers what the network last said, so that it need not be asked twice."""

    heard: Prediction

    def __init__(self, denoise: Denoise) -> None:
        self.denoise = denoise

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        self.heard = self.denoise(x, at)
        return self.heard
