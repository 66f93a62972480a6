"""The page: one HTML file with its style, its script and its figures inside, which loads nothing from anywhere."""

import base64
from html import escape
from pathlib import Path

from ddim.report import words
from ddim.report.claim import MARKS
from ddim.report.claims import claims, left_out
from ddim.report.plate import Hung
from ddim.report.record import Record
from ddim.report.tables import Cell, Table, tables

_STYLE, _SCRIPT = (Path(__file__).with_name(name) for name in ("page.css", "page.js"))
_TYPES = {".svg": "image/svg+xml", ".gif": "image/gif"}


def render(record: Record, figures: list[Hung]) -> str:
    """The whole page. All that comes from the run's files is escaped."""
    heading = escape(words.title(record))
    notes, numbers = words.notes(record), tables(record)
    tiles = "".join(f"<li><b>{escape(n)}</b> {escape(what)}</li>" for n, what in words.tiles(record))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>\n" for name, fact in words.facts(record))
    plates = "\n".join(
        _figure(number, hung, notes.get(hung.plate.name, ""), numbers.get(hung.plate.name, []))
        for number, hung in enumerate(figures, start=1)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading}</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<header>
<p class="kicker">ddim · report of a run</p>
<h1>{heading}</h1>
<ul class="tiles">{tiles}</ul>
</header>
{_verdict(record, {hung.plate.name: i for i, hung in enumerate(figures, start=1)})}
<section>
<h2>The run</h2>
<dl>
{facts}</dl>
</section>
{plates}
<footer>
<p>“The paper” is M. Ricard, <cite>DDIM: Denoising Diffusion Implicit Models</cite>; equation numbers are those of
J. Song, C. Meng, S. Ermon, <cite>Denoising Diffusion Implicit Models</cite>, arXiv 2010.02502.</p>
<p>The figures are also in <code>figures/</code>, as PNG and SVG. <code>ddim report RUN</code> draws them all again
from the run’s folder.</p>
</footer>
</main>
<script>
{_SCRIPT.read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _verdict(record: Record, numbers: dict[str, int]) -> str:
    """What holds of the paper's claims, each with its mark in a sign and in words, and what was left out."""
    found = "".join(
        f'<li class="{one.verdict.replace(" ", "-")}"><p class="mark"><span aria-hidden="true">{MARKS[one.verdict]}'
        f"</span> {one.verdict}</p><div><p><b>{_together(one.claim)}</b></p><p>{_together(one.words)} "
        f'<a href="#{one.plate}">Figure {numbers[one.plate]}</a></p></div></li>\n'
        for one in claims(record)
    )
    cuts = left_out(record)
    less = f"<p>Left out: {escape('; '.join(cuts))}.</p>" if cuts else ""
    return f"""<section id="verdict">
<h2>What holds of the claims about DDIM, on this model</h2>
<ul class="claims">
{found}</ul>
{less}<p class="source">Brackets are 95% intervals; what they leave undecided is “open”.</p>
</section>"""


def _together(words: str) -> str:
    """Escaped, and no line ends within S = 10."""
    return escape(words).replace(" = ", "\u00a0=\u00a0")


def _figure(number: int, hung: Hung, note: str, numbers: list[Table]) -> str:
    plate = hung.plate
    if hung.file is None:
        return (
            f'<p class="missing" id="{plate.name}"><b>Figure {number}. {plate.title}</b> is not drawn: what it '
            f"shows is not in the folder yet. <code>{plate.command}</code> makes it.</p>"
        )
    data = base64.b64encode(hung.file.read_bytes()).decode()
    below = "".join(map(_table, numbers))
    command = f"made by <code>{plate.command}</code>, redrawn by <code>ddim report RUN</code>"
    return f"""<figure id="{plate.name}">
<h2>{plate.title}</h2>
<img alt="{plate.title}" src="data:{_TYPES[hung.file.suffix]};base64,{data}">
<figcaption><p><b>Figure {number}.</b> {plate.text} {escape(note)}</p>{below}
<p class="source">{plate.paper[0].upper()}{plate.paper[1:]} · {command}</p></figcaption>
</figure>"""


def _table(table: Table) -> str:
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    note = f'<p class="source">{escape(table.note)}</p>' if table.note else ""
    return f"""
<div class="scroll"><table>{caption}
<thead><tr>{head}</tr></thead>
<tbody>
{rows}</tbody></table></div>{note}"""


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value}"'
    return f"<td{value}>{escape(cell.words)}</td>"
