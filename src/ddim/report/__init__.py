"""The report of a run: one page that needs nothing else, drawn from what the run's folder holds."""

from pathlib import Path

from torch import nn

from ddim.experiments.base import MARKS
from ddim.files import user_path, write_text
from ddim.report import markdown
from ddim.report.page import render
from ddim.report.sections import claims, sections
from ddim.run_folder import read

__all__ = ["digest", "verdict", "write"]


def write(folder: str | Path, network: nn.Module | None = None) -> Path:
    """Write and return `report.html`, and write its figures as PNG and SVG (the animation as GIF) in `figures/`.

    Nothing is sampled and no data set is opened. For a result that the folder does not hold, the page says which
    command makes it. The same folder gives the same page.

    Args:
        folder: of the run.
        network: the module, for a model whose network is the user's own.

    Raises:
        UserError: the folder holds no model, or cannot be written.
    """
    run = read(user_path(folder), network)
    page = run.folder / "report.html"
    write_text(page, render(run, sections(run)))
    return page


def digest(folder: str | Path, out: str | Path, network: nn.Module | None = None) -> Path:
    """Write the report as Markdown, to be committed and read on a code host, and the page as `write` does.

    `README.md` holds the claims, the tables and the figures as small PNGs; `numbers.json` holds all results. The
    whole takes at most 400 KB, and names no folders and no users of this machine. Other files in `out` stay. Return
    the path of the README.

    Raises:
        UserError: the folder holds no model, or one of the two cannot be written.
    """
    folder, out = user_path(folder), user_path(out)
    write(folder, network)
    return markdown.write(folder, out, network)


def verdict(folder: str | Path, network: nn.Module | None = None) -> list[str]:
    """Return for each claim about DDIM whether it holds on this model, one line each; see `write`."""
    run = read(user_path(folder), network)
    return [f"{MARKS[one.verdict]} {one.verdict}: {one.claim} {one.evidence}" for one in claims(run)]
