"""A short round of kills. A long one: python tests/kills.py --kills 300."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost():
    words = [sys.executable, str(Path(__file__).with_name("kills.py")), "--kills", "45"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "kills: 4" in done.stdout
    for subject in ("train", "import", "samples", "npy", "npz"):
        assert f"{subject}, operation: " in done.stdout
