"""The plan of the house holds: `import-linter` reads its contracts in pyproject.toml."""

from pathlib import Path

import pytest
from importlinter.cli import lint_imports


def test_imports_go_down_only(monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert lint_imports(no_cache=True) == 0, capsys.readouterr().out


def test_the_package_shows_its_names_and_its_modules():
    import ddim

    for name in ("Denoiser", "Level", "Prediction", "load", "open_images"):
        assert callable(getattr(ddim, name))
    for path in Path(ddim.__file__).parent.glob("[a-z]*.py"):
        assert getattr(ddim, path.stem).__name__ == f"ddim.{path.stem}"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddim.nothing
