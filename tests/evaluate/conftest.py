"""What the tests of the evaluation share: an empty cache, and real aeroplanes."""

import os

import pytest
from torch import Tensor

REAL = os.environ.get("DDIM_DATA")


@pytest.fixture(autouse=True)
def _nothing_from_this_machine(monkeypatch, tmp_path):
    """An empty cache, no weights of one's own, and no proxy before the local server."""
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DDIM_INCEPTION", raising=False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="session")
def airplanes() -> Tensor:
    """The test images of aeroplanes, (1000, 3, 32, 32) uint8."""
    if not REAL:
        pytest.skip("set DDIM_DATA to a folder with CIFAR-10")
    from ddim import open_images

    return open_images("airplanes", split="test", data_dir=REAL).pixels
