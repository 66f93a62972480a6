"""The page: one HTML file with its style, its script and its figures inside, which loads nothing.

Its header says what was trained, on which data and how well.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from ddim import doctor
from ddim.experiments.base import MARKS
from ddim.experiments.timing import Result as Timing
from ddim.files import as_table
from ddim.plots.numbers import duration, power, short
from ddim.report.sections import Section
from ddim.run_folder import RunFolder, images_seen
from ddim.text import counted, plural

TYPES = {".svg": "image/svg+xml", ".gif": "image/gif"}


def render(run: RunFolder, sections: Sequence[Section]) -> str:
    """Return the whole page. Everything that comes from the run's files is escaped."""
    return environment().get_template("page.html.j2").render(context(run, sections))


def environment() -> Environment:
    """Return jinja2's environment of the report's templates, with their filters."""
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    templates = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    templates.filters |= {"data_url": _data_url, "unbroken": _unbroken}
    return templates


def context(run: RunFolder, sections: Sequence[Section]) -> dict[str, Any]:
    """Return what the templates of the page and of the Markdown are filled with."""
    figures = [section.name for section in sections if section.figure]
    return {
        "title": f"Diffusion on {run.recipe['data']}" if "data" in run.recipe else "A diffusion model",
        "tiles": tiles(run),
        "facts": facts(run),
        "sections": sections,
        "labels": {name: f"Figure {number}" for number, name in enumerate(figures, 1)},
        "left_out": left_out(sections),
        "marks": MARKS | doctor.MARKS,
        "findings": doctor.examine(run),
    }


def left_out(sections: Sequence[Section]) -> str:
    """Return how many experiments were shortened and how many figures are not shown; empty if none."""
    cut, absent = sum(bool(one.cut) for one in sections), sum(one.figure is None for one in sections)
    parts = [f"{counted(cut, 'experiment was', 'experiments were')} shortened"] if cut else []
    parts += [f"{counted(absent, 'figure is', 'figures are')} not shown"] if absent else []
    return f"{' and '.join(parts)}." if parts else ""


def tiles(run: RunFolder) -> list[tuple[str, str]]:
    """Return the few most important numbers, as (number, what it is)."""
    parameters = short(_parameters(run))
    numbers = [(parameters, plural(parameters, "parameter"))]
    if run.metrics:
        last = run.metrics[-1]
        passes = f"{last['epoch']:.3g}"
        numbers.append((passes, plural(passes, "epoch")))
        if "seconds" in last:
            numbers.append(duration(last["seconds"], "of training"))
        numbers.append((f"{last['held_out']:.4f}", "held-out loss"))
    timing = run.results.get("timing")
    if isinstance(timing, Timing):
        usual = timing.usual
        numbers.append((f"{usual.milliseconds} ms", f"an image, S = {usual.steps}, batch of {timing.batch}"))
    return numbers


def facts(run: RunFolder) -> list[tuple[str, str]]:
    """Return (subject, text) pairs; what is unknown is left out."""
    schedule, end = run.model.schedule.config.get("name", "custom"), float(run.model.schedule.alpha_bar[-1])
    default, machine = run.model.sampling, run.environment
    eta = "" if default.eta is None else f", eta = {default.eta}"
    preset, steps = run.model.preset(), counted(default.steps, "step")
    usual = f"{default.sampler}{eta} in {steps} with {default.spacing} spacing"
    cores = f"{machine['cores']} {plural(str(machine['cores']), 'core')}" if "cores" in machine else ""
    parts = (machine.get("processor"), cores, machine.get("platform"))
    versions = as_table(machine.get("versions"))
    rows = [
        ("Data", _data(run)),
        ("Network", _network(run)),
        ("Noise", f"{schedule} schedule, T = {run.model.schedule.T:g}; ᾱ falls from 1 to {power(end)}"),
        *(_training(run, run.metrics[-1]) if run.metrics else ()),
        ("Sampling", f"by default {usual if preset is None else f'the {preset.describe()}'}"),
        ("Machine", ", ".join(str(part) for part in parts if part)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(subject, text) for subject, text in rows if text]


def _parameters(run: RunFolder) -> int:
    return sum(p.numel() for p in run.model.network.parameters())


def _data(run: RunFolder) -> str:
    channels, height, width = run.model.shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    name = f"{run.recipe['data']}, " if "data" in run.recipe else ""
    only = f"; only {run.recipe['classes']}" if run.recipe.get("classes") else ""
    return f"{name}{height} × {width} pixels, {kind}{only}"


def _network(run: RunFolder) -> str:
    options = {key: value for key, value in run.config["network"].items() if value is not None}
    name = options.pop("name", "custom")
    lists = {key: ", ".join(map(str, value)) for key, value in options.items() if isinstance(value, list)}
    text = "; ".join(f"{key} {value}" for key, value in (options | lists).items())
    about = f"{name}, {counted(_parameters(run), 'parameter')}, predicts {run.model.predicts}"
    return f"{about} ({text})" if text else about


def _training(run: RunFolder, last: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows on the training, by the last line of its metrics."""
    parts = [counted(last["epoch"], "epoch")]
    seen = images_seen(run.config, run.metrics)
    if seen is not None:
        updates, batch = counted(last["step"], "update"), counted(run.plan["batch_size"], "image")
        parts.append(f"{updates} of {batch}, {counted(seen, 'image')} seen")
    if "seconds" in last:
        parts.append(" ".join(duration(last["seconds"], f"on {run.environment.get('device', 'one device')}")))
    if "images_per_second" in last:
        rate = f"{last['images_per_second']:,.0f}"
        parts.append(f"{rate} {plural(rate, 'image')} per second")
    held_out = f"{last['held_out']:.4f} on held-out images"
    weighted = "" if run.weighting == "simple" else ", weighted"
    loss = f"{last['loss']:.4f} on training images{weighted}; {held_out}, with averaged weights"
    if "train" in last:
        loss = f"{last['train']:.4f} on training images; {held_out}, both with averaged weights"
    return [("Training", "; ".join(parts)), ("Loss at the end", loss)]


def _data_url(path: Path) -> str:
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _unbroken(text: str) -> Markup:
    """Escaped text without line breaks inside S = 10."""
    return Markup(escape(text).replace(" = ", "\u00a0=\u00a0"))
