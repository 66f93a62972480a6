"""Time sampling with ddim, diffusers, denoising-diffusion-pytorch and onnxruntime: one set of weights, the same images.

    make bench                                                        # all of it, on an idle machine
    python benchmarks/sampling_peers.py --turn 0 --repeats 1 --batches 1 --models mnist   # only checks that it works
    python benchmarks/sampling_peers.py --draw                        # the table and the figure again, from the JSON

Each sampler is a process that pauses except in its turn. The turns alternate (A, B, C, A, B, C, ...), so other load
on the machine affects all of them equally; a ratio is the median of the ratios of each round. What the machine can
compute at most is measured in the same rounds. The parts are: `times`; `plain`, the same on a processor without bf16
units, which environment variables imitate; `start`, the time from the shell to the first digit, beside that of
`import torch` alone. The results are results/sampling-peers.json, .md and .png.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import harness
import numpy as np
import sampling_report
import torch
from flops import gflop

import ddim

HERE = Path(__file__).parent
RESULT = HERE / "results" / "sampling-peers.json"
PARTS = ("times", "plain", "start")
DEFAULT = "diffusers default"  # its images are compared; it is not timed
TIMES = ("ddim", "ddim torch", "diffusers", "diffusers bf16", DEFAULT, "ddpm-pytorch", "onnxruntime", "ceilings")
PLAIN = ("ddim", "diffusers", "ceilings")
WITHOUT_BF16 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
SAME, SAME_BF16 = 1e-3, 0.5  # largest difference of a pixel in [-1, 1] to the reference
COMPARED = 16  # images
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


def start(name: str, model: str, options: argparse.Namespace, part: str) -> harness.Worker:
    """Start a sampler in its own process, see peer_workers.py."""
    scratch = options.scratch / part
    words = [sys.executable, str(HERE / "peer_workers.py"), name, "--model", model, "--scratch", str(scratch)]
    words += ["--steps", str(options.steps), "--threads", str(options.threads)]
    # with a cache of its own, ddim chooses its backend in this run
    variables = harness.variables(OMP_NUM_THREADS=str(options.threads), DDIM_CACHE=str(scratch / "cache"))
    if part == "plain":
        words += ["--precision", "fp32"]
        variables |= WITHOUT_BF16
    return harness.Worker(name, words, variables)


def agreement(workers: dict[str, harness.Worker], scratch: Path) -> dict[str, dict[str, Any]]:
    """Draw the same images with all samplers; return how far each is from ddim on torch in fp32, or from diffusers.

    An entry also names what drew the images.

    Raises `SystemExit` for images that are not the same.
    """
    images, by = {}, {}
    for name, worker in workers.items():
        path = scratch / "images.npy"
        by[name] = worker.ask({"batch": COMPARED, "draws": 1, "save": str(path)})["by"]
        images[name] = np.load(path)
    reference = images["ddim torch" if "ddim torch" in images else "diffusers"]
    found = {}
    for name, drawn in images.items():
        difference = np.abs(drawn - reference)
        rms = float(np.sqrt(np.square(difference).mean()))
        found[name] = {"by": by[name], "largest": float(difference.max()), "rms": rms}
        bf16 = "bf16" in name or "bf16" in by[name]
        if name != DEFAULT and found[name]["largest"] > (SAME_BF16 if bf16 else SAME):
            raise SystemExit(f"{name} draws other images: they differ by up to {found[name]['largest']:.3g}.")
    return found


def measure(model: str, options: argparse.Namespace, part: str) -> dict[str, Any]:
    """Return the times of all samplers of a part for one model, and the ceilings."""
    names = TIMES if part == "times" else PLAIN
    workers = {name: start(name, model, options, part) for name in names}
    for worker in workers.values():
        worker.answer()  # it is set up
    limits = workers.pop("ceilings")
    agrees = agreement(workers, options.scratch)
    if DEFAULT in workers:  # computes as many operations as the other
        workers.pop(DEFAULT).close()
    rows, ceilings = [], [limits.ask({})]
    for batch in options.batches:
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        draws, by = dict.fromkeys(workers, 1), {}
        for round_ in range(options.repeats + 1):  # the first round warms up
            for name, worker in workers.items():
                answer = worker.ask({"batch": batch, "draws": draws[name]})
                if round_:
                    seconds[name].append(answer["seconds"])
                else:
                    answer = worker.ask({"batch": batch, "draws": 1})
                    draws[name], by[name] = max(1, math.ceil(options.turn / answer["seconds"])), answer["by"]
            ceilings.append(limits.ask({}))
            print(f"{part}: {model}, batch {batch}: round {round_}/{options.repeats}", file=sys.stderr, flush=True)
        rows += [
            {"batch": batch, "sampler": name, "by": by[name], "seconds": rounded(all_)}
            for name, all_ in seconds.items()
        ]
    for worker in [*workers.values(), limits]:
        worker.close()
    loaded = ddim.load(model, backend="torch")
    return {
        "gflop": round(gflop(loaded.network, loaded.shape), 4),
        "agreement": agrees,
        "ceilings_gflop_per_second": {name: round(max(one[name] for one in ceilings), 1) for name in ceilings[0]},
        "rows": rows,
    }


def rounded(seconds: Iterable[float]) -> list[float]:
    """Return times with five digits."""
    return [float(f"{one:.5g}") for one in seconds]


def starts(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds to the first digit, with ddim and with diffusers, and those of two commands that do less."""
    from peers import converted

    folder = options.scratch / "diffusers-mnist"
    converted.to_pipeline(ddim.load("mnist", backend="torch")).save_pretrained(folder)
    png = options.scratch / "first.png"
    ways = {
        "ddim sample mnist --count 1": ["-m", "ddim", "sample", "mnist", "--count", "1", "--out", str(png)],
        "diffusers": [str(HERE / "peers" / "first_digit.py"), str(folder), str(png)],
        "python -c 'import torch'": ["-c", "import torch"],
        "ddim sample --help": ["-m", "ddim", "sample", "--help"],
    }
    variables = harness.variables(DDIM_CACHE=str(options.scratch / "start" / "cache"))
    rounds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for round_ in range(6):  # the first round fills the caches
        for way, words in ways.items():
            png.unlink(missing_ok=True)
            began, used = time.perf_counter(), processor_seconds()
            done = subprocess.run([sys.executable, *words], env=variables, capture_output=True, text=True, check=False)
            taken = time.perf_counter() - began, processor_seconds() - used
            if done.returncode or (str(png) in words and not png.exists()):
                raise SystemExit(f"{way} failed:\n{done.stderr[-3000:]}")
            if round_:
                rounds[way].append(taken)
    found = {}
    for way, measured in rounds.items():
        seconds, processor = zip(*measured, strict=True)
        found[way] = {"seconds": round(median(seconds), 2), "processor_seconds": round(median(processor), 2)}
        found[way]["rounds"] = rounded(seconds)
    return found


def processor_seconds() -> float:
    """Return the processor time, of user and system, of all processes that this one has started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return what ran the measurement and how."""
    described = harness.machine()
    command = described.pop("command")
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        known = []
    return {
        "machine": described | {"flags": [flag for flag in FLAGS if flag in known]},
        "threads": options.threads,
        "load_before": round(os.getloadavg()[0], 2),
        "steps": options.steps,
        "repeats": options.repeats,
        "turn_seconds": options.turn,
        "command": command,
    }


def main() -> None:
    """Measure, write the results after each part, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mnist", "airplanes"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=20, help="DDIM steps, a divisor of 1,000")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--turn", type=float, default=1.0, help="approximate seconds per turn; at least one draw")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks/sampling-peers"))
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    if options.draw:
        harness.save(found, sampling_report.table(found), options.out)
    else:
        shutil.rmtree(options.scratch, ignore_errors=True)
        options.scratch.mkdir(parents=True)
        for part in options.parts:  # the other parts keep their stored results
            about, began = machine(options), time.time()
            if part == "start":
                found[part] = {"seconds": starts(options)}
            else:
                found[part] = {"models": {model: measure(model, options, part) for model in options.models}}
            found[part]["about"] = about | {"minutes": round((time.time() - began) / 60, 1)}
            harness.save(found, sampling_report.table(found), options.out)
    sampling_report.draw(found, options.out.with_suffix(".png"))
    if options.out == RESULT and "times" in found:
        harness.fill("README.md", "sampling_peers.py", sampling_report.short(found))


if __name__ == "__main__":
    main()
