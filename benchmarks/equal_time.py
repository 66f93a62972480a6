"""Compare samples of ddim and of two other libraries after the same training time, by the same metrics.

    python benchmarks/equal_time.py RUN...

draws 1,000 images of each run in 50 and in 10 DDIM steps, with and without class guidance, and measures them and
the stored samples of the other libraries with judge.py. It writes equal-time.json, .md and .png and the samples of
the runs into benchmarks/results; the picture shows the first run. Samples are drawn again only if a run's weights
change. DDIM_DATA names the folder that holds MNIST.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import judge
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import ddim
from ddim import environment, model_io
from ddim.data import to_uint8
from ddim.files import write_text, writing
from ddim.pictures import grid

RESULTS = Path(__file__).with_name("results")
PEERS = {"diffusers": "diffusers", "ddpm-pytorch": "denoising-diffusion-pytorch"}
STEPS = (50, 10)
COUNT = 1000
WEIGHTS = {"": 1.0, ", guided": 1.5}  # of classifier-free guidance; with guidance a step makes two network calls
SHOWN = 64  # the first images of each file, not selected


def draw(run: Path, steps: int, weight: float, kept: Path) -> None:
    """Draw a run's images, each digit equally often if the model has classes, and save them with their labels."""
    weights = model_io.fingerprint(run)
    if kept.exists():
        with np.load(kept) as file:
            if file["weights"] == weights:
                return
    model = ddim.load(run, backend="torch")
    images = to_uint8(model.sample(COUNT, steps=steps, sampler="ddim", guidance=weight, seed=0))
    asked = {} if model.classes is None else {"labels": np.arange(COUNT) % model.classes}
    with writing(kept) as draft, draft.open("wb") as file:
        np.savez_compressed(file, images=images.numpy(), weights=weights, **asked)


def scored(name: str, steps: int, kept: Path) -> dict[str, Any]:
    """Return one row of the table; without the file of the samples it has no metrics."""
    row: dict[str, Any] = {"model": name, "steps": steps, "file": kept.relative_to(kept.parents[1]).as_posix()}
    if not kept.exists():
        return row
    with np.load(kept) as file:
        images, labels = file["images"], file.get("labels")
    if images.shape[0] != COUNT:
        raise SystemExit(f"{kept} holds {images.shape[0]} images; a distance is only comparable at {COUNT}.")
    return row | judge.score(images, labels)


def training(run: Path) -> dict[str, Any]:
    """Return the length of a run's training, from its metrics, and the size of its network."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1]) if lines else {}
    parameters = sum(p.numel() for p in ddim.load(run).parameters())
    return {"parameters": parameters, **{key: last.get(key) for key in ("step", "seconds")}}


def table(result: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    lines = [
        f"Fréchet distance of {COUNT:,} samples to the 10,000 MNIST test images, lower is better, in the features",
        f"of a classifier whose accuracy on them is {result['judge']['test_accuracy']:.2%}. Accuracy: the share",
        "of the samples in which the classifier recognises the requested digit.",
        "",
        "| images | DDIM steps | distance | accuracy |",
        "|---|---:|---:|---:|",
    ]
    for row in result["rows"]:
        distance = f"{row['frechet']:.1f}" if "frechet" in row else f"no file {row['file']}"
        accuracy = f"{row['agreement']:.1%}" if row.get("agreement") is not None else "—"
        lines.append(f"| {row['model']} | {row['steps']} | {distance} | {accuracy} |")
    for name, what in (("floor", "at random"), ("floor_even", "100 of each digit")):
        real = result[name]
        distance = f"{real['mean']:.1f} ({real['least']:.1f} to {real['most']:.1f})"
        lines.append(f"| real training images, {what} | — | {distance} | — |")
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, Any]], folder: Path) -> Image.Image:
    """Draw the first samples and the distance of each model (columns) at each number of steps (rows)."""
    columns = list(dict.fromkeys(row["model"] for row in rows))
    side, head, gap = 8 * (28 + 1) * 2 + 2, 26, 12
    size = (len(columns) * (side + gap) + gap, len(STEPS) * (head + side + gap) + gap)
    sheet = Image.new("L", size, 255)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for row in rows:
        left = gap + columns.index(row["model"]) * (side + gap)
        top = gap + STEPS.index(row["steps"]) * (head + side + gap)
        known = "frechet" in row
        title = f"{row['model']}, {row['steps']} steps: " + (f"{row['frechet']:.1f}" if known else "no samples")
        pen.text((left, top), title, 0, font)
        if known:
            sheet.paste(grid(first(folder / row["file"]), columns=8, scale=2), (left, top + head))
    return sheet.quantize(16)  # 16 grey levels look the same and make the file three times smaller


def first(kept: Path) -> torch.Tensor:
    """Return the first samples of a file, (SHOWN, 1, 28, 28) uint8."""
    with np.load(kept) as file:
        images: NDArray[np.uint8] = file["images"][:SHOWN]
    return torch.from_numpy(images).reshape(-1, 1, 28, 28)


def main() -> None:
    """Draw the samples, measure them and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a ddim run on MNIST")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the samples and of the result")
    args = parser.parse_args()
    folder: Path = args.results
    rows: list[dict[str, Any]] = []
    pictured: list[dict[str, Any]] = []
    trained = {}
    for run in args.runs:
        found = training(run)
        name = f"ddim, {found['seconds'] / 60:.0f} minutes"
        trained[name] = found
        for way, weight in WEIGHTS.items() if ddim.load(run).classes else [("", 1.0)]:
            for steps in STEPS:
                kept = folder / "ours" / f"{run.name}{way.replace(', ', '-')}-{steps}.npz"
                draw(run, steps, weight, kept)
                rows.append(scored(name + way, steps, kept))
        pictured = pictured or list(rows)  # those of the first run
    peers = [scored(name, n, folder / "peers" / f"{stem}-{n}.npz") for stem, name in PEERS.items() for n in STEPS]
    rows += peers
    result = {
        "judge": {"test_accuracy": judge.accuracy()},
        "rows": rows,
        "floor": judge.floor(COUNT),
        "floor_even": judge.floor(COUNT, even=True),
        "trained": trained,
        "versions": environment.versions(),
    }
    write_text(folder / "equal-time.json", json.dumps(result, indent=2) + "\n")
    write_text(folder / "equal-time.md", table(result))
    with writing(folder / "equal-time.png") as draft:
        picture(pictured + peers, folder).save(draft, optimize=True)
    print(table(result), end="")


if __name__ == "__main__":
    main()
