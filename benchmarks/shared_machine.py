"""Measure sampling and training beside other programs that keep cores busy, and on a quiet machine.

    python benchmarks/shared_machine.py                        # about six minutes, on an idle machine
    python benchmarks/shared_machine.py --repeats 1 --turn 0.1 # only checks that it works

The other programs are loops in plain Python, one or as many as there are cores. Each setting of PyTorch's threads is a
process, which waits except in its turn. The turns alternate; the result is the median over the calls of all rounds. It
needs no data set.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import harness

from ddim.processors import THREADS, available_cores

SETTINGS = {  # name -> the environment of its process
    "defaults": ("PyTorch's defaults", {}),
    "passive": ("`OMP_WAIT_POLICY=PASSIVE`", {"OMP_WAIT_POLICY": "PASSIVE"}),
    "brief": ("`GOMP_SPINCOUNT=20000`", {"GOMP_SPINCOUNT": "20000"}),
    "one": ("`OMP_NUM_THREADS=1`", {"OMP_NUM_THREADS": "1"}),
}
SET = (*THREADS, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # variables that a worker does not inherit
WORK = {"forward-1": "a forward of 1 image", "forward-16": "of 16 images", "update-64": "an update of 64 images"}
CALLS = 3  # of a turn, at least
LOADS = {"quiet": 0, "one loop": 1, "a loop on each core": available_cores()}  # name -> loops


def start(name: str) -> harness.Worker:
    """Start a process with a setting of threads; see `serve` for what it answers."""
    variables = {key: value for key, value in harness.variables().items() if key not in SET}
    words = [sys.executable, __file__, "--worker", name]
    return harness.Worker(name, words, variables | SETTINGS[name][1])


def serve() -> None:
    """Be a worker: set up, print the number of threads, and answer each question [work, seconds].

    The answer is the seconds of each call in about that time.
    """
    import torch

    speak, sys.stdout = sys.stdout, sys.stderr
    calls = {"forward-1": sampling(1), "forward-16": sampling(16), "update-64": training()}
    for call in calls.values():  # the first two calls take longer than all others
        call(), call()
    print(torch.get_num_threads(), file=speak, flush=True)
    for line in sys.stdin:
        asked, seconds = json.loads(line)
        times: list[float] = []
        while len(times) < CALLS or sum(times) < seconds:
            began = time.perf_counter()
            calls[asked]()
            times.append(time.perf_counter() - began)
        print(json.dumps(times), file=speak, flush=True)
    os._exit(0)  # without waiting for the unfinished training


def sampling(count: int) -> Callable[[], object]:
    """Return a forward of `count` images of the model that comes with ddim."""
    import torch

    from ddim import load

    model = load("mnist", backend="torch")
    x, label, at = torch.randn(count, *model.shape), torch.arange(count) % 10, model.schedule(500)
    return torch.inference_mode()(lambda: model(x, at, label))


def training() -> Callable[[], object]:
    """Return an update of 64 images with the recipe of MNIST, on random images."""
    import torch

    from ddim.data import Images
    from ddim.train import recipe as recipes
    from ddim.train.loop import fit
    from ddim.train.run import build

    pixels = torch.randint(0, 256, (640, 1, 28, 28), dtype=torch.uint8)
    images = Images(pixels, torch.arange(640) % 10, tuple("0123456789"), "random")
    recipe = recipes.shipped("mnist")
    plan = replace(recipe.plan, epochs=None, steps=10**9, batch_size=64)
    updates = fit(build(recipe, images), images, plan)
    return lambda: next(updates)


@contextmanager
def load(kind: str) -> Iterator[None]:
    """Within this context, run the loops of a load."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(LOADS[kind])]
    try:
        time.sleep(0.5)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    heads = [f"{words}, {kind}" for words in WORK.values() for kind in LOADS]
    lines = [
        "Milliseconds, and in brackets the ratio to PyTorch's defaults on a quiet machine.",
        "",
        f"| threads | {' | '.join(heads)} |",
        "|---|" + "--:|" * len(heads),
    ]
    for name, (words, _) in SETTINGS.items():
        cells = []
        for work in WORK:
            reference = found["seconds"]["defaults"][work]["quiet"]["median"]
            for kind in LOADS:
                seconds = found["seconds"][name][work][kind]["median"]
                cells.append(f"{1000 * seconds:.0f} ({seconds / reference:.2f})")
        lines.append(f"| {words}: {found['threads'][name]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--turn", type=float, default=1.5, help="least seconds of a turn")
    parser.add_argument("--worker", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "shared-machine.json")
    options = parser.parse_args()
    if options.worker:
        serve()
        return
    began, load_before = time.time(), os.getloadavg()[0]
    workers = {name: start(name) for name in SETTINGS}
    threads = {name: worker.answer() for name, worker in workers.items()}
    times: dict[str, Any] = {name: {work: {kind: [] for kind in LOADS} for work in WORK} for name in SETTINGS}
    for round_ in range(options.repeats):
        for kind in LOADS:
            with load(kind):
                for (name, worker), work in product(workers.items(), WORK):
                    times[name][work][kind] += worker.ask([work, options.turn])
        print(f"round {round_ + 1}/{options.repeats}", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.close()
    seconds = {
        name: {
            work: {kind: {"median": round(median(each), 5), "calls": len(each)} for kind, each in kinds.items()}
            for work, kinds in works.items()
        }
        for name, works in times.items()
    }
    found = {
        "seconds": seconds,
        "threads": threads,
        "about": {
            "machine": harness.machine(),
            "loops": LOADS,
            "repeats": options.repeats,
            "turn": options.turn,
            "load_before": round(load_before, 2),
            "minutes": round((time.time() - began) / 60, 1),
        },
    }
    harness.save(found, table(found), options.out)


if __name__ == "__main__":
    main()
