"""Names in docstrings and comments exist, and so do the old names of one release."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ddim

SOURCES = sorted(Path(ddim.__file__).parent.rglob("*.py"))
DEPRECATED = {  # old import path -> new one
    "ddim.ladder.ladder": "ddim.timesteps.timesteps",
    "ddim.ladder.levels": "ddim.timesteps.levels",
    "ddim.checkpoint.load": "ddim.model_io.load",
    "ddim.checkpoint.save": "ddim.model_io.save",
}


def resolve(dotted: str) -> object:
    """The object at a dotted path below `ddim`; AttributeError if there is none."""
    found: object = ddim
    path = "ddim"
    for part in dotted.split(".")[1:]:
        path += f".{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            if not hasattr(found, "__path__"):
                raise
            try:
                found = import_module(path)
            except ModuleNotFoundError as error:
                raise AttributeError(path) from error
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(Path(ddim.__file__).parent)))
def test_names_in_the_text_of_a_file_exist(source):
    text = source.read_text(encoding="utf-8")
    for dotted in re.findall(r"`(ddim(?:\.[A-Za-z_]\w*)+)", text):
        resolve(dotted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("old", "new"), DEPRECATED.items())
def test_old_names_work_for_one_release(old, new):
    assert resolve(old) is resolve(new)


@pytest.mark.parametrize("module", ["ladder", "checkpoint"])
def test_an_old_module_warns_and_names_the_new_one(module, recwarn):
    sys.modules.pop(f"ddim.{module}", None)
    import_module(f"ddim.{module}")
    message = next(w for w in recwarn if w.category is DeprecationWarning)
    assert "is now ddim." in str(message.message)


@pytest.mark.parametrize("line", ["import ddim; ddim.ladder", "from ddim import ladder", "import ddim.checkpoint"])
def test_the_warning_of_an_old_module_names_the_line_that_uses_it(line):
    """Python shows a DeprecationWarning only if it comes from the user's own script."""
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("<string>:1: DeprecationWarning: ddim.")
    assert done.stderr.count("DeprecationWarning") == 1
