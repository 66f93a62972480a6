"""`ddim tune`: the best way to sample a model with a small number of network calls, kept in the model's config."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.options import BackendFlags, DataDir, Device, numbers, writable
from ddim.cli.subjects import Subject
from ddim.errors import Notice, UserError
from ddim.text import counted, duration

if TYPE_CHECKING:
    from ddim.data import Images
    from ddim.presets import Preset
    from ddim.tune import Verdict


@dataclass(frozen=True)
class Tune:
    """Find the solver, the times and a few corrections that serve a model best at small numbers of network calls.

    The results are presets in the run's config.json: `ddim sample RUN --steps 8` then takes the preset of 8 network
    calls, unless --sampler, --eta or --spacing is given. A tuned method is accepted only if its samples are closer to
    real images than those of the plain solvers. For a model with classes, class guidance is tried too; it is also
    accepted if it makes more samples of the requested class at no larger distance.

    For example:
      ddim tune runs/mnist
      ddim tune runs/mnist --calls 4,6 --count 1000
      ddim tune runs/photos --no-images
    """

    run_folder: Annotated[Positional[str], arg(metavar="RUN")]
    """A run, e.g. runs/mnist."""
    calls: str = "5,8,10"
    """Numbers of network calls per image, from 1 to T each. A call with guidance counts twice."""
    guidance: bool = True
    """Try class guidance, if the model has classes and a null class."""
    count: int | None = None
    """Number of samples of each method at acceptance; 300 if not given."""
    images: bool = True
    """Compare with the held-out images of the training data. Without them, or with --no-images, with the samples of a
    solver with 60 steps."""
    extractor: str | None = None
    """Name of the feature extractor at acceptance (see `ddim list extractors`); the best one for the data if not
    given."""
    seed: int = 0
    """Seed of all noise."""
    data_dir: DataDir = None
    device: Device = None
    compute: BackendFlags = field(default_factory=BackendFlags)

    def run(self) -> dict[str, Any]:
        from ddim.backends import serve
        from ddim.device import choose_device
        from ddim.experiments.cost import forward_seconds
        from ddim.loading import comes_with_ddim
        from ddim.progress import bar, note
        from ddim.tune import COUNT, NOISES, REAL, image_calls, search

        subject = Subject.find(self.run_folder)
        folder = subject.folder
        if comes_with_ddim(folder):
            raise UserError(
                f"{self.run_folder} comes with ddim, and nothing is written into the package; copy its folder, and "
                "tune the copy."
            )
        writable(folder)
        calls, count = numbers("calls", self.calls, int), COUNT if self.count is None else self.count
        model = subject.model.to(choose_device(self.device))
        images = self._held_out(subject) if self.images else None
        total = image_calls(model, calls, images, count, self.guidance)
        serve(model, self.compute.backend, self.compute.precision)
        chosen: dict[str, Any] = {"extractor": self.extractor, "guidance": self.guidance, "seed": self.seed}
        begin = partial(search, model, calls, images=images, count=count, **chosen)
        begin()  # refuses before the estimate; the search itself begins with its first result
        seconds = total * forward_seconds(model, NOISES, repeats=3) / NOISES
        what = "samples of a solver with 60 steps" if images is None else f"{min(len(images), REAL):,} held-out images"
        note(f"Tuning for {self.calls} network calls against {what} takes about {duration(seconds)}.")
        with bar(total=total, desc="tuning", unit="call") as progress:
            found = list(begin(tick=progress.update))
        keep(folder, [verdict.preset for verdict in found])
        print("\n".join(table(found)))
        print(f"The presets are in {folder / 'config.json'}; `ddim sample {self.run_folder} --steps N` takes them.")
        return {"presets": [verdict.preset.to_dict() for verdict in found]}

    def _held_out(self, subject: Subject) -> "Images | None":
        """Return the held-out images of a run's training data; None if they are not there, which a `Notice` says."""
        from ddim.data import open_images

        try:
            return open_images(**subject.training_data("--no-images"), split="test", data_dir=self.data_dir)
        except UserError as error:
            reason = str(error).removesuffix("; --no-images")
            text = f"Tuning compares with samples of a solver with 60 steps, not with held-out images: {reason}"
            warnings.warn(text, Notice, stacklevel=2)
            return None


def keep(folder: Path, presets: "Sequence[Preset]") -> None:
    """Write presets into the `config.json` of a model, in place of those of as many calls and of the stale ones.

    The file is whole at any time. Raises `UserError` if it cannot be read or written.
    """
    from ddim.config import check_config, read_config
    from ddim.files import write_text

    path, config = folder / "config.json", read_config(folder)
    calls, weights = {preset.calls for preset in presets}, {preset.weights for preset in presets}
    kept = [one for one in config.get("presets", ()) if one["calls"] not in calls and one["weights"] in weights]
    config["presets"] = sorted([*kept, *(preset.to_dict() for preset in presets)], key=lambda one: one["calls"])
    check_config(config, path)
    write_text(path, json.dumps(config, indent=2) + "\n")


def table(verdicts: "Sequence[Verdict]") -> list[str]:
    """Return what was found as lines of text."""
    first = verdicts[0].preset
    rows = [("calls", "best plain solver", "", "DDIM", "tuned", "guided", "accuracy", "")]
    for verdict in verdicts:
        preset = verdict.preset
        rows.append(
            (
                str(preset.calls),
                preset.best_plain,
                f"{preset.plain:.2f}",
                f"{preset.ddim:.2f}",
                "-" if verdict.tuned_distance is None else f"{verdict.tuned_distance:.2f}",
                "" if verdict.guided_distance is None else f"{verdict.guided_distance:.2f}",
                "" if verdict.accuracies is None else " to ".join(f"{one:.1%}" for one in verdict.accuracies),
                f"accepted: {preset.text()}" if verdict.accepted else "not accepted",
            )
        )
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    aligned = [
        [cell.ljust(width) if any(map(str.isalpha, column[1])) else cell.rjust(width) for cell in column]
        for column in columns
        for width in (max(map(len, column)),)
    ]
    lines = ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]
    lines.append(
        f"Fréchet distance of {counted(first.count, 'sample')} from {first.reference}, extractor {first.extractor}."
    )
    if any(verdict.accuracies for verdict in verdicts):
        lines.append("Accuracy, the share of samples of the requested class: of the best plain solver to the preset's.")
    if kept := [str(one.preset.calls) for one in verdicts if not one.accepted]:
        lines.append(f"Nothing beat the plain solvers at {', '.join(kept)} calls: the best of them is the preset.")
    return lines
