"""The documentation site is built without a warning, and asks for nothing from elsewhere."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from browsing import CHROMIUM, FLAGS, serious, serving

ROOT = Path(__file__).parent.parent
TOCTREES = re.findall(r"^```\{toctree\}\n(.*?)^```", (ROOT / "docs/index.md").read_text(encoding="utf-8"), re.M | re.S)
ENTRIES = [line for tree in TOCTREES for line in tree.splitlines() if line and not line.startswith(":")]

MAIN = ("docs/index", "docs/first-steps", "docs/how-to", "docs/paper-and-code", "docs/api/model", "README")


@pytest.mark.parametrize("folder", [".", "tutorials", "api"])
def test_every_page_is_in_a_list_of_contents(folder):
    pages = (ROOT / "docs" / folder).glob("*.md")
    names = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in pages}
    assert names - {"index"} <= set(ENTRIES)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, without the results of the tutorials, whose code tests/test_docs.py runs."""
    out, page = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("page")
    (page / "index.html").write_text("the page without a server", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going", "-c", "docs", ".", str(out)]
    environment = {**os.environ, "DDIM_NOTEBOOKS": "off", "DDIM_PAGE": str(page)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(site):
    assert (site / "docs/index.html").exists()
    assert (site / "index.html").exists()


@pytest.mark.slow
def test_the_page_without_a_server_is_a_part_of_the_site(site):
    assert (site / "page/index.html").read_text(encoding="utf-8") == "the page without a server"
    assert 'href="../page/index.html"' in (site / "docs/index.html").read_text(encoding="utf-8")


def test_a_site_without_that_page_links_what_is_said_about_it(monkeypatch, tmp_path):
    monkeypatch.setenv("DDIM_PAGE", str(tmp_path / "none"))
    configuration = runpy.run_path(str(ROOT / "docs/conf.py"))
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    source = [text]
    configuration["link_page"](None, "docs/index", source)
    configuration["copy_page"](None, None)
    assert source == [text]
    assert "[page without a server](interop.md#in-a-browser)" in text


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site):
    """Links may lead elsewhere; scripts, styles, fonts and images may not."""
    loads = re.compile(r"""<(?:script|img|source|iframe|link)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^"']*""")
    styles = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^)]*""")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert not loads.findall(page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert not styles.findall(sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, for axe-core")
def test_pages_fit_400_pixels_and_axe_finds_nothing_serious(site, axe):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with serving(site) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 400, "height": 900}, color_scheme=scheme)
            for name in MAIN:
                page.goto(f"{address}{name}.html")
                assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
                assert (name, scheme, serious(page, axe)) == (name, scheme, [])
        browser.close()


@pytest.mark.slow
def test_every_link_leads_to_a_file_and_an_anchor(site):
    """As the browser sees it: sphinx checks the links of the sources, not what becomes of them."""
    texts = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in texts.items()}
    for page, text in texts.items():
        for target, anchor in re.findall(r'<a\b[^>]*?href="([^":#?]*)(?:#([^"]*))?"', text):
            linked = (page.parent / target).resolve() if target else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor and linked in anchors:
                assert anchor in anchors[linked], f"{page.name}: {target}#{anchor}"
