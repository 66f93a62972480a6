"""Measure how fast DDPM's network of 35.7 million parameters trains and samples at 32x32 on a GPU.

    python benchmarks/gpu.py train      # ddim, one setting after another, and two libraries on the same network
    python benchmarks/gpu.py sample     # DDIM in 50 steps against 50 bare forwards, eager and as a captured graph
    python benchmarks/gpu.py paper      # the paper's two recipes: images per second, and minutes for its epochs

Each writes results/gpu-PART.json and .md. The share is that of the rate at which the same GPU multiplies large bf16
matrices, measured in the same run. Training on an image costs three times the operations of a call, see flops.py.
DDIM_DATA names the folder that holds the data.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import torch
from flops import gflop
from rate_workers import BATCH as PAPERS_BATCH
from rate_workers import ddpm_pytorch, diffusers
from torch import Tensor, nn

from ddim import Denoiser, environment, nets, open_images, schedule
from ddim.files import write_text
from ddim.noise import ImageNoise
from ddim.samplers import DDIM
from ddim.train import Plan, fit
from ddim.train import recipe as recipes
from ddim.train.run import build

RESULTS = Path(__file__).parent / "results"
BATCH, STEPS = 128, 50  # DDPM's batch on CIFAR-10; DDIM's steps
WARM, ROUNDS, TURN = 8, 3, 1.5  # warm-up updates, rounds, and seconds per round
TRAININGS: dict[str, dict[str, Any]] = {  # one setting after another
    "eager, fp32": {"tf32": False},
    "+ TF32": {},
    "bf16": {"precision": "bf16"},
    "+ channels last": {"precision": "bf16", "channels_last": True},
    "+ compiled": {"precision": "bf16", "channels_last": True, "mode": "default"},
    "+ CUDA graphs": {"precision": "bf16", "channels_last": True, "mode": "reduce-overhead"},
}


def network() -> nn.Module:
    """Return DDPM's network for CIFAR-10, on the GPU."""
    torch.manual_seed(0)
    return nets.build("unet", 3, "base").to("cuda")


def ceiling(size: int = 8192, repeats: int = 20) -> float:
    """Measure the median TFLOP/s of a large bf16 matrix product of random numbers."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / median(seconds(lambda: a @ b) for _ in range(repeats)) / 1e12


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that the GPU takes for some work."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def rate(advance: Callable[[int], object], batch: int) -> dict[str, Any]:
    """Measure images per second in rounds of TURN seconds, after a few updates that set up and compile."""
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    advance(WARM)
    torch.cuda.synchronize()
    warm = time.perf_counter() - began
    began = time.perf_counter()
    advance(4)
    torch.cuda.synchronize()
    updates = max(4, round(TURN * 4 / (time.perf_counter() - began)))
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        advance(updates)
        torch.cuda.synchronize()
        rates.append(updates * batch / (time.perf_counter() - began))
    memory = round(torch.cuda.max_memory_allocated() / 2**20)
    facts = {"images_per_second": round(median(rates)), "rounds": [round(one) for one in rates]}
    return {**facts, "first_updates_seconds": round(warm, 1), "peak_mib": memory}


def ours(tf32: bool = True, mode: str | None = None, **changes: Any) -> Callable[[int], object]:
    """Return `ddim.train.fit` on the airplanes, as a function of the number of updates."""
    torch.backends.cudnn.allow_tf32 = tf32
    images = open_images("airplanes")
    model = Denoiser(network(), schedule.linear(), shape=images.shape)
    if mode is not None:
        model.network.compile(mode=mode)
    settings = {"precision": "fp32", **changes}
    progress = fit(model, images, Plan(steps=10**9, batch_size=BATCH, **settings))
    return lambda updates: [next(progress) for _ in range(updates)]


def candidates() -> dict[str, Callable[[], Callable[[int], object]]]:
    """Return what starts each training, by name."""
    own = {name: lambda changes=changes: ours(**changes) for name, changes in TRAININGS.items()}
    peers = {
        f"{name}, {precision}": lambda make=make, precision=precision: make(
            argparse.Namespace(
                network=network, data="airplanes", batch=BATCH, device="cuda", precision=precision, scratch=SCRATCH
            )
        )
        for name, make in (("diffusers", diffusers), ("ddpm-pytorch", ddpm_pytorch))
        for precision in ("fp32", "bf16")
    }
    return {**own, **peers}


SCRATCH = Path("runs/benchmarks")


def train() -> dict[str, Any]:
    """Measure all rates, each in its own process, so that none inherits the memory or the settings of another."""
    flops = 3e9 * gflop(network(), (3, 32, 32))
    top = ceiling()
    rows = {name: alone("train", name) for name in candidates()}
    for row in rows.values():
        if "images_per_second" in row:
            row["share_of_bf16_rate"] = round(row["images_per_second"] * flops / top / 1e12, 4)
    return {"bf16_tflops": round(top, 1), "gflop_per_image": round(flops / 1e9, 2), "batch": BATCH, "rows": rows}


def alone(part: str, name: str) -> dict[str, Any]:
    """Measure one row in its own process."""
    done = subprocess.run([sys.executable, __file__, part, "--row", name], capture_output=True, text=True, check=False)
    row = json.loads(done.stdout.rsplit("row", 1)[1]) if done.returncode == 0 else {"failed": done.stderr[-600:]}
    print(name, row, file=sys.stderr, flush=True)
    return row  # type: ignore[no-any-return]


class Captured(nn.Module):
    """A network whose forward pass is a CUDA graph for one batch size."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.held = network  # holds the weights, which determine the device and the dtype of this module
        self.x, self.t = x.clone(), torch.ones(len(x), device=x.device)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                network(self.x, self.t)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = network(self.x, self.t)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.x.copy_(x)
        self.t.copy_(t)
        self.graph.replay()
        return self.out.clone()


@torch.no_grad()
def sample() -> dict[str, Any]:
    """Measure DDIM in 50 steps by `Denoiser.sample` and 50 bare forward passes, alternating."""
    rows: dict[str, Any] = {}
    net = network().to(torch.bfloat16).eval()
    for batch in (1, 64, 512):
        x = ImageNoise(0, range(batch))(torch.empty(batch, 3, 32, 32, device="cuda", dtype=torch.bfloat16))
        t = torch.ones(batch, device="cuda")
        for way, one in (("eager", net), ("graph", Captured(net, x))):
            model = Denoiser(one, schedule.linear(), shape=(3, 32, 32))

            def bare(one: nn.Module = one, x: Tensor = x, t: Tensor = t) -> None:
                for _ in range(STEPS):
                    one(x, t)
                torch.cuda.synchronize()

            def whole(model: Denoiser = model, batch: int = batch) -> None:
                model.sample(batch, steps=STEPS, sampler=DDIM(), batch_size=batch, progress=False)

            times: dict[str, list[float]] = {"bare": [], "whole": []}
            for round_ in range(ROUNDS + 1):
                for name, work in (("bare", bare), ("whole", whole)):
                    began = time.perf_counter()
                    work()
                    if round_:  # the first round warms up
                        times[name].append(time.perf_counter() - began)
            rows[f"batch {batch}, {way}"] = {
                "images_per_second": round(batch / median(times["whole"]), 2),
                "bare_images_per_second": round(batch / median(times["bare"]), 2),
                "share_of_bare_forwards": round(median(map(truediv, times["bare"], times["whole"])), 3),
            }
    return {"steps": STEPS, "dtype": "bfloat16", "rows": rows}


def paper() -> dict[str, Any]:
    """Measure the rate of the paper's recipes, and derive the minutes for its epochs."""
    rows = {}
    for data in ("mnist", "airplanes"):
        recipe, images = recipes.shipped(f"{data}-paper"), open_images(data)
        plan = replace(recipe.plan, epochs=None, steps=10**9)
        progress = fit(build(recipe, images).to("cuda"), images, plan)
        row = rate(lambda updates: [next(progress) for _ in range(updates)], PAPERS_BATCH)  # noqa: B023
        seen = len(images) * (recipe.plan.epochs or 0)
        rows[data] = {
            **row,
            "epochs": recipe.plan.epochs,
            "minutes": round(seen / row["images_per_second"] / 60, 1),
        }
    return {"rows": rows}


def table(found: dict[str, Any]) -> str:
    """Return the rows in Markdown."""
    columns = list(dict.fromkeys(key for row in found["rows"].values() for key in row if key != "rounds"))
    lines = [f"| | {' | '.join(columns).replace('_', ' ')} |", "|---|" + "--:|" * len(columns)]
    for name, row in found["rows"].items():
        lines.append(f"| {name} | {' | '.join(str(row.get(column, '')) for column in columns)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure a part and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "sample", "paper"))
    parser.add_argument("--row", help=argparse.SUPPRESS)  # the row that one process measures
    options = parser.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    if options.row:
        print("row", json.dumps(rate(candidates()[options.row](), BATCH)), flush=True)
        os._exit(0)  # without waiting for data workers and unfinished generators
    found = {"train": train, "sample": sample, "paper": paper}[options.part]()
    about = {"gpu": torch.cuda.get_device_name(), "command": f"python benchmarks/gpu.py {options.part}"}
    found = {**about, **found, "versions": environment.versions()}
    write_text(RESULTS / f"gpu-{options.part}.json", json.dumps(found, indent=2) + "\n")
    write_text(RESULTS / f"gpu-{options.part}.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
