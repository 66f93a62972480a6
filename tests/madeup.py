"""A run as `ddim train` leaves it, and results as `ddim reproduce` leaves them, with made-up numbers."""

import functools
import json
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_bytes

from ddim import model_io, nets, schedule
from ddim.denoiser import Denoiser
from ddim.experiments import experiments
from ddim.files import write_bytes, write_text

COUNT, FEW = 500, 100
ETAS = ("0", "0.2", "0.5", "1", "hat")


@pytest.fixture(autouse=True)
def only_known(monkeypatch):
    """Leave only the experiments of `results`. Another one has tests of its own, and changes no others."""
    for name in set(experiments) - {"gallery", "strips", "timing"} - results().keys():
        monkeypatch.delitem(experiments, name)


def leave_run(folder, lines=3, data="digits", classes=None, old=False, plan=None):
    """Make a folder as `ddim train` leaves it, by what is special about it."""
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", widths=(8, 16))
    recipe = {"data": data, "classes": classes, "plan": {"batch_size": 64, **(plan or {})}}
    model_io.save(Denoiser(network, schedule.linear(T=20), shape=(1, 8, 8)), folder, recipe=recipe)
    images = torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8)
    write_bytes(folder / "samples/data.safetensors", to_bytes({"images": images}))
    metrics: list[dict[str, Any]] = [
        {"step": 9 * i, "epoch": float(i), "loss": 1 / i, "held_out": 0.9 / i, "seconds": 100.0 * i}
        for i in range(1, lines + 1)
    ]
    if not old:  # a run of before these were written
        for line in metrics:
            held_out, train = ([share * (1 + b % 2 / 10) / line["epoch"] for b in range(10)] for share in (0.9, 0.8))
            line |= {"train": 0.8 / line["epoch"], "held_out_by_level": held_out, "train_by_level": train}
            drawn = {name: images[i : i + 16].clone() for i, name in enumerate(("averaged", "latest"))}
            write_bytes(folder / f"samples/step-{line['step']:08d}.safetensors", to_bytes(drawn))
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in metrics))
    write_text(folder / "environment.json", json.dumps({"versions": {"ddim": "1"}, "device": "cpu"}))
    return folder


@pytest.fixture
def trained(tmp_path):
    """A function that makes such a folder."""
    return functools.partial(leave_run, tmp_path)


def interval(value, half, prefix=""):
    return {f"{prefix}low": value - half, f"{prefix}high": value + half}


def quality(spacing, steps, eta, frechet, half=1.0, count=COUNT, excess=0.0):
    """A row of table1; of few images the distance is 20 larger, and its interval twice as wide."""
    few = frechet if count == FEW else frechet + 20
    few_half = half if count == FEW else 2 * half
    return {
        "spacing": spacing,
        "steps": steps,
        "eta": eta,
        "count": count,
        "frechet": frechet,
        **interval(frechet, half),
        "few": few,
        **interval(few, few_half, "few_"),
        "excess": excess,
        **interval(excess, half / 4, "excess_"),
        "seconds_per_image": 0.002 * steps,
    }


def table1(rows, cut=None):
    return {
        "extractor": "mnist",
        "about": "Features of a small classifier.",
        "seed": 0,
        "count": COUNT,
        "few": FEW,
        "reference_count": 10_000,
        "floor": {"value": 12.1, "low": 11.0, "high": 13.5},
        "few_floor": {"value": 30.0, "low": 28.0, "high": 33.0},
        "rows": rows,
        "cut": cut,
    }


def grid(T=20, every=(2, 10)):
    """Like the paper's: eta = 0 the best in few steps, sigma-hat far off; all T steps of few images."""
    rows = []
    for spacing, factor in (("linear", 1.0), ("quadratic", 0.95)):
        for S in every:
            for i, eta in enumerate(ETAS[:4]):
                rows.append(quality(spacing, S, eta, factor * (14 + 3 * T / S / 10 + 4 * i * (1 + T / S / 20))))
            rows.append(quality(spacing, S, "hat", factor * (15 + 25 * T / S), half=6))
        for i, eta in enumerate(ETAS):
            rows.append(quality(spacing, T, eta, 36.0 + 0.3 * i, half=3.0, count=FEW))
    return table1(rows)


def results(T=20, every=(2, 10), solvers=("ddim", "heun", "dpmpp-2m")):
    """All of them, by name."""
    steps = (*every, T)
    return {
        "table1": grid(T, every),
        "consistency": {
            "seed": 0,
            "count": 8,
            "eta": "0",
            "between": 0.71,
            "rows": [{"steps": S, "rms": 0.0 if S == T else 0.02 + 0.5 / S} for S in steps],
        },
        "interpolation": {"steps": 50, "rows": 6, "columns": 11, "seed": 0},
        "reconstruction": {
            "count": 64,
            "rows": [{"steps": S, "error": 0.14 / S, **interval(0.14 / S, 0.02 / S)} for S in steps],
        },
        "likelihood": {
            "count": 64,
            "grey_levels": 256,
            "bound": {
                "bits": 1.62,
                **interval(1.62, 0.05),
                "prior": 1e-5,
                "decoder": 0.31,
                "rows": [{"t": t, "bits": 0.8 / t**1.2} for t in range(2, T + 1)],
            },
            "flow": {"bits": 1.33, **interval(1.33, 0.06), "steps": 100, "coarse": 1.34},
        },
        "solvers": {
            "usual": ["ddim", "linear"],
            "floor": 0.004,
            "reference_steps": 1000,
            "count": 16,
            "seed": 0,
            "rows": [
                {
                    "solver": solver,
                    "spacing": spacing,
                    "budget": budget,
                    "calls": budget,
                    "steps": budget,
                    "distance": 1.5 / budget ** (1 + 0.3 * i) * (1.0 if spacing == "linear" else 0.8),
                }
                for i, solver in enumerate(solvers)
                for spacing in ("linear", "trailing")
                for budget in (5, 10, 20)
            ],
            "suggestions": [],
        },
        "evaluation": {
            "extractor": "mnist",
            "about": "Features of a small classifier.",
            "count": 5000,
            "reference_count": 10_000,
            "sampling": "unipc, log-snr, 20 steps",
            "floor": "20 draws of 5,000 others against the same 10,000",
            "figures": {
                name: {
                    "value": value,
                    **interval(value, half),
                    **({} if name == "agreement" else {"floor": floor, **interval(floor, half, "floor_")}),
                }
                for name, value, half, floor in (
                    ("frechet", 5.2, 0.5, 1.3),
                    ("kid", 0.0021, 0.0004, -0.0001),
                    ("precision", 0.91, 0.01, 0.93),
                    ("recall", 0.88, 0.01, 0.93),
                    ("density", 0.97, 0.02, 1.0),
                    ("coverage", 0.90, 0.01, 0.95),
                    ("agreement", 0.985, 0.004, None),
                )
            },
        },
        "compare": {
            "about": "Features of a small classifier.",
            "reference_count": 10_000,
            "rows": [
                {
                    "name": name,
                    **seen,
                    "count": 1000.0,
                    "floor_count": 1000.0,
                    "frechet": value,
                    **interval(value, 0.5, "frechet_"),
                    "frechet_floor": 1.3,
                    **interval(1.3, 0.2, "frechet_floor_"),
                    "recall": 0.8,
                    **interval(0.8, 0.02, "recall_"),
                }
                for name, value, seen in (
                    ("runs/mine", 5.2, {"parameters": 2_700_000, "images_seen": 194_000}),
                    ("runs/paper", 210.0, {"parameters": 62_000_000, "images_seen": 194_000}),
                    ("generated/", 300.0, {}),
                )
            ],
        },
        "memorisation": {
            "count": 500,
            "train_count": 60_000,
            "held_out_count": 10_000,
            "flagged": 1,
            "expected": 0.5,
            "p_value": 0.4,
            "nearer": 0.49,
            **interval(0.49, 0.03, "nearer_"),
        },
    }


def samples(T=20, every=(2, 10), shape=(1, 8, 8)):
    """The tensors that go with them, by name of file."""
    generator = torch.Generator().manual_seed(0)

    def images(*counts):
        return torch.randint(0, 256, (*counts, *shape), dtype=torch.uint8, generator=generator)

    rows = len(every) + 1
    return {
        "consistency": {"images": images(rows, 8)},
        "interpolation": {"images": images(6, 11)},
        "reconstruction": {"images": images(1 + rows, 8)},
        "compare": {"images": images(3, 20)},
        "memorisation": {"samples": images(7), "neighbours": images(7, 3)},
    }


def leave(folder, name, facts):
    """Write one result, as of the weights that lie there."""
    text = json.dumps({"weights": model_io.fingerprint(folder), "cut": None, **facts})
    write_text(folder / "results" / f"{name}.json", text)


def leave_all(folder):
    """Write all of them."""
    for name, facts in results().items():
        leave(folder, name, facts)
    for name, tensors in samples().items():
        write_bytes(folder / "samples" / f"{name}.safetensors", to_bytes(tensors))
