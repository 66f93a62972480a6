"""What the folder of a run holds, read once. Broken, half-written or unknown parts count as absent."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from ddim import model_io
from ddim.config import read_config
from ddim.denoiser import Denoiser
from ddim.experiments import Result, Samples, experiments
from ddim.experiments.results import EVALUATED, convert, load_json, load_samples, load_tensors
from ddim.experiments.results import read as read_result
from ddim.files import as_table

LEVELS = ("held_out_by_level", "train_by_level")  # of a line of metrics: losses in ten equal parts of [0, T]
DISTANCES = {"frechet": "Fréchet distance", "kid": "kernel distance (KID)"}  # of a line of metrics
BINS = 10
SNAPSHOTS = 8  # of the samples during training, at most
LEAST, MOST = 1e-9, 1e9  # a loss between them can be drawn


@dataclass(frozen=True)
class Snapshot:
    """Samples during training, (N, C, H, W) uint8: the same noise with the weights of one step."""

    step: int
    averaged: Tensor
    latest: Tensor


@dataclass(frozen=True)
class RunFolder:
    """A run."""

    folder: Path
    model: Denoiser  # with the averaged weights
    config: dict[str, Any]  # `config.json`
    environment: dict[str, Any]  # `environment.json`; empty if there is none
    metrics: list[dict[str, Any]]  # the lines of `metrics.jsonl`
    facts: dict[str, dict[str, Any]]  # `results/NAME.json` of each experiment with a result
    results: dict[str, Result]  # the same: made with these weights, or with earlier ones of a training that still runs
    problems: dict[str, str]  # for each experiment without a result the reason, as a sentence
    earlier: frozenset[str]  # names of the experiments whose results are of earlier weights
    evaluated: frozenset[str]  # names of the experiments whose results are those of `ddim evaluate`
    data: Tensor | None  # (N, C, H, W) uint8, some training images
    snapshots: list[Snapshot]  # some of `samples/step-*.safetensors`, in order
    validation: list[dict[str, Any]]  # the lines of `metrics.jsonl` with the distance of samples to held-out images

    @property
    def recipe(self) -> dict[str, Any]:
        """What it was trained on and how; empty for a model without a recipe."""
        return as_table(self.config.get("recipe"))

    @property
    def plan(self) -> dict[str, Any]:
        """The plan of its training; empty if unknown."""
        return as_table(self.recipe.get("plan"))

    @property
    def weighting(self) -> str:
        """Of the loss of its training; "simple" if unknown."""
        name = self.plan.get("weighting")
        return name if isinstance(name, str) else "simple"

    @property
    def metric(self) -> str:
        """The distance of the last line of `validation`, a name in `DISTANCES`; empty without one."""
        return next((name for line in self.validation[-1:] for name in DISTANCES if name in line), "")

    @property
    def distances(self) -> list[dict[str, Any]]:
        """The lines of `validation` with that distance; earlier ones may have another, if the images changed."""
        return [line for line in self.validation if self.metric in line]

    @property
    def searches(self) -> list[dict[str, Any]]:
        """The lines of `distances` with a search for copies."""
        return [line for line in self.distances if {"copies", "copies_p"} <= line.keys()]

    @property
    def levels(self) -> list[dict[str, Any]]:
        """The lines of metrics with the loss by noise level, of both sets."""
        return [line for line in self.metrics if all(name in line for name in LEVELS)]

    def samples(self, name: str) -> Samples | None:
        """Return the samples of an experiment; None if they are missing or damaged."""
        place = EVALUATED if name in self.evaluated else "samples"
        return load_samples(self.folder, experiments[name], self.model.shape, place)


def read(
    folder: Path, network: nn.Module | None = None, clean: Callable[[Any], Any] = lambda content: content
) -> RunFolder:
    """Read a run, which may be training meanwhile.

    Args:
        folder: of the run. It must hold a model, else `UserError`; everything else may be missing or broken.
        network: the module, for a model whose network is the user's own.
        clean: applied to the configuration and to the results, for a report that others may read.
    """
    model = model_io.load(folder, network)
    weights, config = model_io.fingerprint(folder), read_config(folder)
    facts: dict[str, dict[str, Any]] = {}
    results: dict[str, Result] = {}
    problems: dict[str, str] = {}
    earlier, evaluated = set(), set()
    for name, experiment in experiments.items():
        stored = read_result(folder, experiment)
        if stored.result is None or stored.facts.get("weights") != weights:
            other = read_result(folder, experiment, EVALUATED)
            if other.result is not None and other.facts.get("weights") == weights:
                stored = other
                evaluated.add(name)
        if stored.result is None:
            problems[name] = stored.problem
            continue
        if stored.facts.get("weights") != weights:
            if config.get("finished") is not False or not _of_this_training(folder, name):
                problems[name] = f"results/{name}.json was made with other weights."
                continue
            earlier.add(name)
        cleaned = clean(stored.facts)
        facts[name], results[name] = cleaned, convert(experiment, cleaned) or stored.result
    data = load_tensors(folder / "samples/data.safetensors", {"images": 4}, model.shape)
    environment: dict[str, Any] = {}
    with suppress(OSError, ValueError, RecursionError):
        environment = load_json(folder / "environment.json")
    metrics, snapshots = read_metrics(folder / "metrics.jsonl"), _snapshots(folder / "samples", model.shape)
    images = data["images"] if data else None
    known = (facts, results, problems, frozenset(earlier), frozenset(evaluated))
    validation = read_validation(folder / "metrics.jsonl")
    return RunFolder(folder, model, clean(config), environment, metrics, *known, images, snapshots, validation)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of `metrics.jsonl` with losses: of each its numbers and its losses by level."""
    lines = []
    for content in _tables(path):
        line = {name: n for name, n in content.items() if _is_number(n) and name not in LEVELS}
        if {"epoch", "loss", "held_out"} <= line.keys() and math.isfinite(line["epoch"]):
            lines.append(line | {name: content[name] for name in LEVELS if _are_levels(content.get(name))})
    return lines


def read_validation(path: Path) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl` with a distance of samples, by step; of each its finite numbers."""
    lines = {}
    for content in _tables(path):
        line = {name: n for name, n in content.items() if _is_number(n) and math.isfinite(n)}
        if {"epoch", "step"} <= line.keys() and line.keys() & set(DISTANCES):
            lines[line["step"]] = line
    return [lines[step] for step in sorted(lines)]


def _tables(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of `metrics.jsonl` that can be read."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for text in texts:
        with suppress(ValueError, RecursionError):
            yield as_table(json.loads(text))


def images_seen(config: dict[str, Any], metrics: list[dict[str, Any]]) -> int | None:
    """Return how many images a training has seen, by its `config.json` and its metrics; None if unknown."""
    size = as_table(as_table(config.get("recipe")).get("plan")).get("batch_size")
    known = metrics and "step" in metrics[-1] and isinstance(size, int) and size > 0
    return metrics[-1]["step"] * size if known else None


def _of_this_training(folder: Path, name: str) -> bool:
    """Whether a result is newer than `environment.json`, which a training writes when it begins."""
    with suppress(OSError):
        made, began = (folder / path for path in (f"results/{name}.json", "environment.json"))
        return made.stat().st_mtime > began.stat().st_mtime
    return False


def _snapshots(folder: Path, shape: tuple[int, ...]) -> list[Snapshot]:
    """Up to eight of the samples during training, the first and the last among them, in order."""
    paths = {path.stem.removeprefix("step-"): path for path in folder.glob("step-*.safetensors")}
    steps = sorted((int(name), path) for name, path in paths.items() if name.isdecimal())
    snapshots = []
    for i in torch.linspace(0, len(steps) - 1, min(SNAPSHOTS, len(steps))).round().int().tolist():
        step, path = steps[i]
        tensors = load_tensors(path, {"averaged": 4, "latest": 4}, shape)
        if tensors and len(tensors["averaged"]) == len(tensors["latest"]):
            snapshots.append(Snapshot(step, tensors["averaged"], tensors["latest"]))
    return snapshots


def _is_number(content: object) -> TypeGuard[int | float]:
    """Whether it is a number, and no whole number that a float cannot hold."""
    return isinstance(content, float) or (type(content) is int and abs(content) < 2**63)


def _are_levels(content: object) -> bool:
    numbers = content if isinstance(content, list) else []
    return len(numbers) == BINS and all(_is_number(n) and LEAST < n < MOST for n in numbers)
