"""The report as Markdown with small pictures and all numbers, to be committed and read on a code host."""

import html
import io
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image
from torch import nn

from ddim.files import json_values, write_bytes
from ddim.pictures import png_info, sheet_marks
from ddim.report.page import context, environment
from ddim.report.sections import Section
from ddim.report.sections import sections as all_sections
from ddim.run_folder import RunFolder, read

MOST = 400_000  # bytes of the whole folder
TRIES = ((1000, 128), (1000, 64), (1000, 32), (1000, 16), (800, 16), (660, 16), (500, 12), (400, 8))
"""(pixels across, colours) of a picture, the largest first."""
PRIVATE = ("Machine", "Versions")  # facts of the header that are left out
MACHINE = ("versions", "platform", "command")  # keys of results that are left out, see `ddim.environment`
# The folders of an absolute path; a slash after a word, as in "bits/dim" or a URL, begins none.
FOLDERS = re.compile(r"""(?<![\w.)\]:/<])(?:[A-Za-z]:|~)?[\\/](?=\S)(?:[^\s\\/,;:"']+[\\/])*""")


def write(folder: Path, out: Path, network: nn.Module | None = None) -> Path:
    """Write README.md, numbers.json and the pictures from the run's `figures/`; return the path of the README.

    Pictures of earlier sections are removed from `out`; other files stay.
    """
    run = read(folder, network, clean)
    sections = all_sections(run, draw=False)
    shown = [one.name for one in sections if one.in_markdown]
    paths = {name: folder / "figures" / f"{name}.png" for name in shown}
    drawn = {name: path for name, path in paths.items() if path.is_file()}
    files = {"README.md": render(run, sections, drawn).encode(), "numbers.json": _numbers(run).encode()}
    room = MOST - sum(map(len, files.values()))
    pictures = fitting({name: path.read_bytes() for name, path in drawn.items()}, room)
    for name, content in (files | {f"{name}.png": png for name, png in pictures.items()}).items():
        write_bytes(out / name, content)
    for section in sections:
        if section.name not in pictures:
            (out / f"{section.name}.png").unlink(missing_ok=True)
    return out / "README.md"


def render(run: RunFolder, sections: Collection[Section], pictures: Collection[str]) -> str:
    """Return the README with the named pictures; experiments come before the sections on training."""
    templates = environment()
    templates.filters |= {"plain": _plain, "inline": _inline}
    values = context(run, sorted(sections, key=lambda one: one.command == "ddim train"))
    values["facts"] = [(subject, fact) for subject, fact in values["facts"] if subject not in PRIVATE]
    text = templates.get_template("README.md.j2").render(values, pictures=pictures)
    return re.sub(r"\n{3,}", "\n\n", text)


def clean(content: Any) -> Any:
    """Return the content of a JSON file without folders and command lines of the machine."""
    if isinstance(content, dict):
        return {name: clean(one) for name, one in content.items() if name not in MACHINE}
    if isinstance(content, list):
        return [clean(one) for one in content]
    return FOLDERS.sub("", content) if isinstance(content, str) else content


def fitting(pictures: dict[str, bytes], most: int) -> dict[str, bytes]:
    """Return PNGs by name that together take about `most` bytes at most; large ones get what small ones leave."""
    best = {name: shrink(png, *TRIES[0]) for name, png in pictures.items()}
    chosen: dict[str, bytes] = {}
    for name in sorted(best, key=lambda name: len(best[name])):
        share = (most - sum(map(len, chosen.values()))) // (len(best) - len(chosen))
        png, others = best[name], iter(TRIES[1:])
        while len(png) > share and (one := next(others, None)):
            png = shrink(pictures[name], *one)
        chosen[name] = png
    return chosen


def shrink(png: bytes, width: int, colours: int) -> bytes:
    """Return a PNG of at most this width, with a palette of so many colours."""
    with Image.open(io.BytesIO(png)) as file:
        picture = file.convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.BOX)  # of two pixels one: squares stay crisp
    small = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    content = io.BytesIO()
    small.save(content, "PNG", optimize=True, pnginfo=png_info(sheet_marks()))
    return content.getvalue()


def _plain(text: str) -> Markup:
    """Text without meaning to Markdown or HTML."""
    text = html.escape(" ".join(text.split()), quote=False)
    return Markup(re.sub(r"([\\`*_|]|\](?=[(\[]))", r"\\\1", text))


def _inline(caption: str) -> Markup:
    """Return a caption without the classes that only the page's style knows."""
    caption = re.sub(r'<span class="root">(.*?)</span>', r"(\1)", caption)
    return Markup(re.sub(r'<i class="hat">x</i>', "<i>x̂</i>", caption))


def _numbers(run: RunFolder) -> str:
    """Return the JSON of all results, one to a line, with six digits of each number."""
    lines = (f"{json.dumps(name)}: {json.dumps(json_values(facts, digits=6))}" for name, facts in run.facts.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
