"""Shared by the two scripts: the data, the command line, the loop with checkpoints and the saved samples.

Nothing here imports ddim. A script passes its data loader, a function that takes one training step, the objects to
checkpoint, and a function that draws samples with its library's DDIM sampler.
"""

import argparse
import gzip
import json
import os
import time
from pathlib import Path

import numpy as np
import torch

SAVE_SECONDS = 120
SAMPLES = 1000
CHUNK = 100


class Digits(torch.utils.data.Dataset):
    """The 60,000 MNIST training images as float (1, side, side) in [0, 1], zero-padded to the side."""

    def __init__(self, side=28):
        """Read the idx file under $DDIM_DATA."""
        path = Path(os.environ.get("DDIM_DATA", "data")) / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
        raw = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
        pad = (side - 28) // 2
        self.pixels = np.pad(raw.reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (pad, pad), (pad, pad)))

    def __len__(self):
        """Count the images."""
        return len(self.pixels)

    def __getitem__(self, index):
        """Return one image."""
        return torch.from_numpy(self.pixels[index]).float() / 255


def cycle(loader):
    """Repeat a loader without end; each pass is a new shuffle."""
    while True:
        yield from loader


def arguments(description):
    """Parse the command line of both scripts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, help="training steps; without it, only measure the step time")
    parser.add_argument("--run", type=Path, default=Path("peer-run"), help="folder of the checkpoint and record")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the samples")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def measure(step, facts, rounds=6, length=15, limit=50.0):
    """Print the lower quartile of the wall time and of the CPU time of a step, over rounds of 15 steps."""
    for _ in range(4):
        step()
    walls, cpus, began = [], [], time.perf_counter()
    while len(walls) < rounds * length and time.perf_counter() - began < limit:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    found = {"threads": torch.get_num_threads(), "measured_steps": len(walls)}
    for name, times in (("step_seconds", walls), ("cpu_seconds", cpus)):
        found[name] = round(float(np.quantile(times, 0.25)), 4)
        found[f"{name}_least_and_median"] = [round(float(np.quantile(times, q)), 4) for q in (0, 0.5)]
    print(json.dumps({**facts, **found}))


def train(step, state, args):
    """Take ``args.steps`` steps, save every two minutes, and continue from the last save.

    ``state`` maps names to objects with state_dict and load_state_dict. Returns the seconds spent training.
    """
    args.run.mkdir(parents=True, exist_ok=True)
    path, done, spent = args.run / "last.pt", 0, 0.0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        done, spent = saved["done"], saved["spent"]
        torch.set_rng_state(saved["rng"])
        for name, item in state.items():
            item.load_state_dict(saved[name])
    started = last = time.time()
    losses = []
    while done < args.steps:
        losses.append(step())
        done += 1
        now = time.time()
        if now - last > SAVE_SECONDS or done == args.steps:
            saved = {name: item.state_dict() for name, item in state.items()}
            saved |= {"done": done, "spent": spent + now - started, "rng": torch.get_rng_state()}
            torch.save(saved, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
            print(f"{done}/{args.steps} loss {np.mean(losses):.4f} {spent + now - started:.0f} s", flush=True)
            losses, last = [], now
    return spent + time.time() - started


def save_samples(draw, name, args, facts, spent):
    """Draw 1,000 images at 50 and at 10 DDIM steps, and write them and a record of the run.

    ``draw(count, steps)`` returns float (count, 1, 28, 28) in [0, 1].
    """
    args.out.mkdir(parents=True, exist_ok=True)
    record = {**facts, "steps": args.steps, "train_wall_seconds": round(spent), "threads": args.threads}
    for steps in (50, 10):
        torch.manual_seed(args.seed + steps)
        start = time.time()
        images = torch.cat([draw(CHUNK, steps) for _ in range(SAMPLES // CHUNK)])
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).squeeze(1).cpu().numpy()
        np.savez_compressed(args.out / f"{name}-{steps}.npz", images=pixels)
        record[f"sample_seconds_{steps}"] = round(time.time() - start)
        print(f"{SAMPLES} images at {steps} steps", flush=True)
    (args.run / "record.json").write_text(json.dumps(record, indent=2) + "\n")
