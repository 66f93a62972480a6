"""The documentation is true: its code runs, and what it names exists."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ddim
from ddim.cli.names import KINDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
OTHERS = [
    *TUTORIALS,
    *sorted((ROOT / "docs/api").glob("*.md")),
    *sorted(set(ROOT.glob("*.md")) - set(PAGES)),
    ROOT / "benchmarks/README.md",
    *ROOT.glob("models/*/README.md"),
]
BLOCKS = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
]
BLOCKS += [
    pytest.param(
        re.sub(  # trains for 20 updates; `make docs` runs them all
            r"\bsteps=\d00\b",
            "steps=20",
            "\n".join(re.findall(r"^```\{code-cell\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)),
        ),
        id=page.name,
    )
    for page in TUTORIALS
]


def name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def registries():
    """Every registry; what a test registers is removed after it."""
    tables = [getattr(import_module(module), registry) for module, registry in KINDS.values() if registry]
    before = [dict(table) for table in tables]
    yield tables
    for table, names in zip(tables, before, strict=True):
        table.clear()
        table.update(names)


@pytest.mark.slow
@pytest.mark.parametrize("code", BLOCKS)
def test_the_code_of_the_docs_runs(code, registries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})


def test_the_readme_has_code():
    assert re.search(r"^```python\n", PAGES[0].read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_functions_that_the_docs_name_exist(page):
    """`module.name` in a page is ddim.module.name."""
    modules = "|".join(name for name in dir(ddim) if name not in ddim.__all__)
    for dotted in re.findall(rf"`((?:{modules})(?:\.\w+)+)(?:\([^`]*\))?`", page.read_text(encoding="utf-8")):
        if dotted.endswith((".py", ".md", ".toml", ".json", ".html")):
            continue
        found = ddim
        for part in dotted.split("."):
            found = getattr(found, part)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_tests_that_the_docs_name_exist(page):
    there = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in there, name


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_files_that_the_docs_name_exist(page):
    """A path with a folder in backquotes lies below the root, the package, or the page's own folder."""
    for path in re.findall(r"`([\w-]+(?:/[\w.-]+)+\.(?:py|md|toml|txt|yml))`", page.read_text(encoding="utf-8")):
        assert any((folder / path).exists() for folder in (ROOT, ROOT / "src/ddim", page.parent)), path


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in [slug(heading) for heading in headings], f"{target}#{anchor}"


def slug(heading):
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_files_that_the_readme_names_are_those_that_sampling_goes_through(tmp_path, monkeypatch):
    """Each of them runs, and no other file of a sampler does."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ((count, way),) = re.findall(r"`ddim sample mnist` goes through (\d+) files:\n(.*?)\. With `--eta 0`", text, re.S)
    named = re.findall(r"`([\w/]+\.py)`", way)
    assert len(named) == int(count) <= 10
    package, seen, sampling = Path(ddim.__file__).parent, set(), []

    def profile(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and package in path.parents and frame.f_code.co_name != "<module>":
            name = path.relative_to(package).as_posix()
            if (name, frame.f_code.co_name) == ("drawing.py", "sample"):
                sampling.append(True)
            if sampling or not name.startswith("samplers/"):  # before, each preset is checked with its own sampler
                seen.add(name)

    from ddim.cli import main

    monkeypatch.chdir(tmp_path)
    sys.setprofile(profile)
    try:
        main(["sample", "mnist", "--count", "1"])
    finally:
        sys.setprofile(None)
    assert set(named) <= seen
    assert {path for path in seen if path.startswith(("samplers/", "timesteps"))} <= set(named)
