"""The trainings that `training_rate.py` times, each in its own process that waits for its turn.

    python benchmarks/rate_workers.py NAME --threads 2 --scratch FOLDER

A worker sets up, makes one update and prints a line of JSON. Then it reads numbers of updates, one per line, makes
them, and prints the seconds that they took.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import ddim

BATCH = 64
WIDTHS = (64, 128, 256, 512, 1296)  # of the paper's plain U-Net: 61.8 million parameters
FOREVER = 10**9  # updates

Advance = Callable[[int], object]
"""(updates) -> None: makes that many updates."""


class Pictures(Dataset[Tensor]):
    """PIL images, each converted to a tensor in [-1, 1] when it is read, as in most training code."""

    def __init__(self, data: str = "mnist") -> None:
        self.images = list(pictures(data))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        pixels = torch.from_numpy(np.array(self.images[i]))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        return pixels.to(torch.float32).div(255).sub(0.5).div(0.5)


def pictures(data: str) -> Iterator[Image.Image]:
    """Yield the training images of a data set."""
    for pixels in ddim.open_images(data).pixels:
        yield Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())


def endless(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    """Yield batches, one epoch after another."""
    while True:
        yield from loader


def plain() -> nn.Module:
    """Return the paper's network."""
    from ddim.nets import PlainUNet

    return PlainUNet(1, widths=WIDTHS)


def ours(options: argparse.Namespace, network: nn.Module | None = None, precision: str | None = None) -> Advance:
    """Set up `ddim.train.fit` with a recipe, or with another network. Works in several processes under torchrun."""
    from ddim.train import recipe as recipes
    from ddim.train.distributed import Distributed
    from ddim.train.loop import fit
    from ddim.train.run import build

    recipe = recipes.shipped(options.recipe)
    limits: dict[str, Any] = {"epochs": None, "minutes": None, "steps": FOREVER, "batch_size": BATCH}
    plan = replace(recipe.plan, **limits, **({"precision": precision} if precision else {}))
    if network is not None:
        recipe = replace(recipe, conditional=False)
    images = ddim.open_images("mnist")
    model = build(replace(recipe, plan=plan), images)
    if network is not None:
        model = model.with_network(network)
    updates = fit(model, images, plan, distributed=Distributed("cpu"))

    def advance(steps: int) -> None:
        for _ in range(steps):
            next(updates)

    return advance


def papers_way(options: argparse.Namespace) -> Advance:
    """Set up the plain loop: a DataLoader of PIL images, fp32, Adam; no averaging or clipping, which cost time."""
    network = plain()
    alpha_bar = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().add(1).cumprod(0).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    batches = endless(DataLoader(Pictures(), batch_size=BATCH, shuffle=True))

    def advance(steps: int) -> None:
        for _ in range(steps):
            x0 = next(batches)
            noise, t = torch.randn_like(x0), torch.randint(0, 1000, (len(x0),))
            signal = alpha_bar[t][:, None, None, None]
            loss = F.mse_loss(network(signal.sqrt() * x0 + (1 - signal).sqrt() * noise, t), noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return advance


def recipe_network(options: argparse.Namespace) -> nn.Module:
    """Return the network of the recipe, which the other libraries train too."""
    from ddim.train import recipe as recipes
    from ddim.train.run import build

    return build(recipes.shipped(options.recipe), ddim.open_images("mnist", split="test")).network


def diffusers(options: argparse.Namespace) -> Advance:
    """Set up the loop of diffusers' example train_unconditional.py, with its defaults, on the recipe's network."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    mixed = "no" if options.precision == "fp32" else options.precision
    accelerator = Accelerator(cpu=options.device == "cpu", mixed_precision=mixed)
    network = options.network()
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=10_000)
    loader = DataLoader(Pictures(options.data), batch_size=options.batch, shuffle=True, num_workers=0)
    average.to(accelerator.device)
    network, optimizer, loader, rate = accelerator.prepare(network, optimizer, loader, rate)
    batches = endless(loader)

    def advance(steps: int) -> None:
        network.train()
        for _ in range(steps):
            clean = next(batches)
            noise = torch.randn(clean.shape, device=clean.device)
            t = torch.randint(0, 1000, (len(clean),), device=clean.device).long()
            with accelerator.accumulate(network):
                loss = F.mse_loss(network(scheduler.add_noise(clean, noise, t), t).float(), noise.float())
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
            average.step(network.parameters())
            loss.detach().item()

    return advance


class AsTheirs(nn.Module):
    """A network of ours with the attributes and the arguments that denoising-diffusion-pytorch needs."""

    self_condition = False

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network, self.channels, self.out_dim = network, channels, channels

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        """Ignore the self-conditioning, which is off by default."""
        return self.network(x, t)  # type: ignore[no-any-return]


def ddpm_pytorch(options: argparse.Namespace) -> Advance:
    """Set up denoising-diffusion-pytorch's own `Trainer`, which reads PNG files, on the recipe's network."""
    from peers import torchvision_pieces

    torchvision_pieces.install()
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as library

    bar = library.tqdm
    library.tqdm = lambda *args, **kwargs: bar(*args, **{**kwargs, "disable": True})
    folder = write_pictures(options.data, options.scratch / "png" / options.data)
    some = Image.open(next(folder.glob("*.png")))
    trainer = Trainer(
        GaussianDiffusion(AsTheirs(options.network(), len(some.getbands())), image_size=some.width),
        str(folder),
        train_batch_size=options.batch,
        amp=options.precision != "fp32",
        mixed_precision_type=options.precision if options.precision != "fp32" else "fp16",
        augment_horizontal_flip=False,
        calculate_fid=False,
        save_and_sample_every=FOREVER,
        results_folder=str(options.scratch),
    )
    trainer.accelerator.print = lambda *words: None  # "training complete", after each turn

    def advance(steps: int) -> None:
        trainer.train_num_steps = trainer.step + steps
        trainer.train()

    return advance


def write_pictures(data: str, folder: Path) -> Path:
    """Write all training images of a data set as PNG files, once."""
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for i, picture in enumerate(pictures(data)):
            picture.save(folder / f"{i:05d}.png")
        (folder / "done").touch()
    return folder


WORKERS: dict[str, Callable[[argparse.Namespace], Advance]] = {
    "paper": papers_way,
    "ours-on-paper": lambda options: ours(options, plain()),
    "ours-on-paper-fp32": lambda options: ours(options, plain(), "fp32"),
    "ours": ours,
    "ours-fp32": lambda options: ours(options, precision="fp32"),
    "diffusers": diffusers,
    "ddpm-pytorch": ddpm_pytorch,
}


def memory() -> dict[str, float]:
    """Return the peak memory of this process and the current memory of its data workers, in MiB."""
    import resource

    children = psutil.Process().children(recursive=True)
    return {
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "data_workers_mib": round(sum(child.memory_full_info().uss for child in children) / 2**20),
    }


def main() -> None:
    """Set up, then make the requested updates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=WORKERS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipe", default="mnist")
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--updates", type=int, help="make this many updates after the first, then exit")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    options.network = partial(recipe_network, options)
    options.data, options.batch, options.device, options.precision = "mnist", BATCH, "cpu", "fp32"
    speak, sys.stdout = sys.stdout, sys.stderr  # keeps the output of the libraries apart from the answers
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    advance = WORKERS[options.name](options)
    advance(1)
    first = time.time() - psutil.Process(os.getpid()).create_time()

    def answer(**facts: object) -> None:
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(facts), file=speak, flush=True)

    answer(first_step=first)
    asked = [str(options.updates)] if options.updates else sys.stdin
    for line in asked:
        began = time.perf_counter()
        advance(int(line))
        answer(seconds=time.perf_counter() - began, **memory())
    os._exit(0)  # without waiting for data workers and unfinished generators


if __name__ == "__main__":
    main()
