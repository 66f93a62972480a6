"""The samplers that `sampling_peers.py` times, each in its own process that waits for its turn.

    python benchmarks/peer_workers.py NAME --model mnist --steps 20 --threads 2 --scratch FOLDER

A worker prints "ready" once it is set up, and then answers each line of JSON that it reads: {"batch": 16,
"draws": 3} draws 16 images three times; with "save" it also writes them as .npy. The answer has the seconds of a draw,
and what drew: ddim's backend, or a library's version. The worker "ceilings" measures what the machine can compute at
most.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import ddim
from ddim.noise import ImageNoise

LARGEST = 1024  # images in a batch

Draw = Callable[[int], Any]
"""(images) -> images in [-1, 1], the first ones of seed 0 after DDIM with eta = 0 and trailing timesteps."""


def ours(options: argparse.Namespace, facts: dict[str, Any], backend: str) -> Draw:
    """Set up `model.sample` with a backend, chosen and prepared anew for each batch size."""
    precision = "auto" if backend == "torch" else options.precision
    models: dict[int, ddim.Denoiser] = {}

    def draw(batch: int) -> Tensor:
        if batch not in models:
            models[batch] = ddim.load(options.model, backend=backend, precision=precision)
        model = models[batch]
        images = model.sample(batch, steps=options.steps, sampler="ddim", eta=0.0, spacing="trailing", progress=False)
        facts["by"] = model.backend
        return images

    return draw


def peer(options: argparse.Namespace, facts: dict[str, Any], package: str, name: str, **settings: Any) -> Draw:
    """Set up another library: `with_...` of peers/converted.py."""
    from peers import converted

    facts["by"] = f"{package} {metadata.version(package)}"
    model = ddim.load(options.model, backend="torch")
    labels = None if model.classes is None else torch.arange(LARGEST) % model.classes
    set_up: Callable[..., Callable[[Tensor], Any]] = getattr(converted, f"with_{name}")
    draws: dict[int | None, Callable[[Tensor], Any]] = {}

    def draw(batch: int) -> Any:
        fixed = {"batch": batch, "threads": options.threads, "at": options.scratch} if name == "onnxruntime" else {}
        of_size = fixed.get("batch")
        if of_size not in draws:
            draws[of_size] = set_up(model, options.steps, labels, **settings, **fixed)
        return draws[of_size](ImageNoise(0, range(batch))(torch.empty(batch, *model.shape)))

    return draw


WORKERS: dict[str, Callable[[argparse.Namespace, dict[str, Any]], Draw]] = {
    "ddim": lambda options, facts: ours(options, facts, "auto"),
    "ddim torch": lambda options, facts: ours(options, facts, "torch"),
    "diffusers": lambda options, facts: peer(options, facts, "diffusers", "diffusers"),
    "diffusers bf16": lambda options, facts: peer(options, facts, "diffusers", "diffusers", bf16=True),
    "diffusers default": lambda options, facts: peer(options, facts, "diffusers", "diffusers", consistent=False),
    "ddpm-pytorch": lambda options, facts: peer(options, facts, "denoising-diffusion-pytorch", "lucidrains"),
    "onnxruntime": lambda options, facts: peer(options, facts, "onnxruntime", "onnxruntime"),
}


@torch.inference_mode()
def ceilings() -> dict[str, float]:
    """Return the GFLOP/s of a channels-last 3x3 convolution and of a matrix product: the best of several calls."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x = torch.randn(16, 256, 32, 32).to(dtype).to(memory_format=torch.channels_last)
        weight = torch.randn(256, 256, 3, 3).to(dtype).to(memory_format=torch.channels_last)
        a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        convolve = best(lambda x=x, weight=weight: F.conv2d(x, weight, padding=1))  # type: ignore[misc]
        multiply = best(lambda a=a, b=b: a @ b)  # type: ignore[misc]
        found[f"convolution {name}"] = 2e-9 * x.numel() * weight[0].numel() / convolve
        found[f"matrix product {name}"] = 2e-9 * 2048**3 / multiply
    return found


def best(call: Callable[[], object], repeats: int = 6) -> float:
    """Return the seconds of the fastest call."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def answers(name: str, options: argparse.Namespace) -> Callable[[dict[str, Any]], Any]:
    """Set up a worker; return what answers its questions."""
    if name == "ceilings":
        return lambda question: ceilings()
    facts: dict[str, Any] = {}
    draw = WORKERS[name](options, facts)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        for _ in range(question["draws"]):
            images = draw(question["batch"])
        seconds = (time.perf_counter() - began) / question["draws"]
        if "save" in question:
            np.save(question["save"], np.asarray(images, np.float32))
        return {"seconds": seconds, **facts}

    return answer


def main() -> None:
    """Set up, then answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=(*WORKERS, "ceilings"))
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", help="of the worker ddim")
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks"), help="folder for exported networks")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    speak, sys.stdout = sys.stdout, sys.stderr  # keeps the output of the libraries apart from the answers
    torch.set_num_threads(options.threads)
    answer = answers(options.name, options)
    print(json.dumps("ready"), file=speak, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=speak, flush=True)


if __name__ == "__main__":
    main()
