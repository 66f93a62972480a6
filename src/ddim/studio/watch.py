"""What the page shows of a run while it trains: its losses, its samples along the way, and the doctor's words."""

import functools
import html
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from ddim.errors import UserError
from ddim.files import as_table, read_table, read_tensors
from ddim.studio.views import chart, figure, of_frame, paragraph

SNAPSHOTS, SHOWN = 10, 8  # of the samples along the way, and images of each
READ = ("config.json", "metrics.jsonl", "model.safetensors")  # files of a run that change what the doctor says


def losses(folder: Path) -> str:
    """Return the loss of a run against the step as SVG; a sentence if it has no metrics yet.

    A weighted training loss cannot be compared with the other curves, and is left out.
    """
    from ddim.run_folder import read_metrics  # here: the figures beside it take a second to import

    lines = read_metrics(folder / "metrics.jsonl")
    names = {"loss": "training loss", "held_out": "held-out", "train": "training images"}
    with suppress(OSError, ValueError):
        plan = as_table(as_table(read_table(folder / "config.json").get("recipe")).get("plan"))
        if plan.get("weighting", "simple") != "simple":
            del names["loss"]
    curves = {
        text: [(line["step"], line[name]) for line in lines if "step" in line and line.get(name, 0) > 0]
        for name, text in names.items()
    }
    curves = {text: curve for text, curve in curves.items() if curve}
    if not curves:
        return paragraph("No metrics yet; the first line comes after a twentieth of the training.")
    last = lines[-1]
    rate = f", {last['images_per_second']:.4g} images a second" if "images_per_second" in last else ""
    status = f"Step {last.get('step', 0):,.0f}, epoch {last['epoch']:.3g}{rate}."
    return paragraph(status) + chart(curves, "training step", "loss, log scale", log=True)


def samples(folder: Path) -> tuple[str, int]:
    """Return samples along the way, of the averaged weights, as frames of HTML, and their number."""
    steps = sorted(path for path in folder.glob("samples/step-*.safetensors") if path.stem[5:].isdecimal())
    chosen = sorted({round(i * (len(steps) - 1) / (SNAPSHOTS - 1)) for i in range(SNAPSHOTS)} if steps else set())
    frames = []
    for i in chosen:
        with suppress(OSError, SafetensorError, KeyError):  # a file that is half there
            frames.append((int(steps[i].stem[5:]), read_tensors(steps[i])["averaged"][:SHOWN]))
    count = len(frames)
    shown = "".join(
        f"<div{of_frame(i, count)}>{figure(images, f'samples at step {step:,}', SHOWN)}</div>"
        for i, (step, images) in enumerate(frames)
    )
    return shown or paragraph("No samples yet."), count


def findings(folder: Path) -> str:
    """Return what `ddim doctor --quick` says about a run, as a list in HTML; a sentence if it has no weights yet."""
    return _findings(folder, tuple(_modified(folder / name) for name in READ))


@functools.lru_cache(maxsize=16)
def _findings(folder: Path, versions: tuple[int, ...]) -> str:
    """`versions` tell the files apart: the folder is read again only if one of them has changed."""
    from ddim import doctor, run_folder  # here: as in `losses`

    try:
        found = doctor.examine(run_folder.read(folder))
    except UserError as error:
        return paragraph(f"The doctor cannot read the run yet: {error}")
    entries = (
        f"<li><b>{doctor.MARKS[one.verdict]} {html.escape(one.subject)} ({one.verdict}).</b> "
        f"{html.escape(f'{one.evidence} {one.advice}')}</li>"
        for one in found
    )
    return paragraph("What `ddim doctor` finds in this run, with 95% intervals:") + f"<ul>{''.join(entries)}</ul>"


def _modified(path: Path) -> int:
    """Return when a file was changed, in nanoseconds; 0 if it is missing."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
