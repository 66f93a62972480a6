"""Versions and machine, for `ddim --version` and for the `environment.json` of a run."""

import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ddim import __version__
from ddim.processors import available_cores

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "accelerate",
    "matplotlib",
    "scikit-learn",
    "openvino",
    "onnxruntime",
)


def versions() -> dict[str, str]:
    """Return the versions of ddim, Python and the main dependencies, without importing them."""
    table = {"ddim": __version__, "python": platform.python_version()}
    return table | {name: version(name) or "absent" for name in PACKAGES}


def version(package: str) -> str | None:
    """Return the version of an installed package, without importing it, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe() -> dict[str, Any]:
    """Return the versions, the machine (`cores` are those of one process) and the command line."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": available_cores(),
        "command": sys.argv,
    }


def processor() -> str:
    """Return the name of the processor, e.g. "Intel(R) Xeon(R) Processor"."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:  # platform.processor() is empty on Linux
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
