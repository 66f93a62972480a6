"""The table and the figure of `sampling_peers.py`, from its JSON."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from ddim.files import writing
from ddim.plots import canvas
from ddim.plots.numbers import three
from ddim.text import counted

OURS, PEER = "ddim", "diffusers"  # the aims compare these
AIMS = {"mnist": {1: 2.5, 16: 2.0, 64: 3.0}, "airplanes": {1: 4.0, 16: 3.5, 64: 2.2}}  # times as fast
PLAIN_AIM = 1.5  # on a processor without bf16 units, everywhere
START_AIM = 3.0  # seconds to the first digit
NAMES = {
    "ddim": "ddim, as it chooses itself",
    "ddim torch": "ddim, PyTorch in fp32",
    "diffusers": "diffusers' DDIMPipeline",
    "diffusers bf16": "diffusers' DDIMPipeline under bf16 autocast",
    "diffusers default": "diffusers' DDIMPipeline with its own eps where x0 is clipped",
    "ddpm-pytorch": "denoising-diffusion-pytorch's ddim_sample",
    "onnxruntime": "onnxruntime in a NumPy loop",
}
COLOURS = {
    "ddim": canvas.BLUE,
    "ddim torch": "#93b4ea",
    "onnxruntime": canvas.GREEN,
    "diffusers bf16": "#f2b48a",
    "diffusers": canvas.ORANGE,
    "ddpm-pytorch": canvas.PURPLE,
}
HEIGHT = 840  # pixels of the figure


def row(model: dict[str, Any], sampler: str, batch: int) -> dict[str, Any]:
    """Return what drew a batch, and its seconds in each round."""
    return next(one for one in model["rows"] if (one["sampler"], one["batch"]) == (sampler, batch))


def seconds(model: dict[str, Any], sampler: str, batch: int) -> list[float]:
    """Return the seconds of a batch in each round."""
    return row(model, sampler, batch)["seconds"]  # type: ignore[no-any-return]


def times_as_fast(model: dict[str, Any], sampler: str, other: str, batch: int) -> float:
    """Return the median over the rounds of how many times as fast a sampler is as another one."""
    pairs = zip(seconds(model, sampler, batch), seconds(model, other, batch), strict=True)
    return median(theirs / own for own, theirs in pairs)


def batches(model: dict[str, Any]) -> list[int]:
    """Return the batch sizes measured."""
    return list(dict.fromkeys(one["batch"] for one in model["rows"]))


def samplers(model: dict[str, Any]) -> list[str]:
    """Return the samplers measured."""
    return list(dict.fromkeys(one["sampler"] for one in model["rows"]))


def share(model: dict[str, Any], steps: int, batch: int) -> float:
    """Return which share of the convolution's rate ddim reaches, in the precision that it chose."""
    precision = "bf16" if "bf16" in row(model, OURS, batch)["by"] else "fp32"
    reached = model["gflop"] * batch * steps / median(seconds(model, OURS, batch))
    return float(reached / model["ceilings_gflop_per_second"][f"convolution {precision}"])


def aims(found: dict[str, Any]) -> Iterator[tuple[str, float, float, bool]]:
    """Yield (what, aim, measured, whether it is reached)."""
    for part, words in (("times", ""), ("plain", ", without bf16 units")):
        for name, model in found.get(part, {}).get("models", {}).items():
            bf16 = "bf16" in " ".join(found[part]["about"]["machine"]["flags"])
            for batch in batches(model):
                aim = AIMS.get(name, {}).get(batch) if part == "times" and bf16 else PLAIN_AIM
                if aim is not None:
                    value = times_as_fast(model, OURS, PEER, batch)
                    yield f"{name}, batch {batch}{words}: times as fast as diffusers", aim, value, value >= aim
    if "start" in found:
        value = found["start"]["seconds"]["ddim sample mnist --count 1"]["seconds"]
        yield "seconds from the shell to the first digit, at most", START_AIM, value, value <= START_AIM


def table(found: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    lines: list[str] = []
    for part in (part for part in ("times", "plain") if part in found):
        about = found[part]["about"]
        title = "Sampling" if part == "times" else "Sampling without bf16 units (imitated)"
        lines += [f"## {title}", "", *machine_lines(about), ""]
        for name, model in found[part]["models"].items():
            lines += [*model_lines(name, model, about["steps"]), ""]
    if "start" in found:
        lines += ["## From the shell to the first digit", "", *machine_lines(found["start"]["about"]), ""]
        lines += ["| command | seconds, median | of user and system |", "|---|--:|--:|"]
        for way, one in found["start"]["seconds"].items():
            lines.append(f"| {way} | {one['seconds']:.2f} | {one['processor_seconds']:.2f} |")
        lines.append("")
    lines += ["## Aims", "", "| what | aim | measured | |", "|---|--:|--:|---|"]
    for what, aim, value, reached in aims(found):
        percent = 100 * abs(1 - value / aim)
        outcome = "reached" if reached else f"missed by {percent:.0f}%" if percent >= 1 else f"missed by {percent:.1g}%"
        lines.append(f"| {what} | {aim:g} | {value:.2f} | {outcome} |")
    return "\n".join(lines) + "\n"


def short(found: dict[str, Any]) -> str:
    """Return the figure and how many times as fast ddim is, in Markdown for the README."""
    part = found["times"]
    columns = [(name, batch) for name, model in part["models"].items() for batch in batches(model)]
    heads = [f"{name}, {batch}" for name, batch in columns]
    lines = ["![Sampling speed of ddim and of three libraries](benchmarks/results/sampling-peers.png)", ""]
    lines += ["| ddim is so many times as fast as | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(columns)]
    for sampler in ("diffusers", "diffusers bf16", "ddpm-pytorch", "onnxruntime"):
        ratios = [f"{times_as_fast(part['models'][name], OURS, sampler, batch):.1f}" for name, batch in columns]
        lines.append(f"| {NAMES[sampler]} | {' | '.join(ratios)} |")
    about = part["about"]
    threads, processor = counted(about["threads"], "thread"), about["machine"]["processor"]
    lines += ["", f"Batches of so many images, {about['steps']} DDIM steps, {threads} on this processor: {processor}"]
    lines += ["([all numbers](benchmarks/results/sampling-peers.md))."]
    return "\n".join(lines)


def machine_lines(about: dict[str, Any]) -> Iterator[str]:
    """Yield what ran a part."""
    machine, versions = about["machine"], about["machine"]["versions"]
    yield f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['flags'])}),"
    yield f"{counted(about['threads'], 'thread')}, Python {versions['python']}, PyTorch {versions['torch']},"
    yield f"load before {about['load_before']}, {about['minutes']} minutes: `{about['command']}`"


def model_lines(name: str, model: dict[str, Any], steps: int) -> Iterator[str]:
    """Yield the table of a model."""
    sizes, limits = batches(model), model["ceilings_gflop_per_second"]
    yield f"**{name}**, {steps} DDIM steps, {model['gflop']:.2f} GFLOP per image and call. Milliseconds per image, and"
    yield "in brackets how many times as fast ddim is."
    yield ""
    yield "| | " + " | ".join(f"batch {batch}" for batch in sizes) + " | largest difference of a pixel |"
    yield "|---|" + "--:|" * (len(sizes) + 1)
    for sampler in model["agreement"]:
        agrees, cells = model["agreement"][sampler], [""] * len(sizes)
        if sampler in samplers(model):
            cells = [cell(model, sampler, batch) for batch in sizes]
        words = NAMES[sampler] if sampler.startswith(OURS) else f"{NAMES[sampler]} ({agrees['by']})"
        yield f"| {words} | " + " | ".join(cells) + f" | {agrees['largest']:.1e} |"
    shares = " | ".join(f"{share(model, steps, batch):.0%}" for batch in sizes)
    yield f"| ddim's share of the convolution's rate below | {shares} | |"
    yield ""
    yield "GFLOP/s at most: " + ", ".join(f"{what} {rate:,.0f}" for what, rate in limits.items()) + "."


def cell(model: dict[str, Any], sampler: str, batch: int) -> str:
    """Return the milliseconds per image, and what served ddim, or how many times as fast ddim is."""
    milliseconds = three(1000 * median(seconds(model, sampler, batch)) / batch)
    if sampler == OURS:
        return f"{milliseconds}, {row(model, sampler, batch)['by']}"
    return f"{milliseconds} ({times_as_fast(model, OURS, sampler, batch):.2f})"


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw for each model and batch size how many times as fast as diffusers each sampler is."""
    models = found.get("times", {}).get("models", {})
    if not models:
        return
    with canvas.styled():
        sheet = canvas.Canvas(HEIGHT)
        width = (canvas.WIDTH - 200) / len(models)
        for i, (name, model) in enumerate(models.items()):
            axes = sheet.axes(130 + i * (width + 50), 70, width - 60, HEIGHT - 270)
            shown, sizes = [one for one in COLOURS if one in samplers(model)], batches(model)
            for j, sampler in enumerate(shown):
                places = [k + (j - (len(shown) - 1) / 2) * 0.14 for k in range(len(sizes))]
                values = [times_as_fast(model, sampler, PEER, batch) for batch in sizes]
                axes.bar(places, values, 0.13, color=COLOURS[sampler], label=NAMES[sampler])
                if sampler == OURS:
                    for place, value in zip(places, values, strict=True):
                        axes.annotate(f"{value:.1f}", (place, value), (0, 3), textcoords="offset points", ha="center")
            axes.margins(y=0.12)
            axes.axhline(1, color=canvas.FAINT, lw=1, ls=(0, (4, 2)))
            axes.set_xticks(range(len(sizes)), [f"batch {batch}" for batch in sizes])
            axes.grid(axis="x", visible=False)
            axes.set_title(name, loc="left", weight="bold")
            if i == 0:
                axes.set_ylabel("times as fast as diffusers in fp32")
        handles, _ = axes.get_legend_handles_labels()
        for line in (0, 1):
            sheet.legend(handles[3 * line : 3 * line + 3], 130, HEIGHT - 95 + 50 * line, fontsize=8.5)
        with writing(path) as draft:
            sheet.figure.savefig(draft, dpi=canvas.DPI)
