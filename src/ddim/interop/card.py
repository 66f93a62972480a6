"""The card of a model on the hub, README.md: samples, data, network, metrics, licence and use."""

import json
from pathlib import Path
from typing import Any

from ddim.config import read_config
from ddim.evaluate.evaluation import METRICS
from ddim.files import as_table, read_table
from ddim.model_io import fingerprint
from ddim.text import dimensions, printable

SAMPLES = "samples.png"


def card(folder: Path, hub_id: str, parameters: int, license: str | None, samples: str | None) -> str:
    """Return the card of a run as Markdown with a YAML head.

    Args:
        folder: the run: its config, and its evaluation if `ddim reproduce` or `ddim report` measured these weights.
        hub_id: user/name.
        parameters: of the network.
        license: as the hub names it, e.g. "mit"; None leaves it open, and the card says so.
        samples: how the picture `SAMPLES` was drawn; None is without a picture.
    """
    config = read_config(folder)
    data = as_table(config.get("recipe")).get("data")
    head = {"library_name": "ddim", "pipeline_tag": "unconditional-image-generation", "tags": ["ddim", "diffusion"]}
    head |= {"license": license} if license else {}
    classes = f", {config['classes']} classes" if config["classes"] else ""
    facts = {
        "images": f"{dimensions(config['shape'])} (channels, height, width), in [-1, 1]{classes}",
        "data": _cell(data) if data else "not recorded",
        "network": f"{_cell(config['network']['name'])}, {parameters:,} parameters, predicts {config['predicts']}",
        "schedule": ", ".join(f"{key} = {_cell(one)}" for key, one in config["schedule"].items() if key != "betas"),
        "weights": f"averaged; SHA-256 of the file {fingerprint(folder)[:16]}",
        "licence": license or "not stated: ask the author before you use the model",
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "", f"# {hub_id}", ""]
    if samples:
        lines += [f"![Samples]({SAMPLES})", "", f"*{samples}, not selected.*", ""]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), "", "## Use", ""]
    lines += ['```console\n$ pip install "ddim[hub]"\n```', ""]
    lines += [
        f'```python\nimport ddim\n\nmodel = ddim.load("{hub_id}")\nimages = model.sample(16)  # (16, C, H, W)\n```',
        "",
    ]
    lines += ["## Metrics", "", *_metrics(folder), ""]
    return "\n".join(lines)


def _metrics(folder: Path) -> list[str]:
    """Return the table of the metrics that were measured for these weights."""
    try:
        found = read_table(folder / "results" / "evaluation.json")
    except (OSError, ValueError):
        found = {}
    metrics = {name: as_table(one) for name, one in as_table(found.get("metrics")).items() if name in METRICS}
    if not metrics or found.get("weights") != fingerprint(folder):
        return ["Not measured for these weights."]
    about = [found.get("sampling"), f"{found.get('count')} images", f"extractor {found.get('extractor')}"]
    lines = [f"{_cell('; '.join(map(str, about)))}. In brackets, 95% intervals.", ""]
    lines += ["| metric | samples | real images |", "|---|--:|--:|"]
    for name, one in metrics.items():
        columns = (("value", "low", "high"), ("floor", "floor_low", "floor_high"))
        lines.append(f"| {METRICS[name]} | {' | '.join(_estimate(*map(one.get, keys)) for keys in columns)} |")
    return lines


def _estimate(value: Any, low: Any, high: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    bounds = isinstance(low, int | float) and isinstance(high, int | float)
    return f"{value:.4g} ({low:.4g} to {high:.4g})" if bounds else f"{value:.4g}"


def _cell(value: Any) -> str:
    """Return text for a cell of a table, at most 200 characters."""
    return printable(str(without_paths(value))).replace("|", "/")[:200]


def without_paths(value: Any) -> Any:
    """Return plain data with the last name in place of each absolute path, which would tell of the author's machine."""
    if isinstance(value, dict):
        return {key: without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
