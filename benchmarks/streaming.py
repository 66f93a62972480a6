"""Measure what writing many images costs `ddim sample` beside the network: seconds and memory against their number.

    python benchmarks/streaming.py                             # about 3 minutes, on an idle machine
    python benchmarks/streaming.py --counts 100 300 --repeats 1  # only checks that it works

The network is one convolution on 3 x 32 x 32 images, in one step, so that nearly all of the time is spent outside it.
The images are noise, which PNG does not compress. Each command is a process of its own, or two under torchrun. Two
loops that hold all images in memory are measured in turn with it: one picture after the other by Pillow, and
numpy.savez at the end. It writes results/streaming.json, .md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import harness

KINDS = {"folder": "images", "npy": "images.npy", "npz": "images.npz"}
LOOPS = {"Pillow": "folder", "numpy.savez": "npz"}
SHAPE = (3, 32, 32)


def work(kind: str, count: int, run: Path, out: Path, report: Path) -> None:
    """Draw and write images, and report the seconds from the first call of the network on, and the peak memory."""
    import numpy as np
    import torch
    from PIL import Image

    import ddim.loading
    from ddim import Denoiser, schedule
    from ddim.cli import main

    torch.set_num_threads(1)
    calls: list[tuple[float, float]] = []

    class Noise(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            began = time.perf_counter()
            output: torch.Tensor = self.convolution(x)
            calls.append((began, time.perf_counter()))
            return output

    torch.manual_seed(0)
    model = Denoiser(Noise(), schedule.linear(), "x0", shape=SHAPE)
    before = harness.memory()
    if kind in LOOPS:
        pixels = model.sample(count, steps=1, sampler="ddim", progress=False, pixels=True)
        images = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        if kind == "Pillow":
            out.mkdir()
            for i, image in enumerate(images):
                Image.fromarray(image).save(out / f"{i:06d}.png")
        else:
            np.savez(out, images)
    else:
        ddim.loading.load = lambda *_, **__: model
        words = ["--count", str(count), "--steps", "1", "--sampler", "ddim", "--device", "cpu", "--out", str(out)]
        main(["sample", str(run), *words])
    ended = time.perf_counter()
    inside = sum(end - began for began, end in calls)
    seconds = ended - calls[0][0]
    most = harness.memory()
    found = {"seconds": seconds, "outside": seconds - inside, "mib": most, "mib_more": most - before}
    report.with_suffix(f".{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))


def measure(kind: str, count: int, processes: int, run: Path) -> dict[str, float]:
    """Return what a command needs: the longest of its processes, and the largest."""
    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        out, report = Path(folder) / KINDS[LOOPS.get(kind, kind)], Path(folder) / "report"
        flags = ["--work", kind, str(count), str(run), str(out), str(report)]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        words = [sys.executable, *(torchrun if processes > 1 else []), str(Path(__file__).resolve()), *flags]
        variables = harness.variables(OMP_NUM_THREADS="1", DDIM_BACKEND="torch")
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words[1:])} failed:\n{done.stderr[-2000:]}")
        reports = [json.loads(path.read_text()) for path in Path(folder).glob("report.*.json")]
    return {name: max(report[name] for report in reports) for name in reports[0]}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the result in Markdown."""
    counts = sorted({row["count"] for row in rows})
    lines = [
        "Seconds outside the network from its first call to the end, and in brackets the peak memory of a process in",
        f"MiB, by number of images of {' x '.join(map(str, SHAPE))}.",
        "",
        "| what is written | processes | " + " | ".join(f"{count:,}" for count in counts) + " |",
        "|---|--:|" + "--:|" * len(counts),
    ]
    for kind, processes in dict.fromkeys((row["kind"], row["processes"]) for row in rows):
        found = {row["count"]: row for row in rows if (row["kind"], row["processes"]) == (kind, processes)}
        cells = [f"{found[count]['outside']:.2f} ({found[count]['mib']:.0f})" for count in counts]
        name = f"`ddim sample`, {kind}" if kind in KINDS else f"all in memory, then {kind}"
        lines.append(f"| {name} | {processes} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, help="where to write the images; if not given, the folder of temporary files"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "streaming.json")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, count, *paths = options.work
        work(kind, int(count), *map(Path, paths))
        return
    from ddim import Denoiser, model_io, nets, schedule

    load_before = os.getloadavg()[0]
    cases = [(kind, 1) for kind in LOOPS] + [(kind, processes) for processes in options.processes for kind in KINDS]
    found: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run = Path(folder) / "run"
        model_io.save(Denoiser(nets.build("plain", SHAPE[0], "tiny"), schedule.linear(), shape=SHAPE), run)
        for round_ in range(options.repeats):
            for count in options.counts:
                for kind, processes in cases:
                    found.setdefault((kind, processes, count), []).append(measure(kind, count, processes, run))
                    print(f"round {round_ + 1}: {kind}, {processes}, {count:,}", file=sys.stderr, flush=True)
    rows = [
        {"kind": kind, "processes": processes, "count": count}
        | {name: round(median(one[name] for one in each), 3) for name in each[0]}
        for (kind, processes, count), each in found.items()
    ]
    about = {"machine": harness.machine(), "repeats": options.repeats, "load_before": round(load_before, 2)}
    harness.save({"rows": rows, "about": about}, table(rows), options.out)


if __name__ == "__main__":
    main()
