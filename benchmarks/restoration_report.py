"""The tables of `restoration.py`."""

from pathlib import Path
from typing import Any

RESULT = Path(__file__).with_name("results") / "restoration.json"
MISSING = "not measured"
TITLES = {"mnist": "digits", "airplanes": "aeroplanes"}


def tables(found: dict[str, Any]) -> str:
    """Return the results of all models in Markdown."""
    return "\n\n".join(_table(name, model) for name, model in found["models"].items() if model["rows"]) + "\n"


def _table(name: str, model: dict[str, Any]) -> str:
    calls = sorted({row["calls"] for row in model["rows"]})
    ways: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row in sorted(model["rows"], key=_order):
        ways.setdefault((_operator(row), _method(row)), {})[row["calls"]] = row
    head = "".join(f" PSNR, {n} calls | distance, {n} calls |" for n in calls)
    lines = [f"| operator | method | images |{head}", f"|---|---|--:|{'--:|--:|' * len(calls)}"]
    for (operator, method), cells in ways.items():
        counts = sorted({row["count"] for row in cells.values()})
        shown = "".join(_cells(cells.get(n)) for n in calls)
        lines.append(f"| {operator} | {method} | {' to '.join(map(str, counts))} |{shown}")
    floor = ", ".join(f"{value[0]:.2f} for {n}" for n, value in model["originals"].items())
    note = (
        f"Held-out {TITLES[name]}: PSNR in dB, ± half of the 95% interval, and the Fréchet distance to all held-out "
        f"images in the features `{model['extractor']}`, with its 95% interval. The originals themselves have the "
        f"distance {floor} images; compare the distances of equally many images only."
    )
    return f"{note}\n\n" + "\n".join(lines)


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["operator"], row["library"] == "azula", row["method"], row["times"]


def _operator(row: dict[str, Any]) -> str:
    return row["operator"] + (f", noise {row['noise_std']:g}" if row["noise_std"] else "")


def _method(row: dict[str, Any]) -> str:
    name = row["method"] if row["library"] == "ddim" else f"azula's {row['method']}"
    return name + (f", each step {row['times']} times" if row["times"] > 1 else "")


def _cells(row: dict[str, Any] | None) -> str:
    if row is None:
        return f" {MISSING} | |"
    value, low, high = row["distance"]
    return f" {row['psnr'][0]:.1f} ± {row['psnr'][1]:.1f} | {value:.2f} ({low:.2f} to {high:.2f}) |"
