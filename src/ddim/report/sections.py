"""The sections of the report, of training and of experiments: figure, caption, tables, note and claims of each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ddim.experiments import Claim, Drawing, Experiment, Extra, Table, experiments
from ddim.files import write_bytes
from ddim.plots.canvas import save, styled
from ddim.report import losses, network, training, validation
from ddim.report.training import TrainingSection
from ddim.run_folder import RunFolder


@dataclass(frozen=True)
class Section:
    """A section of the report, as the page and the Markdown show it."""

    name: str  # of its files in `figures/`, and its anchor on the page
    title: str
    reference: str  # where the papers show the same
    command: str  # makes what it shows; empty if it does not apply to the model
    caption: str  # HTML
    figure: Path | None  # the SVG or GIF
    problem: str = ""  # where there is no figure, the reason, as a sentence
    cut: str = ""  # what a limit of time took away
    tables: tuple[Table, ...] = ()  # below the figure
    note: str = ""  # what to say about this run alone, in plain text
    claims: tuple[Claim, ...] = ()  # that its numbers decide
    in_markdown: bool = True

    @property
    def shown(self) -> bool:
        """Whether there is something to show; the page lists the others at its end."""
        return self.figure is not None or bool(self.tables)


def sections(run: RunFolder, draw: bool = True) -> list[Section]:
    """Return all sections in the order of the page; `draw` the figures, or take those that are in `figures/`."""
    measured = (validation.SECTION,) if run.validation else ()
    parts = (*training.SECTIONS[:2], network.SECTION, *losses.SECTIONS, *measured, *training.SECTIONS[2:])
    found = [_of_training(run, part, draw) for part in parts]
    return found + [section for one in in_order() for section in _of_experiment(run, one, draw)]


def in_order() -> list[Experiment[Any]]:
    """Return the experiments in the order of the page."""
    return sorted(experiments.values(), key=lambda one: one.place)


def claims(run: RunFolder) -> list[Claim]:
    """Return the claims of all experiments in the order of the page."""
    return [claim for one in in_order() for claim in _claims(run, one)]


def _claims(run: RunFolder, experiment: Experiment[Any]) -> list[Claim]:
    """Return the claims of an experiment; none if it does not apply to the model."""
    if experiment.unsuitable(run.model):
        return []
    return experiment.claims(run.results.get(experiment.name), run.model.schedule.N)


def _of_training(run: RunFolder, part: TrainingSection, draw: bool) -> Section:
    figure, _ = _file(run, part.name, lambda: part.figure(run), draw)
    same = (part.name, part.title, part.reference, part.command, part.caption)
    shown = part.in_markdown and figure is not None
    return Section(*same, figure, part.problem, note=part.note(run), in_markdown=shown)


def _of_experiment(run: RunFolder, experiment: Experiment[Any], draw: bool) -> list[Section]:
    """Return the section of an experiment, and those of its extra figures."""
    name, model = experiment.name, run.model
    result = run.results.get(name)
    samples = run.samples(name) if result is not None and experiment.shows_samples else {}
    unsuitable = experiment.unsuitable(model)
    problem = unsuitable or run.problems.get(name, "" if samples is not None else "Its samples are missing or damaged.")
    notes = ["Training has continued since: this shows earlier weights." if name in run.earlier else ""]
    notes += [f"Not everything was measured: {result.cut}." if result is not None and result.cut else ""]
    tables = experiment.tables(result) if result is not None else []

    def section(part: Experiment[Any] | Extra, name: str, *notes: str, **more: Any) -> Section:
        known = result is not None and samples is not None
        drawn, why = _file(run, name, lambda: part.figure(result, samples or {}) if known else None, draw)
        made = "ddim evaluate RUN" if experiment.name in run.evaluated else experiment.command
        command = "" if unsuitable else made
        same = (name, part.title, experiment.reference, command, part.caption)
        why = problem or why or "Its samples or numbers do not fit its result."
        return Section(*same, drawn if known else None, why, note=" ".join(filter(None, notes)), **more)

    own = section(
        experiment,
        experiment.section or name,
        experiment.note(result, model) if result is not None else "",
        *notes,
        cut=(result.cut or "") if result is not None else "",
        tables=tuple(table for table in tables if table.rows),
        claims=tuple(_claims(run, experiment)),
        in_markdown=result is not None,
    )
    return [own, *(section(extra, extra.name, *notes, in_markdown=False) for extra in experiment.extras)]


def _file(run: RunFolder, name: str, figure: Callable[[], Drawing], draw: bool) -> tuple[Path | None, str]:
    """Draw a figure into `figures/`, or remove an older one if there is nothing to draw.

    Return its file, and the reason why there is none if the experiment says one.
    """
    stem = run.folder / "figures" / name
    if not draw:
        return next((path for suffix in (".svg", ".gif") if (path := stem.with_suffix(suffix)).is_file()), None), ""
    with styled():
        drawn = figure()
        if isinstance(drawn, bytes):
            write_bytes(stem.with_suffix(".gif"), drawn)
            return stem.with_suffix(".gif"), ""
        if isinstance(drawn, Figure):
            save(drawn, stem)
            return stem.with_suffix(".svg"), ""
    for suffix in (".png", ".svg", ".gif"):
        stem.with_suffix(suffix).unlink(missing_ok=True)
    return None, drawn or ""
