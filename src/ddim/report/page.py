"""The page: one HTML file with its style and its figures inside, which loads nothing from anywhere."""

import base64
from html import escape
from pathlib import Path

from ddim.report import words
from ddim.report.numbers import three
from ddim.report.plates import Hung
from ddim.report.record import Record

_STYLE = Path(__file__).with_name("page.css")
_TYPES = {".svg": "image/svg+xml", ".gif": "image/gif"}


def render(record: Record, figures: list[Hung]) -> str:
    """The whole page. All that comes from the run's files is escaped."""
    heading = escape(words.title(record))
    notes = words.notes(record)
    tiles = "".join(f"<li><b>{escape(n)}</b> {escape(what)}</li>" for n, what in words.tiles(record))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>\n" for name, fact in words.facts(record))
    plates = "\n".join(
        _figure(number, hung, notes.get(hung.plate.name, ""), _table(record) if hung.plate.name == "timing" else "")
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
<dl>
{facts}</dl>
</header>
{plates}
<footer>
<p>“The paper” is M. Ricard, <cite>DDIM: Denoising Diffusion Implicit Models</cite>; equation numbers are those of
J. Song, C. Meng, S. Ermon, <cite>Denoising Diffusion Implicit Models</cite>, arXiv 2010.02502.</p>
<p>The figures are also in <code>figures/</code>, as PNG and SVG. <code>ddim report RUN</code> draws them all again
from the run’s folder.</p>
</footer>
</main>
</body>
</html>
"""


def _figure(number: int, hung: Hung, note: str, table: str) -> str:
    plate = hung.plate
    if hung.file is None:
        return (
            f'<p class="missing" id="{plate.name}"><b>Figure {number}. {plate.title}</b> is not drawn: what it '
            f"shows is not in the folder yet. <code>{plate.command}</code> makes it.</p>"
        )
    data = base64.b64encode(hung.file.read_bytes()).decode()
    return f"""<figure id="{plate.name}">
<h2>{plate.title}</h2>
<img alt="{plate.title}" src="data:{_TYPES[hung.file.suffix]};base64,{data}">
<figcaption><p><b>Figure {number}.</b> {plate.text} {escape(note)}</p>{table}
<p class="source">The paper’s {plate.paper.lower() if plate.paper[0] == "s" else plate.paper} ·
redrawn by <code>ddim report RUN</code></p></figcaption>
</figure>"""


def _table(record: Record) -> str:
    """The numbers of the timing figure."""
    facts = record.results.get("timing")
    if facts is None:
        return ""
    rows = "".join(
        f"<tr><td>{row['steps']}</td><td>{three(row['seconds'])}</td>"
        f"<td>{three(1000 * row['seconds_per_image'])}</td><td>{row['ratio_to_forwards']:.2f}</td></tr>\n"
        for row in facts["rows"]
    )
    return f"""<table>
<thead><tr><th>steps <i>S</i></th><th>seconds for {facts["batch"]} images</th><th>ms per image</th>
<th>× bare network</th></tr></thead>
<tbody>
{rows}</tbody></table>
<p class="source">On {escape(str(facts["device"]))}, {facts["threads"]} thread{"s" * (facts["threads"] != 1)},
{escape(str(facts["machine"]["processor"]))}. Up to S = 100 the middle one of three runs.</p>"""
