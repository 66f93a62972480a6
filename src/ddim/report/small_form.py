"""The small form of the report: Markdown, small pictures and all the numbers, to be read on a code host."""

import html
import json
import math
import re
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddim.files import write_bytes
from ddim.report import words
from ddim.report.claim import MARKS
from ddim.report.claims import claims, left_out
from ddim.report.plate import Plate
from ddim.report.plates import PLATES
from ddim.report.record import Record
from ddim.report.shrink import fitting
from ddim.report.tables import Table, tables

MOST = 400_000  # bytes of the whole folder
SHOWN = (  # by their plates: what the model does, and not how it was built
    "samples",
    "table1",
    "consistency",
    "interpolation",
    "reconstruction",
    "likelihood",
    "solvers",
    "evaluation",
    "compare",
    "memorisation",
    "timing",
    "strips",
    "learning",
    "levels",
)
_PRIVATE = ("Machine", "Versions")  # facts for those who were there
_MACHINE = ("versions", "platform", "command")  # likewise, of what `ddim.environment` describes
# The folders of an absolute path; a slash after a word, as in "bits/dim" or an address, begins none.
_FOLDERS = re.compile(r"""(?<![\w.)\]:/<])(?:[A-Za-z]:|~)?[\\/](?=\S)(?:[^\s\\/,;:"']+[\\/])*""")


def write(record: Record, out: Path) -> Path:
    """Write README.md, numbers.json and the pictures; pictures of an earlier digest go. Returns the README."""
    record = _public(record)
    drawn = {name: record.folder / "figures" / f"{name}.png" for name in SHOWN}
    drawn = {name: path for name, path in drawn.items() if path.is_file()}
    files = {"README.md": markdown(record, list(drawn)).encode(), "numbers.json": _numbers(record).encode()}
    room = MOST - sum(map(len, files.values()))
    pictures = fitting({name: path.read_bytes() for name, path in drawn.items()}, room)
    for name, content in (files | {f"{name}.png": png for name, png in pictures.items()}).items():
        write_bytes(out / name, content)
    for name in SHOWN:
        if name not in pictures:
            (out / f"{name}.png").unlink(missing_ok=True)
    return out / "README.md"


def markdown(record: Record, drawn: Container[str]) -> str:
    """The README, with the pictures of the plates that are drawn."""
    numbers, notes = tables(record), words.notes(record)
    plates = {plate.name: plate for plate in PLATES}
    cuts = left_out(record)
    parts = [
        f"# {_plain(words.title(record))}",
        " · ".join(f"**{number}** {what}" for number, what in words.tiles(record)),
        "## What holds of the claims about DDIM, on this model",
        "\n".join(
            f"- {MARKS[one.verdict]} **{one.verdict}: {_plain(one.claim)}**<br>{_plain(one.words)}"
            for one in claims(record)
        ),
        f"Left out: {_plain('; '.join(cuts))}." if cuts else "",
        "Brackets are 95% intervals; “open” is what they leave undecided.",
        *(
            _section(plates[name], name in drawn, numbers.get(name, []), notes.get(name, ""))
            for name in SHOWN
            if name in drawn or name in numbers
        ),
        "## The run",
        "\n".join(f"- {name}: {_plain(fact)}" for name, fact in words.facts(record) if name not in _PRIVATE),
        "All the numbers are in [numbers.json](numbers.json). Equation numbers are those of DDIM, "
        "[arXiv 2010.02502](https://arxiv.org/abs/2010.02502), unless another paper is named. "
        "`ddim report RUN --digest FOLDER` writes this page from the folder of a run.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(plate: Plate, drawn: bool, numbers: list[Table], note: str) -> str:
    picture = f"![{plate.title}]({plate.name}.png)" if drawn else ""
    parts = [
        f"## {plate.title}",
        picture,
        f"{_inline(plate.text)} {_plain(note)}".strip(),
        *map(_table, numbers),
        f"{plate.paper[0].upper()}{plate.paper[1:]} · made by `{plate.command}`",
    ]
    return "\n\n".join(part for part in parts if part)


def _table(table: Table) -> str:
    caption = f"**{_plain(table.caption)}**\n\n" if table.caption else ""
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)]]
    lines += [[_plain(cell.words) for cell in row] for row in table.rows]
    note = f"\n\n{_plain(table.note)}" if table.note else ""
    return caption + "\n".join(f"| {' | '.join(line)} |" for line in lines) + note


def _plain(text: str) -> str:
    """Text that means nothing to Markdown or HTML."""
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_|]|\](?=[(\[]))", r"\\\1", text)


def _inline(text: str) -> str:
    """A plate's text without the classes that only the page's style knows."""
    text = re.sub(r'<span class="root">(.*?)</span>', r"(\1)", text)
    return re.sub(r'<i class="hat">x</i>', "<i>x̂</i>", text)


def _numbers(record: Record) -> str:
    """All results, one to a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(_rounded(facts))}" for name, facts in record.results.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _rounded(found: Any) -> Any:
    """With six digits of each number, and null for what is none."""
    if isinstance(found, dict):
        return {name: _rounded(one) for name, one in found.items()}
    if isinstance(found, list):
        return [_rounded(one) for one in found]
    if isinstance(found, float):
        return float(f"{found:.6g}") if math.isfinite(found) else None
    return found


def _public(record: Record) -> Record:
    """The record without folders and command lines of the machine on which it was made."""
    return replace(record, config=_cleaned(record.config), results=_cleaned(record.results))


def _cleaned(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _cleaned(one) for name, one in found.items() if name not in _MACHINE}
    if isinstance(found, list):
        return [_cleaned(one) for one in found]
    return _FOLDERS.sub("", found) if isinstance(found, str) else found
