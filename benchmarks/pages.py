"""Results in the pages of the documentation, between two marks."""

from pathlib import Path

from ddim.files import write_text

ROOT = Path(__file__).parent.parent


def fill(page: str, script: str, text: str) -> None:
    """Replace what a script wrote into a page before. `page` is a path below the root."""
    path, begin, end = (
        ROOT / page,
        f"<!-- benchmarks/{script} writes from here -->",
        f"<!-- benchmarks/{script}: end -->",
    )
    before, rest = path.read_text(encoding="utf-8").split(begin)
    write_text(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}")
