"""The report of a run: one page that needs nothing else, drawn from what the run's folder holds."""

from pathlib import Path

from torch import nn

from ddim.files import write_text
from ddim.report import claims, small_form
from ddim.report.page import render
from ddim.report.plate import hang
from ddim.report.plates import PLATES
from ddim.report.record import read

__all__ = ["digest", "verdict", "write"]


def write(folder: str | Path, network: nn.Module | None = None) -> Path:
    """Draw `report.html`, and its figures as PNG and SVG (the animation as GIF) in `figures/`.

    Nothing is sampled and no data set is opened: what `ddim.experiments` has not computed is left out, with a
    line that says how to get it. The same folder gives the same page.

    Args:
        folder: of the run.
        network: the module, for a model whose network is the user's own.

    Returns:
        The path of the page.

    Raises:
        UserError: the folder holds no model, or cannot be written.
    """
    folder = Path(folder)
    record = read(folder, network)
    page = folder / "report.html"
    write_text(page, render(record, [hang(plate, record) for plate in PLATES]))
    return page


def digest(folder: str | Path, out: str | Path, network: nn.Module | None = None) -> Path:
    """Write the report in its small form, to be committed and read on a code host.

    `README.md` holds the verdict, the tables and the figures, which lie beside it as small PNGs; `numbers.json`
    holds all results. The whole takes at most 400 KB, and names neither folders nor users of this machine. The
    report itself is written anew too, and shows the same.

    Args:
        folder: of the run.
        out: where to write; what else lies there stays.
        network: the module, for a model whose network is the user's own.

    Returns:
        The path of the README.

    Raises:
        UserError: the folder holds no model, or one of the two cannot be written.
    """
    write(folder, network)
    return small_form.write(read(Path(folder), network), Path(out))


def verdict(folder: str | Path, network: nn.Module | None = None) -> list[str]:
    """Which of the papers' claims hold on this model, a line each, from what the folder holds.

    Args:
        folder: of the run.
        network: the module, for a model whose network is the user's own.

    Raises:
        UserError: the folder holds no model.
    """
    return claims.lines(read(Path(folder), network))
