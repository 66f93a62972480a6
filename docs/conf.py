"""The documentation site: `make docs` writes it to docs/_build/html.

The source folder is the root of the repository, so that the README, the cards of the models and the results of the
benchmarks are pages too, and every link between them is checked. The pages ask for nothing from elsewhere: equations
are drawn by the copy of MathJax that `make docs` puts into docs/_build/vendor. The page without a server is part of the
site if `make page` has built it before.
"""

import os
import re
import shutil
from pathlib import Path

import ddim

ROOT = Path(__file__).parent.parent
PAGE = Path(os.environ.get("DDIM_PAGE", ROOT / "build/page"))  # the page without a server, of `make page`

project = "ddim"
author = "The ddim developers"
copyright = author
version = release = ddim.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]

root_doc = "docs/index"
pages = ["*.md", "docs/**.md", "docs/**.ipynb", "models/*/README.md"]
include_patterns = [*pages, "benchmarks/README.md", "benchmarks/results/*.md"]
exclude_patterns = [".*", "runs", "data", "dist", "build", "src", "tests", "docs/_build", "**/node_modules"]
default_role = "code"  # docstrings write `name`

html_theme = "furo"
html_title = "ddim"
html_extra_path = ["_site"]  # index.html, which leads to docs/index.html
html_static_path = [path for path in ["_build/vendor"] if (ROOT / "docs" / path).exists()]
mathjax_path = "tex-svg.js"
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4  # the anchors that GitHub gives
suppress_warnings = ["myst.header"]  # a page that a benchmark writes may begin with small headings
nb_execution_mode = os.environ.get("DDIM_NOTEBOOKS", "cache")  # "off" builds the pages without their results
nb_execution_cache_path = str(ROOT / "docs/_build/notebooks")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_rtype = False


def plain(app, what, name, obj, options, lines):
    """Turn a docstring into reStructuredText: indented formulas are kept, and |x|, x_ and a * b are no markup."""
    text, formula, section = [], False, False
    for line in lines:
        section = section or bool(re.match(r"(Args|Attributes|Returns|Yields|Raises):$", line))
        if line and not section and formula != line.startswith("    "):
            formula = not formula
            text += ["::", ""] if formula else []
        if not formula:
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"\||\*|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
            line = "".join(parts)
        text.append(line)
    lines[:] = text


def entitle(app, docname, source):
    """Give the tables of the benchmarks, which have no heading, their name as the title."""
    if docname.startswith("benchmarks/results/"):
        source[0] = f"# {docname.rpartition('/')[2].replace('-', ' ').capitalize()}\n\n{source[0]}"


def link_page(app, docname, source):
    """Link the page without a server itself from the first page, if it is built, and else what is said about it."""
    if docname == root_doc and PAGE.is_dir():
        link = '<a href="../page/index.html">page without a server</a>'
        source[0] = source[0].replace("[page without a server](interop.md#in-a-browser)", link)


def copy_page(app, error):
    """Make the page without a server a part of the site, if it is built."""
    if error is None and PAGE.is_dir():
        shutil.copytree(PAGE, app.outdir / "page", dirs_exist_ok=True)


def make_accessible(app, pagename, templatename, context, doctree):
    """Let the keyboard scroll code and tables that are wider than the page, and give furo's captions a level."""
    changes = (
        ("body", "<pre>", '<pre tabindex="0">'),
        ("body", '<div class="table-wrapper ', '<div tabindex="0" class="table-wrapper '),
        ("furo_navigation_tree", 'role="heading"', 'role="heading" aria-level="2"'),
    )
    for part, old, new in changes:
        if part in context:
            context[part] = context[part].replace(old, new)


def setup(app):
    """Connect the functions above; docstrings are changed before napoleon reads them."""
    app.connect("autodoc-process-docstring", plain, priority=400)
    app.connect("source-read", entitle)
    app.connect("source-read", link_page)
    app.connect("html-page-context", make_accessible, priority=900)  # after furo has made its contents
    app.connect("build-finished", copy_page)
