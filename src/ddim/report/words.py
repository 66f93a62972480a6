"""The head of the report: what was trained, on what and how well, in words and numbers."""

from typing import Any

from ddim.report.claims import no_copies
from ddim.report.kinds import RESULTS
from ddim.report.numbers import duration, power, short
from ddim.report.overfit import verdict
from ddim.report.reading import images_seen
from ddim.report.record import Record


def title(record: Record) -> str:
    """The heading of the page."""
    return f"Diffusion on {record.recipe['data']}" if "data" in record.recipe else "A diffusion model"


def tiles(record: Record) -> list[tuple[str, str]]:
    """The few numbers to remember, as (number, what it is)."""
    found = [(short(_parameters(record)), "parameters")]
    if record.metrics:
        last = record.metrics[-1]
        found.append((f"{last['epoch']:.3g}", "epochs"))
        if "seconds" in last:
            found.append(duration(last["seconds"], "of training"))
        found.append((f"{last['held_out']:.4f}", "held-out loss"))
    if gallery := record.results.get("gallery"):
        one = gallery["ddim"]
        found.append((f"{1000 * one['seconds'] / one['count']:.3g} ms", f"an image, S = {one['steps']}"))
    return found


def facts(record: Record) -> list[tuple[str, str]]:
    """(subject, sentence) pairs; what is not known is left out."""
    rows = [
        ("Data", _data(record)),
        ("Network", _network(record)),
        ("Noise", _noise(record)),
        ("Training", _training(record)),
        ("Loss at the end", _loss(record)),
        ("Sampling", _sampling(record)),
        ("Machine", _machine(record)),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        ),
    ]
    return [(subject, words) for subject, words in rows if words]


def notes(record: Record) -> dict[str, str]:
    """What is to be said of this run's figures alone, by the figure: above all what a limit of time took away."""
    shown_in = {"samples": "gallery", "denoising": "strips"} | {name: name for name in RESULTS if name != "gallery"}
    found = {plate: record.results.get(name, {}).get("cut") for plate, name in shown_in.items()}
    said = {plate: f"This is not the whole: {cut}." for plate, cut in found.items() if isinstance(cut, str)}
    said["memorisation"] = f"{no_copies(record).words} {said.get('memorisation', '')}"
    if hasattr(record.model.network, "down") and hasattr(record.model.network, "up"):
        said["network"] = (
            "On the way down the image gets smaller and its channels more; on the way up it grows back, and skip "
            "connections bring the fine detail along."
        )
    for plate, name in shown_in.items():
        if name in record.earlier:
            said[plate] = f"Training went on meanwhile: this shows earlier weights. {said.get(plate, '')}"
    said["levels"] = verdict(record)
    if record.plan.get("ema") == [0]:
        said["along"] = "This run averages no weights, and so both sides are the same."
    if record.model.predicts == "eps":
        said["learning"] = "A network that always answers 0 would score 1."
        said["strips"] = (
            "Near T the division by a tiny signal rate magnifies the network’s smallest error, so the very first "
            f"guesses lie at the limits. {said.get('strips', '')}"
        )
    else:
        said["learning"] = f"This network predicts {record.model.predicts}, and so the loss is that of it."
        said["strips"] = (
            f"Here ε is read off the {record.model.predicts} that the network predicts. {said.get('strips', '')}"
        )
    if record.weighting != "simple":
        said["learning"] += (
            f" What training lowers is weighted ({record.weighting}), another quantity, and not drawn here."
        )
    return said


def _parameters(record: Record) -> int:
    return sum(p.numel() for p in record.model.network.parameters())


def _data(record: Record) -> str:
    channels, height, width = record.model.shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    name = f"{record.recipe['data']}, " if "data" in record.recipe else ""
    only = record.recipe.get("classes")
    return f"{name}{height} × {width} pixels, {kind}" + (f"; only {only}" if only else "")


def _network(record: Record) -> str:
    options = dict(record.config["network"])
    name = options.pop("name", "custom")
    words = "; ".join(f"{key} {_plain(value)}" for key, value in options.items() if value is not None)
    return f"{name}, {_parameters(record):,} parameters, predicts {record.model.predicts}" + (
        f" ({words})" if words else ""
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _noise(record: Record) -> str:
    schedule = record.model.schedule
    name = schedule.config.get("name", "custom")
    return f"{name} schedule, T = {schedule.T}; ᾱ falls from 1 to {power(float(schedule.alpha_bar[-1]))}"


def _training(record: Record) -> str:
    if not record.metrics:
        return ""
    last = record.metrics[-1]
    parts = [f"{last['epoch']:.4g} epochs"]
    seen = images_seen(record.config, record.metrics)
    if seen is not None:
        parts.append(f"{last['step']:,} updates of {record.batch_size} images, {seen:,} images seen")
    if "seconds" in last:
        parts.append(" ".join(duration(last["seconds"], f"on {record.environment.get('device', 'one device')}")))
    if "images_per_second" in last:
        parts.append(f"{last['images_per_second']:,.0f} images per second")
    return "; ".join(parts)


def _loss(record: Record) -> str:
    if not record.metrics:
        return ""
    last = record.metrics[-1]
    held_out = f"{last['held_out']:.4f} on held-out images"
    if "train" in last:
        return f"{last['train']:.4f} on training images; {held_out}, both with averaged weights"
    weighted = "" if record.weighting == "simple" else ", weighted"
    return f"{last['loss']:.4f} on training images{weighted}; {held_out}, with averaged weights"


def _sampling(record: Record) -> str:
    default = record.model.sampling
    eta = "" if default.eta is None else f", eta = {default.eta}"
    return f"by default {default.sampler}{eta} in {default.steps} steps on a {default.spacing} ladder"


def _machine(record: Record) -> str:
    where = record.environment
    cores = f"{where['cores']} cores" if "cores" in where else ""
    return ", ".join(str(part) for part in (where.get("processor"), cores, where.get("platform")) if part)
