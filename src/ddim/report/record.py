"""What a run's folder holds, read once: the figures and the words are made from this alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ddim import model_io
from ddim.denoiser import Denoiser
from ddim.report.kinds import RESULTS, SAMPLES
from ddim.report.reading import LEVELS, Stop, along, as_table, fits, images, metrics, table


@dataclass(frozen=True)
class Record:
    """A run, as far as it is there.

    Attributes:
        folder: where it lies.
        model: with the averaged weights.
        config: `config.json`.
        environment: `environment.json`; empty if there is none.
        metrics: the lines of `metrics.jsonl`.
        results: `results/<name>.json` of every experiment that was made with these very weights, or with
            earlier ones of a training that still goes on.
        earlier: the names of the latter.
        samples: `samples/<name>.safetensors`, tensors by name; empty for a file that is not there.
        along: some of `samples/step-*.safetensors`, in order.
    """

    folder: Path
    model: Denoiser
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]
    earlier: frozenset[str]
    samples: dict[str, dict[str, Tensor]]
    along: list[Stop]

    @property
    def recipe(self) -> dict[str, Any]:
        """What it was trained by; empty for a model that came without a recipe."""
        return as_table(self.config.get("recipe"))

    @property
    def plan(self) -> dict[str, Any]:
        """How it was trained; empty if that is not known."""
        return as_table(self.recipe.get("plan"))

    @property
    def batch_size(self) -> int | None:
        """Of its training; None if that is not known."""
        size = self.plan.get("batch_size")
        return size if isinstance(size, int) else None

    @property
    def weighting(self) -> str:
        """Of the loss that its training lowered; "simple" if that is not known."""
        name = self.plan.get("weighting")
        return name if isinstance(name, str) else "simple"

    @property
    def versions(self) -> dict[str, Any]:
        """Of what it was trained with; empty if that is not known."""
        return as_table(self.environment.get("versions"))

    @property
    def levels(self) -> list[dict[str, Any]]:
        """The lines of metrics that tell the loss by noise level, of both sets."""
        return [line for line in self.metrics if all(name in line for name in LEVELS)]

    @property
    def strips(self) -> dict[str, Tensor] | None:
        """The tensors of the strips, as `ddim.experiments.strips` describes them; None if they are not there."""
        tensors = self.samples["strips"]
        names = {"eta0.x", "eta0.x0", "eta1.x", "eta1.x0"}
        if "strips" not in self.results or tensors.keys() != names | {"times"}:
            return None
        times, shapes = tensors["times"], {tensors[name].shape for name in names}
        whole = len(shapes) == 1 and times.shape == shapes.pop()[:1] and len(times) > 1
        return tensors if whole and times.is_floating_point() else None


def read(folder: Path, network: nn.Module | None = None) -> Record:
    """Read a run, which may be training meanwhile.

    Raises:
        UserError: the folder holds no model. All else may be missing or broken.
    """
    model = model_io.load(folder, network)
    weights = model_io.fingerprint(folder)
    config = model_io.read_config(folder)
    found = {name: table(folder / "results" / f"{name}.json") for name in RESULTS}
    if "metrics" in found["evaluation"]:
        found["evaluation"]["figures"] = found["evaluation"]["metrics"]
    results = {name: facts for name, facts in found.items() if facts and fits(facts, RESULTS[name])}
    others = {name for name, facts in results.items() if facts.get("weights") != weights}
    earlier = {name for name in others if config.get("finished") is False and _of_this_training(folder, name)}
    return Record(
        folder,
        model,
        config,
        table(folder / "environment.json"),
        metrics(folder / "metrics.jsonl"),
        {name: facts for name, facts in results.items() if name not in others - earlier},
        frozenset(earlier),
        {name: images(folder / "samples" / f"{name}.safetensors", model.shape, n) for name, n in SAMPLES.items()},
        along(folder / "samples", model.shape),
    )


def _of_this_training(folder: Path, name: str) -> bool:
    """Whether results are younger than `environment.json`, which a training writes when it begins."""
    try:
        made, began = (folder / path for path in (f"results/{name}.json", "environment.json"))
        return made.stat().st_mtime > began.stat().st_mtime
    except OSError:
        return False
