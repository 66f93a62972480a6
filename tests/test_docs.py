"""The documentation is true: its code runs, and what it names exists."""

import re
from pathlib import Path

import pytest

import ddim

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("code", BLOCKS)
def test_the_code_of_the_docs_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})


def test_the_readme_has_code():
    assert any(block.id.startswith("README") for block in BLOCKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_that_the_docs_name_exist(page):
    """`module.name` in a page is ddim.module.name."""
    modules = "|".join(name for name in dir(ddim) if name not in ddim.__all__)
    for dotted in re.findall(rf"`((?:{modules})(?:\.\w+)+)(?:\([^`]*\))?`", page.read_text(encoding="utf-8")):
        if dotted.endswith((".py", ".md", ".toml", ".json", ".html")):
            continue
        found = ddim
        for part in dotted.split("."):
            found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_the_docs_name_exist(page):
    there = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in there, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
