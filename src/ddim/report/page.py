"""The page: one HTML file with its style, its script and its figures inside, which loads nothing."""

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from ddim.experiments.base import MARKS
from ddim.report import header
from ddim.report.run_folder import RunFolder
from ddim.report.sections import Section, cuts

TYPES = {".svg": "image/svg+xml", ".gif": "image/gif"}


def render(run: RunFolder, sections: Sequence[Section]) -> str:
    """Return the whole page. Everything that comes from the run's files is escaped."""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=header.title(run),
            tiles=header.tiles(run),
            facts=header.facts(run),
            sections=sections,
            cuts=cuts(run),
            marks=MARKS,
        )
    )


def environment() -> Environment:
    """Return jinja2's environment of the report's templates, with their filters."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["data_url"] = _data_url
    templates.filters["unbroken"] = _unbroken
    return templates


def _data_url(path: Path) -> str:
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _unbroken(text: str) -> Markup:
    """Escaped text without line breaks inside S = 10."""
    return Markup(escape(text).replace(" = ", "\u00a0=\u00a0"))
