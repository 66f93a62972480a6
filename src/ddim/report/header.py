"""The header of the report: what was trained, on which data and how well."""

from typing import Any

from ddim.experiments.gallery import Result as Gallery
from ddim.plots.numbers import duration, power, short
from ddim.report.run_folder import RunFolder, as_table, images_seen


def title(run: RunFolder) -> str:
    """Return the heading of the page."""
    return f"Diffusion on {run.recipe['data']}" if "data" in run.recipe else "A diffusion model"


def tiles(run: RunFolder) -> list[tuple[str, str]]:
    """Return the few most important numbers, as (number, what it is)."""
    numbers = [(short(_parameters(run)), "parameters")]
    if run.metrics:
        last = run.metrics[-1]
        numbers.append((f"{last['epoch']:.3g}", "epochs"))
        if "seconds" in last:
            numbers.append(duration(last["seconds"], "of training"))
        numbers.append((f"{last['held_out']:.4f}", "held-out loss"))
    gallery = run.results.get("gallery")
    if isinstance(gallery, Gallery):
        ddim = gallery.ddim
        numbers.append((f"{1000 * ddim.seconds / ddim.count:.3g} ms", f"an image, S = {ddim.steps}"))
    return numbers


def facts(run: RunFolder) -> list[tuple[str, str]]:
    """Return (subject, text) pairs; what is unknown is left out."""
    rows = [
        ("Data", _data(run)),
        ("Network", _network(run)),
        ("Noise", _noise(run)),
        ("Training", _training(run)),
        ("Loss at the end", _loss(run)),
        ("Sampling", _sampling(run)),
        ("Machine", _machine(run)),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in as_table(run.environment.get("versions")).items()),
        ),
    ]
    return [(subject, text) for subject, text in rows if text]


def _parameters(run: RunFolder) -> int:
    return sum(p.numel() for p in run.model.network.parameters())


def _data(run: RunFolder) -> str:
    channels, height, width = run.model.shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    name = f"{run.recipe['data']}, " if "data" in run.recipe else ""
    only = run.recipe.get("classes")
    return f"{name}{height} × {width} pixels, {kind}" + (f"; only {only}" if only else "")


def _network(run: RunFolder) -> str:
    options = dict(run.config["network"])
    name = options.pop("name", "custom")
    text = "; ".join(f"{key} {_plain(value)}" for key, value in options.items() if value is not None)
    return f"{name}, {_parameters(run):,} parameters, predicts {run.model.predicts}" + (
        f" ({text})" if text else ""
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _noise(run: RunFolder) -> str:
    schedule = run.model.schedule
    name = schedule.config.get("name", "custom")
    return f"{name} schedule, T = {schedule.T}; ᾱ falls from 1 to {power(float(schedule.alpha_bar[-1]))}"


def _training(run: RunFolder) -> str:
    if not run.metrics:
        return ""
    last = run.metrics[-1]
    parts = [f"{last['epoch']:.4g} epochs"]
    seen = images_seen(run.config, run.metrics)
    if seen is not None:
        parts.append(f"{last['step']:,} updates of {run.plan['batch_size']} images, {seen:,} images seen")
    if "seconds" in last:
        parts.append(" ".join(duration(last["seconds"], f"on {run.environment.get('device', 'one device')}")))
    if "images_per_second" in last:
        parts.append(f"{last['images_per_second']:,.0f} images per second")
    return "; ".join(parts)


def _loss(run: RunFolder) -> str:
    if not run.metrics:
        return ""
    last = run.metrics[-1]
    held_out = f"{last['held_out']:.4f} on held-out images"
    if "train" in last:
        return f"{last['train']:.4f} on training images; {held_out}, both with averaged weights"
    weighted = "" if run.weighting == "simple" else ", weighted"
    return f"{last['loss']:.4f} on training images{weighted}; {held_out}, with averaged weights"


def _sampling(run: RunFolder) -> str:
    default = run.model.sampling
    eta = "" if default.eta is None else f", eta = {default.eta}"
    return f"by default {default.sampler}{eta} in {default.steps} steps with {default.spacing} spacing"


def _machine(run: RunFolder) -> str:
    environment = run.environment
    cores = f"{environment['cores']} cores" if "cores" in environment else ""
    return ", ".join(
        str(part) for part in (environment.get("processor"), cores, environment.get("platform")) if part
    )
