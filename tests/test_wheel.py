"""The wheel: built from the repository, installed alone, and its commands run outside of the repository."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import ddim

pytestmark = pytest.mark.slow  # builds, and starts processes that import torch

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DDIM"))}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if "hatchling" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("pip finds no hatchling, which builds the wheel")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel, and with the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, folder=folder)
    (wheel,) = folder.glob("ddim-*.whl")
    assert wheel.name == f"ddim-{ddim.__version__}-py3-none-any.whl"
    venv.create(folder / "venv", symlinks=os.name != "nt")
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files, ddim's too, are not read
    target = ("--python", sysconfig.get_path("scripts", "venv", vars=paths) + "/python")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", wheel)
    run(sys.executable, "-m", "pip", *target, *install, folder=folder)
    return Path(sysconfig.get_path("scripts", "venv", vars=paths))


def test_the_package_is_the_one_of_the_wheel(installed):
    file = run(installed / "python", "-c", "import ddim; print(ddim.__file__)", folder=installed)
    assert installed.parent in Path(file).parents


def test_its_commands_run(installed, tmp_path):
    assert run(installed / "ddim", "--version", folder=tmp_path).splitlines()[0] == f"ddim {ddim.__version__}"
    assert "mnist-turbo" in run(installed / "ddim", "list", "models", folder=tmp_path)
    options = ("--steps", "1", "--count", "2", "--out", "two.png")
    run(installed / "ddim", "sample", "mnist-turbo", *options, folder=tmp_path)
    assert (tmp_path / "two.png").stat().st_size > 500
