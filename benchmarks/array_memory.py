"""Measure the memory in which a folder of arrays is opened and trained on, against the number of its files.

    python benchmarks/array_memory.py                        # about 3 minutes, and 2.5 GB of the disk
    python benchmarks/array_memory.py --counts 20 --steps 2  # only checks that it works

Each file is a smooth random field of 12 x 64 x 48 float32, 147 kB. A process of its own opens the folder, which copies
it into the cache, and makes some updates of a small network on it. The figures are anonymous memory: the kernel takes
back the pages of a mapped file whenever it needs them. It writes results/array-memory.json, .md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import harness
import numpy as np

SHAPE, BATCH = (12, 64, 48), 16


def make(folder: Path, count: int) -> None:
    """Write the fields, each a sum of waves, to a file of its own."""
    folder.mkdir()
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]] / 8
    for i in range(count):
        rng = np.random.default_rng(i)
        waves = [np.sin(rng.normal() * y + rng.normal() * x + rng.uniform(0, 6)) for _ in range(SHAPE[0])]
        np.save(folder / f"{i:05d}.npy", np.stack(waves).astype(np.float32))


def work(folder: Path, steps: int) -> dict[str, float]:
    """Open a folder and train on it; return the seconds, and the peak of the anonymous memory beyond the program's."""
    import torch

    import ddim

    torch.set_num_threads(1)
    plan = ddim.train.Plan(steps=steps, batch_size=BATCH, precision="fp32")

    def model() -> ddim.Denoiser:
        return ddim.Denoiser(ddim.nets.build("plain", SHAPE[0], "tiny"), ddim.schedule.linear(), shape=SHAPE)

    few = torch.rand(BATCH, *SHAPE)
    for _ in ddim.train.fit(model(), few, plan):  # what is loaded, and a training on few images, are the program's
        pass
    start, most, stop = harness.memory("RssAnon"), [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            most.append(harness.memory("RssAnon") - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    images = ddim.open_images(folder)
    opened, peak = time.perf_counter() - began, max(most)
    for _ in ddim.train.fit(model(), images, plan):
        pass
    trained = time.perf_counter() - began - opened
    stop.set()
    watcher.join()
    return {"images": len(images), "opening": peak, "all": max(most), "seconds": opened, "training": trained}


def main() -> None:
    """Measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="for the files; if not given, the folder of temporary files")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "array-memory.json")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(Path(options.work[0]), int(options.work[1]))))
        return
    rows = []
    for count in options.counts:
        with tempfile.TemporaryDirectory(dir=options.folder) as place:
            folder = Path(place) / "fields"
            make(folder, count)
            words = [sys.executable, str(Path(__file__).resolve()), "--work", str(folder), str(options.steps)]
            variables = harness.variables(OMP_NUM_THREADS="1", DDIM_CACHE=str(Path(place) / "cache"))
            done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{count} files failed:\n{done.stderr[-2000:]}")
            rows.append({"files": count, "mb": count * np.prod(SHAPE) * 4 / 1e6, **json.loads(done.stdout)})
    table = [
        f"A folder of arrays of {' x '.join(map(str, SHAPE))} float32. Memory: the peak of the anonymous memory in MiB",
        f"beyond that of the program, while the folder is opened for the first time, and in all with {options.steps} "
        f"updates on",
        f"{BATCH} images each.",
        "",
        "| files | MB | MiB, opening | MiB, opening and training | seconds to open |",
        "|--:|--:|--:|--:|--:|",
        *(
            f"| {row['files']:,} | {row['mb']:,.0f} | {row['opening']:.0f} | {row['all']:.0f} | {row['seconds']:.1f} |"
            for row in rows
        ),
    ]
    harness.save({"rows": rows, "machine": harness.machine()}, "\n".join(table) + "\n", options.out)


if __name__ == "__main__":
    main()
