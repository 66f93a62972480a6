"""Measure what samplers cost in addition to the network's calls: ddim's solvers and two libraries, one network.

    python benchmarks/sampling_time.py                                  # on an idle machine
    python benchmarks/sampling_time.py --repeats 1 --batches 1 --steps 5  # only checks that it works

Equally many calls of the bare network run, half of them before a sampler and half after it, so other load on the
machine affects both equally. The samplers alternate; the result is the median over the rounds. Then the script
measures the peak memory of 10 and of 200 steps, each in its own process. It writes results/sampling-time.json, .md.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import harness

HERE = Path(__file__).parent
os.environ.setdefault("TQDM_DISABLE", "1")  # one of the libraries draws its own progress bar

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from ddim import Denoiser, load, nets, samplers, schedule, timesteps  # noqa: E402
from ddim.device import choose_device  # noqa: E402
from ddim.experiments.cost import wait  # noqa: E402
from ddim.noise import ImageNoise  # noqa: E402
from ddim.samplers import trajectory  # noqa: E402

Draw = Callable[[Tensor], object]
"""(noise) -> None: samples once from the given noise."""

MEMORY_STEPS, MEMORY_BATCH = (10, 200), 512  # keeping all 200 steps would take 300 MiB
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc returns freed tensors at once: the peak counts live ones


class Timed(nn.Module):
    """A network that counts its calls and their seconds, and accepts the time in the form of any library."""

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.model, self.seconds, self.calls = model, 0.0, 0
        self.channels = self.out_dim = model.shape[0]  # this and the next line: lucidrains needs them
        self.self_condition = self.random_or_learned_sinusoidal_cond = False
        self.label = torch.zeros(0) if model.classes is None else torch.zeros(1, dtype=torch.long)

    def forward(self, x: Tensor, t: Tensor, *_: object) -> Tensor:
        wait(self.model)
        began = time.perf_counter()
        t = t.to(x.device, torch.float32).expand(len(x))
        label = () if self.model.classes is None else (self.label.to(x.device).expand(len(x)),)
        output = self.model.network(x, t, *label)
        wait(self.model)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return output


def ours(name: str, model: Denoiser, network: Timed, calls: int) -> Draw:
    """Set up a solver of ddim with the most steps of trailing spacing that fit the calls."""
    denoiser = Denoiser(network, model.schedule, model.predicts, model.shape)
    for S in range(calls, 0, -1):
        levels = timesteps.levels(model.schedule, timesteps.timesteps(model.schedule, S))
        if samplers.get(name).calls(levels) <= calls:
            break

    def draw(x: Tensor) -> None:
        noise = ImageNoise(0, range(len(x))) if samplers.get(name).stochastic else None
        for _ in trajectory(samplers.get(name), denoiser.denoise(), x, levels, noise, model.schedule):
            pass

    return draw


def diffusers(scheduler: str, model: Denoiser, network: Timed, calls: int) -> Draw:
    """Set up the loop of diffusers' pipelines with one of its schedulers."""
    import diffusers

    options = {"clip_sample": True} if scheduler == "DDIMScheduler" else {}
    made = getattr(diffusers, scheduler)(1000, beta_schedule="linear", **options)

    def draw(x: Tensor) -> None:
        made.set_timesteps(calls)
        for t in made.timesteps:
            x = made.step(network(x, t), t, x).prev_sample

    return draw


def lucidrains(model: Denoiser, network: Timed, calls: int) -> Draw:
    """Set up denoising-diffusion-pytorch's DDIM."""
    sys.path.insert(0, str(HERE / "peers"))
    import torchvision_pieces

    torchvision_pieces.install()
    from denoising_diffusion_pytorch import GaussianDiffusion

    made = GaussianDiffusion(
        network,
        image_size=model.shape[-1],
        timesteps=1000,
        sampling_timesteps=calls,
        objective="pred_noise",
        beta_schedule="linear",
    ).to(model.device)
    return lambda x: made.ddim_sample(tuple(x.shape))


def candidates(model: Denoiser, network: Timed, calls: int) -> dict[str, Draw]:
    """Return all samplers, by name."""
    found = {f"ddim: {name}": ours(name, model, network, calls) for name in samplers.names()}
    for scheduler in ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"):
        found[f"diffusers: {scheduler}"] = diffusers(scheduler, model, network, calls)
    found["denoising-diffusion-pytorch: DDIM"] = lucidrains(model, network, calls)
    return found


def bare(model: Denoiser, network: Timed, x: Tensor, calls: int) -> float:
    """Return the seconds of `calls` calls of the network on the same images."""
    t = torch.full((len(x),), 500.0, device=x.device)
    wait(model)
    began = time.perf_counter()
    for _ in range(calls):
        network(x, t)
    wait(model)
    return time.perf_counter() - began


@torch.inference_mode()
def times(model: Denoiser, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a row for each batch size and sampler."""
    rows = []
    for batch in options.batches:
        network = Timed(model)
        made = candidates(model, network, options.steps)
        x = torch.randn(batch, *model.shape, generator=torch.Generator().manual_seed(0)).to(model.device)
        rounds: dict[str, list[tuple[float, float, int]]] = {name: [] for name in made}
        for round_ in range(options.repeats + 1):  # the first round warms up
            for name, draw in made.items():
                half = bare(model, network, x, options.steps // 2)
                network.seconds, network.calls = 0.0, 0
                wait(model)
                began = time.perf_counter()
                draw(x)
                wait(model)
                seconds, inside, calls = time.perf_counter() - began, network.seconds, network.calls
                half += bare(model, network, x, options.steps - options.steps // 2)
                if round_:
                    rounds[name].append((seconds / (half / options.steps * calls), seconds - inside, calls))
            print(f"batch {batch}: round {round_}/{options.repeats}", file=sys.stderr, flush=True)
        for name, found in rounds.items():
            ratios, own, calls = zip(*found, strict=True)
            rows.append(
                {
                    "batch": batch,
                    "sampler": name,
                    "calls": calls[0],
                    "ratio_to_bare_calls": round(median(ratios), 4),
                    "ratios": [round(ratio, 4) for ratio in ratios],
                    "own_ms_per_call": round(1000 * median(own) / calls[0], 4),
                }
            )
    return rows


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the peak memory of few and of many steps."""
    rows = []
    for name in options.memory_solvers or samplers.names():
        peaks = {}
        for steps in MEMORY_STEPS:
            words = [sys.executable, str(Path(__file__).resolve()), "--peak", name, "--steps", str(steps)]
            variables = harness.variables(**RETURNED)
            done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(words[1:])} failed:\n{done.stderr[-2000:]}")
            peaks[steps] = float(done.stdout)
        rows.append({"sampler": name, **{f"mib_at_{steps}_steps": peak for steps, peak in peaks.items()}})
        print(f"memory of {name}: {peaks}", file=sys.stderr, flush=True)
    return rows


@torch.inference_mode()
def peak(name: str, steps: int) -> float:
    """Return the peak memory in MiB of sampling a large batch with a network of one convolution."""

    class Light(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.convolution(x)

    torch.manual_seed(0)
    model = Denoiser(Light(), schedule.linear())
    model.sample(MEMORY_BATCH, steps=steps, sampler=name, batch_size=MEMORY_BATCH, progress=False)
    return round(harness.memory(), 1)


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    lines = []
    if "times" in found:
        batches = list(dict.fromkeys(row["batch"] for row in found["times"]))
        lines += [
            f"Time relative to equally many bare calls of the network ({found['about']['steps']}), and in brackets",
            "the milliseconds outside the network per call.",
            "",
            "| sampler | " + " | ".join(f"batch {batch}" for batch in batches) + " |",
            "|---|" + "--:|" * len(batches),
        ]
        for name in dict.fromkeys(row["sampler"] for row in found["times"]):
            rows = [row for row in found["times"] if row["sampler"] == name]
            cells = [f"{row['ratio_to_bare_calls']:.3f} ({row['own_ms_per_call']:.2f})" for row in rows]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    if "memory" in found:
        few, many = MEMORY_STEPS
        lines += [f"| solver | MiB at {few} steps | MiB at {many} steps |", "|---|--:|--:|"]
        lines += [
            f"| {row['sampler']} | {row[f'mib_at_{few}_steps']} | {row[f'mib_at_{many}_steps']} |"
            for row in found["memory"]
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, write the results and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=Path, help="the run whose network is used; none: an untrained network of size mini"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=20, help="network calls")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parts", nargs="+", choices=("times", "memory"), default=("times", "memory"))
    parser.add_argument("--memory-solvers", nargs="+", help="only these solvers")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sampling-time.json")
    options = parser.parse_args()
    if options.peak:
        print(peak(options.peak, options.steps))
        return
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.run is None:
        model = Denoiser(nets.build("unet", 1, "mini"), schedule.linear()).eval()
    else:
        model = load(options.run)
    model.to(choose_device(options.device))
    load_before = os.getloadavg()[0]
    found: dict[str, Any] = {}
    if "times" in options.parts:
        found["times"] = times(model, options)
    if "memory" in options.parts:
        found["memory"] = memory(options)
    found["about"] = {
        "machine": harness.machine(),
        "device": str(model.device),
        "threads": options.threads,
        "steps": options.steps,
        "repeats": options.repeats,
        "load_before": round(load_before, 2),
    }
    harness.save(found, table(found), options.out)


if __name__ == "__main__":
    main()
