"""Measure how near each method of restoration comes to the original images.

    python benchmarks/restoration.py                       # 200 held-out digits: hours of a CPU; continues if stopped
    python benchmarks/restoration.py --count 32            # fewer images
    python benchmarks/restoration.py --count 2 --calls 2 --out FILE.json         # checks that it works

For each operator and each method one sample of each image is drawn, with DDIM and eta = 1, without labels. PSNR is
10 log10(4 / mean (x - x_0)^2) for images from -1 to 1, with the 95% interval over images. A sample of the exact
posterior has twice the mean squared error of the posterior's mean, so no exact sampler reaches the PSNR of a
regression. A call is one evaluation of the network. PiGDM takes six products with its Jacobian beside each call, each
a backward pass. DDIM_DATA names the folder with MNIST. The results are results/restoration.json and .md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import harness
import torch

import ddim
from ddim import edit
from ddim.evaluate.intervals import Mean
from ddim.files import write_text

MISSING = "not measured"
RESULT = Path(__file__).with_name("results") / "restoration.json"
MODEL = "mnist"
OPERATORS = {  # name -> operator, standard deviation of the noise
    "a box of 12 × 12 pixels": (edit.Box((28, 28), 8, 8, 12, 12), 0.0),
    "super-resolution 4": (edit.SuperResolution(4), 0.0),
    "super-resolution 4, noise 0.1": (edit.SuperResolution(4), 0.1),
    "blur 1.5, noise 0.1": (edit.Blur(1.5), 0.1),
}


def measure(model: ddim.Denoiser, x0: torch.Tensor, name: str, method: str, calls: int) -> dict[str, Any]:
    """Return the PSNR of one sample of each image."""
    operator, noise_std = OPERATORS[name]
    noise = ddim.noise.ImageNoise(1, range(len(x0)))
    y = operator.forward(x0)
    y = y + noise_std * noise(y)
    found = edit.restore(model, y, operator, noise_std, method=method, steps=calls)[:, 0]
    psnr = Mean.of(10 * torch.log10(4 / (found - x0).square().mean(dim=(1, 2, 3)).clamp(min=1e-9)))
    return {
        "operator": name,
        "method": method,
        "calls": calls,
        "psnr": psnr.mean,
        "margin": psnr.margin,
    }


def table(found: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    calls = sorted({row["calls"] for row in found["rows"]})
    ways = {(row["operator"], row["method"]): {} for row in found["rows"]}
    for row in found["rows"]:
        ways[row["operator"], row["method"]][row["calls"]] = f"{row['psnr']:.1f} ± {row['margin']:.1f}"
    lines = [f"| operator | method |{''.join(f' {n} calls |' for n in calls)}", f"|---|---|{'--:|' * len(calls)}"]
    for (operator, method), cells in ways.items():
        lines.append(f"| {operator} | {method} |{''.join(f' {cells.get(n, MISSING)} |' for n in calls)}")
    note = f"PSNR in dB of one sample of each of {found['count']} held-out digits, ± half of the 95% interval."
    return f"{note}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing in the results, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--calls", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    model = ddim.load(MODEL, backend="torch")
    images = ddim.open_images(MODEL, split="test")
    x0, _ = images.batch(torch.arange(options.count))
    found: dict[str, Any] = {"rows": []}
    if options.out.exists():
        found = json.loads(options.out.read_text(encoding="utf-8"))
        found = found if found["count"] == options.count else {"rows": []}
    found |= {"count": options.count, "model": MODEL, "machine": harness.machine()}
    done = {(row["operator"], row["method"], row["calls"]) for row in found["rows"]}
    for calls in options.calls:
        for name, (_, noise_std) in OPERATORS.items():
            for method in edit.methods if noise_std else ("ddnm", "pigdm"):  # without noise DiffPIR is DDNM
                if (name, method, calls) not in done:
                    print(f"{name}, {method}, {calls} calls", file=sys.stderr)
                    found["rows"].append(measure(model, x0, name, method, calls))
                    write_text(options.out, json.dumps(found, indent=2) + "\n")
    found["rows"].sort(key=lambda row: list(OPERATORS).index(row["operator"]))
    harness.save(found, table(found), options.out)
    if options.out == RESULT:
        harness.fill("docs/editing.md", "restoration.py", table(found))


if __name__ == "__main__":
    main()
